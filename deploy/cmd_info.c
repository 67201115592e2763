/* info: what a model file holds. */
#include "deploy/commands.h"

#include "common/options.h"
#include "deploy/info.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_head(const struct info *info) {
    const struct model *m = info->model;
    const struct image_preproc *p = &m->preproc;
    printf("%s: %d layers, %d %s, %.0f parameters, %zu bytes\n", info->path, m->net->nlayers, m->net->classes,
           m->ends.outgoing ? "values out" : "classes", info->parameters, m->file->length);
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
        printf("\nbatch norm: %d row%s for %d pair%s of levels, %s form, eps %g\n", m->nrows, m->nrows == 1 ? "" : "s",
               info->pairs, info->pairs == 1 ? "" : "s", m->bn_form == MODEL_BN_TORCH ? "torch" : "darknet", (double)m->bn_eps);
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

enum status cmd_info(int argc, char **argv, struct err *err) {
    bool json = false;
    const struct option options[] = {
        {"--json", 0, OPTION_FLAG, &json, NULL, "one JSON object"},
        {0},
    };
    const struct options_command usage = {
        "info MODEL", "Layers, blocks and cut points, prune groups, levels, and what else a model file holds.", options, 1, 1};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    struct model *model;
    struct info info;
    if ((status = model_load(&model, argv[0], err))) return status;
    status = info_gather(&info, argv[0], model, err);
    if (!status && json) {
        char *text = info_json(&info);
        if (text) puts(text);
        else status = err_memory(err, "JSON");
        free(text);
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
