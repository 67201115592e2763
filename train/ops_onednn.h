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

/* What each thread has of its own. */
struct ops_thread {
    dnnl_stream_t stream;
    float *scratch[OPS_SCRATCH_COUNT];
    size_t scratch_count[OPS_SCRATCH_COUNT];
    enum status status; /* of its parts */
    struct err err;
};

struct ops {
    dnnl_engine_t engine;
    int nthreads;
    struct ops_thread *threads;
    size_t cache_bytes; /* a core's, for one part to work in */
    struct onednn_cache convs, pools;
};

/* The calling thread's: the first's outside of parts. */
struct ops_thread *ops_own_thread(struct ops *ops);

enum { ONEDNN_MAX_ARGS = 5 };

/* Runs either on all threads, outside of parts, or on any single one. */
struct onednn_primitive {
    dnnl_primitive_t handle; /* NULL: not made */
    int nargs, nthreads;
    int ids[ONEDNN_MAX_ARGS];        /* DNNL_ARG_...; the scratchpad may come last */
    size_t values[ONEDNN_MAX_ARGS];  /* of 4 bytes, rounded up */
    bool scratchpad;
    dnnl_memory_t *memory;           /* [nthreads][nargs] */
};

/* Primitives made between these two run on one thread, if `single`. */
void onednn_threads_set(const struct ops *ops, bool single);
/* Attributes that let each thread bring its own scratchpad. */
dnnl_status_t onednn_attr_create(dnnl_primitive_attr_t *attr);
/* Takes over `desc`. `args`: DNNL_ARG_..., in the order that run takes them.
 * `single`: as the descriptor was made. */
enum status onednn_primitive_create(struct onednn_primitive *primitive, struct ops *ops, dnnl_primitive_desc_t desc,
                                    bool single, int nargs, const int *args, struct err *err) MUST_CHECK;
void onednn_primitive_destroy(struct onednn_primitive *primitive);
enum status onednn_primitive_run(struct ops *ops, struct onednn_primitive *primitive, const void *const *buffers,
                                 struct err *err) MUST_CHECK;

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
