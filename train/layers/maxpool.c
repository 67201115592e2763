/* [maxpool]. */
#include "train/layers/layer.h"

#include <stdlib.h>

struct maxpool {
    struct layer base;
    struct layer_context context;
    struct ops_pool *pool; /* of the last pass */
    float *workspace;      /* where its maxima were */
    size_t size;
};

static void destroy(struct layer *layer) {
    struct maxpool *l = (struct maxpool *)layer;
    ops_free(l->context.ops, &l->workspace);
    free(l);
}

static enum status create(struct layer **out, const struct layer_context *context, struct err *err) {
    struct maxpool *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layer");
    l->base.kind = &layer_maxpool;
    l->context = *context;
    *out = &l->base;
    return STATUS_OK;
}

/* Grows to what the widest pass asks for. */
static enum status reserve(struct maxpool *l, size_t size, struct err *err) {
    if (size <= l->size) return STATUS_OK;
    float *larger;
    enum status status = ops_alloc(l->context.ops, size, &larger, "pooling", err);
    if (status) return status;
    ops_free(l->context.ops, &l->workspace);
    l->workspace = larger;
    l->size = size;
    return STATUS_OK;
}

static bool reads_lazy(const struct layer *layer, const struct layer_pass *pass) { return true; }

struct work {
    struct maxpool *layer;
    const struct layer_pass *pass;
};

static float *workspace(const struct maxpool *l, const struct ops_part *part) {
    return l->workspace + (size_t)part->first * ops_pool_workspace(l->pool);
}

static enum status forward_part(void *context, const struct ops_part *part, struct err *err) {
    const struct work *work = context;
    const struct maxpool *l = work->layer;
    const struct layer_tensor *out = &work->pass->out;
    const float *x;
    enum status status = layer_read(l->context.ops, &work->pass->in[0], part, OPS_SCRATCH_LAYER, &x, err);
    float *y = out->data + (size_t)part->first * layer_image(out);
    return status ? status : ops_pool_forward(l->pool, part, x, y, workspace(l, part), err);
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct maxpool *l = (struct maxpool *)layer;
    const struct net_layer *net = &l->context.model->net->layers[l->context.index];
    const struct layer_tensor *in = &pass->in[0], *out = &pass->out;
    struct ops_pool_shape shape = { pass->n, in->c, in->h, in->w, out->h, out->w, net->size, net->stride, net->pad };
    enum status status = ops_pool_get(l->context.ops, &shape, &l->pool, err);
    if (!status) status = reserve(l, (size_t)pass->n * ops_pool_workspace(l->pool), err);
    if (status) return status;
    return ops_parts_run(l->context.ops, pass->n, ops_pool_images(l->pool), forward_part, &(struct work){ l, pass }, err);
}

static enum status backward_part(void *context, const struct ops_part *part, struct err *err) {
    const struct work *work = context;
    const struct maxpool *l = work->layer;
    const struct layer_tensor *in = &work->pass->in[0], *out = &work->pass->out;
    struct ops *ops = l->context.ops;
    size_t count = (size_t)part->n * layer_image(in);
    const float *dy = out->grad + (size_t)part->first * layer_image(out);
    float *grad = in->grad + (size_t)part->first * layer_image(in), *dx = grad;
    enum status status = STATUS_OK;
    if (in->add) status = ops_scratch(ops, OPS_SCRATCH_LAYER, count, &dx, err);
    if (!status) status = ops_pool_backward(l->pool, part, dy, workspace(l, part), dx, err);
    if (status) return status;
    if (in->add) ops_add(ops, dx, count, grad);
    return layer_sums(ops, in, part, grad, err);
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct maxpool *l = (struct maxpool *)layer;
    if (!pass->in[0].grad) return STATUS_OK;
    enum status status = ops_parts_run(l->context.ops, pass->n, ops_pool_images(l->pool), backward_part,
                                       &(struct work){ l, pass }, err);
    if (!status) layer_sums_done(&pass->in[0]);
    return status;
}

const struct layer_kind layer_maxpool = {
    .kind = NET_MAXPOOL, .adds = true, .reads_lazy = reads_lazy,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
