/* info: what a model file holds. */
#include "deploy/commands.h"

#include "common/file.h"
#include "common/json.h"
#include "common/options.h"
#include "common/pool.h"
#include "common/portfolio.h"
#include "deploy/device.h"
#include "deploy/info.h"
#include "deploy/kernels/cpu.h"
#include "deploy/kernels/table.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_head(const struct info *info) {
    const struct model *m = info->model;
    const struct image_preproc *p = &m->preproc;
    printf("%s: %d layers, %d %s, %.0f parameters", info->path, m->net->nlayers, m->net->classes,
           m->ends.outgoing ? "values out" : "classes", info->parameters);
    if (m->file) printf(", %zu bytes\n", m->file->length);
    else printf(", not trained\n");
    if (m->ends.nincoming) printf("takes a feature map of %dx%dx%d", m->net->input.w, m->net->input.h, m->net->input.c);
    else printf("takes images of %dx%dx%d", m->net->input.w, m->net->input.h, m->net->input.c);
    if (!m->ends.nincoming) {
        static const char *const fits[] = {"letterbox", "crop", "stretch"};
        printf(": %s", fits[p->fit]);
        if (p->resize) printf(" of %d", p->resize);
        printf(", %s decoding", p->decode == IMAGE_EXACT ? "exact" : "fast");
        for (int c = 0; c < p->c && c < 4; c++)
            printf("%s%g/%g", c ? ", " : ", mean/std ", (double)p->mean[c], (double)p->std[c]);
    }
    printf("\n");
    if (m->parent[0])
        printf("cut from %.16s...: layer 0 is its layer %d, block 0 its block %d\n", m->parent, m->first_layer,
               m->first_block);
}

static void print_inputs(const struct net_layer *l) {
    if (l->kind == NET_SHORTCUT) printf("+%d", l->inputs[1]);
    for (int k = 0; l->kind == NET_ROUTE && k < l->ninputs; k++) printf("%s%d", k ? "," : "", l->inputs[k]);
}

static void print_layers(const struct info *info) {
    const struct model *m = info->model;
    printf("\nlayer kind           shape            groups      multiply-adds  from\n");
    for (int i = 0; i < m->net->nlayers; i++) {
        const struct net_layer *l = &m->net->layers[i];
        char shape[32], kind[32], groups[32];
        snprintf(shape, sizeof shape, "%dx%dx%d", l->out.w, l->out.h, l->out.c);
        snprintf(kind, sizeof kind, "%s%s", net_kind_name(l->kind), l->batch_normalize ? "+bn" : "");
        info_groups_text(info, i, groups, sizeof groups);
        printf("%5d %-17s %-16s %-12s %12.0f  ", i, kind, shape, groups, net_multiply_adds(l));
        print_inputs(l);
        printf("\n");
    }
}

static void print_blocks(const struct info *info) {
    const struct model *m = info->model;
    printf("\nblock  layers     enters (full width)  a cut in front of it is written\n");
    for (int b = 0; b < m->blocks->nblocks; b++) {
        const struct block *block = &m->blocks->block[b];
        struct net_shape in = net_shape_of(m->net, block->source);
        char layers[32], shape[32], cut[32] = "";
        snprintf(layers, sizeof layers, "%d-%d", block->first, block->last);
        snprintf(shape, sizeof shape, "%dx%dx%d", in.w, in.h, in.c);
        if (b) snprintf(cut, sizeof cut, "--cuts %d", block->first - 1);
        printf("%5d  %-10s %-20s %s\n", b, layers, shape, cut);
    }
    if (m->blocks->nslices < 2) return;
    printf("slices as the cfg wishes begin at blocks");
    for (int s = 0; s < m->blocks->nslices; s++) printf(" %d", m->blocks->slice_first[s]);
    printf("\n");
}

static void print_groups(const struct info *info) {
    const struct model *m = info->model;
    printf("\ngroup  units kept, level by level%*s members (layers; -1 the input)\n",
           m->levels->nlevels * 5 > 28 ? m->levels->nlevels * 5 - 28 : 0, "");
    for (int g = 0; g < m->groups->ngroups; g++) {
        const struct group *group = &m->groups->group[g];
        printf("%5d ", g);
        for (int l = 0; l < m->levels->nlevels; l++) printf(" %4d", levels_keep(m->levels, l, g));
        printf("%*s ", m->levels->nlevels * 5 < 28 ? 28 - m->levels->nlevels * 5 : 0, "");
        for (int k = 0; k < group->nmembers; k++) printf(" %d", group->members[k]);
        printf("%s\n", group->whole ? " (kept whole)" : "");
    }
}

static void print_levels(const struct info *info) {
    const struct model *m = info->model;
    printf("\nlevel  ratio  multiply-adds%s\n", m->accuracy ? "         accuracy expected" : "");
    for (int l = 0; l < m->levels->nlevels; l++) {
        printf("%5d  %5.3f  %13.0f %5.1f%%", l, (double)m->levels->ratio[l], info->work[l],
               100 * info->work[l] / info->work[0]);
        if (m->accuracy) printf("  %6.2f%%", 100 * info->accuracy[l]);
        printf("\n");
    }
}

static void print_rest(const struct info *info) {
    const struct model *m = info->model;
    if (info->has_bn)
        printf("\nbatch norm: %s, %s form, eps %g\n",
               m->nrows == 1 ? "of full width" : "of every level, with corrections for mixed plans", m->bn_form == MODEL_BN_TORCH ? "torch" : "darknet", (double)m->bn_eps);
    if (m->accuracy)
        printf("accuracy model: base %.2f%%, mean error %.2f points on plans held out (worst %.2f), %d images\n",
               100 * m->accuracy->base, 100 * m->accuracy->held_out_error, 100 * m->accuracy->held_out_worst,
               m->accuracy->samples);
    if (m->training) printf("trained: %s\n", m->training);
    printf("darknet header: %" PRId32 ".%" PRId32 ".%" PRId32 ", seen %" PRIu64 "\n", m->darknet.major, m->darknet.minor,
           m->darknet.revision, m->darknet.seen);
    if (m->nlabels) printf("labels:");
    for (int i = 0; i < m->nlabels && i < 20; i++) printf("%s %s", i ? "," : "", m->labels[i]);
    if (m->nlabels) printf("%s\n", m->nlabels > 20 ? ", ..." : "");
}

/* ---- portfolios ---- */

/* ms[i]: what `profile` measured for a variant, -1 if it has none of that name. */
static enum status read_latency(const struct portfolio *p, const char *path, double *ms, struct err *err) {
    enum { MAX_PROFILE = 16 << 20 };
    uint8_t *bytes;
    size_t length;
    cJSON *root;
    enum status status = file_read(path, MAX_PROFILE, &bytes, &length, err);
    if (status) return status;
    status = json_parse(&root, path, (const char *)bytes, err);
    free(bytes);
    if (status) return status;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "variants"), *item;
    if (!cJSON_IsArray(list))
        status = err_set(err, STATUS_FORMAT, "%s is not what 'espalier-deploy profile' writes for a portfolio", path);
    else
        cJSON_ArrayForEach(item, list) {
            const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
            double value;
            if (!cJSON_IsString(name) || !json_double(cJSON_GetObjectItemCaseSensitive(item, "ms"), 0, 1e9, &value)) continue;
            for (int i = 0; i < p->nvariants; i++)
                if (strcmp(p->variants[i].name, name->valuestring) == 0) ms[i] = value;
        }
    cJSON_Delete(root);
    return status;
}

static enum status print_variants_json(const struct portfolio *p, const double *ms, struct err *err) {
    cJSON *root = cJSON_CreateObject(), *list = portfolio_json(p), *variant;
    bool good = root && json_add(root, "variants", list);
    if (!good) list = NULL;
    cJSON_ArrayForEach(variant, list) {
        if (*ms >= 0) good = good && json_add(variant, "ms", cJSON_CreateNumber(*ms));
        ms++;
    }
    return json_print(root, good, err);
}

static enum status portfolio_info(const char *path, const char *profile, bool json, struct err *err) {
    struct portfolio p;
    double ms[PORTFOLIO_MAX_VARIANTS];
    enum status status = portfolio_read(&p, path, err);
    for (int i = 0; i < PORTFOLIO_MAX_VARIANTS; i++) ms[i] = -1;
    if (!status && profile) status = read_latency(&p, profile, ms, err);
    if (status) return status;
    if (json) return print_variants_json(&p, ms, err);
    printf("%s: a portfolio of %d variants\n\n", path, p.nvariants);
    printf("variant  sparsity       bytes  parameters  multiply-adds  accuracy%s\n", profile ? "   ms a frame" : "");
    for (int i = 0; i < p.nvariants; i++) {
        const struct portfolio_variant *v = &p.variants[i];
        printf("%-8s %7.2f%% %11zu %11.0f %14.0f", v->name, 100 * v->sparsity, v->bytes, v->parameters, v->multiply_adds);
        if (v->accuracy < 0) printf("  %8s", "-");
        else printf("  %7.2f%%", 100 * v->accuracy);
        if (ms[i] >= 0) printf("  %11.3f", ms[i]);
        printf("\n");
    }
    return STATUS_OK;
}

static enum status device_info(bool json, struct err *err) {
    char processor[64];
    cpu_describe(processor);
    const char *kernels = kernels_best()->isa;
    if (!json) {
        printf("processor: %s; runs the %s kernels, %d thread(s)\n", processor, kernels, pool_default_threads());
        return STATUS_OK;
    }
    cJSON *root = cJSON_CreateObject();
    const bool good = root && json_add(root, "processor", cJSON_CreateString(processor)) &&
                      json_add(root, "kernels", cJSON_CreateString(kernels)) &&
                      json_add(root, "threads", cJSON_CreateNumber(pool_default_threads()));
    return json_print(root, good, err);
}

enum status cmd_info(int argc, char **argv, struct err *err) {
    bool json = false;
    const char *variant = NULL, *profile = NULL;
    const struct option options[] = {
        {"--variant", 0, OPTION_STRING, &variant, "NAME", "of a portfolio; else the list of its variants"},
        {"--profile", 0, OPTION_STRING, &profile, "FILE", "what profile measured of a portfolio: its latencies are shown, too"},
        {"--json", 0, OPTION_FLAG, &json, NULL, "one JSON object"},
        {0},
    };
    const struct options_command usage = {
        "info [MODEL | CFG | PORTFOLIO]",
        "Layers, blocks and cut points, prune groups, levels, and what else a model file holds; without one, what this "
        "device has.", options, 0, 1};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (positional == 0 && (variant || profile))
        return err_set(err, STATUS_USAGE, "%s is of a portfolio, and none is given", variant ? "--variant" : "--profile");
    if (positional == 0) return device_info(json, err);
    struct model *model;
    struct info info;
    if (!variant && portfolio_is(argv[0])) return portfolio_info(argv[0], profile, json, err);
    const struct device_options device = {.model = argv[0], .cfg = true, .variant = variant};
    if ((status = device_load(&model, &device, 0, err))) return status;
    status = info_gather(&info, argv[0], model, err);
    if (!status && json) {
        status = json_print(info_json(&info), true, err);
    } else if (!status) {
        print_head(&info);
        print_layers(&info);
        print_blocks(&info);
        print_groups(&info);
        print_levels(&info);
        print_rest(&info);
    }
    model_destroy(&model);
    return status;
}
