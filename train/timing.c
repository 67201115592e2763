#include "train/timing.h"

#include "common/log.h"
#include "common/median.h"
#include "common/random.h"
#include "train/dataset_build.h"
#include "train/loader.h"
#include "train/setup.h"
#include "train/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 3, BATCHES = 4, RAW_CLASSES = 256 };
static const float RATE = 1e-4f;

struct run {
    const struct timing_config *config;
    struct timing *timing;
    struct schedule schedule;
    struct dataset *images;
    struct loader *loader;
    struct network *network;
    struct step *step;
    double *step_s, *layer_s; /* [steps]; [steps][2][nlayers], forward and backward */
};

/* ---- what is trained ------------------------------------------------------- */

static enum status draw_images(struct run *r, struct err *err) {
    const struct net *net = r->timing->model->net;
    int n = r->timing->batch * BATCHES, classes = net->classes < RAW_CLASSES ? net->classes : RAW_CLASSES;
    size_t size = (size_t)n * net_shape_size(net->input);
    struct random random = random_stream(r->config->seed, 0x696d61676573, 0);
    enum status status = dataset_new(&r->images, "random images", err);
    for (int i = 0; !status && i < classes; i++) {
        char label[16];
        snprintf(label, sizeof label, "%d", i);
        status = dataset_add_label(r->images, label, err);
    }
    if (status) return status;
    uint8_t *bytes = malloc(size + sizeof(uint64_t)), *labels = malloc((size_t)n);
    if (!bytes || !labels) {
        free(bytes);
        free(labels);
        return err_memory(err, "images");
    }
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) memcpy(bytes + i, &(uint64_t){ random_next(&random) }, sizeof(uint64_t));
    for (int i = 0; i < n; i++) labels[i] = (uint8_t)random_below(&random, classes);
    r->images->c = net->input.c;
    r->images->h = net->input.h;
    r->images->w = net->input.w;
    status = dataset_add_raw(r->images, bytes, labels, n, err);
    free(labels);
    return status;
}

static enum status open_run(struct run *r, struct err *err) {
    const struct timing_config *config = r->config;
    struct timing *t = r->timing;
    enum status status = setup_model(&t->model, config->cfg, err);
    if (!status) status = schedule_init(&r->schedule, t->model->cfg, err);
    t->batch = config->batch;
    t->subdivisions = 1;
    if (!status && !t->batch) status = setup_batch(t->model->cfg, 0, &t->batch, &t->subdivisions, err);
    if (!status) status = draw_images(r, err);
    if (status) return status;
    t->model->preproc.fit = IMAGE_STRETCH;
    int part = t->batch / t->subdivisions;
    struct augment none = augment_none();
    struct loader_config loading = { .dataset = r->images, .preproc = t->model->preproc, .augment = &none, .batch = part,
                                     .threads = config->threads, .seed = config->seed };
    struct step_config stepping = {
        .robust = config->robust,
        .sgd = { 0, r->schedule.momentum, r->schedule.decay, r->schedule.nesterov },
        .batch = t->batch,
        .subdivisions = t->subdivisions,
        .seed = config->seed,
    };
    status = loader_create(&r->loader, &loading, err);
    if (!status) status = network_create(&r->network, t->model, part, config->threads, err);
    if (status) return status;
    network_set_precision(r->network, config->precision);
    network_init(r->network, config->seed);
    struct network_view view = network_view(r->network);
    for (int i = 0; i < view.nparams; i++) t->parameters += (double)view.params[i].size;
    return step_create(&r->step, &stepping, r->network, t->model, err);
}

static void close_run(struct run *r) {
    step_destroy(&r->step);
    network_destroy(&r->network);
    loader_destroy(&r->loader);
    dataset_close(&r->images);
    schedule_fini(&r->schedule);
    free(r->step_s);
    free(r->layer_s);
}

/* ---- time ------------------------------------------------------------------ */

/* Of every stride-th value; the values stay as they are. */
static double median_of(const double *values, int n, int stride, double *room) {
    for (int i = 0; i < n; i++) room[i] = values[(size_t)i * (size_t)stride];
    return median(room, n);
}

static enum status time_steps(struct run *r, struct err *err) {
    int steps = r->config->steps, nlayers = r->timing->nlayers;
    struct log_progress progress;
    enum status status = STATUS_OK;
    log_progress_start(&progress, "bench", WARM_UP + steps);
    for (int i = -WARM_UP; !status && i < steps; i++) {
        struct step_result result;
        double *layers = r->layer_s + (size_t)(i < 0 ? 0 : i) * 2 * (size_t)nlayers, began = log_now_s();
        if (r->config->layers && i >= 0) network_set_times(r->network, layers, layers + nlayers);
        status = step_run(r->step, r->loader, WARM_UP + i, RATE, &result, err);
        if (i >= 0) r->step_s[i] = log_now_s() - began;
        if (!status) log_progress_update(&progress, WARM_UP + i + 1, NULL);
    }
    if (status) log_progress_abandon(&progress);
    else log_progress_end(&progress, NULL);
    return status;
}

/* ---- what it comes to ------------------------------------------------------ */

/* Multiply-adds of an image in layers [first, last], at full width. */
static enum status multiply_adds(const struct model *m, int first, int last, double *sum, struct err *err) {
    struct counts *counts = NULL;
    struct plan *plan = NULL;
    enum status status = plan_create(&plan, m->blocks->nblocks, 0, err);
    if (!status) status = counts_create(&counts, m->groups, err);
    if (!status) {
        counts_set(counts, m->net, m->blocks, m->groups, m->levels, plan);
        *sum = counts_multiply_adds(counts, m->net, m->blocks, m->groups, m->levels, plan, first, last);
    }
    counts_destroy(&counts);
    plan_destroy(&plan);
    return status;
}

/* Whether anything at or in front of the layer is trained. */
static bool trained(const struct net *net, int layer) {
    if (layer < 0) return false;
    if (net_has_weights(&net->layers[layer])) return true;
    for (int k = 0; k < net->layers[layer].ninputs; k++)
        if (trained(net, net->layers[layer].inputs[k])) return true;
    return false;
}

static enum status sum_up_layers(const struct run *r, double *room, struct err *err) {
    struct timing *t = r->timing;
    enum status status = STATUS_OK;
    for (int i = 0; !status && i < t->nlayers; i++) {
        struct timing_layer *l = &t->layers[i];
        const struct net_layer *layer = &t->model->net->layers[i];
        bool input = false;
        double work = 0;
        for (int k = 0; k < layer->ninputs; k++) input |= trained(t->model->net, layer->inputs[k]);
        status = multiply_adds(t->model, i, i, &work, err);
        l->forward_flops = 2 * work * t->batch;
        l->backward_flops = l->forward_flops * (input ? 2 : 1);
        if (!r->config->layers) continue;
        l->forward_s = median_of(r->layer_s + i, t->steps, 2 * t->nlayers, room);
        l->backward_s = median_of(r->layer_s + t->nlayers + i, t->steps, 2 * t->nlayers, room);
    }
    return status;
}

/* VmHWM of /proc/self/status; 0 where there is none. */
static double peak_mib(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kib = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
    if (file) fclose(file);
    return (double)kib / 1024;
}

static enum status sum_up(struct run *r, struct err *err) {
    struct timing *t = r->timing;
    double *room = malloc((size_t)t->steps * sizeof *room);
    struct ops *ops = NULL;
    if (!room) return err_memory(err, "benchmark");
    t->peak_mib = peak_mib();
    t->median_s = median_of(r->step_s, t->steps, 1, room);
    t->min_s = room[0];
    enum status status = multiply_adds(t->model, 0, t->model->net->nlayers - 1, &t->multiply_adds, err);
    if (!status) status = sum_up_layers(r, room, err);
    if (!status) status = ops_create(&ops, t->threads, err);
    if (!status) t->peak_flops = ops_peak_flops(ops);
    ops_destroy(&ops);
    free(room);
    return status;
}

enum status timing_run(struct timing **out, const struct timing_config *config, struct err *err) {
    struct run r = { .config = config, .timing = calloc(1, sizeof *r.timing) };
    struct timing *t = r.timing;
    if (!t) return err_memory(err, "benchmark");
    t->steps = config->steps;
    t->threads = config->threads;
    enum status status = robust_check(&config->robust, err);
    if (!status) status = open_run(&r, err);
    if (!status) {
        t->nlayers = net_logits_layer(t->model->net) + 1;
        t->layers = calloc((size_t)t->nlayers, sizeof *t->layers);
        r.step_s = calloc((size_t)t->steps, sizeof *r.step_s);
        r.layer_s = calloc((size_t)t->steps * 2 * (size_t)t->nlayers, sizeof *r.layer_s);
        if (!t->layers || !r.step_s || !r.layer_s) status = err_memory(err, "benchmark");
    }
    if (!status) status = time_steps(&r, err);
    if (!status) status = sum_up(&r, err);
    close_run(&r);
    if (status) timing_destroy(&t);
    else *out = t;
    return status;
}

void timing_destroy(struct timing **timing) {
    if (!*timing) return;
    model_destroy(&(*timing)->model);
    free((*timing)->layers);
    free(*timing);
    *timing = NULL;
}
