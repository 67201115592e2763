#include "deploy/kernels/check.h"

#include <math.h>

struct shape {
    int channels, h, w; /* of the output */
    int size, stride;
    enum activation activation;
};

struct problem {
    struct check_map x, y, expected;
    struct check_floats w, scale, shift;
    struct depthwise_args args;
    int first, last, top, bottom;
};

static void problem_free(struct problem *p) {
    check_free(&p->x.floats);
    check_free(&p->y.floats);
    check_free(&p->expected.floats);
    check_free(&p->w);
    check_free(&p->scale);
    check_free(&p->shift);
}

static bool problem_make(struct problem *p, const struct shape *s, struct random *random) {
    *p = (struct problem){.last = s->channels, .bottom = s->h};
    const size_t padded = (size_t)(s->channels + PANEL - 1) / PANEL * PANEL, taps = (size_t)(s->size * s->size);
    if (!check_map_alloc(&p->x, s->channels, (s->h - 1) * s->stride + s->size, (s->w - 1) * s->stride + s->size, 0,
                         PANEL) ||
        !check_map_alloc(&p->y, s->channels, s->h, s->w, 1, PANEL) ||
        !check_map_alloc(&p->expected, s->channels, s->h, s->w, 1, PANEL) || !check_alloc(&p->w, padded * taps, 0) ||
        !check_alloc(&p->scale, padded, 0) || !check_alloc(&p->shift, padded, 0))
        return false;
    check_map_fill(&p->x, random, 0);
    for (int c = 0; c < s->channels; c++) {
        for (size_t tap = 0; tap < taps; tap++)
            p->w.data[((size_t)(c / PANEL) * taps + tap) * PANEL + (size_t)(c % PANEL)] = check_value(random, 0);
        p->scale.data[c] = check_value(random, 0);
        p->shift.data[c] = check_value(random, 0);
    }
    const struct layout *x = &p->x.layout, *y = &p->y.layout;
    p->args = (struct depthwise_args){x->origin, x->line, x->panel, s->size,       s->stride,     p->w.data,
                                      y->origin, y->line, y->panel, s->w,          p->scale.data, p->shift.data,
                                      s->activation};
    return true;
}

static void check_shape(struct check *check, const struct shape *s, struct random *random) {
    char what[120];
    snprintf(what, sizeof what, "depthwise %dx%d/%d %d channels to %dx%d %s", s->size, s->size, s->stride, s->channels,
             s->w, s->h, activation_name(s->activation));
    struct problem p;
    bool good = problem_make(&p, s, random);
    if (good) {
        p.first = random_below(random, s->channels) / PANEL * PANEL;
        p.top = random_below(random, s->h);
        p.bottom = p.top + 1 + random_below(random, s->h - p.top);
        check->kernels->depthwise(&p.args, p.first, p.last, p.top, p.bottom);
        p.args.y = p.expected.layout.origin;
        depthwise_ref(&p.args, p.first, p.last, p.top, p.bottom);
        good = check_same(check, &p.y, &p.expected, NULL, (8 + 4.0 * s->size) * 6e-8 * s->size,
                          (struct check_region){p.first, p.last, p.top, p.bottom}, what);
    }
    problem_free(&p);
    check_count(check, good);
}

struct timed {
    depthwise_fn *run;
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
        {"depthwise 3x3 64 channels 112x112", {64, 112, 112, 3, 1, ACTIVATION_RELU6}},
        {"depthwise 3x3/2 128 channels 28x28", {128, 28, 28, 3, 2, ACTIVATION_RELU6}},
        {"depthwise 3x3 512 channels 14x14", {512, 14, 14, 3, 1, ACTIVATION_RELU6}},
        {"depthwise 5x5 96 channels 28x28", {96, 28, 28, 5, 1, ACTIVATION_RELU}},
    };
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        const struct shape *s = &layers[i].shape;
        struct random random = random_stream(check->seed, i, 1);
        struct problem p;
        if (problem_make(&p, s, &random)) {
            struct timed timed = {check->kernels->depthwise, &p}, ref = {depthwise_ref, &p};
            check_report(check, layers[i].name, check_time(run_timed, &timed), check_time(run_timed, &ref),
                         2.0 * s->channels * s->h * s->w * s->size * s->size, 0);
        }
        problem_free(&p);
    }
}

void check_depthwise(struct check *check) {
    static const int sizes[] = {1, 2, 3, 3, 3, 3, 5, 7};
    for (int i = 0; i < check->cases; i++) {
        struct random random = random_stream(check->seed, (uint64_t)i, 0);
        struct shape s = {.channels = 1 + random_below(&random, 40),
                          .h = 1 + random_below(&random, 6),
                          .w = 1 + random_below(&random, 30),
                          .size = sizes[random_below(&random, 8)],
                          .stride = 1 + random_below(&random, 3),
                          .activation = (enum activation)random_below(&random, ACTIVATION_COUNT)};
        check_shape(check, &s, &random);
    }
    if (check->bench && !check->failed) bench(check);
}
