/* [batchnorm]: batch norm as a layer of its own, without beta as Darknet's. */
#include "train/layers/norm.h"

#include <stdlib.h>

static void destroy(struct layer *layer) {
    norm_destroy(&layer->norm);
    free(layer);
}

static enum status create(struct layer **out, const struct layer_context *context, struct err *err) {
    struct layer *layer = calloc(1, sizeof *layer);
    if (!layer) return err_memory(err, "layer");
    layer->kind = &layer_batchnorm;
    enum status status = norm_create(&layer->norm, context, err);
    if (status) free(layer);
    else *out = layer;
    return status;
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    return norm_forward(layer->norm, pass, pass->in[0].data, ops_linear, pass->out.data, err);
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    float *dy = pass->out.grad, *dx = pass->in[0].grad ? pass->in[0].grad : dy;
    return norm_backward(layer->norm, pass, pass->in[0].data, dy, ops_linear, dx, err);
}

const struct layer_kind layer_batchnorm = {
    .kind = NET_BATCHNORM, .in_place = true,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
