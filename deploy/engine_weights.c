/* Where packed weights lie: in the cache of packed weights, filled already, or
 * in memory of the engine's own, to be filled and then kept in the cache. */
#include "deploy/engine_internal.h"

#include "common/log.h"
#include "deploy/checksum.h"
#include "deploy/packed.h"

#include <stdlib.h>
#include <string.h>

static uint64_t join(uint64_t sum, uint64_t next) {
    return checksum_of((uint64_t[]){sum, next}, 2 * sizeof sum, NULL, false);
}

static bool is_packed(const struct safetensors_tensor *t) {
    const char *dot = strrchr(t->name, '.');
    return dot && strcmp(dot, ".weight") == 0;
}

/* What tells a model from any other, without reading the weights that the
 * cache holds: its header, which states the CRC of all the rest, and what the
 * engine takes from the file itself, batch norm and biases. Of a model without a
 * CRC, all of it.
 *
 * So the weights that run are those whose CRC was verified before they were
 * packed; that those of the file have been damaged since, or edited without a
 * new CRC, only a later time of the file tells (packed_open). */
static uint64_t key_of(const struct engine *e, const struct safetensors *file) {
    if (!safetensors_metadata(file, "crc32") || file->ntensors == 0)
        return checksum_of(file->bytes, file->length, e->pool, e->low_memory);
    uint64_t sum = checksum_of(file->bytes, (size_t)((const uint8_t *)file->tensors[0].data - file->bytes), NULL, false);
    for (int i = 0; i < file->ntensors; i++) {
        const struct safetensors_tensor *t = &file->tensors[i];
        if (!is_packed(t)) sum = join(sum, checksum_of(t->data, t->size, NULL, false));
    }
    return sum;
}

enum status engine_weights_open(struct engine *e, const char *cache, struct err *err) {
    const struct safetensors *file = e->model->file;
    if (cache && file) {
        e->cache = cache;
        e->cache_key = (struct packed_key){.model = key_of(e, file),
                                           .length = file->length,
                                           .modified = file->modified,
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
void engine_keep(struct engine *e) {
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
