/* [avgpool]: the mean over the whole map. */
#include "train/layers/layer.h"

#include <stdlib.h>

struct avgpool {
    struct layer base;
    struct ops *ops;
};

static void destroy(struct layer *layer) { free(layer); }

static enum status create(struct layer **out, const struct layer_context *context, struct err *err) {
    struct avgpool *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layer");
    l->base.kind = &layer_avgpool;
    l->ops = context->ops;
    *out = &l->base;
    return STATUS_OK;
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    const struct layer_tensor *in = &pass->in[0];
    ops_average(((struct avgpool *)layer)->ops, in->data, pass->n, in->h * in->w, in->c, pass->out.data);
    return STATUS_OK;
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    const struct layer_tensor *in = &pass->in[0];
    if (in->grad)
        ops_average_backward(((struct avgpool *)layer)->ops, pass->out.grad, pass->n, in->h * in->w, in->c, in->grad);
    return STATUS_OK;
}

const struct layer_kind layer_avgpool = {
    .kind = NET_AVGPOOL,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
