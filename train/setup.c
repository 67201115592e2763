#include "train/setup.h"

#include "common/log.h"
#include "train/loader.h"
#include "train/preproc.h"
#include "train/weights.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NORMALIZE_IMAGES = 4096, HELD_OUT_AT_MOST = 1000 };

/* Whatever the run's seed: runs with several seeds are told apart on the same images. */
static const uint64_t HELD_OUT_SEED = 1;

enum status setup_model(struct model **model, const char *path, struct err *err) {
    struct cfg *cfg;
    enum status status = cfg_load(&cfg, path, err);
    if (status) return status;
    status = model_create(model, cfg, 0, err);
    if (status) cfg_destroy(&cfg);
    return status;
}

enum status setup_check_classes(const struct dataset *dataset, const struct model *model, struct err *err) {
    int outputs = model->net->classes;
    if (outputs == dataset->nclasses) return STATUS_OK;
    err_set(err, STATUS_FORMAT, "%s has %d classes, but the network of %s has %d outputs", dataset->name,
            dataset->nclasses, model->cfg->name, outputs);
    err_hint(err, "set filters= or output= of its last layer with weights to %d", dataset->nclasses);
    return STATUS_FORMAT;
}

static enum status copy_labels(struct model *model, const struct dataset *dataset, struct err *err) {
    char **labels = calloc((size_t)dataset->nclasses + 1, sizeof *labels);
    bool good = labels != NULL;
    for (int i = 0; good && i < dataset->nclasses; i++) good = (labels[i] = strdup(dataset->labels[i])) != NULL;
    for (int i = 0; !good && labels && i < dataset->nclasses; i++) free(labels[i]);
    if (!good) {
        free(labels);
        return err_memory(err, "labels");
    }
    for (int i = 0; i < model->nlabels; i++) free(model->labels[i]);
    free(model->labels);
    model->labels = labels;
    model->nlabels = dataset->nclasses;
    return STATUS_OK;
}

/* ---- [net] ----------------------------------------------------------------- */

enum status setup_batch(const struct cfg *cfg, int wanted, int *batch, int *subdivisions, struct err *err) {
    const struct cfg_section *net = cfg_find(cfg, "net");
    *batch = 128;
    *subdivisions = 1;
    enum status status = cfg_int(cfg, net, "batch", 1, 1 << 20, batch, err);
    if (!status) status = cfg_int(cfg, net, "subdivisions", 1, 1 << 20, subdivisions, err);
    if (status) return status;
    if (wanted) *batch = wanted;
    if (*batch % *subdivisions == 0) return STATUS_OK;
    err_set(err, STATUS_FORMAT, "a batch of %d does not divide into %d subdivisions", *batch, *subdivisions);
    err_hint(err, "subdivisions in [net] must divide the batch");
    return STATUS_FORMAT;
}

/* Where images are cut at random from enlarged ones, evaluation takes the
 * centre, as Darknet's validation does. */
static enum status read_preproc(struct setup *setup, struct err *err) {
    struct model *model = setup->model;
    struct image_preproc *p = &model->preproc;
    p->decode = IMAGE_FAST;
    p->fit = setup->augment.max_crop > 0 ? IMAGE_CROP : IMAGE_STRETCH;
    return preproc_read(p, model->cfg, err);
}

/* ---- normalisation --------------------------------------------------------- */

static enum status add_images(struct loader *loader, const struct image_preproc *p, double *sum, double *square,
                              double *count, struct err *err) {
    struct loader_batch batch;
    enum status status = loader_next(loader, &batch, err);
    if (status) return status;
    size_t plane = (size_t)p->h * (size_t)p->w;
    for (int i = 0; i < batch.n * p->c; i++) {
        const float *x = batch.input + (size_t)i * plane;
        for (size_t k = 0; k < plane; k++) {
            sum[i % p->c] += x[k];
            square[i % p->c] += (double)x[k] * x[k];
        }
    }
    *count += (double)batch.n * (double)plane;
    return STATUS_OK;
}

/* Mean and standard deviation of up to NORMALIZE_IMAGES training images, drawn
 * by the seed. */
static enum status measure_normalisation(struct setup *setup, const struct setup_config *config, struct err *err) {
    struct image_preproc *p = &setup->model->preproc;
    struct augment none = augment_none();
    double sum[4] = { 0 }, square[4] = { 0 }, count = 0;
    for (int c = 0; c < p->c; c++) {
        p->mean[c] = 0;
        p->std[c] = 1;
    }
    struct loader_config loading = { .dataset = setup->train, .preproc = *p, .augment = &none,
                                     .batch = setup->train->n < 64 ? setup->train->n : 64,
                                     .threads = config->threads, .seed = config->seed };
    struct loader *loader;
    enum status status = loader_create(&loader, &loading, err);
    if (status) return status;
    int batches = loader_batches(loader);
    for (int b = 0; !status && b < batches && b * loading.batch < NORMALIZE_IMAGES; b++)
        status = add_images(loader, p, sum, square, &count, err);
    loader_destroy(&loader);
    for (int c = 0; !status && c < p->c; c++) {
        double mean = sum[c] / count, var = square[c] / count - mean * mean;
        p->mean[c] = (float)mean;
        p->std[c] = (float)sqrt(var > 1e-6 ? var : 1e-6);
    }
    return status;
}

/* ---- starting weights ------------------------------------------------------ */

/* Copies `from` where both have such a tensor. */
static void copy(float *to, const float *from, size_t n) {
    if (to && from) memcpy(to, from, n * sizeof *to);
}

/* Whether the layer's tensors have the same shapes in both. */
static bool same_shape(const struct model *a, const struct model *b, int layer) {
    const struct net_layer *x = &a->net->layers[layer], *y = &b->net->layers[layer];
    return x->kind == y->kind && net_weight_count(x) == net_weight_count(y) &&
           model_outputs(a, layer) == model_outputs(b, layer) && x->size == y->size && x->groups == y->groups;
}

static enum status open_source(struct setup *setup, const struct setup_config *config, struct err *err) {
    struct model *model = setup->model;
    struct net_shape size = model->net->input;
    enum status status = weights_load(&setup->source, config->cfg, config->from, err);
    if (status) return status;
    const struct model *source = setup->source;
    int shared = 0;
    for (int i = 0; i < model->net->nlayers && i < source->net->nlayers; i++)
        shared += net_has_weights(&model->net->layers[i]) && same_shape(model, source, i);
    if (shared == 0) {
        err_set(err, STATUS_FORMAT, "no layer of %s has the shape that %s asks for", config->from, config->cfg);
        err_hint(err, "start from a model of the same network");
        return STATUS_FORMAT;
    }
    model->bn_form = source->bn_form;
    model->bn_eps = source->bn_eps;
    model->darknet = source->darknet;
    if (source->preproc.c == size.c && source->preproc.h == size.h && source->preproc.w == size.w)
        model->preproc = source->preproc;
    return STATUS_OK;
}

void setup_weights(struct setup *setup, struct network *network, uint64_t seed) {
    struct model *model = setup->model;
    const struct model *source = setup->source;
    network_init(network, seed);
    network_store(network, model);
    for (int i = 0; source && i < model->net->nlayers; i++) {
        const struct net_layer *layer = &model->net->layers[i];
        if (!net_has_weights(layer)) continue;
        if (i >= source->net->nlayers || !same_shape(model, source, i)) {
            log_warn("layer %d (%s) has another shape in %s; it starts afresh", i, net_kind_name(layer->kind),
                     source->cfg->name);
            continue;
        }
        const struct model_layer *from = &source->layers[i];
        struct model_layer *to = &model->layers[i];
        size_t outputs = (size_t)model_outputs(model, i);
        copy(to->weight, from->weight, net_weight_count(layer));
        copy(to->bias, from->bias, outputs);
        copy(to->gamma, from->gamma, outputs);
        copy(to->beta, from->beta, outputs);
    }
    model_destroy(&setup->source);
    network_load(network, model);
}

/* ---- all of it ------------------------------------------------------------- */

static enum status open_images(struct setup *setup, const struct setup_config *config, struct err *err) {
    enum status status = dataset_open(&setup->train, config->data, DATASET_TRAIN, err);
    if (!status) status = setup_check_classes(setup->train, setup->model, err);
    if (status) return status;
    int hold_out = config->hold_out, n = setup->train->n;
    if (hold_out < 0) hold_out = n / 10 < HELD_OUT_AT_MOST ? n / 10 : HELD_OUT_AT_MOST;
    if (hold_out >= n)
        return err_set(err, STATUS_USAGE, "cannot hold out %d of %d training images", hold_out, n);
    if (hold_out > 0) status = dataset_hold_out(setup->train, hold_out, HELD_OUT_SEED, &setup->held_out, err);
    if (!status) status = copy_labels(setup->model, setup->train, err);
    return status;
}

enum status setup_create(struct setup **out, const struct setup_config *config, struct err *err) {
    struct setup *setup = calloc(1, sizeof *setup);
    if (!setup) return err_memory(err, "training");
    enum status status = setup_model(&setup->model, config->cfg, err);
    if (!status) status = schedule_init(&setup->schedule, setup->model->cfg, err);
    if (!status) status = augment_from_cfg(&setup->augment, setup->model->cfg, err);
    if (!status) status = setup_batch(setup->model->cfg, config->batch, &setup->batch, &setup->subdivisions, err);
    if (!status) status = read_preproc(setup, err);
    if (!status) status = open_images(setup, config, err);
    if (!status && config->normalize) status = measure_normalisation(setup, config, err);
    if (!status && config->from) status = open_source(setup, config, err);
    if (status) {
        setup_destroy(&setup);
        return status;
    }
    *out = setup;
    return STATUS_OK;
}

void setup_destroy(struct setup **setup) {
    if (!*setup) return;
    dataset_close(&(*setup)->train);
    dataset_close(&(*setup)->held_out);
    model_destroy(&(*setup)->model);
    model_destroy(&(*setup)->source);
    schedule_fini(&(*setup)->schedule);
    free(*setup);
    *setup = NULL;
}
