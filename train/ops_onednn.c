/* The context of the oneDNN backend, and its primitives as numbered arguments. */
#include "train/ops_onednn.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

enum status ops_create(struct ops **out, int threads, struct err *err) {
    struct ops *ops = calloc(1, sizeof *ops);
    if (!ops) return err_memory(err, "training backend");
    ops->threads = threads < 1 ? 1 : threads;
    enum status status = onednn_status(dnnl_engine_create(&ops->engine, dnnl_cpu, 0), "processor", err);
    if (!status)
        status = onednn_status(dnnl_stream_create(&ops->stream, ops->engine, dnnl_stream_default_flags), "stream", err);
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
    for (int i = 0; i < OPS_SCRATCH_COUNT; i++) ops_free(ops, &ops->scratch[i]);
    if (ops->stream) dnnl_stream_destroy(ops->stream);
    if (ops->engine) dnnl_engine_destroy(ops->engine);
    free(ops);
    *out = NULL;
}

void ops_begin(struct ops *ops) { omp_set_num_threads(ops->threads); }

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

enum status ops_scratch(struct ops *ops, enum ops_scratch use, size_t count, float **values, struct err *err) {
    if (count > ops->scratch_count[use]) {
        float *p = NULL;
        enum status status = ops_alloc(ops, count, &p, "scratch", err);
        if (status) return status;
        ops_free(ops, &ops->scratch[use]);
        ops->scratch[use] = p;
        ops->scratch_count[use] = count;
    }
    *values = ops->scratch[use];
    return STATUS_OK;
}

/* ---- primitives ---- */

enum status onednn_map_desc(dnnl_memory_desc_t *desc, int n, int c, int h, int w, struct err *err) {
    return onednn_status(dnnl_memory_desc_init_by_tag(desc, 4, (dnnl_dims_t){ n, c, h, w }, dnnl_f32, dnnl_nhwc), "map",
                         err);
}

enum status onednn_primitive_create(struct onednn_primitive *primitive, struct ops *ops, dnnl_primitive_desc_t desc,
                                    int nargs, const int *args, struct err *err) {
    struct onednn_primitive p = { 0 };
    enum status status = onednn_status(dnnl_primitive_create(&p.handle, desc), "primitive", err);
    for (int i = 0; i < nargs && !status; i++) {
        dnnl_memory_t memory = NULL;
        const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(desc, dnnl_query_exec_arg_md, args[i]);
        status = onednn_status(dnnl_memory_create(&memory, md, ops->engine, DNNL_MEMORY_NONE), "argument", err);
        if (!status) p.args[p.nargs++] = (dnnl_exec_arg_t){ args[i], memory };
    }
    dnnl_primitive_desc_destroy(desc);
    if (status) onednn_primitive_destroy(&p);
    else *primitive = p;
    return status;
}

void onednn_primitive_destroy(struct onednn_primitive *primitive) {
    for (int i = 0; i < primitive->nargs; i++) dnnl_memory_destroy(primitive->args[i].memory);
    if (primitive->handle) dnnl_primitive_destroy(primitive->handle);
    *primitive = (struct onednn_primitive){ 0 };
}

enum status onednn_primitive_run(struct ops *ops, struct onednn_primitive *primitive, const void *const *buffers,
                                 struct err *err) {
    dnnl_status_t status = dnnl_success;
    for (int i = 0; i < primitive->nargs && status == dnnl_success; i++)
        status = dnnl_memory_set_data_handle(primitive->args[i].memory, (void *)(uintptr_t)buffers[i]);
    if (status == dnnl_success)
        status = dnnl_primitive_execute(primitive->handle, ops->stream, primitive->nargs, primitive->args);
    if (status == dnnl_success) status = dnnl_stream_wait(ops->stream);
    return onednn_status(status, "execution", err);
}

size_t onednn_primitive_values(const struct onednn_primitive *primitive, int index) {
    const dnnl_memory_desc_t *md;
    if (dnnl_memory_get_memory_desc(primitive->args[index].memory, &md) != dnnl_success) return 0;
    return (dnnl_memory_desc_get_size(md) + sizeof(float) - 1) / sizeof(float);
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
