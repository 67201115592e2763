/* What every kind of layer looks like to the network.
 *
 * A layer works on the kept part of its tensors only: activations are compact
 * [N, H, W, C], and a list of ranges says which channels of the whole tensor
 * they are. Which channels take part in a pass is the network's affair (it
 * asks common/plan.h); a layer reads the shapes off its arguments. */
#ifndef ESPALIER_TRAIN_LAYER_H
#define ESPALIER_TRAIN_LAYER_H

#include "common/bn.h"
#include "common/model.h"
#include "train/network.h"
#include "train/ops.h"

struct layer;

struct layer_tensor {
    float *data;        /* NULL if `lazy` is set: */
    struct layer *lazy; /* the tensor's own layer, whose batch norm is still to be applied to its `front` */
    float *grad;        /* d(loss)/d(data), the same shape; of an input: NULL, not wanted */
    bool add;           /* of an input: add to grad instead of overwriting it */
    int c, h, w;        /* c: channels in memory */
    /* Channels that take part, ascending, adjacent ones merged: `first` in the
     * whole tensor, `offset` in memory. Without gaps in memory, except for the
     * inputs of a kind that reads views. */
    int nranges;
    const struct layer_range {
        int first, count, offset;
    } *ranges;
};

struct layer_pass {
    enum network_mode mode;
    int n;         /* images */
    const struct bn_terms *norm; /* of the model, for this plan */
    uint64_t seed; /* of this layer in this pass */
    enum ops_precision precision;
    const struct layer_tensor *in;
    struct layer_tensor out;
};

/* Trained values and their gradients; NULL where there are none. */
struct layer_params {
    float *weight, *bias, *gamma, *beta;
    float *dweight, *dbias, *dgamma, *dbeta;
};

/* All borrowed; outlives the layer. */
struct layer_context {
    struct ops *ops;
    const struct model *model;
    int index;
    int batch; /* largest number of images */
    struct layer_params params;
};

struct norm;

/* A layer's private struct begins with this. */
struct layer {
    const struct layer_kind *kind;
    struct norm *norm; /* NULL without batch norm */
    /* With batch norm behind other arithmetic: [batch, h, w, c] in front of it.
     * The layer may leave its output lazy if the rest is a rectifier. */
    float *front;
    bool rectified;
    struct ops_rectifier rectifier;
};

struct layer_kind {
    enum net_kind kind;
    bool views; /* reads any ranges of its inputs */
    bool adds;  /* can add to its inputs' gradients */
    /* Backward allows in[0].grad to be out.grad if both have the same channels. */
    bool in_place;
    enum status (*create)(struct layer **layer, const struct layer_context *context, struct err *err);
    void (*destroy)(struct layer *layer);
    /* Whether, with these shapes, it reads lazy inputs; it then adds to their
     * batch norms' sums in backward. NULL: never. */
    bool (*reads_lazy)(const struct layer *layer, const struct layer_pass *pass);
    /* Where it reads lazy inputs: they may all have one grad, to be written once. */
    bool shares_grad;
    enum status (*forward)(struct layer *layer, const struct layer_pass *pass, struct err *err);
    /* Reads out.grad, and may overwrite it, unless it could leave its output
     * lazy; adds to the parameters' gradients. */
    enum status (*backward)(struct layer *layer, const struct layer_pass *pass, struct err *err);
};

/* The kind's table; NULL for kinds that only follow the logits. */
const struct layer_kind *layer_kind_of(enum net_kind kind);

/* Channels of a tensor's ranges together. */
static inline int layer_channels(const struct layer_tensor *t) {
    int sum = 0;
    for (int i = 0; i < t->nranges; i++) sum += t->ranges[i].count;
    return sum;
}
static inline size_t layer_rows(const struct layer_pass *pass, const struct layer_tensor *t) {
    return (size_t)pass->n * (size_t)t->h * (size_t)t->w;
}
static inline size_t layer_values(const struct layer_pass *pass, const struct layer_tensor *t) {
    return layer_rows(pass, t) * (size_t)t->c;
}
static inline size_t layer_image(const struct layer_tensor *t) { return (size_t)t->c * (size_t)t->h * (size_t)t->w; }

/* A part's values of an input, made in scratch if they are lazy. */
enum status layer_read(struct ops *ops, const struct layer_tensor *in, const struct ops_part *part,
                       enum ops_scratch scratch, const float **values, struct err *err) MUST_CHECK;
/* Once a part's gradient `grad` of an input is complete: what its layer's batch
 * norm needs of it, if the input is lazy. */
enum status layer_sums(struct ops *ops, const struct layer_tensor *in, const struct ops_part *part, const float *grad,
                       struct err *err) MUST_CHECK;
/* Behind the last part: these sums are complete. */
void layer_sums_done(const struct layer_tensor *in);

extern const struct layer_kind layer_convolutional, layer_connected, layer_batchnorm, layer_maxpool, layer_avgpool,
    layer_dropout, layer_shortcut, layer_route, layer_cost, layer_crop;

#endif
