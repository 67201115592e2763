#include "deploy/kernels/check.h"

struct affine_problem {
    struct check_map x, y, expected;
    struct check_floats scale, shift;
    struct pointwise_affine_args args;
    int channels;
};

static void affine_free(struct affine_problem *p) {
    check_free(&p->x.floats);
    check_free(&p->y.floats);
    check_free(&p->expected.floats);
    check_free(&p->scale);
    check_free(&p->shift);
}

static bool affine_make(struct affine_problem *p, int channels, int h, int w, struct random *random) {
    *p = (struct affine_problem){.channels = channels};
    const size_t padded = (size_t)(channels + PANEL - 1) / PANEL * PANEL;
    /* The tables of a part of a concatenation begin anywhere. */
    if (!check_map_alloc(&p->x, channels, h, w, 2, PANEL) || !check_map_alloc(&p->y, channels, h, w, 1, PANEL) ||
        !check_map_alloc(&p->expected, channels, h, w, 1, PANEL) ||
        !check_alloc(&p->scale, padded, random_below(random, 4)) ||
        !check_alloc(&p->shift, padded, random_below(random, 4)))
        return false;
    check_map_fill(&p->x, random, 0);
    for (int c = 0; c < channels; c++) {
        p->scale.data[c] = check_value(random, 0);
        p->shift.data[c] = check_value(random, 0);
    }
    const struct layout *x = &p->x.layout, *y = &p->y.layout;
    p->args = (struct pointwise_affine_args){x->origin, x->line, x->panel, y->origin,     y->line,
                                             y->panel,  h,       w,        p->scale.data, p->shift.data};
    return true;
}

static void check_affine(struct check *check, struct random *random) {
    const int channels = 1 + random_below(random, 40), h = 1 + random_below(random, 6), w = 1 + random_below(random, 9);
    char what[120];
    snprintf(what, sizeof what, "pointwise_affine %d channels %dx%d", channels, w, h);
    struct affine_problem p;
    bool good = affine_make(&p, channels, h, w, random);
    if (good) {
        const int first = random_below(random, channels) / PANEL * PANEL;
        check->kernels->pointwise_affine(&p.args, first, channels);
        p.args.y = p.expected.layout.origin;
        pointwise_affine_ref(&p.args, first, channels);
        good = check_same(check, &p.y, &p.expected, NULL, 3e-7, (struct check_region){first, channels, 0, h}, what);
    }
    affine_free(&p);
    check_count(check, good);
}

struct add_problem {
    struct check_map own, from, y, expected;
    struct pointwise_add_args args;
    int channels;
};

static void add_free(struct add_problem *p) {
    check_free(&p->own.floats);
    check_free(&p->from.floats);
    check_free(&p->y.floats);
    check_free(&p->expected.floats);
}

struct add_shape {
    int channels, from_channels, h, w, from_h, from_w;
    enum activation activation;
};

static bool add_make(struct add_problem *p, const struct add_shape *s, struct random *random) {
    *p = (struct add_problem){.channels = s->channels};
    if (!check_map_alloc(&p->own, s->channels, s->h, s->w, 0, PANEL) ||
        !check_map_alloc(&p->from, s->from_channels, s->from_h, s->from_w, 2, PANEL) ||
        !check_map_alloc(&p->y, s->channels, s->h, s->w, 1, PANEL) ||
        !check_map_alloc(&p->expected, s->channels, s->h, s->w, 1, PANEL))
        return false;
    check_map_fill(&p->own, random, 0);
    check_map_fill(&p->from, random, 0);
    const struct layout *own = &p->own.layout, *from = &p->from.layout, *y = &p->y.layout;
    p->args = (struct pointwise_add_args){.own = own->origin,
                                          .own_line = own->line,
                                          .own_panel = own->panel,
                                          .from = from->origin,
                                          .from_line = from->line,
                                          .from_panel = from->panel,
                                          .from_channels = s->from_channels,
                                          .from_height = s->from_h,
                                          .from_width = s->from_w,
                                          .step = s->from_h > s->h ? s->from_h / s->h : 1,
                                          .every = s->h > s->from_h ? s->h / s->from_h : 1,
                                          .y = y->origin,
                                          .y_line = y->line,
                                          .y_panel = y->panel,
                                          .height = s->h,
                                          .width = s->w,
                                          .alpha = 1,
                                          .beta = 1,
                                          .activation = s->activation};
    return true;
}

static void check_add(struct check *check, struct random *random) {
    struct add_shape s = {.channels = 1 + random_below(random, 40),
                          .from_channels = 1 + random_below(random, 40),
                          .h = 1 + random_below(random, 7),
                          .w = 1 + random_below(random, 9),
                          .activation = (enum activation)random_below(random, ACTIVATION_COUNT)};
    const int factor = 1 + random_below(random, 3);
    const bool finer = random_below(random, 2); /* the other map */
    s.from_h = finer ? s.h * factor : (s.h + factor - 1) / factor;
    s.from_w = finer ? s.w * factor : (s.w + factor - 1) / factor;
    char what[160];
    snprintf(what, sizeof what, "pointwise_add %d channels %dx%d and %d of %dx%d %s", s.channels, s.w, s.h,
             s.from_channels, s.from_w, s.from_h, activation_name(s.activation));
    struct add_problem p;
    bool good = add_make(&p, &s, random);
    if (good) {
        if (random_below(random, 2)) {
            p.args.alpha = check_value(random, 0);
            p.args.beta = check_value(random, 0);
        }
        const int first = random_below(random, s.channels) / PANEL * PANEL;
        check->kernels->pointwise_add(&p.args, first, s.channels);
        p.args.y = p.expected.layout.origin;
        pointwise_add_ref(&p.args, first, s.channels);
        good = check_same(check, &p.y, &p.expected, NULL, 6e-7, (struct check_region){first, s.channels, 0, s.h}, what);
    }
    add_free(&p);
    check_count(check, good);
}

struct timed {
    const struct kernels *kernels; /* NULL: the references */
    const struct affine_problem *affine;
    const struct add_problem *add;
};

static void run_timed(void *context) {
    const struct timed *t = context;
    if (t->affine) (t->kernels ? t->kernels->pointwise_affine : pointwise_affine_ref)(&t->affine->args, 0, t->affine->channels);
    if (t->add) (t->kernels ? t->kernels->pointwise_add : pointwise_add_ref)(&t->add->args, 0, t->add->channels);
}

static void bench_one(struct check *check, const char *name, struct timed timed, double bytes) {
    struct timed ref = timed;
    ref.kernels = NULL;
    check_report(check, name, check_time(run_timed, &timed), check_time(run_timed, &ref), 0, bytes);
}

static void bench(struct check *check) {
    struct random random = random_stream(check->seed, 0, 3);
    struct affine_problem affine;
    struct add_problem add;
    const struct add_shape shape = {64, 64, 56, 56, 56, 56, ACTIVATION_RELU};
    const double values = 64 * 56 * 56;
    if (affine_make(&affine, 64, 56, 56, &random))
        bench_one(check, "pointwise_affine 64 channels 56x56", (struct timed){check->kernels, &affine, NULL}, 8 * values);
    affine_free(&affine);
    if (add_make(&add, &shape, &random))
        bench_one(check, "pointwise_add 64 channels 56x56", (struct timed){check->kernels, NULL, &add}, 12 * values);
    add_free(&add);
}

void check_pointwise(struct check *check) {
    for (int i = 0; i < check->cases; i++) {
        struct random random = random_stream(check->seed, (uint64_t)i, 0);
        if (i % 3) check_add(check, &random);
        else check_affine(check, &random);
    }
    if (check->bench && !check->failed) bench(check);
}
