#include "deploy/engine_internal.h"


#include <math.h>
#include <string.h>

/* ---- in and out ---- */

static size_t map_size(const struct storage *s) { return (size_t)s->h * (size_t)s->w; }

static void import(const struct engine *e, const float *input) {
    const struct tensor *t = engine_tensor_of(e, e->source);
    for (int v = 0; v < t->nviews; v++) {
        layout_from_planar(&t->views[v].storage->layout, input, e->input_counts[v]);
        input += (size_t)e->input_counts[v] * map_size(t->views[v].storage);
    }
}

static void export(const struct tensor *t, const int *counts, float *output) {
    for (int v = 0; v < t->nviews; v++) {
        layout_to_planar(&t->views[v].storage->layout, output, counts[v]);
        output += (size_t)counts[v] * map_size(t->views[v].storage);
    }
}

static const int *counts_of(const struct engine *e, int layer) {
    return e->counts->out + e->model->groups->first_segment[layer + 1];
}

enum status engine_activation(const struct engine *e, int layer, float *out, int *channels, struct err *err) {
    const struct tensor *t = layer >= -1 && layer <= e->last_layer ? engine_tensor_of(e, layer) : NULL;
    if (!e->keep || !t || t->nviews == 0)
        return err_set(err, STATUS_USAGE, "the output of layer %d was not kept by this engine", layer);
    const int *counts = layer == e->source ? e->input_counts : counts_of(e, layer);
    export(t, counts, out);
    *channels = 0;
    for (int v = 0; v < t->nviews; v++) *channels += counts[v];
    return STATUS_OK;
}

/* ---- kernels, cut into tasks ---- */

/* Tasks of an operation: for each part, tiles of channels times bands of
 * lines. Many parts (a grouped convolution) are not cut into tiles. */
struct work {
    const struct engine *engine;
    const struct op *op;
    int tile;         /* channels */
    int tiles, bands; /* of each part */
    int lines;
};

static void run_part(const struct work *w, const struct part *part, int first, int last, int top, int bottom) {
    const struct kernels *k = w->engine->kernels;
    switch (w->op->kind) {
    case OP_CONV: k->conv(&part->conv, first, last, top, bottom); break;
    case OP_DEPTHWISE: k->depthwise(&part->depthwise, first, last, top, bottom); break;
    case OP_MAXPOOL: k->pooling_max(&part->pooling, first, last); break;
    case OP_AVGPOOL: k->pooling_mean(&part->pooling, first, last); break;
    case OP_AFFINE: k->pointwise_affine(&part->affine, first, last); break;
    case OP_ADD: k->pointwise_add(&part->add, first, last); break;
    default: break;
    }
}

static void run_task(void *context, int task, int thread) {
    (void)thread;
    const struct work *w = context;
    const int band = task % w->bands, tile = task / w->bands % w->tiles;
    const struct part *part = &w->op->parts[task / w->bands / w->tiles];
    const int first = part->first + tile * w->tile;
    const int last = part->now < first + w->tile ? part->now : first + w->tile;
    if (first >= last) return;
    run_part(w, part, first, last, w->lines * band / w->bands, w->lines * (band + 1) / w->bands);
}

/* Multiply-adds or values touched, roughly: whether threads are worth waking. */
static double effort(const struct op *op) {
    double sum = 0;
    for (int i = 0; i < op->nparts; i++) {
        const struct part *part = &op->parts[i];
        double each = 1;
        if (op->kind == OP_CONV)
            for (int k = 0; k < part->conv.nchunks; k++)
                each += (double)part->conv.chunks[k].rows * part->conv.kh * part->conv.kw;
        else if (op->kind == OP_DEPTHWISE) each = (double)part->depthwise.size * part->depthwise.size;
        const struct storage *out = op->out->views[part->view].storage;
        if (part->now > part->first) sum += each * (part->now - part->first) * out->h * out->w;
    }
    return sum;
}

/* Whether threads share out lines, each reading all weights, or else channels, each
 * reading the whole input, of which others wrote parts: that is dearer. */
static bool by_lines(const struct engine *e, const struct op *op) {
    const struct part *part = &op->parts[0];
    const struct net_layer *l = &e->model->net->layers[op->layer];
    if (op->kind != OP_CONV) return op->kind == OP_DEPTHWISE;
    return (double)(part->now - part->first) * part->conv.kh * l->size < 8.0 * l->in.h * l->in.w;
}

/* Tasks for each thread. Of a convolution with many weights few: a band of lines passes by all of them. */
static int tasks_per_thread(const struct op *op) {
    const double many_weights = 128 << 10;
    const struct storage *out = op->out->views[0].storage;
    return op->kind == OP_CONV && effort(op) > many_weights * out->h * out->w ? 2 : 4;
}

static void run_kernels(const struct engine *e, const struct op *op) {
    enum { TILE = 2 * PANEL, MANY = 4 };
    const double worth_waking = 100e3;
    int widest = 0;
    for (int i = 0; i < op->nparts; i++)
        if (op->parts[i].now - op->parts[i].first > widest) widest = op->parts[i].now - op->parts[i].first;
    if (widest == 0) return;
    if (op->kind == OP_CONV && op->parts[0].m) {
        engine_winograd_run(e, op, &op->parts[0]);
        return;
    }
    struct work w = {.engine = e, .op = op, .tile = widest, .tiles = 1, .bands = 1};
    w.lines = op->out->views[0].storage->h;
    const int threads = e->pool ? pool_threads(e->pool) : 1;
    if (threads > 1 && effort(op) > worth_waking) {
        int tasks = threads * tasks_per_thread(op);
        if (op->nparts == 1 && (w.lines < MANY * threads || !by_lines(e, op))) {
            tasks = threads * MANY;
            const int share = widest / tasks / TILE * TILE;
            w.tile = op->kind != OP_CONV ? PANEL : share > TILE ? share : TILE;
            w.tiles = (widest + w.tile - 1) / w.tile;
        }
        const int missing = (tasks + op->nparts * w.tiles - 1) / (op->nparts * w.tiles);
        if (op->kind == OP_CONV || op->kind == OP_DEPTHWISE) w.bands = missing < w.lines ? missing : w.lines;
        pool_run(e->pool, op->nparts * w.tiles * w.bands, run_task, &w);
        return;
    }
    for (int i = 0; i < op->nparts; i++) run_task(&w, i, 0);
}

/* ---- rarer operations ---- */

static void run_softmax(const struct engine *e, const struct op *op) {
    const struct net_layer *l = &e->model->net->layers[op->layer];
    const int *counts = counts_of(e, op->layer);
    size_t n = 0;
    for (int v = 0; v < op->in->nviews; v++) n += (size_t)counts[v] * map_size(op->in->views[v].storage);
    export(op->in, counts, e->values);
    const size_t groups = (size_t)l->softmax_groups, each = n / groups;
    for (size_t g = 0; g < groups; g++) {
        float *x = e->values + g * each, largest = -INFINITY, sum = 0;
        for (size_t i = 0; i < each; i++) largest = fmaxf(largest, x[i]);
        for (size_t i = 0; i < each; i++) sum += x[i] = expf((x[i] - largest) / l->temperature);
        for (size_t i = 0; i < each; i++) x[i] /= sum;
    }
    const float *x = e->values;
    for (int v = 0; v < op->out->nviews; v++) {
        layout_from_planar(&op->out->views[v].storage->layout, x, counts[v]);
        x += (size_t)counts[v] * map_size(op->out->views[v].storage);
    }
}

/* The centre, and unless it says otherwise values from [0, 1] to [-1, 1], as
 * Darknet does when it does not train. */
static void run_crop(const struct engine *e, const struct op *op) {
    const struct net_layer *l = &e->model->net->layers[op->layer];
    const float scale = l->noadjust ? 1 : 2, shift = l->noadjust ? 0 : -1;
    for (int v = 0; v < op->out->nviews; v++) {
        const struct layout *in = &op->in->views[v].storage->layout, *out = &op->out->views[v].storage->layout;
        const int top = (in->h - out->h) / 2, left = (in->w - out->w) / 2;
        const bool interleaved = out->pitch != PANEL;
        const int channels = counts_of(e, op->layer)[v];
        for (int c = 0; c < channels; c += PANEL) {
            const int lanes = channels - c < PANEL ? channels - c : PANEL;
            for (int i = 0; i < out->h; i++) {
                const float *x = in->origin + c / PANEL * in->panel + (i + top) * in->line + left * in->pitch;
                float *y = out->origin + c / PANEL * out->panel + i * out->line;
                for (int j = 0; j < out->w; j++)
                    for (int k = 0; k < (interleaved ? out->pitch : lanes); k++)
                        y[j * out->pitch + k] = x[j * in->pitch + k] * scale + shift;
            }
        }
    }
}

/* Channels of the output, which are numbered as in the input, view by view. */
static void run_regroup(const struct op *op) {
    const struct view *out = &op->out->views[0];
    for (int v = 0; v < op->in->nviews; v++) {
        const struct view *in = &op->in->views[v];
        const int first = in->first > out->first ? in->first : out->first;
        const int in_end = in->first + in->channels, out_end = out->first + out->channels;
        const int end = in_end < out_end ? in_end : out_end;
        if (first < end)
            layout_copy(&out->storage->layout, first - out->first, &in->storage->layout, first - in->first, end - first);
    }
}

static void run_op(const struct engine *e, const struct op *op) {
    if (op->chain > 1) {
        engine_chain_run(e, op);
        return;
    }
    switch (op->kind) {
    case OP_SOFTMAX: run_softmax(e, op); break;
    case OP_CROP: run_crop(e, op); break;
    case OP_REGROUP: run_regroup(op); break;
    default: run_kernels(e, op);
    }
}

/* What a multiply-add of a depthwise convolution takes longer than others. */
static double cost(const struct op *op) { return effort(op) * (op->kind == OP_DEPTHWISE ? 3 : 1); }

/* What operations that ran together took is their layers' and blocks' in proportion to their work. */
static void share_out(struct engine *e, const struct op *op, double seconds) {
    double all = 0;
    for (int k = 0; k < op->chain; k++) all += cost(&op[k]);
    for (int k = 0; k < op->chain; k++) {
        const double share = all > 0 ? seconds * cost(&op[k]) / all : seconds / op->chain;
        if (e->layer_seconds) e->layer_seconds[op[k].layer] += share;
        e->block_seconds[op[k].block - e->first_block] += share;
    }
}

void engine_run(struct engine *e, const float *input, float *output) {
    double start = e->clock();
    const int blocks = e->last_block - e->first_block + 1;
    for (int b = 0; b < blocks; b++) e->block_seconds[b] = 0;
    for (int i = 0; e->layer_seconds && i < e->model->net->nlayers; i++) e->layer_seconds[i] = 0;
    if (e->low_memory) engine_clear_borders(e, -1);
    import(e, input);
    int block = e->first_block;
    for (int i = 0; i < e->nops; i += e->ops[i].chain) {
        const struct op *op = &e->ops[i];
        if (op->block != block) {
            const double now = e->clock();
            e->block_seconds[block - e->first_block] += now - start;
            start = now;
            block = op->block;
        }
        for (int k = i; e->low_memory && k < i + op->chain; k++) engine_clear_borders(e, k);
        if (!e->layer_seconds && op->chain == 1) {
            run_op(e, op);
            continue;
        }
        const double before = e->clock();
        run_op(e, op);
        const double now = e->clock();
        e->block_seconds[block - e->first_block] += before - start;
        share_out(e, op, now - before);
        start = now;
    }
    if (e->logits) {
        const int layer = net_logits_layer(e->model->net);
        export(engine_tensor_of(e, layer), counts_of(e, layer), e->logits);
    }
    export(engine_tensor_of(e, e->last_layer), e->output_counts, output);
    e->block_seconds[block - e->first_block] += e->clock() - start;
}
