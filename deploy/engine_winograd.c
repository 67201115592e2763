/* Which convolutions go by Winograd's transforms, and how they are cut into
 * bands of tiles that a core's cache holds. Both ways read the same packed
 * weights, so every level may take its own. */
#include "deploy/engine_internal.h"

/* Floats of transformed input that a band should not exceed, and its tiles:
 * few waste time on transforming weights, many leave the caches. */
enum { BAND_FLOATS = 1 << 20, BAND_MIN = 28, BAND_MAX_4 = 98, BAND_MAX_6 = 112 };
/* Tiles that a thread should have; channels above which transforming their weights twice
 * takes longer than transforming a tile's input twice; channels that are computed together. */
enum { FEW = 8, CHANNELS_PER_TILE = 14, BLOCK = WINOGRAD_OUT * PANEL };

static int bands(int tiles, int m, int nchunks) {
    const int max = m == 4 ? BAND_MAX_4 : BAND_MAX_6;
    int most = BAND_FLOATS / ((m + 2) * (m + 2) * PANEL * nchunks);
    most = most < BAND_MIN ? BAND_MIN : most > max ? max : most;
    return (tiles + most - 1) / most;
}

static int tiles_of(const struct op *op, int m) {
    const struct storage *out = op->out->views[0].storage;
    return ((out->h + m - 1) / m) * ((out->w + m - 1) / m);
}

/* Tiles of the largest band. */
static int band_tiles(int tiles, int nbands) { return (tiles + nbands - 1) / nbands; }

bool engine_winograd_fits(const struct engine *e, const struct op *op) {
    const struct net_layer *l = &e->model->net->layers[op->layer];
    return op->kind == OP_CONV && l->kind == NET_CONVOLUTIONAL && l->groups == 1 && l->size == 3 && l->stride == 1 &&
           op->in->views[0].storage->pitch == PANEL;
}

/* ---- cost ---- */

/* Multiply-adds, and what measured as much time: the transforms of a tile's
 * channel and of a weight, which wait for memory more than they compute, and what a
 * product of a group of tiles takes beside its multiply-adds. With few tiles, 60
 * operations for each nine weights. */
static double direct_cost(double in, double out, double h, double w) { return 1.06 * 9 * in * out * h * w; }

static double winograd_cost(const struct op *op, int m, double in, double out, int nchunks) {
    const int tiles = tiles_of(op, m), nbands = bands(tiles, m, nchunks);
    if (m == 4 && tiles <= WINOGRAD_FEW) return 1.1 * (36 * tiles + 60) * in * out + 450 * (in + out) * tiles;
    const int groups = nbands * winograd_groups(band_tiles(tiles, nbands));
    const double points = (m + 2) * (m + 2), transform = m == 4 ? 450 : 1150, weight = m == 4 ? 230 : 420;
    return points * in * out * (tiles + 1.3 * groups) + transform * (in + out) * tiles + weight * in * out * nbands;
}

int engine_winograd_choose(const struct op *op, const struct part *part) {
    int in = 0;
    for (int k = 0; k < part->conv.nchunks; k++) in += part->conv.chunks[k].rows;
    const struct storage *map = op->out->views[0].storage;
    const double out = part->now - part->first;
    double best = direct_cost(in, out, map->h, map->w);
    int m = 0;
    for (int candidate = 4; candidate <= 6 && in > 0; candidate += 2) {
        const double cost = winograd_cost(op, candidate, in, out, part->conv.nchunks);
        if (cost < best) {
            best = cost;
            m = candidate;
        }
    }
    return m;
}

/* ---- memory ---- */

static size_t band_floats(int m, int tiles, int nchunks) {
    return winograd_v_floats(m, tiles, nchunks) + winograd_scratch_floats(m, tiles, nchunks);
}

enum status engine_winograd_memory(struct engine *e, struct err *err) {
    for (int i = 0; i < e->nops && !e->low_memory; i++) {
        struct op *op = &e->ops[i];
        if (!engine_winograd_fits(e, op)) continue;
        op->winograd = true;
        /* Fewer chunks have longer bands. */
        for (int m = 4; m <= 6; m += 2)
            for (int nchunks = 1; nchunks <= op->nchunks; nchunks++) {
                const int tiles = tiles_of(op, m);
                const size_t floats = band_floats(m, band_tiles(tiles, bands(tiles, m, nchunks)), nchunks);
                if (floats > e->scratch_each) e->scratch_each = floats;
            }
    }
    e->scratch_each = (e->scratch_each + PANEL - 1) / PANEL * PANEL;
    const size_t threads = e->pool ? (size_t)pool_threads(e->pool) : 1;
    e->scratch = engine_alloc(e, e->scratch_each * threads, sizeof *e->scratch);
    e->scratch_bytes = e->scratch_each * threads * sizeof *e->scratch;
    return e->scratch ? STATUS_OK : err_memory(err, "engine's scratch");
}

/* ---- run ---- */

struct job {
    const struct engine *engine;
    const struct part *part;
    struct winograd_args args; /* but for the band */
    int tiles, nbands;
    int blocks, shares; /* of channels */
};

static float *scratch_of(const struct job *j, int thread) { return j->engine->scratch + (size_t)thread * j->engine->scratch_each; }

static struct winograd_args band(const struct job *j, int index) {
    struct winograd_args args = j->args;
    args.first = j->tiles * index / j->nbands;
    args.end = j->tiles * (index + 1) / j->nbands;
    return args;
}

static float *behind_v(const struct winograd_args *a, float *scratch) {
    return scratch + winograd_v_floats(a->m, a->end - a->first, a->conv->nchunks);
}

/* Channels [first, last) of the band. */
static void run_channels(const struct job *j, int index, int first, int last, float *v) {
    const struct winograd_args args = band(j, index);
    j->engine->kernels->winograd_input(&args, 0, args.conv->nchunks, args.first, args.end, v);
    j->engine->kernels->winograd_output(&args, first, last, v, behind_v(&args, v));
}

static void run_band(void *context, int task, int thread) {
    const struct job *j = context;
    run_channels(j, task, j->part->first, j->part->now, scratch_of(j, thread));
}

/* One of `shares` of the channels, of all bands. */
static void run_share(void *context, int task, int thread) {
    const struct job *j = context;
    const int begin = j->part->first + j->blocks * task / j->shares * BLOCK;
    const int end = j->part->first + j->blocks * (task + 1) / j->shares * BLOCK;
    for (int b = 0; b < j->nbands; b++)
        run_channels(j, b, begin, end < j->part->now ? end : j->part->now, scratch_of(j, thread));
}

void engine_winograd_run(const struct engine *e, const struct op *op, const struct part *part) {
    const int threads = e->pool ? pool_threads(e->pool) : 1;
    struct job j = {.engine = e,
                    .part = part,
                    .args = {.conv = &part->conv, .m = part->m, .height = op->out->views[0].storage->h}};
    j.tiles = tiles_of(op, part->m);
    j.nbands = bands(j.tiles, part->m, part->conv.nchunks);
    const int channels = part->now - part->first;
    j.blocks = (channels + BLOCK - 1) / BLOCK;
    j.shares = j.blocks < threads ? j.blocks : threads;
    /* Threads share out bands, each transforming all weights, or else channels, each transforming
     * all of the input: whichever is less. */
    if (j.nbands < threads && (j.tiles < FEW * threads || channels > CHANNELS_PER_TILE * j.tiles)) {
        engine_parallel(e, j.shares, run_share, &j);
        return;
    }
    j.nbands = (j.nbands + threads - 1) / threads * threads;
    engine_parallel(e, j.nbands, run_band, &j);
}
