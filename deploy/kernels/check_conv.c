#include "deploy/kernels/check.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_CHUNKS = 64 };

struct shape {
    int in, out, h, w; /* channels read and computed; output lines and columns */
    int kh, kw, stride;
    bool interleaved; /* an image's pixels: one chunk per line of taps */
    int spare;        /* packed input channels beyond those read, as at a lower level */
    enum activation activation;
    int residual; /* channels of it; 0: none */
    int kind;     /* of values */
};

struct problem {
    struct shape shape;
    struct check_map x, residual, y, expected, bound;
    struct check_floats w, scale, shift;
    struct conv_chunk chunks[MAX_CHUNKS];
    struct conv_args args;
    int first, last, top, bottom;
};

static void problem_free(struct problem *p) {
    check_free(&p->x.floats);
    check_free(&p->residual.floats);
    check_free(&p->y.floats);
    check_free(&p->expected.floats);
    check_free(&p->bound.floats);
    check_free(&p->w);
    check_free(&p->scale);
    check_free(&p->shift);
}

static int round_up(int n, int to) { return (n + to - 1) / to * to; }

/* Chunks of the input's channels with the weights behind each other, rows that
 * are packed but not read included. Returns the floats of a panel of weights. */
static ptrdiff_t make_chunks(struct problem *p) {
    const struct shape *s = &p->shape;
    const int taps = s->interleaved ? s->kh : s->kh * s->kw;
    const int values = s->interleaved ? s->in * s->kw : s->in;
    ptrdiff_t at = 0;
    p->args.nchunks = 0;
    for (int c = 0; c < values; c += PANEL) {
        const int rows = s->interleaved ? values : c + PANEL < values ? PANEL : values - c;
        const int packed = rows + (c + PANEL >= values ? s->spare : 0);
        struct conv_chunk *chunk = &p->chunks[p->args.nchunks++];
        chunk->x = s->interleaved ? p->x.layout.origin : p->x.layout.origin + c / PANEL * p->x.layout.panel;
        chunk->w = p->w.data + at;
        chunk->w_tap = packed * PANEL;
        chunk->rows = rows;
        at += (ptrdiff_t)taps * packed * PANEL;
        if (s->interleaved) break;
    }
    return at;
}

/* Weights of rows that are read, and of outputs up to the last: random; others NaN. */
static void fill_weights(struct problem *p, struct random *random) {
    const struct shape *s = &p->shape;
    const int taps = p->args.kh * p->args.kw;
    for (int k = 0; k < p->args.nchunks; k++) {
        float *w = p->w.data + (p->chunks[k].w - p->w.data);
        for (int o = 0; o < s->out; o++)
            for (int tap = 0; tap < taps; tap++)
                for (int r = 0; r < p->chunks[k].rows; r++)
                    w[o / PANEL * p->args.w_panel + tap * p->chunks[k].w_tap + r * PANEL + o % PANEL] =
                        check_value(random, s->kind);
    }
}

static bool problem_make(struct problem *p, const struct shape *s, struct random *random) {
    *p = (struct problem){.shape = *s, .last = s->out, .bottom = s->h};
    const int in_h = (s->h - 1) * s->stride + s->kh, in_w = (s->w - 1) * s->stride + s->kw;
    const int taps = s->kh * s->kw, padded = round_up(s->out, PANEL);
    const size_t weights = (size_t)(s->in + s->spare) * (size_t)taps * (size_t)padded;
    /* The borders of x are part of the input here: taps may meet them anywhere. */
    if (!check_map_alloc(&p->x, s->in, in_h, in_w, 0, s->interleaved ? s->in : PANEL) ||
        !check_map_alloc(&p->y, s->out, s->h, s->w, 1, PANEL) ||
        !check_map_alloc(&p->expected, s->out, s->h, s->w, 1, PANEL) ||
        !check_map_alloc(&p->bound, s->out, s->h, s->w, 1, PANEL) || !check_alloc(&p->w, weights, 0) ||
        !check_alloc(&p->scale, (size_t)padded, 0) || !check_alloc(&p->shift, (size_t)padded, 0) ||
        (s->residual && !check_map_alloc(&p->residual, s->residual, s->h, s->w, 0, PANEL)))
        return false;
    check_map_fill(&p->x, random, s->kind);
    p->args = (struct conv_args){.chunks = p->chunks,
                                 .kh = s->kh,
                                 .kw = s->interleaved ? 1 : s->kw,
                                 .x_tap = p->x.layout.pitch,
                                 .x_tap_line = p->x.layout.line,
                                 .x_column = s->stride * p->x.layout.pitch,
                                 .x_line = s->stride * p->x.layout.line,
                                 .y = p->y.layout.origin,
                                 .y_line = p->y.layout.line,
                                 .y_panel = p->y.layout.panel,
                                 .width = s->w,
                                 .scale = p->scale.data,
                                 .shift = p->shift.data,
                                 .activation = s->activation};
    p->args.w_panel = make_chunks(p);
    fill_weights(p, random);
    for (int o = 0; o < s->out; o++) {
        p->scale.data[o] = check_value(random, 0);
        p->shift.data[o] = check_value(random, 0);
    }
    if (s->residual) {
        check_map_fill(&p->residual, random, s->kind);
        p->args.residual = p->residual.layout.origin;
        p->args.residual_line = p->residual.layout.line;
        p->args.residual_panel = p->residual.layout.panel;
        p->args.residual_channels = s->residual;
    }
    return true;
}

static void make_positive(struct check_floats *f) {
    for (size_t i = 0; i < f->n; i++) f->data[i] = fabsf(f->data[i]);
}

/* The reference's values, and in `bound` the sum of magnitudes that the
 * rounding error is measured by. Leaves the problem's data as it was. */
static bool run_reference(struct problem *p, struct random before) {
    struct conv_args args = p->args;
    args.y = p->expected.layout.origin;
    conv_ref(&args, p->first, p->last, p->top, p->bottom);
    struct problem positive;
    bool good = problem_make(&positive, &p->shape, &before);
    if (good) {
        make_positive(&positive.x.floats);
        make_positive(&positive.w);
        make_positive(&positive.scale);
        make_positive(&positive.shift);
        if (positive.residual.floats.data) make_positive(&positive.residual.floats);
        positive.args.y = p->bound.layout.origin;
        positive.args.activation = ACTIVATION_LINEAR;
        conv_ref(&positive.args, p->first, p->last, p->top, p->bottom);
    }
    problem_free(&positive);
    return good;
}

static void check_shape(struct check *check, const struct shape *s, struct random *random) {
    char what[160];
    snprintf(what, sizeof what, "conv %dx%d/%d %d(+%d)->%d to %dx%d%s %s%s", s->kw, s->kh, s->stride, s->in, s->spare,
             s->out, s->w, s->h, s->interleaved ? " interleaved" : "", activation_name(s->activation),
             s->residual ? " + residual" : "");
    const struct random before = *random;
    struct problem p;
    bool good = problem_make(&p, s, random);
    if (good) {
        const int lanes = check->kernels->lanes;
        p.first = random_below(random, 2) ? 0 : random_below(random, s->out) / lanes * lanes;
        p.top = random_below(random, s->h);
        p.bottom = p.top + 1 + random_below(random, s->h - p.top);
        good = run_reference(&p, before);
    }
    if (good) {
        const double k = (double)s->in * s->kh * s->kw;
        check->kernels->conv(&p.args, p.first, p.last, p.top, p.bottom);
        good = check_same(check, &p.y, &p.expected, &p.bound, (8 + 4 * sqrt(k)) * 6e-8,
                          (struct check_region){p.first, p.last, p.top, p.bottom}, what);
    }
    problem_free(&p);
    check_count(check, good);
}

static struct shape random_shape(struct random *random) {
    static const int sizes[] = {1, 1, 2, 3, 3, 3, 5, 7};
    struct shape s = {.in = 1 + random_below(random, 40),
                      .out = 1 + random_below(random, 52),
                      .h = 1 + random_below(random, 7),
                      .w = 1 + random_below(random, 33),
                      .kh = sizes[random_below(random, 8)],
                      .stride = 1 + random_below(random, 3),
                      .interleaved = random_below(random, 5) == 0,
                      .activation = (enum activation)random_below(random, ACTIVATION_COUNT),
                      .kind = random_below(random, 4) == 0};
    if (random_below(random, 2)) s.activation = (enum activation)random_below(random, ACTIVATION_LEAKY + 1);
    s.kw = random_below(random, 4) ? s.kh : sizes[random_below(random, 8)];
    if (s.interleaved) s.in = 1 + random_below(random, 4);
    else if (random_below(random, 2)) s.spare = random_below(random, PANEL - (s.in - 1) % PANEL);
    if (random_below(random, 3) == 0) s.residual = 1 + random_below(random, s.out + 8);
    return s;
}

struct timed {
    conv_fn *run;
    const struct problem *problem;
};

static void run_timed(void *context) {
    const struct timed *t = context;
    t->run(&t->problem->args, 0, t->problem->last, 0, t->problem->bottom);
}

static void bench(struct check *check) {
    static const struct {
        const char *name;
        struct shape shape;
    } layers[] = {
        {"conv1 7x7/2 3->64 112x112", {3, 64, 112, 112, 7, 7, 2, true, 0, ACTIVATION_RELU, 0, 0}},
        {"conv 3x3 3->16 32x32", {3, 16, 32, 32, 3, 3, 1, true, 0, ACTIVATION_RELU, 0, 0}},
        {"conv 3x3 64->64 56x56", {64, 64, 56, 56, 3, 3, 1, false, 0, ACTIVATION_RELU, 64, 0}},
        {"conv 3x3 128->128 28x28", {128, 128, 28, 28, 3, 3, 1, false, 0, ACTIVATION_RELU, 128, 0}},
        {"conv 3x3 256->256 14x14", {256, 256, 14, 14, 3, 3, 1, false, 0, ACTIVATION_RELU, 256, 0}},
        {"conv 3x3 512->512 7x7", {512, 512, 7, 7, 3, 3, 1, false, 0, ACTIVATION_RELU, 512, 0}},
        {"conv 3x3/2 128->256 14x14", {128, 256, 14, 14, 3, 3, 2, false, 0, ACTIVATION_RELU, 0, 0}},
        {"conv 1x1 256->64 56x56", {256, 64, 56, 56, 1, 1, 1, false, 0, ACTIVATION_RELU, 0, 0}},
        {"conv 1x1 512->512 14x14", {512, 512, 14, 14, 1, 1, 1, false, 0, ACTIVATION_RELU, 0, 0}},
        {"conv 3x3 16->16 32x32", {16, 16, 32, 32, 3, 3, 1, false, 0, ACTIVATION_RELU, 16, 0}},
        {"conv 3x3 8->8 32x32", {8, 8, 32, 32, 3, 3, 1, false, 8, ACTIVATION_RELU, 8, 0}},
        {"conv 3x3 4->4 32x32", {4, 4, 32, 32, 3, 3, 1, false, 12, ACTIVATION_RELU, 4, 0}},
        {"conv 3x3 32->32 16x16", {32, 32, 16, 16, 3, 3, 1, false, 0, ACTIVATION_RELU, 32, 0}},
        {"conv 3x3 64->64 8x8", {64, 64, 8, 8, 3, 3, 1, false, 0, ACTIVATION_RELU, 64, 0}},
        {"connected 512->1000", {512, 1000, 1, 1, 1, 1, 1, false, 0, ACTIVATION_LINEAR, 0, 0}},
    };
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        const struct shape *s = &layers[i].shape;
        struct random random = random_stream(check->seed, i, 1);
        struct problem p;
        if (problem_make(&p, s, &random)) {
            const double operations = 2.0 * s->in * s->out * s->h * s->w * s->kh * s->kw;
            struct timed timed = {check->kernels->conv, &p}, ref = {conv_ref, &p};
            check_report(check, layers[i].name, check_time(run_timed, &timed), check_time(run_timed, &ref), operations,
                         0);
        }
        problem_free(&p);
    }
}

/* ---- by Winograd's transforms ---- */

static float largest(const struct check_floats *f) {
    float max = 0;
    for (size_t i = 0; i < f->n; i++) max = fmaxf(max, fabsf(f->data[i])); /* passes over NaN */
    return max;
}

/* The reference's values. The outputs of a tile share the rounding errors of
 * its largest values, so the bound is made from the largest of all. */
static void winograd_reference(struct problem *p) {
    struct conv_args args = p->args;
    args.y = p->expected.layout.origin;
    conv_ref(&args, p->first, p->last, p->top, p->bottom);
    const float sum = largest(&p->x.floats) * largest(&p->w) * sqrtf(9 * (float)p->shape.in);
    for (int o = p->first; o < p->last; o++)
        for (int i = p->top; i < p->bottom; i++)
            for (int j = 0; j < p->shape.w; j++)
                p->bound.layout.origin[o / PANEL * p->bound.layout.panel + i * p->bound.layout.line + j * PANEL + o % PANEL] =
                    fabsf(args.scale[o]) * sum + fabsf(args.shift[o]);
}

/* In two calls, with a cut anywhere. */
static bool run_winograd(const struct check *check, const struct problem *p, int m, int tile_top, int tile_end,
                         struct random *random) {
    const int cut = tile_top + random_below(random, tile_end - tile_top + 1), chunk = random_below(random, p->args.nchunks + 1);
    bool good = true;
    for (int half = 0; half < 2 && good; half++) {
        const struct winograd_args args = {&p->args, m, p->shape.h, half ? cut : tile_top, half ? tile_end : cut};
        const int tiles = args.end - args.first;
        struct check_floats v, scratch = {0};
        if (tiles == 0) continue;
        good = check_alloc(&v, winograd_v_floats(m, tiles, p->args.nchunks), 0) &&
               check_alloc(&scratch, winograd_scratch_floats(m, tiles, p->args.nchunks), 0);
        if (good) {
            check->kernels->winograd_input(&args, 0, chunk, args.first, args.end, v.data);
            check->kernels->winograd_input(&args, chunk, p->args.nchunks, args.first, args.end, v.data);
            check->kernels->winograd_output(&args, p->first, p->last, v.data, scratch.data);
            good = check_guards(&v) && check_guards(&scratch);
        }
        check_free(&v);
        check_free(&scratch);
    }
    return good;
}

static void check_winograd_shape(struct check *check, const struct shape *s, struct random *random) {
    const int m = random_below(random, 2) ? 4 : 6;
    char what[160];
    snprintf(what, sizeof what, "winograd F(%d,3) %d(+%d)->%d to %dx%d %s%s", m, s->in, s->spare, s->out, s->w, s->h,
             activation_name(s->activation), s->residual ? " + residual" : "");
    struct problem p;
    bool good = problem_make(&p, s, random);
    if (good) {
        const int columns = (s->w + m - 1) / m, lines = (s->h + m - 1) / m;
        const int line = random_below(random, lines), end = line + 1 + random_below(random, lines - line);
        p.first = random_below(random, 2) ? 0 : random_below(random, s->out) / PANEL * PANEL;
        p.top = line * m;
        p.bottom = end * m < s->h ? end * m : s->h;
        winograd_reference(&p);
        good = run_winograd(check, &p, m, line * columns, end * columns, random) &&
               check_same(check, &p.y, &p.expected, &p.bound, m == 4 ? 4e-6 : 2e-5,
                          (struct check_region){p.first, p.last, p.top, p.bottom}, what);
    }
    problem_free(&p);
    check_count(check, good);
}

void check_winograd(struct check *check) {
    for (int i = 0; i < check->cases; i++) {
        struct random random = random_stream(check->seed, (uint64_t)i, 2);
        struct shape shape = random_shape(&random);
        shape.kh = shape.kw = 3;
        shape.stride = 1;
        shape.interleaved = false;
        if (random_below(&random, 16) == 0) shape.in = 129 + random_below(&random, 300), shape.spare = 0;
        check_winograd_shape(check, &shape, &random);
    }
}

void check_conv(struct check *check) {
    for (int i = 0; i < check->cases; i++) {
        struct random random = random_stream(check->seed, (uint64_t)i, 0);
        struct shape shape = random_shape(&random);
        check_shape(check, &shape, &random);
    }
    if (check->bench && !check->failed) bench(check);
}
