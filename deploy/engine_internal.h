/* What the engine's files share. The engine is built in steps, each a file:
 *
 *   engine_graph.c   layers -> tensors, views of storages, operations
 *   engine_chain.c   operations that run together, a band of lines at a time
 *   engine_memory.c  storages -> buffers, by the time they live
 *   engine_weights.c where packed weights lie
 *   engine_pack.c    weights -> panels; batch norm -> tables
 *   engine_bind.c    operations -> kernels' arguments, at full width
 *   engine_plan.c    a plan -> counts, chunks and batch-norm rows in those arguments
 *   engine_winograd.c  3x3 convolutions by Winograd's transforms, where that is faster
 *   engine_run.c     runs them
 */
#ifndef ESPALIER_ENGINE_INTERNAL_H
#define ESPALIER_ENGINE_INTERNAL_H

#include "deploy/engine.h"
#include "deploy/kernels/layout.h"
#include "deploy/kernels/table.h"
#include "deploy/packed.h"

/* Memory for one segment of one tensor: panels of 16 channels (or interleaved
 * pixels) with a border of zeros that convolutions read as padding. */
struct storage {
    int channels, h, w, border, pitch;
    int born, dies;       /* the operations that write it (-1: engine_run itself) and read it last */
    bool passing;         /* within a chain of operations: it has no memory */
    struct layout layout; /* once there is memory */
};

/* A segment of some layer's output. One storage may be seen by many (a route,
 * a dropout layer), each with a count of its own. */
struct view {
    struct storage *storage; /* NULL: no values, all zero */
    int segment;             /* in groups->segment; -1: an intermediate copy, never pruned */
    int first, channels;     /* of the tensor */
};

struct tensor {
    int nviews;
    struct view *views;
};

enum op_kind {
    OP_CONV, /* convolutional and connected layers */
    OP_DEPTHWISE,
    OP_MAXPOOL,
    OP_AVGPOOL,
    OP_AFFINE, /* batchnorm layers */
    OP_ADD,    /* shortcuts that no convolution takes along */
    OP_SOFTMAX,
    OP_CROP,
    OP_REGROUP, /* copies part of a concatenation to where its consumer can read it */
};

/* A chunk at full width, and which channels it stands for. */
struct full_chunk {
    struct conv_chunk chunk;
    int view, channel; /* of the input: the first */
    bool whole;        /* an interleaved line, never cut */
};

/* A kernel's arguments for a range of channels of one view of the output. */
struct part {
    int view, first, last; /* at full width */
    int now;               /* under the present plan: [first, now) */
    int chunk, nchunks;    /* conv: op.full[chunk], ... */
    int m;                 /* conv: the size of Winograd's tiles under the present plan; 0: directly */
    union {
        struct conv_args conv;
        struct depthwise_args depthwise;
        struct pooling_args pooling;
        struct pointwise_affine_args affine;
        struct pointwise_add_args add;
    };
};

struct op {
    enum op_kind kind;
    int layer, block;
    int chain;    /* operations, this one first, that run together (engine_chain.c); within a chain: 0 */
    int shortcut; /* conv: the shortcut layer that its epilogue computes; otherwise -1 */
    const struct tensor *in, *out;
    const struct tensor *from; /* the other side of a shortcut: OP_ADD: a view for each of `in`; conv: one */

    int nparts, nchunks;
    struct part *parts;
    struct full_chunk *full;   /* conv: the chunks of all parts */
    struct conv_chunk *chunks; /* those under the present plan, at the same places */
    float *weights;            /* packed; in a cache they cannot be written */
    size_t nweights;
    bool winograd;             /* conv: Winograd's transforms apply */
    /* [rows][stride]: batch norm of each level, or 1 and the bias; of several
     * levels one more, for what a plan corrects. */
    float *scale, *shift;
    int rows, stride;
};

struct engine {
    const struct model *model;
    struct pool *pool;
    const struct kernels *kernels;
    bool keep, low_memory;
    const char *cache;           /* folder, or NULL */
    struct packed_key cache_key;
    struct packed *packed;       /* NULL: nothing that can be used there */
    int first_block, last_block, first_layer, last_layer;
    int source; /* the layer whose output enters; -1: the network's input */

    struct plan *plan;
    struct counts *counts;

    struct tensor *tensors; /* [nlayers + 1], index 0 the network's input; no views: not computed */
    int nstorages, nops;
    struct storage *storages;
    struct op *ops;

    float *scratch; /* [threads][scratch_each], for engine_winograd.c and engine_chain.c */
    size_t scratch_each;
    float *maps; /* all buffers of feature maps; nothing in them outlives a run but zeros */
    size_t maps_bytes, scratch_bytes;

    int *input_counts, *output_counts;
    float *logits;         /* [classes], or NULL */
    float *values;         /* planar, for a softmax */
    double (*clock)(void);
    double *block_seconds; /* [last_block - first_block + 1] */
    double *layer_seconds; /* [nlayers], or NULL */

    void **allocations; /* all that engine_destroy frees */
    int nallocations;
    bool slabs;  /* engine_alloc takes them from larger blocks, of which the last has this left: */
    uint8_t *slab;
    size_t slab_left;
    size_t bytes, max_bytes;
    bool over_limit; /* engine_alloc refused because of max_bytes */
};

/* n elements of `size` bytes, zeroed, 64-byte aligned, freed with the engine;
 * NULL if there is no memory, the product overflows, or it would exceed the limit. */
void *engine_alloc(struct engine *engine, size_t n, size_t size);

static inline struct tensor *engine_tensor_of(const struct engine *engine, int layer) {
    return &engine->tensors[layer + 1];
}

enum status engine_graph(struct engine *engine, struct err *err) MUST_CHECK;
enum status engine_memory(struct engine *engine, struct err *err) MUST_CHECK;
enum status engine_weights_open(struct engine *engine, const char *cache, struct err *err) MUST_CHECK;
/* Memory for n packed weights of the operation; NULL without. `*packed`: they
 * are there already. To be asked for in the order of the operations. */
float *engine_weights(struct engine *engine, struct op *op, size_t n, bool *packed);
/* With little memory: zeroes the borders of what the operation is about to write (-1: of the input). */
void engine_clear_borders(const struct engine *engine, int op);
enum status engine_pack(struct engine *engine, struct op *op, struct err *err) MUST_CHECK;
enum status engine_bind(struct engine *engine, struct err *err) MUST_CHECK;

/* Finds the operations that run together, and what scratch they need. */
void engine_chains(struct engine *engine);
void engine_chain_run(const struct engine *engine, const struct op *chain);

/* Whether Winograd's transforms can compute the operation. */
bool engine_winograd_fits(const struct engine *engine, const struct op *op);
/* Marks the operations that Winograd's transforms can compute, and makes the
 * scratch for them. */
enum status engine_winograd_memory(struct engine *engine, struct err *err) MUST_CHECK;
/* The best size of tiles for the part's present counts; 0: directly. */
int engine_winograd_choose(const struct op *op, const struct part *part);
void engine_winograd_run(const struct engine *engine, const struct op *op, const struct part *part);

/* Runs task 0..tasks-1 on the pool, if there is one. */
void engine_parallel(const struct engine *engine, int tasks, pool_task *task, void *context);

#endif
