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

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct maxpool *l = (struct maxpool *)layer;
    const struct net_layer *net = &l->context.model->net->layers[l->context.index];
    const struct layer_tensor *in = &pass->in[0], *out = &pass->out;
    struct ops_pool_shape shape = { pass->n, in->c, in->h, in->w, out->h, out->w, net->size, net->stride, net->pad };
    enum status status = ops_pool_get(l->context.ops, &shape, &l->pool, err);
    if (!status) status = reserve(l, ops_pool_workspace(l->pool), err);
    return status ? status : ops_pool_forward(l->pool, in->data, out->data, l->workspace, err);
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct maxpool *l = (struct maxpool *)layer;
    if (!pass->in[0].grad) return STATUS_OK;
    return ops_pool_backward(l->pool, pass->out.grad, l->workspace, pass->in[0].grad, err);
}

const struct layer_kind layer_maxpool = {
    .kind = NET_MAXPOOL,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
