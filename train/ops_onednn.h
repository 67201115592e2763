/* What the backend's files share: the context, and oneDNN primitives as
 * numbered arguments. Private to ops_*.c. */
#ifndef ESPALIER_TRAIN_OPS_ONEDNN_H
#define ESPALIER_TRAIN_OPS_ONEDNN_H

#include "train/ops.h"

#include <oneapi/dnnl/dnnl.h>

/* Things that begin with their key, found by it. */
struct onednn_cache {
    void **items; /* open addressing, a power of two of places */
    size_t places, used;
};

struct ops {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int threads;
    float *scratch[OPS_SCRATCH_COUNT];
    size_t scratch_count[OPS_SCRATCH_COUNT];
    struct onednn_cache convs, pools;
};

enum { ONEDNN_MAX_ARGS = 4 };

struct onednn_primitive {
    dnnl_primitive_t handle; /* NULL: not made */
    int nargs;
    dnnl_exec_arg_t args[ONEDNN_MAX_ARGS];
};

/* Takes over `desc`. `args`: DNNL_ARG_..., in the order that run takes them. */
enum status onednn_primitive_create(struct onednn_primitive *primitive, struct ops *ops, dnnl_primitive_desc_t desc,
                                    int nargs, const int *args, struct err *err) MUST_CHECK;
void onednn_primitive_destroy(struct onednn_primitive *primitive);
enum status onednn_primitive_run(struct ops *ops, struct onednn_primitive *primitive, const void *const *buffers,
                                 struct err *err) MUST_CHECK;
/* Values (of 4 bytes, rounded up) that argument `index` takes. */
size_t onednn_primitive_values(const struct onednn_primitive *primitive, int index);

/* Dense [N, H, W, C]. */
enum status onednn_map_desc(dnnl_memory_desc_t *desc, int n, int c, int h, int w, struct err *err) MUST_CHECK;
/* oneDNN's status as ours; `what` names the operation. */
enum status onednn_status(dnnl_status_t status, const char *what, struct err *err) MUST_CHECK;

void *onednn_cache_find(const struct onednn_cache *cache, const void *key, size_t size);
/* `item` begins with its key. */
enum status onednn_cache_add(struct onednn_cache *cache, void *item, size_t size, struct err *err) MUST_CHECK;
void onednn_cache_clear(struct onednn_cache *cache, void (*destroy)(void *));

void onednn_conv_destroy(void *conv);
void onednn_pool_destroy(void *pool);

#endif
