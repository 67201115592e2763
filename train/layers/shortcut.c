/* [shortcut]: activation(alpha * own + beta * from), where the channels and
 * positions of both meet; elsewhere the own branch alone.
 *
 * Which channels meet is a matter of the whole tensors: channel k joins channel
 * k. A channel of `from` that was not computed counts as zero. */
#include "train/layers/norm.h"

#include <stdlib.h>
#include <string.h>

struct shortcut {
    struct layer base;
    struct layer_context context;
    const struct net_layer *net;
    bool rectified;
    struct ops_rectifier rectifier;
    float *front; /* in front of an activation that cannot be told from its output */
    struct ops_run *runs;
    int max_runs;
};

static void destroy(struct layer *layer) {
    struct shortcut *l = (struct shortcut *)layer;
    ops_free(l->context.ops, &l->front);
    free(l->runs);
    free(l);
}

static enum status create(struct layer **out, const struct layer_context *context, struct err *err) {
    struct shortcut *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layer");
    l->base.kind = &layer_shortcut;
    l->context = *context;
    l->net = &context->model->net->layers[context->index];
    l->rectified = ops_rectifier_of(l->net->activation, &l->rectifier);
    int own, from;
    groups_segments(context->model->groups, l->net->inputs[0], &own);
    groups_segments(context->model->groups, l->net->inputs[1], &from);
    l->max_runs = 2 * (own + from) + 2;
    l->runs = calloc((size_t)l->max_runs, sizeof *l->runs);
    enum status status = l->runs ? STATUS_OK : err_memory(err, "layer");
    if (!status && !l->rectified)
        status = ops_alloc(context->ops, (size_t)context->batch * net_shape_size(l->net->out), &l->front, "activations", err);
    if (status) destroy(&l->base);
    else *out = &l->base;
    return status;
}

static int low(int a, int b) { return a < b ? a : b; }
static int high(int a, int b) { return a > b ? a : b; }

/* What joins range `own` of the output: parts of `from` in order and, between
 * them, channels that count as zero, up to channel `common` of both. */
static int runs_of(const struct layer_tensor *from, struct layer_range own, int common, struct ops_run *runs) {
    int n = 0, at = own.first, end = low(own.first + own.count, common);
    for (int i = 0; i < from->nranges && at < end; i++) {
        struct layer_range r = from->ranges[i];
        int first = high(at, r.first), last = low(end, r.first + r.count);
        if (first >= last) continue;
        if (first > at) runs[n++] = (struct ops_run){ -1, own.offset + at - own.first, first - at };
        runs[n++] = (struct ops_run){ r.offset + first - r.first, own.offset + first - own.first, last - first };
        at = last;
    }
    if (at < end) runs[n++] = (struct ops_run){ -1, own.offset + at - own.first, end - at };
    return n;
}

static struct ops_join join_of(const struct shortcut *l, const struct layer_pass *pass) {
    const struct layer_tensor *from = &pass->in[1], *out = &pass->out;
    int common = low(l->net->out.c, net_shape_of(l->context.model->net, l->net->inputs[1]).c), n = 0;
    for (int i = 0; i < out->nranges; i++) n += runs_of(from, out->ranges[i], common, l->runs + n);
    return (struct ops_join){ pass->n,  { from->c, from->h, from->w },   { out->c, out->h, out->w },
                              n,        l->runs, l->net->alpha, l->net->beta };
}

/* Both branches are the same tensor shape, simply added, and rectified: then
 * lazy ones are normalised on the way. */
static bool plain(const struct layer *layer, const struct layer_pass *pass) {
    const struct shortcut *l = (const struct shortcut *)layer;
    const struct layer_tensor *own = &pass->in[0], *from = &pass->in[1], *out = &pass->out;
    bool whole = own->nranges == 1 && from->nranges == 1 && own->c == out->c && from->c == out->c &&
                 own->ranges[0].count == out->c && from->ranges[0].count == out->c;
    return whole && from->h == out->h && from->w == out->w && l->net->alpha == 1 && l->net->beta == 1 && l->rectified;
}

static struct ops_lazy lazy_of(const struct layer_tensor *t) {
    struct ops_lazy values = { t->data, NULL, NULL, ops_linear };
    if (!t->lazy) return values;
    values = (struct ops_lazy){ .values = t->lazy->front, .r = t->lazy->rectifier };
    norm_affine(t->lazy->norm, &values.scale, &values.shift);
    return values;
}

static enum status forward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct shortcut *l = (struct shortcut *)layer;
    struct ops *ops = l->context.ops;
    const struct layer_tensor *own = &pass->in[0], *from = &pass->in[1];
    size_t values = layer_values(pass, &pass->out);
    if (plain(layer, pass)) {
        struct ops_lazy a = lazy_of(own), b = lazy_of(from);
        return ops_add_lazy(ops, &a, &b, layer_rows(pass, own), own->c, l->rectifier, pass->out.data, err);
    }
    float *front = l->front ? l->front : pass->out.data;
    for (int i = 0, to = 0; i < own->nranges; to += own->ranges[i++].count)
        ops_copy_channels(ops, own->data, own->c, own->ranges[i].offset, front, pass->out.c, to, own->ranges[i].count,
                          layer_rows(pass, own), false);
    struct ops_join join = join_of(l, pass);
    ops_join(ops, &join, from->data, front);
    if (l->net->activation != ACTIVATION_LINEAR) ops_activate(ops, l->net->activation, front, values, pass->out.data);
    return STATUS_OK;
}

struct work {
    const struct shortcut *layer;
    const struct layer_pass *pass;
};

/* One gradient for both branches, and at once what a lazy branch's batch norm
 * needs of it. */
static enum status plain_backward_part(void *context, const struct ops_part *part, struct err *err) {
    const struct work *work = context;
    const struct shortcut *l = work->layer;
    struct ops *ops = l->context.ops;
    const struct layer_tensor *own = &work->pass->in[0], *from = &work->pass->in[1], *out = &work->pass->out;
    size_t first = (size_t)part->first * layer_image(out), count = (size_t)part->n * layer_image(out);
    float *g = (own->grad && !own->add ? own->grad : out->grad) + first;
    ops_rectify_backward(ops, l->rectifier, out->data + first, out->grad + first, count, g);
    for (int k = 0; k < 2; k++) {
        const struct layer_tensor *in = &work->pass->in[k];
        float *grad = in->grad ? in->grad + first : NULL;
        if (!grad || grad == g) continue;
        if (in->add) ops_add(ops, g, count, grad);
        else ops_copy(ops, g, count, grad);
    }
    enum status status = layer_sums(ops, own, part, g, err);
    return status ? status : layer_sums(ops, from, part, g, err);
}

static enum status plain_backward(struct shortcut *l, const struct layer_pass *pass, struct err *err) {
    int images = ops_part_images(l->context.ops, pass->n, 4 * layer_image(&pass->out));
    enum status status = ops_parts_run(l->context.ops, pass->n, images, plain_backward_part, &(struct work){ l, pass }, err);
    if (status) return status;
    layer_sums_done(&pass->in[0]);
    layer_sums_done(&pass->in[1]);
    return STATUS_OK;
}

static enum status backward(struct layer *layer, const struct layer_pass *pass, struct err *err) {
    struct shortcut *l = (struct shortcut *)layer;
    struct ops *ops = l->context.ops;
    const struct layer_tensor *own = &pass->in[0], *from = &pass->in[1], *out = &pass->out;
    size_t values = layer_values(pass, out);
    float *dy = out->grad;
    if (plain(layer, pass)) return plain_backward(l, pass, err);
    if (l->rectified) ops_rectify_backward(ops, l->rectifier, out->data, dy, values, dy);
    else ops_activate_backward(ops, l->net->activation, l->front, dy, values, dy);
    struct ops_join join = join_of(l, pass);
    if (from->grad) ops_join_backward(ops, &join, dy, from->grad, from->add);
    if (join.alpha != 1) ops_join_scale(ops, &join, dy);
    if (!own->grad || own->grad == dy) return STATUS_OK;
    if (!own->add && layer_channels(own) < own->c) ops_zero(ops, own->grad, layer_values(pass, own));
    for (int i = 0, at = 0; i < own->nranges; at += own->ranges[i++].count)
        ops_copy_channels(ops, dy, out->c, at, own->grad, own->c, own->ranges[i].offset, own->ranges[i].count,
                          layer_rows(pass, own), own->add);
    return STATUS_OK;
}

const struct layer_kind layer_shortcut = {
    .kind = NET_SHORTCUT, .views = true, .adds = true, .in_place = true, .reads_lazy = plain, .shares_grad = true,
    .create = create, .destroy = destroy, .forward = forward, .backward = backward,
};
