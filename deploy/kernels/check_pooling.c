#include "deploy/kernels/check.h"

#include <math.h>

struct problem {
    struct check_map x, y, expected;
    struct pooling_args args;
    int channels;
};

static void problem_free(struct problem *p) {
    check_free(&p->x.floats);
    check_free(&p->y.floats);
    check_free(&p->expected.floats);
}

/* A map pooled by windows of `size`, or (size 0) into its mean. */
static bool problem_make(struct problem *p, int channels, int h, int w, int size, int stride, int padding, int kind,
                         struct random *random) {
    const int out_h = size ? (h + padding - size) / stride + 1 : 1, out_w = size ? (w + padding - size) / stride + 1 : 1;
    *p = (struct problem){.channels = channels};
    if (!check_map_alloc(&p->x, channels, h, w, 1, PANEL) ||
        !check_map_alloc(&p->y, channels, out_h, out_w, 1, PANEL) ||
        !check_map_alloc(&p->expected, channels, out_h, out_w, 1, PANEL))
        return false;
    check_map_fill(&p->x, random, kind);
    const struct layout *x = &p->x.layout, *y = &p->y.layout;
    p->args = (struct pooling_args){x->origin, x->line, x->panel, h,    w,      y->origin, y->line,
                                    y->panel,  out_h,   out_w,    size, stride, padding / 2};
    return true;
}

static void check_max(struct check *check, struct random *random) {
    struct problem p;
    const int channels = 1 + random_below(random, 40), size = 1 + random_below(random, 4);
    const int h = size + random_below(random, 12), w = size + random_below(random, 12);
    const int stride = 1 + random_below(random, size), padding = random_below(random, size);
    char what[120];
    snprintf(what, sizeof what, "pooling_max %d/%d of %d channels %dx%d, padding %d", size, stride, channels, w, h,
             padding);
    bool good = problem_make(&p, channels, h, w, size, stride, padding, random_below(random, 2), random);
    if (good) {
        const int first = random_below(random, channels) / PANEL * PANEL;
        check->kernels->pooling_max(&p.args, first, channels);
        p.args.y = p.expected.layout.origin;
        pooling_max_ref(&p.args, first, channels);
        good = check_same(check, &p.y, &p.expected, NULL, 0,
                          (struct check_region){first, channels, 0, p.args.y_height}, what);
    }
    problem_free(&p);
    check_count(check, good);
}

static void check_mean(struct check *check, struct random *random) {
    struct problem p;
    const int channels = 1 + random_below(random, 40), h = 1 + random_below(random, 15), w = 1 + random_below(random, 15);
    char what[120];
    snprintf(what, sizeof what, "pooling_mean of %d channels %dx%d", channels, w, h);
    bool good = problem_make(&p, channels, h, w, 0, 1, 0, 0, random);
    if (good) {
        const int first = random_below(random, channels) / PANEL * PANEL;
        check->kernels->pooling_mean(&p.args, first, channels);
        p.args.y = p.expected.layout.origin;
        pooling_mean_ref(&p.args, first, channels);
        good = check_same(check, &p.y, &p.expected, NULL, (8 + 4 * sqrt(h * w)) * 6e-8,
                          (struct check_region){first, channels, 0, 1}, what);
    }
    problem_free(&p);
    check_count(check, good);
}

struct timed {
    void (*run)(const struct pooling_args *, int, int);
    const struct problem *problem;
};

static void run_timed(void *context) {
    const struct timed *t = context;
    t->run(&t->problem->args, 0, t->problem->channels);
}

static void bench_one(struct check *check, const char *name, struct timed timed, struct timed ref, double values) {
    check_report(check, name, check_time(run_timed, &timed), check_time(run_timed, &ref), 0, 4 * values);
}

static void bench(struct check *check) {
    struct random random = random_stream(check->seed, 0, 2);
    struct problem p;
    if (problem_make(&p, 64, 112, 112, 2, 2, 1, 0, &random))
        bench_one(check, "pooling_max 2/2 64 channels 112x112", (struct timed){check->kernels->pooling_max, &p},
                  (struct timed){pooling_max_ref, &p}, 64 * 112 * 112);
    problem_free(&p);
    if (problem_make(&p, 512, 7, 7, 0, 1, 0, 0, &random))
        bench_one(check, "pooling_mean 512 channels 7x7", (struct timed){check->kernels->pooling_mean, &p},
                  (struct timed){pooling_mean_ref, &p}, 512 * 7 * 7);
    problem_free(&p);
}

void check_pooling(struct check *check) {
    for (int i = 0; i < check->cases; i++) {
        struct random random = random_stream(check->seed, (uint64_t)i, 0);
        if (i % 3) check_max(check, &random);
        else check_mean(check, &random);
    }
    if (check->bench && !check->failed) bench(check);
}
