/* Weights into panels, once for all levels (layout: deploy/kernels/conv.h and
 * depthwise.h), and batch norm into tables of scale and shift, a row for each
 * row of the model.
 *
 * A dense layer's chunks are the panels of its input, view by view: a prefix
 * of channels is a prefix of each view's chunks and of the last one's rows. A
 * grouped convolution is packed as the diagonal it is: a panel of outputs has
 * rows for the inputs of its groups only, with zeros where output and input are
 * of different groups. */
#include "deploy/engine_internal.h"
#include "common/bn.h"

#include <stdlib.h>
#include <string.h>

struct packer {
    const struct engine *engine;
    struct op *op;
    const struct net_layer *layer;
    const float *weight; /* [filters, in.c / groups, taps] */
    int taps, in_per_group, out_per_group;
    bool interleaved; /* a span is a line of taps, its rows (column, channel) */
    ptrdiff_t w_panel;
};

/* A run of rows of a panel: input channels that lie in one panel of the input. */
struct span {
    int view, channel, rows;
    ptrdiff_t w; /* floats into the panel of weights */
};

/* Input channels that outputs [first, last) read: [*begin, *end) of the view. */
static void inputs_of(const struct packer *p, int view, int first, int last, int *begin, int *end) {
    *begin = 0;
    *end = p->op->in->views[view].channels;
    if (p->layer->groups == 1) return;
    *begin = first / p->out_per_group * p->in_per_group;
    *end = ((last - 1) / p->out_per_group + 1) * p->in_per_group;
}

static int panel_end(const struct packer *p, int panel) {
    const int end = panel * PANEL + PANEL;
    return end < p->layer->filters ? end : p->layer->filters;
}

/* Steps through the spans of a panel, from {.view = -1} on. */
static bool next_span(const struct packer *p, int panel, struct span *s) {
    int begin, end;
    if (s->view >= 0) {
        inputs_of(p, s->view, panel * PANEL, panel_end(p, panel), &begin, &end);
        s->w += (ptrdiff_t)s->rows * PANEL * (p->interleaved ? p->layer->size : p->taps);
        s->channel = p->interleaved ? end : s->channel + s->rows;
    }
    if (s->view < 0 || s->channel >= end) {
        if (++s->view >= p->op->in->nviews) return false;
        inputs_of(p, s->view, panel * PANEL, panel_end(p, panel), &begin, &end);
        s->channel = begin;
    }
    const int to_panel_end = PANEL - s->channel % PANEL;
    s->rows = to_panel_end < end - s->channel ? to_panel_end : end - s->channel;
    if (p->interleaved) s->rows = p->layer->size * p->layer->in.c;
    return true;
}

/* ---- weights ---- */

static void pack_span(const struct packer *p, int panel, const struct span *s, float *out) {
    memset(out, 0, (size_t)p->taps * (size_t)s->rows * PANEL * sizeof *out);
    const int first = p->op->in->views[s->view].first + s->channel;
    for (int o = panel * PANEL; o < panel_end(p, panel); o++) {
        const int group_first = o / p->out_per_group * p->in_per_group;
        for (int r = 0; r < s->rows; r++) {
            const int i = first + r - group_first;
            if (i < 0 || i >= p->in_per_group) continue;
            const float *w = p->weight + ((size_t)o * (size_t)p->in_per_group + (size_t)i) * (size_t)p->taps;
            float *to = out + r * PANEL + o % PANEL;
            for (int tap = 0; tap < p->taps; tap++, to += (size_t)s->rows * PANEL) *to = w[tap];
        }
    }
}

static void pack_line(const struct packer *p, int panel, const struct span *s, float *out) {
    const int c = p->layer->in.c, k = p->layer->size;
    memset(out, 0, (size_t)k * (size_t)s->rows * PANEL * sizeof *out);
    for (int o = panel * PANEL; o < panel_end(p, panel); o++) {
        const float *w = p->weight + (size_t)o * (size_t)(c * k * k);
        for (int i = 0; i < c; i++)
            for (int ky = 0; ky < k; ky++)
                for (int kx = 0; kx < k; kx++)
                    out[(ky * s->rows + kx * c + i) * PANEL + o % PANEL] = w[(i * k + ky) * k + kx];
    }
}

static void pack_panel(void *context, int panel, int thread) {
    (void)thread;
    const struct packer *p = context;
    for (struct span s = {.view = -1}; next_span(p, panel, &s);) {
        float *out = p->op->weights + panel * p->w_panel + s.w;
        if (p->interleaved) pack_line(p, panel, &s, out);
        else pack_span(p, panel, &s, out);
    }
    if (!p->engine->low_memory) return;
    /* From the start: reading a panel brings back pages of the one before. */
    model_release(p->engine->model, p->weight,
                  (size_t)panel_end(p, panel) * (size_t)p->in_per_group * (size_t)p->taps);
}

/* ---- parts and chunks ---- */

/* A part for outputs [first, last), which share a panel or, in a dense layer,
 * the inputs. Only counts as long as there is nothing to fill. */
static void add_part(const struct packer *p, int first, int last) {
    struct op *op = p->op;
    const int chunk = op->nchunks;
    for (struct span s = {.view = -1}; next_span(p, first / PANEL, &s);) {
        int begin, end;
        inputs_of(p, s.view, first, last, &begin, &end);
        /* Interleaved rows are not channels. */
        const int skip = begin > s.channel ? begin - s.channel : 0;
        const int rows = p->interleaved || s.channel + s.rows < end ? s.rows - skip : end - s.channel - skip;
        if (rows <= 0) continue;
        if (op->full)
            op->full[op->nchunks] =
                (struct full_chunk){{NULL, op->weights + s.w + skip * PANEL, (ptrdiff_t)s.rows * PANEL, rows},
                                    s.view,
                                    s.channel + skip,
                                    p->interleaved};
        op->nchunks++;
    }
    if (op->parts)
        op->parts[op->nparts] = (struct part){
            .first = first, .last = last, .chunk = chunk, .nchunks = op->nchunks - chunk, .conv.w_panel = p->w_panel};
    op->nparts++;
}

/* A dense layer is one part; a grouped one has a part for each run of whole
 * vectors of outputs that read the same inputs. */
static void add_parts(const struct packer *p) {
    const int filters = p->layer->filters, lanes = p->engine->kernels->lanes;
    p->op->nparts = p->op->nchunks = 0;
    if (p->layer->groups == 1) {
        add_part(p, 0, filters);
        return;
    }
    for (int o = 0; o < filters;) {
        const int limit = panel_end(p, o / PANEL);
        const int group_end = (o / p->out_per_group + 1) * p->out_per_group;
        int last = o + lanes;
        while (last + lanes <= limit && last + lanes <= group_end) last += lanes;
        if (last > limit) last = limit;
        add_part(p, o, last);
        o = last;
    }
}

/* Floats of the largest panel. */
static ptrdiff_t largest_panel(const struct packer *p) {
    ptrdiff_t largest = 0;
    for (int panel = 0; panel * PANEL < p->layer->filters; panel++) {
        struct span s = {.view = -1};
        while (next_span(p, panel, &s)) continue;
        if (s.w > largest) largest = s.w;
        if (p->layer->groups == 1) break; /* all alike */
    }
    return largest;
}

static enum status pack_conv(struct engine *e, struct op *op, struct err *err) {
    const struct net_layer *l = &e->model->net->layers[op->layer];
    struct packer p = {.engine = e, .op = op, .layer = l, .weight = e->model->layers[op->layer].weight};
    p.taps = l->kind == NET_CONNECTED ? l->in.h * l->in.w : l->size * l->size;
    p.in_per_group = l->in.c / l->groups;
    p.out_per_group = l->filters / l->groups;
    p.interleaved = op->in->views[0].storage->pitch != PANEL;
    p.w_panel = largest_panel(&p);
    add_parts(&p);
    const size_t panels = (size_t)(l->filters + PANEL - 1) / PANEL;
    op->parts = engine_alloc(e, (size_t)op->nparts, sizeof *op->parts);
    op->full = engine_alloc(e, (size_t)op->nchunks, sizeof *op->full);
    op->chunks = engine_alloc(e, (size_t)op->nchunks, sizeof *op->chunks);
    bool packed;
    op->weights = engine_weights(e, op, panels * (size_t)p.w_panel, &packed);
    if (!op->parts || !op->full || !op->chunks || !op->weights) return err_memory(err, "packed weights");
    add_parts(&p);
    if (!packed) engine_parallel(e, (int)panels, pack_panel, &p);
    return STATUS_OK;
}

static enum status pack_depthwise(struct engine *e, struct op *op, struct err *err) {
    const struct net_layer *l = &e->model->net->layers[op->layer];
    const float *weight = e->model->layers[op->layer].weight;
    const size_t taps = (size_t)l->size * (size_t)l->size, panels = (size_t)(l->filters + PANEL - 1) / PANEL;
    bool packed;
    op->weights = engine_weights(e, op, panels * taps * PANEL, &packed);
    if (!op->weights) return err_memory(err, "packed weights");
    if (packed) return STATUS_OK;
    for (size_t c = 0; c < (size_t)l->filters; c++)
        for (size_t tap = 0; tap < taps; tap++)
            op->weights[(c / PANEL * taps + tap) * PANEL + c % PANEL] = weight[c * taps + tap];
    return STATUS_OK;
}

static enum status make_tables(struct engine *e, struct op *op, struct err *err) {
    const struct model_layer *m = &e->model->layers[op->layer];
    const int outputs = model_outputs(e->model, op->layer);
    /* Kernels load whole panels, from a view's first channel on. */
    op->stride = (outputs + 2 * PANEL - 1) / PANEL * PANEL;
    op->rows = m->mean ? bn_level_rows(e->model) : 1;
    const size_t tables = (size_t)op->rows + (op->rows > 1);
    op->scale = engine_alloc(e, tables * (size_t)op->stride, sizeof *op->scale);
    op->shift = engine_alloc(e, tables * (size_t)op->stride, sizeof *op->shift);
    if (!op->scale || !op->shift) return err_memory(err, "batch-norm tables");
    for (int r = 0; r < op->rows; r++) {
        float *scale = op->scale + (size_t)r * (size_t)op->stride, *shift = op->shift + (size_t)r * (size_t)op->stride;
        if (m->mean) {
            const struct bn_terms terms = bn_uniform(e->model, r);
            bn_affine(e->model, op->layer, &terms, scale, shift);
            continue;
        }
        for (int o = 0; o < outputs; o++) {
            scale[o] = 1;
            shift[o] = m->bias ? m->bias[o] : 0;
        }
    }
    return STATUS_OK;
}

enum status engine_pack(struct engine *e, struct op *op, struct err *err) {
    enum status status = STATUS_OK;
    if (op->kind == OP_CONV) status = pack_conv(e, op, err);
    else if (op->kind == OP_DEPTHWISE) status = pack_depthwise(e, op, err);
    if (!status && (op->kind == OP_CONV || op->kind == OP_DEPTHWISE || op->kind == OP_AFFINE))
        status = make_tables(e, op, err);
    return status;
}
