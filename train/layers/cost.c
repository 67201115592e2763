/* [cost] in front of the logits passes its input on; the loss itself is a
 * matter of training (train/loss.h). */
#include "train/layers/layer.h"

#include <stdlib.h>

struct cost {
    struct layer base;
    struct ops *ops;
};

static void destroy(struct layer *layer) { free(layer); }

static enum status create(struct layer **out, const struct layer_context *context, struct err *err) {
    struct cost *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layer");
    l->base.kind = &layer_cost;
    l->ops = context->ops;
    *out = &l->base;
    return STATUS_OK;
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    ops_copy(((struct cost *)layer)->ops, pass->in[0].data, layer_values(pass, &pass->out), pass->out.data);
    return STATUS_OK;
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    const struct layer_tensor *in = &pass->in[0];
    if (in->grad && in->grad != pass->out.grad)
        ops_copy(((struct cost *)layer)->ops, pass->out.grad, layer_values(pass, &pass->out), in->grad);
    return STATUS_OK;
}

const struct layer_kind layer_cost = {
    .kind = NET_COST, .in_place = true,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
