/* The oneDNN backend's context, its threads and parts, and primitives as
 * numbered arguments. */
#include "train/ops_onednn.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A primitive per layer shape and direction for every width that the level
 * table allows; oneDNN's own limit of 1,024 would compile them again and again. */
enum { PRIMITIVE_CACHE = 65536 };

enum status onednn_status(dnnl_status_t status, const char *what, struct err *err) {
    switch (status) {
    case dnnl_success: return STATUS_OK;
    case dnnl_out_of_memory: return err_memory(err, what);
    case dnnl_unimplemented: return err_set(err, STATUS_LIMIT, "oneDNN has no %s for this machine", what);
    default: return err_set(err, STATUS_LIMIT, "oneDNN refused %s (status %d)", what, (int)status);
    }
}

/* Half of the second-level cache: the rest is for weights and what is read once. */
static size_t cache_bytes(void) {
    long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return bytes > 0 ? (size_t)bytes / 2 : (size_t)256 << 10;
}

enum status ops_create(struct ops **out, int threads, struct err *err) {
    struct ops *ops = calloc(1, sizeof *ops);
    if (!ops) return err_memory(err, "training backend");
    ops->nthreads = threads < 1 ? 1 : threads;
#ifdef __SANITIZE_THREAD__
    ops->nthreads = 1; /* it does not see how OpenMP's threads wait for each other */
#endif
    ops->cache_bytes = cache_bytes();
    ops->threads = calloc((size_t)ops->nthreads, sizeof *ops->threads);
    enum status status = ops->threads ? STATUS_OK : err_memory(err, "training backend");
    if (!status) status = onednn_status(dnnl_engine_create(&ops->engine, dnnl_cpu, 0), "processor", err);
    for (int t = 0; t < ops->nthreads && !status; t++)
        status = onednn_status(dnnl_stream_create(&ops->threads[t].stream, ops->engine, dnnl_stream_default_flags),
                               "stream", err);
    if (!status) status = onednn_status(dnnl_set_primitive_cache_capacity(PRIMITIVE_CACHE), "cache", err);
    if (status) ops_destroy(&ops);
    else *out = ops;
    return status;
}

void ops_destroy(struct ops **out) {
    struct ops *ops = *out;
    if (!ops) return;
    onednn_cache_clear(&ops->convs, onednn_conv_destroy);
    onednn_cache_clear(&ops->pools, onednn_pool_destroy);
    for (int t = 0; ops->threads && t < ops->nthreads; t++) {
        for (int i = 0; i < OPS_SCRATCH_COUNT; i++) ops_free(ops, &ops->threads[t].scratch[i]);
        if (ops->threads[t].stream) dnnl_stream_destroy(ops->threads[t].stream);
    }
    free(ops->threads);
    if (ops->engine) dnnl_engine_destroy(ops->engine);
    free(ops);
    *out = NULL;
}

void ops_begin(struct ops *ops) { omp_set_num_threads(ops->nthreads); }

int ops_threads(const struct ops *ops) { return ops->nthreads; }

/* ---- memory ---- */

enum status ops_alloc(struct ops *ops, size_t count, float **values, const char *what, struct err *err) {
    (void)ops;
    const size_t page = (size_t)2 << 20; /* large blocks: huge pages, where the system has them */
    if (count > SIZE_MAX / sizeof **values / 2) return err_memory(err, what);
    size_t bytes = count * sizeof **values, alignment = bytes >= 2 * page ? page : 64;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    float *p = aligned_alloc(alignment, bytes ? bytes : alignment);
    if (!p) return err_memory(err, what);
    if (alignment == page) madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 0, bytes);
    *values = p;
    return STATUS_OK;
}

void ops_free(struct ops *ops, float **values) {
    (void)ops;
    free(*values);
    *values = NULL;
}

struct ops_thread *ops_own_thread(struct ops *ops) {
    return &ops->threads[omp_in_parallel() ? omp_get_thread_num() : 0];
}

enum status ops_scratch(struct ops *ops, enum ops_scratch use, size_t count, float **values, struct err *err) {
    struct ops_thread *own = ops_own_thread(ops);
    if (count > own->scratch_count[use]) {
        float *p = NULL;
        enum status status = ops_alloc(ops, count, &p, "scratch", err);
        if (status) return status;
        ops_free(ops, &own->scratch[use]);
        own->scratch[use] = p;
        own->scratch_count[use] = count;
    }
    *values = own->scratch[use];
    return STATUS_OK;
}

/* ---- parts ---- */

int ops_part_images(const struct ops *ops, int n, size_t values_per_image) {
    int threads = ops->nthreads;
    if (n < threads) return n;
    size_t fit = ops->cache_bytes / sizeof(float) / (values_per_image ? values_per_image : 1);
    int most = fit < 1 ? 1 : fit > (size_t)n ? n : (int)fit;
    int rounds = (n + threads * most - 1) / (threads * most), parts = threads * rounds;
    return (n + parts - 1) / parts;
}

enum status ops_parts_run(struct ops *ops, int n, int images_per_part, ops_part_body *body, void *context,
                          struct err *err) {
    if (n <= images_per_part) return body(context, &(struct ops_part){ 0, n, 0 }, err);
    int parts = (n + images_per_part - 1) / images_per_part;
#pragma omp parallel num_threads(ops->nthreads)
    {
        int t = omp_get_thread_num();
        struct ops_thread *own = &ops->threads[t];
        own->status = STATUS_OK;
        for (int k = parts * t / ops->nthreads; k < parts * (t + 1) / ops->nthreads && !own->status; k++) {
            int first = k * images_per_part, left = n - first;
            struct ops_part part = { first, left < images_per_part ? left : images_per_part, t };
            own->status = body(context, &part, &own->err);
        }
    }
    for (int t = 0; t < ops->nthreads; t++) {
        if (!ops->threads[t].status) continue;
        if (err) *err = ops->threads[t].err;
        return ops->threads[t].status;
    }
    return STATUS_OK;
}

/* ---- primitives ---- */

enum status onednn_map_desc(dnnl_memory_desc_t *desc, int n, int c, int h, int w, struct err *err) {
    return onednn_status(dnnl_memory_desc_init_by_tag(desc, 4, (dnnl_dims_t){ n, c, h, w }, dnnl_f32, dnnl_nhwc), "map",
                         err);
}

void onednn_threads_set(const struct ops *ops, bool single) { omp_set_num_threads(single ? 1 : ops->nthreads); }

dnnl_status_t onednn_attr_create(dnnl_primitive_attr_t *attr) {
    dnnl_status_t st = dnnl_primitive_attr_create(attr);
    return st ? st : dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
}

static enum status create_argument(struct onednn_primitive *p, const struct ops *ops, const dnnl_memory_desc_t *md,
                                   int id, struct err *err) {
    int index = p->nargs++;
    p->ids[index] = id;
    p->values[index] = (dnnl_memory_desc_get_size(md) + sizeof(float) - 1) / sizeof(float);
    enum status status = STATUS_OK;
    for (int t = 0; t < p->nthreads && !status; t++)
        status = onednn_status(dnnl_memory_create(&p->memory[t * ONEDNN_MAX_ARGS + index], md, ops->engine,
                                                  DNNL_MEMORY_NONE), "argument", err);
    return status;
}

enum status onednn_primitive_create(struct onednn_primitive *primitive, struct ops *ops, dnnl_primitive_desc_t desc,
                                    bool single, int nargs, const int *args, struct err *err) {
    struct onednn_primitive p = { .nthreads = single ? ops->nthreads : 1 };
    enum status status = onednn_status(dnnl_primitive_create(&p.handle, desc), "primitive", err);
    p.memory = calloc((size_t)p.nthreads * ONEDNN_MAX_ARGS, sizeof(dnnl_memory_t));
    if (!status && !p.memory) status = err_memory(err, "primitive");
    for (int i = 0; i < nargs && !status; i++)
        status = create_argument(&p, ops, dnnl_primitive_desc_query_md(desc, dnnl_query_exec_arg_md, args[i]), args[i], err);
    const dnnl_memory_desc_t *pad = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    if (!status && pad && dnnl_memory_desc_get_size(pad) > 0) {
        p.scratchpad = true;
        status = create_argument(&p, ops, pad, DNNL_ARG_SCRATCHPAD, err);
    }
    dnnl_primitive_desc_destroy(desc);
    if (status) onednn_primitive_destroy(&p);
    else *primitive = p;
    return status;
}

void onednn_primitive_destroy(struct onednn_primitive *primitive) {
    for (int i = 0; primitive->memory && i < primitive->nthreads * ONEDNN_MAX_ARGS; i++)
        if (primitive->memory[i]) dnnl_memory_destroy(primitive->memory[i]);
    free(primitive->memory);
    if (primitive->handle) dnnl_primitive_destroy(primitive->handle);
    *primitive = (struct onednn_primitive){ 0 };
}

enum status onednn_primitive_run(struct ops *ops, struct onednn_primitive *primitive, const void *const *buffers,
                                 struct err *err) {
    struct ops_thread *own = ops_own_thread(ops);
    dnnl_memory_t *memory = primitive->memory + (own - ops->threads) * ONEDNN_MAX_ARGS;
    dnnl_exec_arg_t args[ONEDNN_MAX_ARGS];
    dnnl_status_t st = dnnl_success;
    float *pad = NULL;
    if (primitive->scratchpad) {
        enum status status =
            ops_scratch(ops, OPS_SCRATCH_PRIMITIVE, primitive->values[primitive->nargs - 1], &pad, err);
        if (status) return status;
    }
    for (int i = 0; i < primitive->nargs && !st; i++) {
        bool last = primitive->scratchpad && i == primitive->nargs - 1;
        st = dnnl_memory_set_data_handle_v2(memory[i], last ? pad : (void *)(uintptr_t)buffers[i], own->stream);
        args[i] = (dnnl_exec_arg_t){ primitive->ids[i], memory[i] };
    }
    if (!st) st = dnnl_primitive_execute(primitive->handle, own->stream, primitive->nargs, args);
    if (!st) st = dnnl_stream_wait(own->stream);
    return onednn_status(st, "execution", err);
}

/* ---- the cache ---- */

/* FNV-1a. */
static size_t hash(const void *key, size_t size) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) h = (h ^ ((const uint8_t *)key)[i]) * 0x100000001b3u;
    return (size_t)(h ^ (h >> 29));
}

static size_t place_of(const struct onednn_cache *cache, const void *key, size_t size) {
    size_t place = hash(key, size) & (cache->places - 1);
    while (cache->items[place] && memcmp(cache->items[place], key, size) != 0) place = (place + 1) & (cache->places - 1);
    return place;
}

void *onednn_cache_find(const struct onednn_cache *cache, const void *key, size_t size) {
    return cache->places ? cache->items[place_of(cache, key, size)] : NULL;
}

enum status onednn_cache_add(struct onednn_cache *cache, void *item, size_t size, struct err *err) {
    if (2 * (cache->used + 1) > cache->places) {
        struct onednn_cache larger = { .places = cache->places ? 2 * cache->places : 256, .used = cache->used };
        larger.items = calloc(larger.places, sizeof *larger.items);
        if (!larger.items) return err_memory(err, "primitive cache");
        for (size_t i = 0; i < cache->places; i++)
            if (cache->items[i]) larger.items[place_of(&larger, cache->items[i], size)] = cache->items[i];
        free(cache->items);
        *cache = larger;
    }
    cache->items[place_of(cache, item, size)] = item;
    cache->used++;
    return STATUS_OK;
}

void onednn_cache_clear(struct onednn_cache *cache, void (*destroy)(void *)) {
    for (size_t i = 0; i < cache->places; i++)
        if (cache->items[i]) destroy(cache->items[i]);
    free(cache->items);
    *cache = (struct onednn_cache){ 0 };
}
