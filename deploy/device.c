#include "deploy/device.h"

#include "common/log.h"
#include "common/portfolio.h"
#include "deploy/selftest.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct device_options device_defaults(void) {
    return (struct device_options){.plan = "0", .threads = pool_default_threads()};
}

static enum status make_plan(struct device *d, const struct device_options *o, struct err *err) {
    const struct blocks *blocks = d->model->blocks;
    int nslices, *first = malloc((size_t)blocks->nblocks * sizeof *first);
    if (!first) return err_memory(err, "slices");
    enum status status = blocks_parse_cuts(blocks, o->cuts, first, &nslices, err);
    if (!status) status = plan_parse(&d->plan, blocks, d->model->levels, nslices, first, o->plan, o->link, err);
    free(first);
    return status;
}

/* The network of a cfg with random weights: its speed is a trained model's. */
static enum status load_cfg(struct model **model, const char *path, struct err *err) {
    struct cfg *cfg;
    enum status status = cfg_load(&cfg, path, err);
    if (status) return status;
    if ((status = model_create(model, cfg, 0, err))) cfg_destroy(&cfg);
    else selftest_fill(*model, 1);
    return status;
}

static bool is_cfg(const char *path) {
    const size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".cfg") == 0;
}

enum status device_load(struct model **model, const struct device_options *o, unsigned how, struct err *err) {
    return o->cfg && is_cfg(o->model) ? load_cfg(model, o->model, err)
                                      : portfolio_load(model, o->model, o->variant, how, err);
}

enum status device_open(struct device *device, const struct device_options *o, struct err *err) {
    struct device d = {.cache = o->cache, .low_memory = o->low_memory};
    const unsigned how = (o->cache ? MODEL_UNVERIFIED : 0) | (o->low_memory ? MODEL_LOW_MEMORY : 0);
    enum status status = STATUS_OK;
    if (o->cpu_mask) status = kernels_limit(o->cpu_mask, err);
    d.kernels = kernels_best();
    if (!status) status = pool_create(&d.pool, o->threads, err);
    d.random = o->cfg && is_cfg(o->model);
    if (!status) status = device_load(&d.model, o, how, err);
    if (!status) status = make_plan(&d, o, err);
    if (status) device_close(&d);
    else *device = d;
    return status;
}

void device_close(struct device *d) {
    plan_destroy(&d->plan);
    model_destroy(&d->model);
    pool_destroy(&d->pool);
}

struct engine_config device_engine(const struct device *d) {
    struct engine_config config = engine_defaults();
    config.pool = d->pool;
    config.kernels = d->kernels;
    config.cache = d->cache;
    config.low_memory = d->low_memory;
    return config;
}

/* ---- limits ---- */

enum { REPEATS = 10 };

struct limit {
    const struct kernels *kernels;
    long rounds;        /* of multiply-adds */
    const float *block; /* to read */
    size_t each;        /* floats for each thread */
    double operations;
};

static void run_fma(void *context, int task, int thread) {
    (void)thread;
    struct limit *l = context;
    volatile float keep;
    float sink = 0;
    const double operations = l->kernels->peak_fma(l->rounds, &sink);
    keep = sink;
    (void)keep;
    if (task == 0) l->operations = operations;
}

static void run_read(void *context, int task, int thread) {
    (void)thread;
    const struct limit *l = context;
    volatile float keep = l->kernels->peak_read(l->block + (size_t)task * l->each, l->each);
    (void)keep;
}

static double best_seconds(struct pool *pool, pool_task *task, struct limit *l) {
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        const double start = log_now_s();
        pool_run(pool, pool_threads(pool), task, l);
        const double seconds = log_now_s() - start;
        if (seconds < best) best = seconds;
    }
    return best;
}

double device_peak_gflops(const struct kernels *kernels, struct pool *pool) {
    struct limit l = {.kernels = kernels, .rounds = 1000};
    double seconds = best_seconds(pool, run_fma, &l);
    l.rounds = (long)(1000 * 0.002 / seconds) + 1000; /* some 2 ms: less than a time slice */
    seconds = best_seconds(pool, run_fma, &l);
    return l.operations * (double)l.rounds * pool_threads(pool) / seconds / 1e9;
}

double device_read_gbs(const struct kernels *kernels, struct pool *pool) {
    /* 128 MiB, more than caches hold. */
    struct limit l = {.kernels = kernels, .each = ((size_t)32 << 20) / (size_t)pool_threads(pool) / 128 * 128};
    const size_t bytes = l.each * (size_t)pool_threads(pool) * sizeof(float);
    const size_t huge = (size_t)2 << 20;
    float *block = aligned_alloc(huge, (bytes + huge - 1) / huge * huge);
    if (!block) return 0;
    madvise(block, bytes, MADV_HUGEPAGE); /* as the engine's weights */
    memset(block, 0, bytes);
    l.block = block;
    const double seconds = best_seconds(pool, run_read, &l);
    free(block);
    return (double)bytes / seconds / 1e9;
}
