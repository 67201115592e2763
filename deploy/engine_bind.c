/* The arguments of every kernel call at full width; engine_set_plan changes
 * counts, chunks and tables in them, nothing else. */
#include "deploy/engine_internal.h"

static const struct layout *layout_of(const struct tensor *t, int view) { return &t->views[view].storage->layout; }

static void bind_conv(struct op *op, const struct net_layer *l, enum activation activation) {
    const bool connected = l->kind == NET_CONNECTED;
    const struct layout *y = layout_of(op->out, 0);
    for (int i = 0; i < op->nchunks; i++) {
        struct full_chunk *c = &op->full[i];
        const struct layout *x = layout_of(op->in, c->view);
        const int pad = connected ? 0 : l->pad;
        c->chunk.x = x->origin - pad * (x->line + x->pitch) + c->channel / PANEL * x->panel + c->channel % PANEL;
    }
    for (int i = 0; i < op->nparts; i++) {
        struct part *part = &op->parts[i];
        const struct layout *x = layout_of(op->in, 0);
        const int stride = connected ? 1 : l->stride;
        const bool interleaved = x->pitch != PANEL;
        part->conv = (struct conv_args){.chunks = op->chunks + part->chunk,
                                        .kh = connected ? l->in.h : l->size,
                                        .kw = connected ? l->in.w : interleaved ? 1 : l->size,
                                        .x_tap = x->pitch,
                                        .x_tap_line = x->line,
                                        .x_column = stride * x->pitch,
                                        .x_line = stride * x->line,
                                        .w_panel = part->conv.w_panel,
                                        .y = y->origin,
                                        .y_line = y->line,
                                        .y_panel = y->panel,
                                        .width = l->out.w,
                                        .activation = activation};
        if (!op->from) continue;
        const struct layout *residual = layout_of(op->from, 0);
        part->conv.residual = residual->origin;
        part->conv.residual_line = residual->line;
        part->conv.residual_panel = residual->panel;
    }
}

static void bind_depthwise(struct op *op, const struct net_layer *l) {
    const struct layout *x = layout_of(op->in, 0), *y = layout_of(op->out, 0);
    op->parts[0].depthwise = (struct depthwise_args){.x = x->origin - l->pad * (x->line + x->pitch),
                                                     .x_line = x->line,
                                                     .x_panel = x->panel,
                                                     .size = l->size,
                                                     .stride = l->stride,
                                                     .w = op->weights,
                                                     .y = y->origin,
                                                     .y_line = y->line,
                                                     .y_panel = y->panel,
                                                     .width = l->out.w,
                                                     .activation = l->activation};
}

static void bind_pooling(struct part *part, const struct net_layer *l, const struct layout *x, const struct layout *y) {
    part->pooling = (struct pooling_args){.x = x->origin,
                                          .x_line = x->line,
                                          .x_panel = x->panel,
                                          .x_height = x->h,
                                          .x_width = x->w,
                                          .y = y->origin,
                                          .y_line = y->line,
                                          .y_panel = y->panel,
                                          .y_height = y->h,
                                          .y_width = y->w,
                                          .size = l->size,
                                          .stride = l->stride,
                                          .before = l->pad / 2};
}

static void bind_affine(struct part *part, const struct layout *x, const struct layout *y) {
    part->affine = (struct pointwise_affine_args){.x = x->origin,
                                                  .x_line = x->line,
                                                  .x_panel = x->panel,
                                                  .y = y->origin,
                                                  .y_line = y->line,
                                                  .y_panel = y->panel,
                                                  .height = y->h,
                                                  .width = y->w};
}

/* Darknet's sampling: of the finer map every n-th value meets one of the
 * coarser map. */
static void bind_add(struct op *op, struct part *part, const struct net_layer *l) {
    const struct layout *own = layout_of(op->in, part->view), *y = layout_of(op->out, part->view);
    part->add = (struct pointwise_add_args){.own = own->origin,
                                            .own_line = own->line,
                                            .own_panel = own->panel,
                                            .step = 1,
                                            .every = 1,
                                            .y = y->origin,
                                            .y_line = y->line,
                                            .y_panel = y->panel,
                                            .height = y->h,
                                            .width = y->w,
                                            .alpha = l->alpha,
                                            .beta = l->beta,
                                            .activation = l->activation};
    if (!op->from->views[part->view].storage) return; /* no channels to meet */
    const struct layout *from = layout_of(op->from, part->view);
    part->add.from = from->origin;
    part->add.from_line = from->line;
    part->add.from_panel = from->panel;
    part->add.from_height = from->h;
    part->add.from_width = from->w;
    if (from->w > y->w) part->add.step = from->w / y->w;
    else part->add.every = y->w / from->w;
}

/* One part for each view of the output. */
static enum status bind_views(struct engine *e, struct op *op, struct err *err) {
    const struct net_layer *l = &e->model->net->layers[op->layer];
    op->nparts = op->out->nviews;
    op->parts = engine_alloc(e, (size_t)op->nparts, sizeof *op->parts);
    if (!op->parts) return err_memory(err, "engine's operations");
    for (int v = 0; v < op->nparts; v++) {
        struct part *part = &op->parts[v];
        part->view = v;
        part->last = op->out->views[v].channels;
        if (op->kind == OP_DEPTHWISE) bind_depthwise(op, l);
        if (op->kind == OP_MAXPOOL || op->kind == OP_AVGPOOL)
            bind_pooling(part, l, layout_of(op->in, v), layout_of(op->out, v));
        if (op->kind == OP_AFFINE) bind_affine(part, layout_of(op->in, v), layout_of(op->out, v));
        if (op->kind == OP_ADD) bind_add(op, part, l);
    }
    return STATUS_OK;
}

enum status engine_bind(struct engine *e, struct err *err) {
    const struct net *net = e->model->net;
    for (int i = 0; i < e->nops; i++) {
        struct op *op = &e->ops[i];
        enum status status = engine_pack(e, op, err);
        if (!status && op->kind != OP_CONV) status = bind_views(e, op, err);
        if (status) return status;
        if (op->kind == OP_CONV)
            bind_conv(op, &net->layers[op->layer],
                      net->layers[op->shortcut >= 0 ? op->shortcut : op->layer].activation);
    }
    return STATUS_OK;
}
