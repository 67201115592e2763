/* [crop]: a window of each image, random in training (position, and mirrored
 * half of the time where the cfg asks for flips), centred otherwise; values in
 * [0, 1] become [-1, 1] unless noadjust is set. Its options angle, saturation
 * and exposure change nothing, as in Darknet on a processor. */
#include "common/random.h"
#include "train/layers/layer.h"

#include <stdlib.h>

struct crop {
    struct layer base;
    struct ops *ops;
    const struct net_layer *net;
    int *top, *left; /* [batch] */
    bool *flip;
};

static void destroy(struct layer *layer) {
    struct crop *l = (struct crop *)layer;
    free(l->top);
    free(l->left);
    free(l->flip);
    free(l);
}

static enum status create(struct layer **out, const struct layer_context *context, struct err *err) {
    struct crop *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layer");
    l->base.kind = &layer_crop;
    l->ops = context->ops;
    l->net = &context->model->net->layers[context->index];
    size_t batch = (size_t)context->batch;
    l->top = calloc(batch, sizeof *l->top);
    l->left = calloc(batch, sizeof *l->left);
    l->flip = calloc(batch, sizeof *l->flip);
    if (!l->top || !l->left || !l->flip) {
        destroy(&l->base);
        return err_memory(err, "layer");
    }
    *out = &l->base;
    return STATUS_OK;
}

static struct ops_crop windows(struct crop *l, const struct layer_pass *pass) {
    const struct layer_tensor *in = &pass->in[0], *out = &pass->out;
    for (int i = 0; i < pass->n; i++) {
        struct random random = random_stream(pass->seed, (uint64_t)i, 0);
        bool train = pass->mode == NETWORK_TRAIN;
        l->top[i] = train ? random_below(&random, in->h - out->h + 1) : (in->h - out->h) / 2;
        l->left[i] = train ? random_below(&random, in->w - out->w + 1) : (in->w - out->w) / 2;
        l->flip[i] = train && l->net->flip && random_below(&random, 2);
    }
    return (struct ops_crop){ pass->n, in->c, in->h, in->w, out->h, out->w, l->top, l->left, l->flip,
                              l->net->noadjust ? 1 : 2, l->net->noadjust ? 0 : -1 };
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct crop *l = (struct crop *)layer;
    struct ops_crop crop = windows(l, pass);
    ops_crop(l->ops, &crop, pass->in[0].data, pass->out.data);
    return STATUS_OK;
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct crop *l = (struct crop *)layer;
    struct ops_crop crop = windows(l, pass);
    if (pass->in[0].grad) ops_crop_backward(l->ops, &crop, pass->out.grad, pass->in[0].grad);
    return STATUS_OK;
}

const struct layer_kind layer_crop = {
    .kind = NET_CROP,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
