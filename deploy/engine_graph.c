/* Layers become operations on tensors. Layers that only pass values on
 * (dropout, route, cost) become views and cost nothing; a shortcut behind a
 * convolution that feeds nothing else becomes that convolution's epilogue. */
#include "deploy/engine_internal.h"

#include <stdlib.h>

enum { ALWAYS = 1 << 30 }; /* as `dies`: to the end of the run */

static struct storage *new_storage(struct engine *e, int channels, int h, int w, int pitch) {
    struct storage *s = &e->storages[e->nstorages++];
    *s = (struct storage){.channels = channels, .h = h, .w = w, .pitch = pitch, .born = e->nops, .dies = e->nops};
    return s;
}

static struct op *new_op(struct engine *e, enum op_kind kind, int layer, const struct tensor *in,
                         const struct tensor *out) {
    struct op *op = &e->ops[e->nops++];
    *op = (struct op){.kind = kind,
                      .layer = layer,
                      .block = e->model->blocks->of_layer[layer],
                      .shortcut = -1,
                      .in = in,
                      .out = out};
    return op;
}

/* Views for the segments that `layer` puts out, without storages. */
static enum status make_views(struct engine *e, int layer, struct err *err) {
    const struct groups *groups = e->model->groups;
    struct tensor *t = engine_tensor_of(e, layer);
    const struct segment *segments = groups_segments(groups, layer, &t->nviews);
    t->views = engine_alloc(e, (size_t)t->nviews, sizeof *t->views);
    if (!t->views) return err_memory(err, "engine's tensors");
    for (int v = 0; v < t->nviews; v++)
        t->views[v] = (struct view){.segment = groups->first_segment[layer + 1] + v,
                                    .first = segments[v].first,
                                    .channels = segments[v].channels};
    return STATUS_OK;
}

/* ... and with new ones of the layer's shape. */
static enum status make_tensor(struct engine *e, int layer, int pitch, struct err *err) {
    enum status status = make_views(e, layer, err);
    if (status) return status;
    struct tensor *t = engine_tensor_of(e, layer);
    const struct net_shape shape = net_shape_of(e->model->net, layer);
    for (int v = 0; v < t->nviews; v++) t->views[v].storage = new_storage(e, t->views[v].channels, shape.h, shape.w, pitch);
    return STATUS_OK;
}

/* ---- who reads what ---- */

static int readers(const struct engine *e, int tensor) {
    const struct net *net = e->model->net;
    int n = 0;
    for (int i = e->first_layer; i <= e->last_layer; i++)
        for (int k = 0; k < net->layers[i].ninputs; k++) n += net->layers[i].inputs[k] == tensor;
    return n;
}

/* An image keeps its pixels together if all who read it are ordinary
 * convolutions, directly or behind a crop. */
static bool interleaves(const struct engine *e, int tensor) {
    const struct net *net = e->model->net;
    if (net_shape_of(net, tensor).c >= PANEL) return false;
    for (int i = e->first_layer; i <= e->last_layer; i++)
        for (int k = 0; k < net->layers[i].ninputs; k++) {
            const struct net_layer *l = &net->layers[i];
            if (l->inputs[k] != tensor) continue;
            if (l->kind == NET_CROP && interleaves(e, i)) continue;
            if (l->kind != NET_CONVOLUTIONAL || l->groups > 1) return false;
        }
    return readers(e, tensor) > 0;
}

static bool same_map(struct net_shape a, struct net_shape b) { return a.h == b.h && a.w == b.w; }

/* Whether the convolution `layer` can end with the shortcut behind it. */
static bool takes_shortcut(const struct engine *e, int layer) {
    const struct net *net = e->model->net;
    if (e->keep || layer + 1 > e->last_layer || layer == net_logits_layer(net)) return false;
    const struct net_layer *conv = &net->layers[layer], *s = &net->layers[layer + 1];
    if (s->kind != NET_SHORTCUT || s->alpha != 1 || s->beta != 1 || s->inputs[1] == layer) return false;
    return conv->activation == ACTIVATION_LINEAR && readers(e, layer) == 1 &&
           same_map(s->out, net_shape_of(net, s->inputs[1])) && engine_tensor_of(e, s->inputs[1])->nviews == 1;
}

/* ---- layers ---- */

/* Copies channels [first, first + channels) of `in` to a storage of their own. */
static enum status regroup(struct engine *e, int layer, const struct tensor *in, int first, int channels,
                           struct tensor **out, struct err *err) {
    struct tensor *t = engine_alloc(e, 1, sizeof *t);
    struct view *view = engine_alloc(e, 1, sizeof *view);
    if (!t || !view) return err_memory(err, "engine's tensors");
    const struct storage *like = in->views[0].storage;
    *view = (struct view){new_storage(e, channels, like->h, like->w, PANEL), -1, first, channels};
    *t = (struct tensor){1, view};
    new_op(e, OP_REGROUP, layer, in, t);
    *out = t;
    return STATUS_OK;
}

static enum status visit_convolutional(struct engine *e, int layer, struct err *err) {
    const struct net_layer *l = &e->model->net->layers[layer];
    const struct tensor *in = engine_tensor_of(e, l->inputs[0]);
    const bool depthwise = l->groups > 1 && l->groups == l->in.c && l->groups == l->filters;
    enum status status;
    if (l->groups > 1 && in->nviews > 1) {
        struct tensor *joined;
        if ((status = regroup(e, layer, in, 0, l->in.c, &joined, err))) return status;
        in = joined;
    }
    const bool fused = !depthwise && takes_shortcut(e, layer);
    if ((status = make_tensor(e, fused ? layer + 1 : layer, PANEL, err))) return status;
    struct op *op =
        new_op(e, depthwise ? OP_DEPTHWISE : OP_CONV, layer, in, engine_tensor_of(e, fused ? layer + 1 : layer));
    if (!fused) return STATUS_OK;
    op->shortcut = layer + 1;
    op->from = engine_tensor_of(e, e->model->net->layers[layer + 1].inputs[1]);
    return STATUS_OK;
}

/* Whether view v of a shortcut's own branch meets view v of the other side
 * channel by channel. */
static bool meets(const struct tensor *own, const struct tensor *from, int v) {
    if (v >= from->nviews || own->views[v].first != from->views[v].first) return false;
    return from->views[v].channels >= own->views[v].channels || v == from->nviews - 1;
}

static enum status visit_shortcut(struct engine *e, int layer, struct err *err) {
    const struct net_layer *l = &e->model->net->layers[layer];
    const struct tensor *own = engine_tensor_of(e, l->inputs[0]), *from = engine_tensor_of(e, l->inputs[1]);
    struct tensor *met = engine_alloc(e, 1, sizeof *met);
    struct view *views = engine_alloc(e, (size_t)own->nviews, sizeof *views);
    if (!met || !views) return err_memory(err, "engine's tensors");
    *met = (struct tensor){own->nviews, views};
    const int channels = net_shape_of(e->model->net, l->inputs[1]).c;
    enum status status;
    for (int v = 0; v < own->nviews; v++) {
        const int first = own->views[v].first, left = channels - first;
        if (meets(own, from, v)) {
            views[v] = from->views[v];
        } else if (left > 0) {
            struct tensor *copy;
            status = regroup(e, layer, from, first, left < own->views[v].channels ? left : own->views[v].channels, &copy, err);
            if (status) return status;
            views[v] = copy->views[0];
        } else {
            views[v] = (struct view){.segment = -1};
        }
    }
    if ((status = make_tensor(e, layer, PANEL, err))) return status;
    new_op(e, OP_ADD, layer, own, engine_tensor_of(e, layer))->from = met;
    return STATUS_OK;
}

/* Layers that pass values on: the same storages, seen as this layer's output. */
static enum status visit_view(struct engine *e, int layer, struct err *err) {
    const struct net_layer *l = &e->model->net->layers[layer];
    enum status status = make_views(e, layer, err);
    if (status) return status;
    struct view *view = engine_tensor_of(e, layer)->views;
    for (int k = 0; k < l->ninputs; k++) {
        const struct tensor *in = engine_tensor_of(e, l->inputs[k]);
        for (int v = 0; v < in->nviews; v++) (view++)->storage = in->views[v].storage;
    }
    return STATUS_OK;
}

static enum status visit(struct engine *e, int layer, struct err *err) {
    static const enum op_kind kinds[] = {[NET_CONNECTED] = OP_CONV, [NET_BATCHNORM] = OP_AFFINE,
                                         [NET_MAXPOOL] = OP_MAXPOOL, [NET_AVGPOOL] = OP_AVGPOOL,
                                         [NET_SOFTMAX] = OP_SOFTMAX, [NET_CROP] = OP_CROP};
    const struct net_layer *l = &e->model->net->layers[layer];
    const struct tensor *in = engine_tensor_of(e, l->inputs[0]);
    switch (l->kind) {
    case NET_CONVOLUTIONAL: return visit_convolutional(e, layer, err);
    case NET_SHORTCUT: return visit_shortcut(e, layer, err);
    case NET_DROPOUT:
    case NET_ROUTE:
    case NET_COST: return visit_view(e, layer, err);
    default: break;
    }
    const int pitch = l->kind == NET_CROP ? in->views[0].storage->pitch : PANEL;
    enum status status = make_tensor(e, layer, pitch, err);
    if (!status) new_op(e, kinds[l->kind], layer, in, engine_tensor_of(e, layer));
    return status;
}

/* ---- borders and lifetimes ---- */

static void read_by(const struct tensor *t, int op, int border) {
    for (int v = 0; t && v < t->nviews; v++) {
        struct storage *s = t->views[v].storage;
        if (!s) continue;
        if (s->dies < op) s->dies = op;
        if (s->border < border) s->border = border;
    }
}

/* A convolution steps through all its views alike, so their borders must be
 * equal: raises the lower ones. Returns whether anything changed. */
static bool level_borders(const struct tensor *t) {
    int border = 0;
    bool changed = false;
    for (int v = 0; v < t->nviews; v++)
        if (t->views[v].storage->border > border) border = t->views[v].storage->border;
    for (int v = 0; v < t->nviews; v++) {
        changed |= t->views[v].storage->border != border;
        t->views[v].storage->border = border;
    }
    return changed;
}

static void find_lifetimes(struct engine *e) {
    for (int i = 0; i < e->nops; i++) {
        const struct op *op = &e->ops[i];
        const struct net_layer *l = &e->model->net->layers[op->layer];
        const bool pads = (op->kind == OP_CONV || op->kind == OP_DEPTHWISE) && l->kind == NET_CONVOLUTIONAL;
        read_by(op->in, i, pads ? l->pad : 0);
        read_by(op->from, i, 0);
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < e->nops; i++)
            if (e->ops[i].kind == OP_CONV) changed |= level_borders(e->ops[i].in);
    }
    const int logits = net_logits_layer(e->model->net);
    read_by(engine_tensor_of(e, e->last_layer), ALWAYS, 0);
    if (logits >= e->first_layer && logits <= e->last_layer) read_by(engine_tensor_of(e, logits), ALWAYS, 0);
    if (e->keep)
        for (int i = 0; i < e->nstorages; i++) e->storages[i].dies = ALWAYS;
}

enum status engine_graph(struct engine *e, struct err *err) {
    const struct net *net = e->model->net;
    const size_t layers = (size_t)net->nlayers, segments = (size_t)e->model->groups->nsegments;
    e->tensors = engine_alloc(e, layers + 1, sizeof *e->tensors);
    /* A layer adds at most its segments, and as many copies to regroup. */
    e->storages = engine_alloc(e, 2 * segments + layers, sizeof *e->storages);
    e->ops = engine_alloc(e, segments + 2 * layers, sizeof *e->ops);
    if (!e->tensors || !e->storages || !e->ops) return err_memory(err, "engine's graph");
    const bool image = e->source == -1 && e->model->ends.nincoming == 0;
    const int pitch = image && interleaves(e, -1) ? net->input.c : PANEL;
    enum status status = make_tensor(e, e->source, pitch, err);
    for (int v = 0; !status && v < engine_tensor_of(e, e->source)->nviews; v++)
        engine_tensor_of(e, e->source)->views[v].storage->born = -1;
    for (int i = e->first_layer; !status && i <= e->last_layer; i++)
        if (engine_tensor_of(e, i)->nviews == 0) status = visit(e, i, err);
    if (status) return status;
    find_lifetimes(e);
    engine_chains(e);
    return STATUS_OK;
}
