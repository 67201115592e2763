/* The inference engine: one packed copy of the weights, any plan.
 *
 * Weights are packed once at creation: a level is the first OC blocks and, in
 * each, the first IC rows of that one packing. engine_set_plan sets counts and
 * picks batch-norm rows: it copies no weight, allocates nothing, and takes
 * microseconds. engine_run allocates nothing either. An engine is used by one
 * thread at a time; different engines are independent. */
#ifndef ESPALIER_ENGINE_H
#define ESPALIER_ENGINE_H

#include "common/err.h"
#include "common/model.h"
#include "common/pool.h"

#include <stdbool.h>

struct engine;
struct kernels;

struct engine_config {
    struct pool *pool; /* borrowed; NULL: one thread */
    int first_block, last_block; /* the blocks to run; -1 as last: to the end. A slice of a whole
                                  * model runs as one cut from it would */
    const struct kernels *kernels; /* NULL: the best for this processor, see deploy/kernels/table.h */
    bool keep;                     /* every layer's output for engine_activation: no fusion, no reuse of buffers */
    bool time_layers;              /* for engine_layer_seconds */
    double (*clock)(void);         /* seconds for those and for engine_block_seconds; NULL: log_now_s */
    bool low_memory; /* less memory, more time: no Winograd scratch, tighter buffers, and the pages of the model's
                      * mapped weights are given back once they are packed */
    const char *cache; /* folder that keeps packed weights (deploy/packed.h), or NULL. Only for models
                        * loaded from a file */
    bool cache_later;  /* what it has not got is kept there by engine_keep, not at creation */
    size_t max_bytes; /* an engine that would hold more is STATUS_LIMIT, before it takes them; 0: the
                       * memory that this machine has */
};
struct engine_config engine_defaults(void);

/* `model` is borrowed and must outlive the engine. One that was loaded
 * unverified is verified here, if its weights are not in the cache. The plan starts at level 0. */
enum status engine_create(struct engine **engine, const struct model *model, const struct engine_config *config,
                          struct err *err) MUST_CHECK;
void engine_destroy(struct engine **engine);
/* Whether its packed weights are a mapped file's. */
bool engine_mapped(const struct engine *engine);
/* With cache_later: keeps the packed weights. May be called while another thread runs the engine. */
void engine_keep(struct engine *engine);
/* Says that it will not run soon: pages of mapped weights, the model's and the packed ones, and of
 * buffers leave the memory, and come back when it runs. */
void engine_rest(struct engine *engine);

/* `plan` has one entry per block of the model; copied. For an engine whose
 * first block is not the model's first, what arrives has the levels that plan_incoming() and plan_before() say. */
void engine_set_plan(struct engine *engine, const struct plan *plan);

/* Channels (per segment and together) of what enters and leaves under the
 * present plan, and the maps' size. Where a link caps the channels that cross,
 * they are counted behind it. */
struct engine_tensor {
    int nsegments, c, h, w;
    const int *counts; /* [nsegments], valid until the next engine_set_plan */
};
struct engine_tensor engine_input(const struct engine *engine);
struct engine_tensor engine_output(const struct engine *engine);
/* Largest number of floats of either, at any plan. */
size_t engine_input_max(const struct engine *engine);
size_t engine_output_max(const struct engine *engine);

/* input: planar f32 [c, h, w] of engine_input; output: likewise. The last
 * block ends with probabilities if the net has a softmax. */
void engine_run(struct engine *engine, const float *input, float *output);
/* The values before the softmax of the last run, [classes]; NULL if this
 * engine does not hold the last layer. */
const float *engine_logits(const struct engine *engine);
/* The output of `layer` (index in the model's net) after a run, planar and
 * compacted by the counts; needs config.keep. For tests. */
enum status engine_activation(const struct engine *engine, int layer, float *out, int *channels,
                              struct err *err) MUST_CHECK;

/* Seconds that each block took in the last run, [last_block - first_block + 1].
 * Convolutions that run together share theirs out in proportion to their work. */
const double *engine_block_seconds(const struct engine *engine);
/* Seconds that each layer took in the last run, [nlayers of the net]; what a
 * convolution does for the shortcut behind it counts as the convolution's. NULL
 * without config.time_layers. */
const double *engine_layer_seconds(const struct engine *engine);
/* How a layer is computed under the present plan: the kernel ("" for one that
 * costs nothing), and the bytes that it cannot but read and write: what enters
 * and leaves, and the weights. */
struct engine_layer {
    const char *kernel;
    double bytes;
};
struct engine_layer engine_layer(const struct engine *engine, int layer);
/* Bytes held: packed weights, buffers. */
size_t engine_bytes(const struct engine *engine);

#endif
