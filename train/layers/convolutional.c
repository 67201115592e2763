/* [convolutional] and [connected]: weights, then batch norm or bias, then the
 * activation. A connected layer is a convolution whose kernel covers the map.
 *
 * Everything is done in parts of a few images, so that a part's input is
 * normalised, convolved and measured, and on the way back its gradients pass
 * through all of these, while it lies in a core's cache.
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
    struct ops_range *ranges; /* as many as the input has segments */
};

static void destroy(struct layer *layer) {
    struct convolutional *l = (struct convolutional *)layer;
    norm_destroy(&l->base.norm);
    ops_free(l->context.ops, &l->base.front);
    free(l->ranges);
    free(l);
}

static enum status create(struct layer **out, const struct layer_context *context, const struct layer_kind *kind,
                          struct err *err) {
    struct convolutional *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layer");
    l->base.kind = kind;
    l->context = *context;
    l->net = &context->model->net->layers[context->index];
    l->base.rectified = ops_rectifier_of(l->net->activation, &l->base.rectifier);
    if (!l->base.rectified) l->base.rectifier = ops_linear;
    int nsegments;
    groups_segments(context->model->groups, l->net->inputs[0], &nsegments);
    l->ranges = calloc((size_t)nsegments, sizeof *l->ranges);
    enum status status = l->ranges ? STATUS_OK : err_memory(err, "layer");
    if (!status && l->net->batch_normalize) status = norm_create(&l->base.norm, context, err);
    if (!status && (l->net->batch_normalize || !l->base.rectified))
        status = ops_alloc(context->ops, (size_t)context->batch * net_shape_size(l->net->out), &l->base.front,
                           "activations", err);
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

static bool reads_lazy(const struct layer *layer, const struct layer_pass *pass) { return true; }

static enum status select_shape(struct convolutional *l, const struct layer_pass *pass, struct err *err) {
    const struct net_layer *net = l->net;
    const struct layer_tensor *in = &pass->in[0], *out = &pass->out;
    bool connected = net->kind == NET_CONNECTED;
    struct ops_conv_shape s = {
        .n = pass->n, .ic = in->c, .ih = in->h, .iw = in->w, .oc = out->c, .oh = out->h, .ow = out->w,
        .size = net->size, .stride = net->stride, .pad = net->pad, .groups = 1, .connected = connected,
        .bias = !l->base.norm, .inputs = in->nranges == 1 ? net->in.c : in->c,
        .rectifier = l->base.norm ? ops_linear : l->base.rectifier, .precision = pass->precision,
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

/* The kept part of the weight tensor, or of its gradient. */
static struct ops_weights kept(const struct convolutional *l, const struct layer_pass *pass, float *values) {
    const struct layer_tensor *in = &pass->in[0];
    struct ops_weights w = { values, l->net->in.c, in->nranges, l->ranges };
    for (int i = 0; i < in->nranges; i++) l->ranges[i] = (struct ops_range){ in->ranges[i].first, in->ranges[i].count };
    if (l->net->groups > 1) {
        w.inputs = l->net->in.c / l->net->groups;
        w.nranges = 1;
        l->ranges[0] = (struct ops_range){ 0, w.inputs };
    }
    return w;
}

/* ---- forward ---- */

struct work {
    struct convolutional *layer;
    const struct layer_pass *pass;
};

static size_t part_rows(const struct layer_tensor *t, const struct ops_part *part) {
    return (size_t)part->n * (size_t)t->h * (size_t)t->w;
}

static enum status forward_part(void *context, const struct ops_part *part, struct err *err) {
    const struct work *work = context;
    struct convolutional *l = work->layer;
    const struct layer_pass *pass = work->pass;
    const struct layer_tensor *out = &pass->out;
    struct ops *ops = l->context.ops;
    size_t first = (size_t)part->first * layer_image(out), count = (size_t)part->n * layer_image(out);
    bool keep = l->base.norm || (!l->base.rectified && pass->mode == NETWORK_TRAIN);
    float *y = (keep ? l->base.front : out->data) + first;
    const float *x;
    enum status status = layer_read(ops, &pass->in[0], part, OPS_SCRATCH_LAYER, &x, err);
    if (!status) status = ops_conv_forward(l->conv, part, x, l->context.params.bias, y, err);
    if (status) return status;
    if (!l->base.norm) {
        if (!l->base.rectified) ops_activate(ops, l->net->activation, y, count, out->data + first);
        return STATUS_OK;
    }
    size_t rows = part_rows(out, part);
    if (pass->mode != NETWORK_INFERENCE) return norm_add_moments(l->base.norm, part->thread, y, rows, out->c, err);
    status = norm_apply(l->base.norm, y, rows, out->c, l->base.rectifier, out->data + first, err);
    if (!status && !l->base.rectified) ops_activate(ops, l->net->activation, out->data + first, count, out->data + first);
    return status;
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct convolutional *l = (struct convolutional *)layer;
    struct ops *ops = l->context.ops;
    const struct layer_tensor *out = &pass->out;
    struct ops_weights weights = kept(l, pass, l->context.params.weight);
    bool batch = l->base.norm && pass->mode != NETWORK_INFERENCE;
    enum status status = select_shape(l, pass, err);
    if (!status) status = ops_conv_pack(l->conv, OPS_FORWARD, &weights, err);
    if (status) return status;
    if (l->base.norm) norm_begin(l->base.norm);
    if (l->base.norm && !batch) norm_set(l->base.norm, pass);
    status = ops_parts_run(ops, pass->n, ops_conv_images(l->conv), forward_part, &(struct work){ l, pass }, err);
    if (status || !batch) return status;
    norm_set(l->base.norm, pass);
    if (out->lazy) return STATUS_OK;
    status = norm_apply(l->base.norm, l->base.front, layer_rows(pass, out), out->c, l->base.rectifier, out->data, err);
    if (!status && !l->base.rectified)
        ops_activate(ops, l->net->activation, out->data, layer_values(pass, out), out->data);
    return status;
}

/* ---- backward ---- */

/* The gradient of the convolution's own output, a part's: in dy, or in scratch. */
static enum status front_gradient(struct convolutional *l, const struct layer_pass *pass, const struct ops_part *part,
                                  float *dy, const float **dfront, struct err *err) {
    struct ops *ops = l->context.ops;
    const struct layer_tensor *out = &pass->out;
    size_t first = (size_t)part->first * layer_image(out), count = (size_t)part->n * layer_image(out);
    *dfront = dy;
    if (!l->base.norm) {
        if (l->base.rectified) ops_rectify_backward(ops, l->base.rectifier, out->data + first, dy, count, dy);
        else ops_activate_backward(ops, l->net->activation, l->base.front + first, dy, count, dy);
        return STATUS_OK;
    }
    float *scratch;
    enum status status = ops_scratch(ops, OPS_SCRATCH_LAYER, count, &scratch, err);
    *dfront = scratch;
    return status ? status
                  : norm_gradient(l->base.norm, l->base.front + first, dy, part_rows(out, part), out->c,
                                  l->base.rectifier, scratch, err);
}

static enum status backward_part(void *context, const struct ops_part *part, struct err *err) {
    const struct work *work = context;
    struct convolutional *l = work->layer;
    struct ops *ops = l->context.ops;
    const struct layer_tensor *in = &work->pass->in[0], *out = &work->pass->out;
    size_t count = (size_t)part->n * layer_image(in);
    const float *x, *dfront;
    float *dy = out->grad + (size_t)part->first * layer_image(out);
    float *grad = in->grad ? in->grad + (size_t)part->first * layer_image(in) : NULL, *dx = grad;
    enum status status = front_gradient(l, work->pass, part, dy, &dfront, err);
    if (!status) status = layer_read(ops, in, part, OPS_SCRATCH_LAYER_2, &x, err);
    if (!status && grad && in->add) status = ops_scratch(ops, OPS_SCRATCH_LAYER_3, count, &dx, err);
    if (!status) status = ops_conv_backward(l->conv, part, x, dfront, dx, err);
    if (status || !grad) return status;
    if (in->add) ops_add(ops, dx, count, grad);
    return layer_sums(ops, in, part, grad, err);
}

static enum status sums_part(void *context, const struct ops_part *part, struct err *err) {
    const struct work *work = context;
    const struct layer_tensor *out = &work->pass->out;
    struct layer *l = &work->layer->base;
    size_t first = (size_t)part->first * layer_image(out);
    return norm_add_sums(l->norm, part->thread, l->front + first, out->grad + first, part_rows(out, part), out->c,
                         l->rectifier, err);
}

/* What has to be known of the whole batch before its parts can go. */
static enum status prepare_norm(struct convolutional *l, const struct layer_pass *pass, struct err *err) {
    struct ops *ops = l->context.ops;
    const struct layer_tensor *out = &pass->out;
    enum status status = STATUS_OK;
    if (!l->base.rectified) { /* out.grad: that of what batch norm puts out */
        float *z;
        status = ops_scratch(ops, OPS_SCRATCH_LAYER, layer_values(pass, out), &z, err);
        if (!status) status = norm_apply(l->base.norm, l->base.front, layer_rows(pass, out), out->c, ops_linear, z, err);
        if (status) return status;
        ops_activate_backward(ops, l->net->activation, z, out->grad, layer_values(pass, out), out->grad);
    }
    if (!norm_has_sums(l->base.norm))
        status = ops_parts_run(ops, pass->n, ops_part_images(ops, pass->n, 2 * layer_image(out)), sums_part,
                               &(struct work){ l, pass }, err);
    if (!status) norm_set_gradient(l->base.norm, pass);
    return status;
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct convolutional *l = (struct convolutional *)layer;
    struct ops_weights weights = kept(l, pass, l->context.params.weight), dweights = weights;
    dweights.values = l->context.params.dweight;
    enum status status = l->base.norm ? prepare_norm(l, pass, err) : STATUS_OK;
    if (!status) status = ops_conv_pack(l->conv, OPS_BACKWARD, &weights, err);
    if (!status)
        status = ops_parts_run(l->context.ops, pass->n, ops_conv_images(l->conv), backward_part,
                               &(struct work){ l, pass }, err);
    if (!status && pass->in[0].grad) layer_sums_done(&pass->in[0]);
    return status ? status : ops_conv_add_gradient(l->conv, &dweights, l->context.params.dbias, err);
}

const struct layer_kind layer_convolutional = {
    .kind = NET_CONVOLUTIONAL, .adds = true, .reads_lazy = reads_lazy,
    .create = create_convolutional, .destroy = destroy, .forward = forward, .backward = backward,
};
const struct layer_kind layer_connected = {
    .kind = NET_CONNECTED, .adds = true, .reads_lazy = reads_lazy,
    .create = create_connected, .destroy = destroy, .forward = forward, .backward = backward,
};
