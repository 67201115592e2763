/* Where maps are too large for a core's caches, a convolution, the depthwise
 * convolution behind it and, if that makes the tensor smaller again, the 1x1
 * convolution behind both run together, a few lines (a band) at a time. What passes
 * between them stays in the second cache, and needs no memory of its own:
 *
 *   for each band of the depthwise convolution's lines
 *       for each UNIT of channels
 *           the first convolution: the lines that the band reads, into scratch, its border zeros
 *           depthwise: into scratch, or the output where the chain ends here
 *       the 1x1 convolution: all its channels of the band
 *
 * Bands read some lines of their neighbours, which are computed twice. Each
 * value is computed as it would be without, so results are the same. */
#include "deploy/engine_internal.h"

#include <string.h>

/* Channels that pass at once; floats of a band that should not be exceeded. */
enum { UNIT = 2 * PANEL, BAND_FLOATS = 64 << 10 };

/* The scratch of a thread, in floats:
 *
 *   first: [UNIT / 16][band.in_lines][w + 2 pad][16]     what passes to the depthwise convolution
 *   second: [panels]{ [band.lines][w][16] and a line }   ... and to the last
 *   chunks of the last */
struct band {
    int lines, in_lines; /* at most */
    ptrdiff_t in_line, in_panel, line, panel;
    size_t second, chunks, end; /* where they begin */
};

static const struct net_layer *layer_of(const struct engine *e, const struct op *op) {
    return &e->model->net->layers[op->layer];
}

static int height(const struct op *op) { return op->out->views[0].storage->h; }
static int width(const struct op *op) { return op->out->views[0].storage->w; }

static struct band band_of(const struct engine *e, const struct op *chain, int lines) {
    const struct op *depthwise = &chain[1];
    const struct net_layer *l = layer_of(e, depthwise);
    struct band b = {.lines = lines, .in_lines = (lines - 1) * l->stride + l->size};
    b.in_line = (ptrdiff_t)(width(chain) + 2 * l->pad) * PANEL;
    b.in_panel = b.in_lines * b.in_line;
    b.line = (ptrdiff_t)width(depthwise) * PANEL;
    b.panel = lines * b.line + PANEL;
    b.second = (size_t)(UNIT / PANEL * b.in_panel);
    const size_t panels = chain->chain == 3 ? (size_t)(l->filters + PANEL - 1) / PANEL : 0;
    b.chunks = b.second + panels * (size_t)b.panel;
    b.end = b.chunks + (panels * sizeof(struct conv_chunk) + sizeof(float) - 1) / sizeof(float);
    return b;
}

static int bands_of(const struct engine *e, const struct op *chain) {
    const int h = height(&chain[1]), threads = e->pool ? pool_threads(e->pool) : 1;
    int lines = h, bands;
    while (lines > 1 && band_of(e, chain, lines).chunks > BAND_FLOATS) lines--;
    bands = (h + lines - 1) / lines;
    /* All threads get as many. */
    if (threads > 1 && chain->chain == 3) bands = (bands + 2 * threads - 1) / (2 * threads) * (2 * threads);
    return bands < h ? bands : h;
}

static int lines_of(const struct engine *e, const struct op *chain) {
    const int bands = bands_of(e, chain);
    return (height(&chain[1]) + bands - 1) / bands;
}

/* ---- which ---- */

static bool dense(const struct engine *e, const struct op *op) {
    const struct net_layer *l = layer_of(e, op);
    return op->kind == OP_CONV && l->kind == NET_CONVOLUTIONAL && l->groups == 1;
}

/* Whether operation i reads what the one before writes, and nobody else does. */
static bool follows(const struct engine *e, int i) {
    const struct op *op = &e->ops[i];
    if (i >= e->nops || op->in->nviews != 1 || op[-1].out->nviews != 1) return false;
    const struct storage *s = op[-1].out->views[0].storage;
    return op->in->views[0].storage == s && s->dies == i && !(op->from && op->from->views[0].storage == s);
}

/* Operations that run together with the one that they begin with. */
static int length(const struct engine *e, int first) {
    const struct op *op = &e->ops[first];
    if (e->keep || !dense(e, op) || engine_winograd_fits(e, op) || !follows(e, first + 1) || op[1].kind != OP_DEPTHWISE) return 1;
    if (band_of(e, op, height(&op[1])).second <= BAND_FLOATS) return 1;
    if (!follows(e, first + 2) || !dense(e, &op[2])) return 2;
    const struct net_layer *last = layer_of(e, &op[2]);
    return last->size == 1 && last->stride == 1 && last->pad == 0 && last->filters < layer_of(e, &op[1])->filters ? 3 : 2;
}

void engine_chains(struct engine *e) {
    for (int i = 0; i < e->nops; i += e->ops[i].chain) {
        struct op *op = &e->ops[i];
        op->chain = length(e, i);
        if (op->chain == 1) continue;
        for (int k = 0; k + 1 < op->chain; k++) op[k].out->views[0].storage->passing = true;
        /* What the first reads is read until the last writes. */
        for (int v = 0; v < op->in->nviews; v++)
            if (op->in->views[v].storage->dies < i + op->chain - 1) op->in->views[v].storage->dies = i + op->chain - 1;
        const size_t floats = band_of(e, op, lines_of(e, op)).end;
        if (floats > e->scratch_each) e->scratch_each = floats;
    }
}

/* ---- run ---- */

struct job {
    const struct engine *engine;
    const struct op *chain;
    struct band band;
    int nbands, units;
};

/* Zeros where the band's input [from, from + in_lines) reaches over the map's edge. */
static void clear_edges(const struct job *j, float *first, int from) {
    const struct net_layer *l = layer_of(j->engine, &j->chain[1]);
    const struct band *b = &j->band;
    const size_t edge = (size_t)l->pad * PANEL;
    for (int panel = 0; panel < UNIT / PANEL; panel++)
        for (int i = 0; i < b->in_lines; i++) {
            float *line = first + panel * b->in_panel + i * b->in_line;
            const bool inside = from + i >= 0 && from + i < height(j->chain);
            memset(line, 0, (inside ? edge : (size_t)b->in_line) * sizeof *line);
            if (inside) memset(line + b->in_line - edge, 0, edge * sizeof *line);
        }
}

/* Lines [top, bottom) of the depthwise convolution's channels [c, end). */
static void run_unit(const struct job *j, float *scratch, int c, int end, int top, int bottom) {
    const struct kernels *kernels = j->engine->kernels;
    const struct band *b = &j->band;
    const struct part *in = &j->chain[0].parts[0], *out = &j->chain[1].parts[0];
    const struct net_layer *l = layer_of(j->engine, &j->chain[1]);
    const int from = top * l->stride - l->pad, to = (bottom - 1) * l->stride - l->pad + l->size;
    float *first = scratch - c / PANEL * b->in_panel; /* of channel 0 */
    struct conv_args conv = in->conv;
    conv.y = first + l->pad * PANEL - from * b->in_line;
    conv.y_line = b->in_line;
    conv.y_panel = b->in_panel;
    kernels->conv(&conv, c, end < in->now ? end : in->now, from > 0 ? from : 0,
                  to < height(j->chain) ? to : height(j->chain));
    struct depthwise_args depthwise = out->depthwise;
    depthwise.x = first - top * l->stride * b->in_line;
    depthwise.x_line = b->in_line;
    depthwise.x_panel = b->in_panel;
    if (j->chain->chain == 3) {
        depthwise.y = scratch + b->second - top * b->line;
        depthwise.y_line = b->line;
        depthwise.y_panel = b->panel;
    }
    kernels->depthwise(&depthwise, c, end, top, bottom);
}

static void run_last(const struct job *j, float *scratch, int top, int bottom) {
    const struct part *part = &j->chain[2].parts[0];
    const struct band *b = &j->band;
    struct conv_args conv = part->conv;
    struct conv_chunk *chunks = (struct conv_chunk *)(void *)(scratch + b->chunks);
    for (int k = 0; k < conv.nchunks; k++) { /* one for each panel */
        chunks[k] = conv.chunks[k];
        chunks[k].x = scratch + b->second + k * b->panel - top * b->line;
    }
    conv.chunks = chunks;
    conv.x_line = conv.x_tap_line = b->line;
    j->engine->kernels->conv(&conv, part->first, part->now, top, bottom);
}

/* Of a chain of three a task is a band; of two, a unit of channels of a band. */
static void run_task(void *context, int task, int thread) {
    const struct job *j = context;
    const bool ends = j->chain->chain == 3;
    const int band = ends ? task : task / j->units, h = height(&j->chain[1]), now = j->chain[1].parts[0].now;
    const int top = h * band / j->nbands, bottom = h * (band + 1) / j->nbands;
    const int first = ends ? 0 : task % j->units * UNIT, last = ends || now < first + UNIT ? now : first + UNIT;
    const struct net_layer *l = layer_of(j->engine, &j->chain[1]);
    float *scratch = j->engine->scratch + (size_t)thread * j->engine->scratch_each;
    clear_edges(j, scratch, top * l->stride - l->pad);
    for (int c = first; c < last; c += UNIT) run_unit(j, scratch, c, last < c + UNIT ? last : c + UNIT, top, bottom);
    if (ends) run_last(j, scratch, top, bottom);
}

void engine_chain_run(const struct engine *e, const struct op *chain) {
    struct job j = {.engine = e, .chain = chain, .nbands = bands_of(e, chain)};
    j.band = band_of(e, chain, lines_of(e, chain));
    j.units = (chain[1].parts[0].now + UNIT - 1) / UNIT;
    engine_parallel(e, j.nbands * (chain->chain == 3 ? 1 : j.units), run_task, &j);
}
