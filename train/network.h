/* The trainable network: parameters, forward and backward under any plan.
 *
 * Only the kept prefixes are computed, forward and backward: a plan at half
 * width does about a quarter of the work. Parameters and gradients are each
 * one contiguous block, so that optimizer, checkpoint and gradient check walk
 * a list and know no layers. Not thread-safe; uses all its threads inside. */
#ifndef ESPALIER_NETWORK_H
#define ESPALIER_NETWORK_H

#include "common/err.h"
#include "common/model.h"
#include "train/ops.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum network_role { NETWORK_WEIGHT, NETWORK_BIAS, NETWORK_GAMMA, NETWORK_BETA };

struct network_param {
    char name[48]; /* the tensor's name in the model file: "layers.3.weight" */
    int layer;
    enum network_role role;
    int ndims;
    int64_t shape[4];
    size_t offset, size; /* elements, in values and grads */
};

enum network_mode {
    NETWORK_TRAIN,     /* batch statistics, dropout */
    NETWORK_STATS,     /* batch statistics, no dropout: to estimate batch-norm rows */
    NETWORK_INFERENCE, /* the model's batch-norm rows, no dropout */
};

struct network; /* private: oneDNN primitives, activations, scratch */

struct network_view {
    int nparams;
    const struct network_param *params;
    float *values, *grads; /* [size] each; they and every tensor in them 64-byte aligned */
    size_t size;
};

/* `model` (borrowed, kept) gives graph, groups, levels and batch-norm rows;
 * values start as the model's weights. `batch`: the largest number of images of a pass. */
enum status network_create(struct network **network, struct model *model, int batch, int threads,
                           struct err *err) MUST_CHECK;
void network_destroy(struct network **network);
struct network_view network_view(struct network *network);
/* Whose counts the plans of later passes mean: the model's, or others of as
 * many levels (borrowed). NULL: the model's again. */
void network_set_levels(struct network *network, const struct levels *levels);
/* Of training passes; f32 until it is set. Statistics and inference are always
 * f32, as they are where the network will run. */
void network_set_precision(struct network *network, enum ops_precision precision);
/* Initial values: weights uniform in +-sqrt(6/fan_in), so that their variance is
 * He's; gamma 1, beta and bias 0. Deterministic. */
void network_init(struct network *network, uint64_t seed);
/* values <-> the model's tensors (weights, biases, gamma, beta). */
void network_store(const struct network *network, struct model *model);
void network_load(struct network *network, const struct model *model);

/* input: [n, C, H, W] f32; logits: [n, classes], caller's: the values before
 * the softmax. `dropout_seed`: of this pass. At inference mean and variance are
 * the model's, and links are coded; weights, gamma and beta are always `values`. */
enum status network_forward(struct network *network, const struct plan *plan, enum network_mode mode,
                            const float *input, int n, uint64_t dropout_seed, float *logits,
                            struct err *err) MUST_CHECK;
/* Behind a NETWORK_TRAIN forward, of its plan: d(loss)/d(logits) [n, classes]
 * in; gradients are added into grads (zero them per step). May be repeated. */
enum status network_backward(struct network *network, const float *dlogits, struct err *err) MUST_CHECK;
/* Also d(loss)/d(input) [n, C, H, W], for gradient checks; NULL: not wanted. */
enum status network_backward_input(struct network *network, const float *dlogits, float *dinput,
                                   struct err *err) MUST_CHECK;

/* Adds the seconds that each layer takes, from the next pass on, to forward_s
 * and backward_s [layers of the net], caller's; NULL, NULL: no longer. A batch
 * norm and rectifier that are left to the layers that read them count there. */
void network_set_times(struct network *network, double *forward_s, double *backward_s);

/* Behind a TRAIN or STATS forward: mean and (biased) variance over the batch of
 * layer's input to batch norm; *channels = the prefix that was computed, or, if
 * it has gaps (a [batchnorm] behind a concatenation), all channels, with mean 0
 * and variance 1 where nothing was. */
enum status network_batch_stats(const struct network *network, int layer, const float **mean, const float **var,
                                int *channels, struct err *err) MUST_CHECK;
/* The activation of `layer` after a forward, as plain f32 [n, channels kept, h,
 * w] compacted by the plan's counts; for tests. `out` has room for full width. */
enum status network_activation(struct network *network, int layer, float *out, int *channels,
                               struct err *err) MUST_CHECK;

#endif
