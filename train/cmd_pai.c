/* pai: a smaller network before it is trained. */
#include "train/commands.h"

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/options.h"
#include "common/pool.h"
#include "common/shrink.h"
#include "train/pai.h"
#include "train/report.h"
#include "train/saliency.h"
#include "train/setup.h"
#include "train/sparsity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arguments {
    struct setup_config setup;
    struct saliency_config saliency;
    const char *output, *method;
    char *weights; /* OUTPUT with .safetensors in place of .cfg */
    int seed, images;
    bool unstructured, json;
};

/* ---- what is printed ---- */

struct outcome {
    const struct pai_result *result;
    struct report_size before, after;
    size_t left, all; /* weights */
    double seconds;
};

static cJSON *layers_json(const struct pai_result *result) {
    cJSON *list = cJSON_CreateArray();
    bool good = list != NULL;
    for (int i = 0; good && i < result->nlayers; i++) {
        const struct pai_layer *l = &result->layers[i];
        cJSON *o = cJSON_CreateObject();
        good = json_append(list, o) && json_add(o, "layer", cJSON_CreateNumber(l->layer)) &&
               json_add(o, "share", cJSON_CreateNumber(l->share)) &&
               json_add(o, "outputs", cJSON_CreateNumber(l->outputs)) &&
               json_add(o, "kept", cJSON_CreateNumber(l->channels));
    }
    if (good) return list;
    cJSON_Delete(list);
    return NULL;
}

static enum status print_json(const struct arguments *a, const struct outcome *o, struct err *err) {
    cJSON *root = cJSON_CreateObject();
    bool good = root && json_add(root, "method", cJSON_CreateString(a->method)) &&
                json_add(root, "density", cJSON_CreateNumber(a->saliency.density)) &&
                json_add(root, "structured", cJSON_CreateBool(!a->unstructured)) &&
                json_add(root, "weights", cJSON_CreateNumber((double)o->left)) &&
                json_add(root, "weights_before", cJSON_CreateNumber((double)o->all)) &&
                json_add(root, "multiply_adds", cJSON_CreateNumber(o->after.multiply_adds)) &&
                json_add(root, "multiply_adds_before", cJSON_CreateNumber(o->before.multiply_adds)) &&
                json_add(root, "seconds", cJSON_CreateNumber(o->seconds)) &&
                json_add(root, "layers", layers_json(o->result));
    return json_print(root, good, err);
}

static void print(const struct arguments *a, const struct outcome *o, const struct model *small) {
    if (!a->unstructured) {
        printf("layer                weights needed  channels\n");
        for (int i = 0; i < o->result->nlayers; i++) {
            const struct pai_layer *l = &o->result->layers[i];
            printf("%5d %-13s %14.2f%%  %d of %d\n", l->layer, net_kind_name(small->net->layers[l->layer].kind),
                   100 * l->share, l->channels, l->outputs);
        }
    }
    printf("%s: %zu of %zu weights (%.2f%%), %.1f%% of the multiply-adds, in %.2f s\n", a->output, o->left, o->all,
           100 * (double)o->left / (double)o->all, 100 * o->after.multiply_adds / o->before.multiply_adds, o->seconds);
    printf("train it: espalier-train train %s %s --from %s%s -o MODEL\n", a->setup.data, a->output, a->weights,
           a->unstructured ? " --keep-zeros --robust none" : "");
}

/* ---- doing it ---- */

static enum status write_files(const struct arguments *a, const struct model *small, struct err *err) {
    struct file_replace file;
    enum status status = model_save(small, a->weights, err);
    if (!status) status = file_replace_open(&file, a->output, err);
    if (status) return status;
    fputs(small->cfg->text, file.stream);
    return file_replace_commit(&file, err);
}

static enum status full_size(const struct model *model, struct report_size *size, struct err *err) {
    struct plan *plan;
    enum status status = plan_create(&plan, model->blocks->nblocks, 0, err);
    if (!status) status = report_size(model, plan, size, err);
    plan_destroy(&plan);
    return status;
}

/* All units, with one row of batch norm: nothing of it is known yet. */
static enum status whole_model(struct network *network, struct model *model, struct model **whole, struct err *err) {
    struct shrink_units *units;
    enum status status = shrink_units_create(&units, model->groups, err);
    if (status) return status;
    network_store(network, model);
    status = shrink_model(model, units, SHRINK_KEEP_LEVELS, whole, err);
    shrink_units_destroy(&units);
    return status;
}

static enum status prune(const struct arguments *a, struct network *network, struct model *model, struct loader *images,
                         struct outcome *o, struct pai_result *result, struct err *err) {
    struct network_view view = network_view(network);
    double began = log_now_s(), density = a->saliency.density;
    float *scores = calloc(view.size ? view.size : 1, sizeof *scores);
    if (!scores) return err_memory(err, "scores");
    o->all = sparsity_weights(&view);
    enum status status = saliency_scores(network, model, images, &a->saliency, scores, err);
    if (!status && a->unstructured) {
        pai_sparse(network, scores, density);
        o->left = sparsity_left(&view);
        status = whole_model(network, model, &result->small, err);
    } else if (!status) {
        status = pai_structured(network, model, scores, density, a->setup.seed, result, err);
        for (int i = 0; !status && i < result->small->net->nlayers; i++)
            o->left += net_weight_count(&result->small->net->layers[i]);
    }
    free(scores);
    if (!status) status = write_files(a, result->small, err);
    o->seconds = log_now_s() - began;
    return status;
}

static enum status open_images(struct loader **images, const struct setup *setup, const struct arguments *a,
                               struct err *err) {
    struct loader_config loading = {
        .dataset = setup->train,
        .preproc = setup->model->preproc,
        .augment = &setup->augment,
        .batch = setup->batch / setup->subdivisions,
        .threads = a->setup.threads,
        .seed = a->setup.seed,
    };
    return loader_create(images, &loading, err);
}

static enum status run(struct arguments *a, struct err *err) {
    struct setup *setup = NULL;
    struct network *network = NULL;
    struct loader *images = NULL;
    struct pai_result result = { 0 };
    struct outcome o = { .result = &result };
    enum status status = setup_create(&setup, &a->setup, err);
    if (status) return status;
    int batch = setup->batch / setup->subdivisions;
    a->saliency.batches = (a->images + batch - 1) / batch;
    bool looks = a->saliency.method == SALIENCY_SNIP || a->saliency.method == SALIENCY_GRASP;
    if (looks) status = open_images(&images, setup, a, err);
    if (!status) status = network_create(&network, setup->model, looks ? batch : 1, a->setup.threads, err);
    if (!status) {
        setup_weights(setup, network, a->setup.seed);
        status = prune(a, network, setup->model, images, &o, &result, err);
    }
    if (!status) status = full_size(setup->model, &o.before, err);
    if (!status) status = full_size(result.small, &o.after, err);
    if (!status && a->json) status = print_json(a, &o, err);
    else if (!status) print(a, &o, result.small);
    pai_result_free(&result);
    network_destroy(&network);
    loader_destroy(&images);
    setup_destroy(&setup);
    return status;
}

static enum status check(struct arguments *a, struct err *err) {
    size_t n = a->output ? strlen(a->output) : 0;
    a->saliency.method = saliency_parse(a->method);
    if (a->saliency.method == SALIENCY_COUNT)
        return err_set(err, STATUS_USAGE, "--method is synflow, snip, grasp, magnitude or random, not '%s'", a->method);
    if (!(a->saliency.density > 0 && a->saliency.density <= 1))
        return err_set(err, STATUS_USAGE, "--density is a share of the weights, above 0 and at most 1: --density .05");
    if (a->saliency.rounds < 1 || a->saliency.rounds > 10000 || a->images < 1 || a->seed < 0 || a->setup.threads < 1)
        return err_set(err, STATUS_USAGE, "--rounds, --images and --threads are at least 1, --seed 0");
    if (n < 5 || strcmp(a->output + n - 4, ".cfg") != 0)
        return err_set(err, STATUS_USAGE, "say where the smaller network goes: -o SMALL.cfg (weights go to SMALL.safetensors)");
    if (asprintf(&a->weights, "%.*s.safetensors", (int)n - 4, a->output) < 0) {
        a->weights = NULL;
        return err_memory(err, "output");
    }
    return STATUS_OK;
}

enum status cmd_pai(int argc, char **argv, struct err *err) {
    struct arguments a = {
        .setup = { .hold_out = 0, .threads = pool_default_threads() },
        .saliency = { .rounds = 20 },
        .method = saliency_name(SALIENCY_SYNFLOW),
        .seed = 1,
        .images = 100,
    };
    const struct option options[] = {
        { "--output", 'o', OPTION_STRING, &a.output, "SMALL.cfg", "the network to write; weights go to SMALL.safetensors" },
        { "--method", 0, OPTION_STRING, &a.method, "M", "scores: synflow, snip, grasp, magnitude, random" },
        { "--density", 0, OPTION_DOUBLE, &a.saliency.density, "D", "share of the weights that is left" },
        { "--unstructured", 0, OPTION_FLAG, &a.unstructured, NULL, "zero single weights, remove nothing: the counterpart" },
        { "--rounds", 0, OPTION_INT, &a.saliency.rounds, "N", "of synflow" },
        { "--images", 0, OPTION_INT, &a.images, "N", "training images that snip and grasp look at, at least" },
        { "--seed", 0, OPTION_INT, &a.seed, "N", "of the initial weights and random scores" },
        { "--threads", 0, OPTION_INT, &a.setup.threads, "N", "threads that compute" },
        { "--json", 0, OPTION_FLAG, &a.json, NULL, "what was done, as JSON" },
        { 0 },
    };
    const struct options_command usage = {
        "pai DATA CFG --density D -o SMALL.cfg",
        "Prune a network at initialisation: a dense, smaller cfg and its initial weights, to train like any other.",
        options, 2, 2 };
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if ((status = check(&a, err))) return status;
    a.setup.data = argv[0];
    a.setup.cfg = argv[1];
    a.setup.seed = a.saliency.seed = (uint64_t)a.seed;
    a.saliency.threads = a.setup.threads;
    status = run(&a, err);
    free(a.weights);
    return status;
}
