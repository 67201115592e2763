#include "deploy/bench.h"

#include "common/log.h"
#include "common/random.h"
#include "deploy/engine.h"

#include <stdlib.h>
#include <sys/resource.h>

struct runner {
    const struct device *device;
    const struct bench_options *options;
    struct engine *engine;
    struct counts *counts;
    struct plan *plan;
    float *input, *output;
    double *samples;
    int room; /* of samples */
};

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum status runner_open(struct runner *r, const struct device *device, const struct bench_options *options,
                               struct err *err) {
    *r = (struct runner){.device = device, .options = options};
    struct engine_config config = device_engine(device);
    config.time_layers = options->layers;
    enum status status;
    if ((status = engine_create(&r->engine, device->model, &config, err)) ||
        (status = counts_create(&r->counts, device->model->groups, err)) ||
        (status = plan_create(&r->plan, device->model->blocks->nblocks, 0, err)))
        return status;
    r->room = options->repeats > 4096 ? options->repeats : 4096;
    if (options->switches > r->room) r->room = options->switches;
    r->input = malloc(engine_input_max(r->engine) * sizeof *r->input);
    r->output = malloc(engine_output_max(r->engine) * sizeof *r->output);
    r->samples = malloc((size_t)r->room * sizeof *r->samples);
    if (!r->input || !r->output || !r->samples) return err_memory(err, "benchmark");
    struct random random = random_stream(1, 0, 0);
    for (size_t i = 0; i < engine_input_max(r->engine); i++) r->input[i] = (float)random_uniform(&random);
    return STATUS_OK;
}

static void runner_close(struct runner *r) {
    engine_destroy(&r->engine);
    counts_destroy(&r->counts);
    plan_destroy(&r->plan);
    free(r->input);
    free(r->output);
    free(r->samples);
}

static double multiply_adds(const struct runner *r, const struct plan *plan, int first, int last) {
    const struct model *m = r->device->model;
    counts_set(r->counts, m->net, m->blocks, m->groups, m->levels, plan);
    return counts_multiply_adds(r->counts, m->net, m->blocks, m->groups, m->levels, plan, first, last);
}

static struct bench_time time_plan(struct runner *r, const struct plan *plan) {
    engine_set_plan(r->engine, plan);
    engine_run(r->engine, r->input, r->output); /* into the caches */
    int n = 0;
    for (const double begin = log_now_s();
         n < r->room && (n < r->options->repeats || log_now_s() - begin < r->options->seconds); n++) {
        const double start = log_now_s();
        engine_run(r->engine, r->input, r->output);
        r->samples[n] = (log_now_s() - start) * 1e3;
    }
    qsort(r->samples, (size_t)n, sizeof *r->samples, compare);
    return (struct bench_time){r->samples[n / 2], r->samples[0], n,
                               multiply_adds(r, plan, 0, r->device->model->net->nlayers - 1)};
}

static enum status time_layers(struct runner *r, const struct plan *plan, struct bench *b, struct err *err) {
    const int nlayers = r->device->model->net->nlayers, runs = r->options->repeats;
    double *samples = malloc((size_t)nlayers * (size_t)runs * sizeof *samples);
    b->layers = calloc((size_t)nlayers, sizeof *b->layers);
    if (!samples || !b->layers) {
        free(samples);
        return err_memory(err, "benchmark");
    }
    b->nlayers = nlayers;
    engine_set_plan(r->engine, plan);
    for (int i = -1; i < runs; i++) {
        engine_run(r->engine, r->input, r->output);
        for (int l = 0; i >= 0 && l < nlayers; l++) samples[l * runs + i] = engine_layer_seconds(r->engine)[l];
    }
    for (int l = 0; l < nlayers; l++) {
        qsort(samples + l * runs, (size_t)runs, sizeof *samples, compare);
        const struct engine_layer layer = engine_layer(r->engine, l);
        b->layers[l] = (struct bench_layer){l,
                                            layer.kernel,
                                            samples[l * runs + runs / 2] * 1e3,
                                            samples[l * runs] * 1e3,
                                            multiply_adds(r, plan, l, l),
                                            layer.bytes};
    }
    free(samples);
    return STATUS_OK;
}

/* Level switches, each to another random level. */
static struct bench_switches time_switches(struct runner *r, int n) {
    struct random random = random_stream(2, 0, 0);
    const int nlevels = r->device->model->levels->nlevels;
    int level = 0;
    for (int i = 0; i < n; i++) {
        if (nlevels > 1) level = (level + 1 + random_below(&random, nlevels - 1)) % nlevels;
        for (int k = 0; k < r->plan->nblocks; k++) r->plan->level[k] = level;
        const double start = log_now_s();
        engine_set_plan(r->engine, r->plan);
        r->samples[i] = (log_now_s() - start) * 1e6;
    }
    qsort(r->samples, (size_t)n, sizeof *r->samples, compare);
    return (struct bench_switches){n, r->samples[n / 2], r->samples[(size_t)n * 99 / 100], r->samples[n - 1]};
}

/* Between the levels, too: a clock that rises or falls does so for both. */
static void measure_peak(struct bench *b, const struct device *d) {
    const double peak = device_peak_gflops(d->kernels, d->pool);
    if (peak > b->peak_gflops) b->peak_gflops = peak;
}

static enum status run(struct runner *r, struct bench *b, struct err *err) {
    const struct device *d = r->device;
    const int nlevels = d->model->levels->nlevels;
    b->isa = d->kernels->isa;
    b->threads = pool_threads(d->pool);
    b->random = d->random;
    for (int i = 0; i < d->model->net->nlayers; i++)
        b->weight_bytes += net_weight_count(&d->model->net->layers[i]) * sizeof(float);
    b->engine_bytes = engine_bytes(r->engine);
    b->one_plan = r->options->one_plan;
    b->ntimes = b->one_plan ? 1 : nlevels;
    b->times = calloc((size_t)b->ntimes, sizeof *b->times);
    if (!b->times) return err_memory(err, "benchmark");
    measure_peak(b, d);
    for (int i = 0; i < b->ntimes; i++) {
        for (int k = 0; k < r->plan->nblocks; k++) r->plan->level[k] = i;
        b->times[i] = time_plan(r, b->one_plan ? d->plan : r->plan);
        measure_peak(b, d);
    }
    enum status status = r->options->layers ? time_layers(r, d->plan, b, err) : STATUS_OK;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) b->resident_max = (size_t)usage.ru_maxrss << 10;
    b->read_gbs = device_read_gbs(d->kernels, d->pool);
    if (!status && r->options->decode)
        status = bench_decode(&b->decode, &d->model->preproc, r->options->decode, r->options->repeats, err);
    if (!status && r->options->switches > 0) b->switches = time_switches(r, r->options->switches);
    return status;
}

enum status bench_run(struct bench **out, const struct device *device, const struct bench_options *options,
                      struct err *err) {
    struct bench *b = calloc(1, sizeof *b);
    if (!b) return err_memory(err, "benchmark");
    struct runner r;
    const double start = log_now_s();
    enum status status = runner_open(&r, device, options, err);
    b->create_ms = (log_now_s() - start) * 1e3;
    if (!status) status = run(&r, b, err);
    runner_close(&r);
    if (status) bench_destroy(&b);
    else *out = b;
    return status;
}

void bench_destroy(struct bench **bench) {
    if (!*bench) return;
    free((*bench)->times);
    free((*bench)->layers);
    free(*bench);
    *bench = NULL;
}
