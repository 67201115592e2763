/* A plan becomes counts, chunks and table rows: a few words for each
 * operation, whatever the size of the weights. */
#include "deploy/engine_internal.h"
#include "common/bn.h"

#include <string.h>

static int reads(const struct engine *e, int layer, int input, int segment) {
    const struct model *m = e->model;
    return counts_read(e->counts, m->net, m->blocks, m->groups, m->levels, e->plan, layer, input, segment);
}

/* Channels of the view that its layer puts out. */
static int holds(const struct engine *e, const struct view *view) {
    return view->segment < 0 ? view->channels : e->counts->out[view->segment];
}

static int smaller(int a, int b) { return a < b ? a : b; }

/* Channels of the input's view that outputs [0, now) read. */
static int conv_reads(const struct engine *e, const struct op *op, int view, int now) {
    const struct net_layer *l = &e->model->net->layers[op->layer];
    const int arrive = op->in->views[view].segment < 0 ? op->in->views[view].channels : reads(e, op->layer, 0, view);
    if (l->groups == 1) return arrive;
    const int out_per_group = l->filters / l->groups, in_per_group = l->in.c / l->groups;
    return smaller(arrive, (now + out_per_group - 1) / out_per_group * in_per_group);
}

static void plan_conv(const struct engine *e, struct op *op, const float *scale, const float *shift) {
    const int outputs = holds(e, &op->out->views[0]);
    const int residual = op->from ? reads(e, op->shortcut, 1, 0) : 0;
    for (int i = 0; i < op->nparts; i++) {
        struct part *part = &op->parts[i];
        struct conv_args *args = &part->conv;
        part->now = smaller(part->last, outputs);
        args->scale = scale;
        args->shift = shift;
        args->residual_channels = residual;
        args->nchunks = 0;
        if (part->now <= part->first) continue;
        int view = -1, arrive = 0;
        struct conv_chunk *chunk = op->chunks + part->chunk;
        for (int k = part->chunk; k < part->chunk + part->nchunks; k++) {
            const struct full_chunk *full = &op->full[k];
            if (full->view != view) arrive = conv_reads(e, op, view = full->view, part->now);
            if (!full->whole && full->channel >= arrive) continue;
            *chunk = full->chunk;
            if (!full->whole) chunk->rows = smaller(chunk->rows, arrive - full->channel);
            chunk++;
        }
        args->nchunks = (int)(chunk - (op->chunks + part->chunk));
        part->m = op->winograd ? engine_winograd_choose(op, part) : 0;
    }
}

static void plan_views(const struct engine *e, struct op *op, const float *scale, const float *shift) {
    for (int i = 0; i < op->nparts; i++) {
        struct part *part = &op->parts[i];
        const struct view *out = &op->out->views[part->view];
        part->now = smaller(part->last, holds(e, out));
        if (op->kind == OP_DEPTHWISE) {
            part->depthwise.scale = scale;
            part->depthwise.shift = shift;
        } else if (op->kind == OP_AFFINE) {
            part->affine.scale = scale + out->first;
            part->affine.shift = shift + out->first;
        } else if (op->kind == OP_ADD) {
            const struct view *from = &op->from->views[part->view];
            part->add.from_channels = from->segment < 0 ? from->channels : reads(e, op->layer, 1, part->view);
        }
    }
}

/* What crosses into block `block` as the output of `layer`: capped by the link
 * there, if `block` is not the network's first (whose counts know the link). */
static void cross(const struct engine *e, int layer, int block, int *counts) {
    const struct model *m = e->model;
    int n;
    const struct segment *segments = groups_segments(m->groups, layer, &n);
    for (int s = 0; s < n; s++) {
        counts[s] = e->counts->out[m->groups->first_segment[layer + 1] + s];
        if (block > 0 && block < m->blocks->nblocks)
            counts[s] = smaller(counts[s], levels_keep(m->levels, e->plan->link[block], segments[s].group) *
                                               segments[s].unit);
    }
}

void engine_set_plan(struct engine *e, const struct plan *plan) {
    const struct model *m = e->model;
    const size_t n = (size_t)plan->nblocks;
    memmove(e->plan->level, plan->level, n * sizeof *plan->level);
    memmove(e->plan->link, plan->link, n * sizeof *plan->link);
    memmove(e->plan->codec, plan->codec, n * sizeof *plan->codec);
    e->plan->before = plan->before;
    counts_set(e->counts, m->net, m->blocks, m->groups, m->levels, e->plan);
    struct bn_terms terms = { 0 };
    int block = -1; /* whose terms they are */
    for (int i = 0; i < e->nops; i++) {
        struct op *op = &e->ops[i];
        const float *scale = op->scale, *shift = op->shift;
        if (op->rows > 1) {
            if (op->block != block) terms = bn_planned(m, e->plan, block = op->block);
            const size_t at = (size_t)(terms.n ? op->rows : terms.row) * (size_t)op->stride;
            if (terms.n) bn_affine(m, op->layer, &terms, op->scale + at, op->shift + at);
            scale += at;
            shift += at;
        }
        if (op->kind == OP_CONV) plan_conv(e, op, scale, shift);
        else plan_views(e, op, scale, shift);
    }
    cross(e, e->source, e->first_block, e->input_counts);
    cross(e, e->last_layer, e->last_block + 1, e->output_counts);
}

/* ---- what a plan means for a layer ---- */

static const char *kernel_of(const struct op *op) {
    static const char *const names[] = {[OP_CONV] = "direct",        [OP_DEPTHWISE] = "depthwise", [OP_MAXPOOL] = "maxpool",
                                        [OP_AVGPOOL] = "mean",       [OP_AFFINE] = "affine",       [OP_ADD] = "add",
                                        [OP_SOFTMAX] = "softmax",    [OP_CROP] = "crop",           [OP_REGROUP] = "regroup"};
    const int m = op->kind == OP_CONV ? op->parts[0].m : 0;
    return m == 4 ? "winograd F(4,3)" : m == 6 ? "winograd F(6,3)" : names[op->kind];
}

static double values(const struct engine *e, const struct tensor *t) {
    double sum = 0;
    for (int v = 0; t && v < t->nviews; v++)
        if (t->views[v].storage) sum += (double)holds(e, &t->views[v]) * t->views[v].storage->h * t->views[v].storage->w;
    return sum;
}

struct engine_layer engine_layer(const struct engine *e, int layer) {
    struct engine_layer result = {"", 0};
    for (int i = 0; i < e->nops; i++) {
        const struct op *op = &e->ops[i];
        if (op->layer != layer) continue;
        if (!result.kernel[0]) result.kernel = kernel_of(op);
        double n = values(e, op->in) + values(e, op->out) + values(e, op->from);
        for (int k = 0; k < op->nparts; k++) {
            const struct part *part = &op->parts[k];
            const int outputs = part->now > part->first ? part->now - part->first : 0;
            if (op->kind == OP_DEPTHWISE) n += (double)outputs * part->depthwise.size * part->depthwise.size;
            for (int c = 0; op->kind == OP_CONV && c < part->conv.nchunks; c++)
                n += (double)outputs * part->conv.chunks[c].rows * part->conv.kh * part->conv.kw;
        }
        result.bytes += n * sizeof(float);
    }
    return result;
}
