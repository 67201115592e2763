/* The library's face: what predict does, without the command line. */
#include "deploy/espalier.h"

#include "common/log.h"
#include "common/model.h"
#include "common/pool.h"
#include "deploy/engine.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)ESPALIER_MEMORY == (int)STATUS_MEMORY && (int)ESPALIER_IO == (int)STATUS_IO &&
                   (int)ESPALIER_FORMAT == (int)STATUS_FORMAT && (int)ESPALIER_LIMIT == (int)STATUS_LIMIT &&
                   (int)ESPALIER_USAGE == (int)STATUS_USAGE,
               "the statuses are the same");

struct espalier {
    struct model *model;
    struct pool *pool;
    struct engine *engine;
    struct plan *plan; /* of espalier_set_level */
    float *input;      /* of espalier_run_image */
};

static void be_quiet(void) { log_init("espalier", LOG_QUIET); }

static enum espalier_status report(enum status status, const struct err *err, struct espalier_error *error) {
    if (status && error) {
        _Static_assert(sizeof error->text == sizeof err->text && sizeof error->hint == sizeof err->hint, "copied whole");
        memcpy(error->text, err->text, sizeof error->text);
        memcpy(error->hint, err->hint, sizeof error->hint);
    }
    return (enum espalier_status)status;
}

static enum status set_up(struct espalier *net, const char *path, const struct espalier_options *options,
                        struct err *err) {
    enum status status;
    if ((status = pool_create(&net->pool, options->threads ? options->threads : pool_default_threads(), err)) ||
        (status = model_load(&net->model, path, err)))
        return status;
    if (net->model->ends.nincoming || net->model->ends.outgoing)
        return err_set(err, STATUS_USAGE, "%s is one slice of a model; a whole model is needed", path);
    struct engine_config config = engine_defaults();
    config.pool = net->pool;
    config.max_bytes = options->max_bytes;
    if ((status = engine_create(&net->engine, net->model, &config, err)) ||
        (status = plan_create(&net->plan, net->model->blocks->nblocks, 0, err)))
        return status;
    net->input = malloc(engine_input_max(net->engine) * sizeof *net->input);
    return net->input ? STATUS_OK : err_memory(err, "input");
}

enum espalier_status espalier_load(struct espalier **out, const char *path, const struct espalier_options *options,
                                   struct espalier_error *error) {
    const struct espalier_options defaults = {0};
    struct err err = {0};
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, be_quiet);
    struct espalier *net = calloc(1, sizeof *net);
    if (!net) return report(err_memory(&err, path), &err, error);
    const enum status status = set_up(net, path, options ? options : &defaults, &err);
    if (status) espalier_free(&net);
    else *out = net;
    return report(status, &err, error);
}

void espalier_free(struct espalier **pointer) {
    struct espalier *net = *pointer;
    if (!net) return;
    engine_destroy(&net->engine);
    plan_destroy(&net->plan);
    model_destroy(&net->model);
    pool_destroy(&net->pool);
    free(net->input);
    free(net);
    *pointer = NULL;
}

void espalier_input(const struct espalier *net, int *channels, int *height, int *width) {
    const struct net_shape shape = net->model->net->input;
    *channels = shape.c;
    *height = shape.h;
    *width = shape.w;
}

int espalier_classes(const struct espalier *net) { return net->model->net->classes; }

const char *espalier_label(const struct espalier *net, int class_index) {
    return class_index >= 0 && class_index < net->model->nlabels ? net->model->labels[class_index] : NULL;
}

int espalier_levels(const struct espalier *net) { return net->model->levels->nlevels; }
size_t espalier_bytes(const struct espalier *net) { return engine_bytes(net->engine); }

static void fill(struct plan *plan, int level) {
    for (int b = 0; b < plan->nblocks; b++) plan->level[b] = level;
}

double espalier_accuracy(const struct espalier *net, int level) {
    struct plan *plan;
    if (!net->model->accuracy || level < 0 || level >= net->model->levels->nlevels ||
        plan_create(&plan, net->model->blocks->nblocks, level, NULL))
        return -1;
    const double accuracy = accuracy_predict(net->model->accuracy, plan);
    plan_destroy(&plan);
    return accuracy < 0 ? 0 : accuracy > 1 ? 1 : accuracy;
}

enum espalier_status espalier_set_level(struct espalier *net, int level, struct espalier_error *error) {
    struct err err = {0};
    const int n = net->model->levels->nlevels;
    if (level < 0 || level >= n)
        return report(err_set(&err, STATUS_USAGE, "level %d does not exist: the model has levels 0 to %d", level, n - 1),
                      &err, error);
    fill(net->plan, level);
    engine_set_plan(net->engine, net->plan);
    return ESPALIER_OK;
}

enum espalier_status espalier_set_plan(struct espalier *net, const char *text, struct espalier_error *error) {
    const struct blocks *blocks = net->model->blocks;
    struct err err = {0};
    struct plan *plan = NULL;
    const enum status status =
        plan_parse(&plan, blocks, net->model->levels, blocks->nslices, blocks->slice_first, text, NULL, &err);
    if (!status) engine_set_plan(net->engine, plan);
    plan_destroy(&plan);
    return report(status, &err, error);
}

void espalier_run(struct espalier *net, const float *input, float *output) {
    engine_run(net->engine, input, output);
}

enum espalier_status espalier_run_image(struct espalier *net, const void *bytes, size_t length, float *output,
                                        struct espalier_error *error) {
    struct err err = {0};
    const enum status status = image_preprocess(&net->model->preproc, "image", bytes, length, net->input, &err);
    if (!status) engine_run(net->engine, net->input, output);
    return report(status, &err, error);
}
