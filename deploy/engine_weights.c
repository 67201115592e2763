/* Where packed weights lie: in the cache of packed weights, filled already, or
 * in memory of the engine's own, to be filled and then kept in the cache. */
#include "deploy/engine_internal.h"

#include "common/log.h"
#include "deploy/checksum.h"
#include "deploy/packed.h"

#include <stdlib.h>

/* With a cache, the model's own checksum is not computed again: a cache was
 * written from bytes that had it, and is only used for the same bytes. */
enum status engine_weights_open(struct engine *e, const char *cache, struct err *err) {
    const struct safetensors *file = e->model->file;
    if (cache && file) {
        e->cache = cache;
        e->cache_key = (struct packed_key){.model = checksum_of(file->bytes, file->length, e->pool, e->low_memory),
                                           .length = file->length,
                                           .isa = e->kernels->isa,
                                           .first_block = e->first_block,
                                           .last_block = e->last_block};
        e->packed = packed_open(cache, &e->cache_key, e->pool);
    }
    return e->packed ? STATUS_OK : model_verify(e->model, err);
}

float *engine_weights(struct engine *e, struct op *op, size_t n, bool *packed) {
    op->nweights = n;
    float *weights = e->packed ? packed_next(e->packed, n * sizeof *weights) : NULL;
    *packed = weights != NULL;
    return weights ? weights : engine_alloc(e, n, sizeof *weights);
}

/* A cache that cannot be written costs time the next time, nothing else. */
void engine_weights_save(struct engine *e) {
    if (!e->cache || e->packed) return;
    struct packed_block *blocks = calloc((size_t)e->nops, sizeof *blocks);
    struct err err = {0};
    int n = 0;
    for (int i = 0; blocks && i < e->nops; i++)
        if (e->ops[i].nweights)
            blocks[n++] = (struct packed_block){e->ops[i].weights, e->ops[i].nweights * sizeof(float)};
    const enum status status = blocks ? packed_save(e->cache, &e->cache_key, blocks, n, e->pool, &err) : STATUS_MEMORY;
    if (status) log_warn("packed weights are not kept: %s", err.text);
    free(blocks);
}
