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
    const float *x = pass->in[0].data;
    size_t rows = layer_rows(pass, &pass->out);
    enum status status = STATUS_OK;
    norm_begin(layer->norm);
    if (pass->mode != NETWORK_INFERENCE) status = norm_add_moments(layer->norm, 0, x, rows, pass->out.c, err);
    if (status) return status;
    norm_set(layer->norm, pass);
    return norm_apply(layer->norm, x, rows, pass->out.c, ops_linear, pass->out.data, err);
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    const float *x = pass->in[0].data, *dy = pass->out.grad;
    size_t rows = layer_rows(pass, &pass->out);
    enum status status = norm_add_sums(layer->norm, 0, x, dy, rows, pass->out.c, ops_linear, err);
    if (status) return status;
    norm_set_gradient(layer->norm, pass);
    if (!pass->in[0].grad) return STATUS_OK;
    return norm_gradient(layer->norm, x, dy, rows, pass->out.c, ops_linear, pass->in[0].grad, err);
}

const struct layer_kind layer_batchnorm = {
    .kind = NET_BATCHNORM, .in_place = true,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
