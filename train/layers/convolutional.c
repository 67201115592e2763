/* [convolutional] and [connected]: weights, then batch norm or bias, then the
 * activation. A connected layer is a convolution whose kernel covers the map.
 *
 * Kept for backward: the values in front of batch norm, from which everything
 * behind it is told again; without batch norm only what an activation that
 * cannot be told from its output needs. */
#include "train/layers/norm.h"

#include <stdlib.h>
#include <string.h>

struct convolutional {
    struct layer base;
    struct layer_context context;
    const struct net_layer *net;
    struct ops_conv *conv; /* of the last pass */
    struct ops_conv_shape shape;
    bool rectified; /* the activation is a rectifier, fused with what is in front of it */
    struct ops_rectifier rectifier;
    float *front; /* [batch, h, w, c] in front of batch norm or activation; NULL: not needed */
};

static void destroy(struct layer *layer) {
    struct convolutional *l = (struct convolutional *)layer;
    norm_destroy(&l->base.norm);
    ops_free(l->context.ops, &l->front);
    free(l);
}

static enum status create(struct layer **out, const struct layer_context *context, const struct layer_kind *kind,
                          struct err *err) {
    struct convolutional *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layer");
    l->base.kind = kind;
    l->context = *context;
    l->net = &context->model->net->layers[context->index];
    l->rectified = ops_rectifier_of(l->net->activation, &l->rectifier);
    if (!l->rectified) l->rectifier = ops_linear;
    enum status status = STATUS_OK;
    if (l->net->batch_normalize) status = norm_create(&l->base.norm, context, err);
    if (!status && (l->net->batch_normalize || !l->rectified))
        status = ops_alloc(context->ops, (size_t)context->batch * net_shape_size(l->net->out), &l->front, "activations", err);
    if (status) destroy(&l->base);
    else *out = &l->base;
    return status;
}

static enum status create_convolutional(struct layer **out, const struct layer_context *context, struct err *err) {
    return create(out, context, &layer_convolutional, err);
}

static enum status create_connected(struct layer **out, const struct layer_context *context, struct err *err) {
    return create(out, context, &layer_connected, err);
}

static enum status select_shape(struct convolutional *l, const struct layer_pass *pass, struct err *err) {
    const struct net_layer *net = l->net;
    const struct layer_tensor *in = &pass->in[0], *out = &pass->out;
    bool connected = net->kind == NET_CONNECTED;
    struct ops_conv_shape s = {
        .n = pass->n, .ic = in->c, .ih = in->h, .iw = in->w, .oc = out->c, .oh = out->h, .ow = out->w,
        .size = net->size, .stride = net->stride, .pad = net->pad, .groups = 1, .connected = connected,
        .bias = !l->base.norm, .inputs = in->nranges == 1 ? net->in.c : in->c,
        .rectifier = l->base.norm ? ops_linear : l->rectifier,
    };
    if (connected) s.size = 0, s.stride = 1, s.pad = 0;
    else if (net->groups > 1) { /* whole groups are kept */
        s.groups = out->c / (net->filters / net->groups);
        s.inputs = net->in.c / net->groups;
    }
    if (l->conv && memcmp(&s, &l->shape, sizeof s) == 0) return STATUS_OK;
    enum status status = ops_conv_get(l->context.ops, &s, &l->conv, err);
    if (!status) l->shape = s;
    return status;
}

enum { MAX_RANGES = 512 };

/* The kept part of a weight tensor. */
static struct ops_weights kept(const struct convolutional *l, const struct layer_pass *pass, float *values,
                               struct ops_range *ranges) {
    const struct layer_tensor *in = &pass->in[0];
    struct ops_weights w = { values, l->net->in.c, in->nranges, ranges };
    for (int i = 0; i < in->nranges; i++) ranges[i] = (struct ops_range){ in->ranges[i].first, in->ranges[i].count };
    if (l->net->groups > 1) {
        w.inputs = l->net->in.c / l->net->groups;
        w.nranges = 1;
        ranges[0] = (struct ops_range){ 0, w.inputs };
    }
    return w;
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct convolutional *l = (struct convolutional *)layer;
    struct ops *ops = l->context.ops;
    struct ops_range ranges[MAX_RANGES];
    struct ops_weights weights = kept(l, pass, l->context.params.weight, ranges);
    float *y = pass->out.data, *front = l->front && pass->mode == NETWORK_TRAIN ? l->front : y;
    enum status status = select_shape(l, pass, err);
    if (!status) status = ops_conv_forward(l->conv, pass->in[0].data, &weights, l->context.params.bias, front, err);
    if (!status && l->base.norm) {
        status = norm_forward(l->base.norm, pass, front, l->rectifier, y, err);
        front = y;
    }
    if (!status && !l->rectified) ops_activate(ops, l->net->activation, front, layer_values(pass, &pass->out), y);
    return status;
}

/* out.grad becomes the gradient of the convolution's own output. */
static enum status backward_front(struct convolutional *l, const struct layer_pass *pass, struct err *err) {
    struct ops *ops = l->context.ops;
    float *dy = pass->out.grad;
    size_t values = layer_values(pass, &pass->out);
    enum status status = STATUS_OK;
    if (!l->base.norm && l->rectified) ops_rectify_backward(ops, l->rectifier, pass->out.data, dy, values, dy);
    if (!l->base.norm && !l->rectified) ops_activate_backward(ops, l->net->activation, l->front, dy, values, dy);
    if (!l->base.norm) return STATUS_OK;
    if (!l->rectified) {
        float *front;
        status = ops_scratch(ops, OPS_SCRATCH_LAYER, values, &front, err);
        if (!status) status = norm_repeat(l->base.norm, pass, l->front, front, err);
        if (!status) ops_activate_backward(ops, l->net->activation, front, dy, values, dy);
    }
    return status ? status : norm_backward(l->base.norm, pass, l->front, dy, l->rectifier, dy, err);
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct convolutional *l = (struct convolutional *)layer;
    const struct layer_tensor *in = &pass->in[0];
    struct ops_range ranges[MAX_RANGES];
    struct ops_weights weights = kept(l, pass, l->context.params.weight, ranges), dweights = weights;
    dweights.values = l->context.params.dweight;
    enum status status = backward_front(l, pass, err);
    if (!status)
        status = ops_conv_backward_weights(l->conv, in->data, pass->out.grad, &dweights, l->context.params.dbias, err);
    if (!status && in->grad) status = ops_conv_backward_data(l->conv, pass->out.grad, &weights, in->grad, err);
    return status;
}

const struct layer_kind layer_convolutional = {
    .kind = NET_CONVOLUTIONAL,
    .create = create_convolutional, .destroy = destroy, .forward = forward, .backward = backward,
};
const struct layer_kind layer_connected = {
    .kind = NET_CONNECTED,
    .create = create_connected, .destroy = destroy, .forward = forward, .backward = backward,
};
