/* [route]: concatenation of the inputs' kept channels. */
#include "train/layers/layer.h"

#include <stdlib.h>

struct route {
    struct layer base;
    struct ops *ops;
    int ninputs;
};

static void destroy(struct layer *layer) { free(layer); }

static enum status create(struct layer **out, const struct layer_context *context, struct err *err) {
    struct route *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layer");
    l->base.kind = &layer_route;
    l->ops = context->ops;
    l->ninputs = context->model->net->layers[context->index].ninputs;
    *out = &l->base;
    return STATUS_OK;
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct route *l = (struct route *)layer;
    size_t rows = layer_rows(pass, &pass->out);
    int to = 0;
    for (int k = 0; k < l->ninputs; k++) {
        const struct layer_tensor *in = &pass->in[k];
        for (int i = 0; i < in->nranges; i++) {
            struct layer_range r = in->ranges[i];
            ops_copy_channels(l->ops, in->data, in->c, r.offset, pass->out.data, pass->out.c, to, r.count, rows, false);
            to += r.count;
        }
    }
    return STATUS_OK;
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct route *l = (struct route *)layer;
    size_t rows = layer_rows(pass, &pass->out);
    int from = 0;
    for (int k = 0; k < l->ninputs; k++) {
        const struct layer_tensor *in = &pass->in[k];
        int read = layer_channels(in);
        if (in->grad && !in->add && read < in->c) ops_zero(l->ops, in->grad, layer_values(pass, in));
        for (int i = 0, at = from; i < in->nranges && in->grad; i++) {
            struct layer_range r = in->ranges[i];
            ops_copy_channels(l->ops, pass->out.grad, pass->out.c, at, in->grad, in->c, r.offset, r.count, rows, in->add);
            at += r.count;
        }
        from += read;
    }
    return STATUS_OK;
}

const struct layer_kind layer_route = {
    .kind = NET_ROUTE, .views = true, .adds = true,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
