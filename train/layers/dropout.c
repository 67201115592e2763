/* [dropout]: in training, the same draw forward and backward. */
#include "train/layers/layer.h"

#include <stdlib.h>

struct dropout {
    struct layer base;
    struct ops *ops;
    float probability;
};

static void destroy(struct layer *layer) { free(layer); }

static enum status create(struct layer **out, const struct layer_context *context, struct err *err) {
    struct dropout *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layer");
    l->base.kind = &layer_dropout;
    l->ops = context->ops;
    l->probability = context->model->net->layers[context->index].probability;
    *out = &l->base;
    return STATUS_OK;
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct dropout *l = (struct dropout *)layer;
    size_t count = layer_values(pass, &pass->out);
    if (pass->mode == NETWORK_TRAIN)
        ops_dropout(l->ops, pass->in[0].data, count, l->probability, pass->seed, pass->out.data);
    else
        ops_copy(l->ops, pass->in[0].data, count, pass->out.data);
    return STATUS_OK;
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct dropout *l = (struct dropout *)layer;
    if (pass->in[0].grad)
        ops_dropout(l->ops, pass->out.grad, layer_values(pass, &pass->out), l->probability, pass->seed, pass->in[0].grad);
    return STATUS_OK;
}

const struct layer_kind layer_dropout = {
    .kind = NET_DROPOUT, .in_place = true,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
