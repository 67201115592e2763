/* For tests: gradients of a whole small network against signed central
 * differences, for parameters and inputs, under any plan.
 *
 * The loss is a fixed random combination of the logits, summed in double. A
 * derivative is taken at several step sizes, since single precision spoils
 * small ones and kinks large ones; the gradient agrees if one of them does.
 * Where many values lie near kinks none may: a few elements in a hundred may be
 * off by a fraction of the tensor's typical gradient. A wrong sign
 * agrees with none, nor does NaN. */
#ifndef ESPALIER_TESTS_GRADCHECK_H
#define ESPALIER_TESTS_GRADCHECK_H

#include "common/model.h"
#include "common/random.h"
#include "train/network.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GRADCHECK_SAMPLES = 32 }; /* elements looked at per tensor */

struct gradcheck {
    struct model *model;
    struct network *network;
    struct plan *plan;
    int n;
    size_t inputs, classes;
    float *input, *logits, *mix;
    float *dlogits, *dinput;
    uint64_t seed;
    int checked, near, failed; /* near: within the looser bound only */
    float worst;
};

static inline void gradcheck_ok(enum status status, const struct err *err) {
    if (status) fail_msg("%s", err->text);
}

static inline double gradcheck_loss(struct gradcheck *g) {
    struct err err;
    gradcheck_ok(network_forward(g->network, g->plan, NETWORK_TRAIN, g->input, g->n, g->seed, g->logits, &err), &err);
    double sum = 0;
    for (size_t i = 0; i < (size_t)g->n * g->classes; i++) sum += (double)g->logits[i] * (double)g->mix[i];
    return sum;
}

static inline void gradcheck_fill(float *values, size_t n, struct random *random, double low, double high) {
    for (size_t i = 0; i < n; i++) values[i] = (float)random_between(random, low, high);
}

/* `levels`: one digit per block, or one for all. */
static inline void gradcheck_init(struct gradcheck *g, const char *cfg_text, int n, const char *levels) {
    struct err err;
    struct cfg *cfg;
    *g = (struct gradcheck){ .n = n, .seed = 77 };
    gradcheck_ok(cfg_parse(&cfg, "gradcheck.cfg", cfg_text, strlen(cfg_text), &err), &err);
    gradcheck_ok(model_create(&g->model, cfg, 0, &err), &err);
    gradcheck_ok(network_create(&g->network, g->model, n, 1 + n % 2, &err), &err);
    gradcheck_ok(plan_create(&g->plan, g->model->blocks->nblocks, 0, &err), &err);
    size_t given = strlen(levels);
    if (given != 1 && given != (size_t)g->plan->nblocks) fail_msg("%zu levels for %d blocks", given, g->plan->nblocks);
    for (int b = 0; b < g->plan->nblocks; b++) g->plan->level[b] = levels[given == 1 ? 0 : b] - '0';
    g->inputs = (size_t)n * net_shape_size(g->model->net->input);
    g->classes = (size_t)g->model->net->classes;
    g->input = malloc(g->inputs * sizeof(float));
    g->dinput = malloc(g->inputs * sizeof(float));
    g->logits = malloc((size_t)n * g->classes * sizeof(float));
    g->mix = malloc((size_t)n * g->classes * sizeof(float));
    g->dlogits = malloc((size_t)n * g->classes * sizeof(float));
    struct random random = random_stream(5, 0, 0);
    gradcheck_fill(g->input, g->inputs, &random, -1, 1);
    gradcheck_fill(g->mix, (size_t)n * g->classes, &random, -1, 1);
    network_init(g->network, 3);
    struct network_view view = network_view(g->network);
    for (int i = 0; i < view.nparams; i++) {
        const struct network_param *p = &view.params[i];
        if (p->role == NETWORK_BIAS || p->role == NETWORK_BETA)
            gradcheck_fill(view.values + p->offset, p->size, &random, -.4, .4);
        if (p->role == NETWORK_GAMMA) gradcheck_fill(view.values + p->offset, p->size, &random, .6, 1.4);
    }
}

static inline void gradcheck_fini(struct gradcheck *g) {
    free(g->input);
    free(g->dinput);
    free(g->logits);
    free(g->mix);
    free(g->dlogits);
    plan_destroy(&g->plan);
    network_destroy(&g->network);
    model_destroy(&g->model);
}

/* Differences at step h: [0] central, [1] and [2] one-sided, for values that sit
 * on a kink, where the derivative is that of either side. */
static inline void gradcheck_difference(struct gradcheck *g, float *value, float h, double difference[3]) {
    float kept = *value, above = kept + h, below = kept - h;
    double here = gradcheck_loss(g);
    *value = above;
    double high = gradcheck_loss(g);
    *value = below;
    double low = gradcheck_loss(g);
    *value = kept;
    difference[0] = (high - low) / ((double)above - (double)below);
    difference[1] = (high - here) / ((double)above - (double)kept);
    difference[2] = (here - low) / ((double)kept - (double)below);
}

/* Elements of one tensor; its typical gradient scales the tolerance. */
static inline void gradcheck_tensor(struct gradcheck *g, const char *name, int layer, float *values, const float *grads,
                                    size_t size, float tolerance) {
    static const float steps[] = { 1e-3f, 3e-3f, 3e-4f, 1e-2f, 1e-4f };
    double square = 0;
    size_t nonzero = 0;
    for (size_t i = 0; i < size; i++) {
        square += (double)grads[i] * (double)grads[i];
        nonzero += grads[i] != 0;
    }
    double typical = nonzero ? sqrt(square / (double)nonzero) : 1e-3;
    if (!(typical < 1e30)) {
        print_error("layer %d %s: gradients are not finite\n", layer, name);
        g->failed++;
        return;
    }
    size_t stride = size > GRADCHECK_SAMPLES ? size / GRADCHECK_SAMPLES : 1;
    if (stride > 1 && stride % 2 == 0) stride++; /* else it would miss channels */
    for (size_t i = 0; i < size; i += stride) {
        double analytic = (double)grads[i], numeric[3] = { 0 };
        double off = INFINITY; /* the least, in units of typical + numeric */
        for (size_t s = 0; s < sizeof steps / sizeof *steps && !(off <= (double)tolerance); s++) {
            gradcheck_difference(g, values + i, steps[s], numeric);
            for (int side = 0; side < 3; side++)
                off = fmin(off, fabs(analytic - numeric[side]) / (typical + fabs(numeric[side])));
        }
        g->checked++;
        if (off <= (double)tolerance) continue;
        if (off <= 10 * (double)tolerance) g->near++;
        else g->failed++;
        print_error("layer %d %s[%zu]: gradient %.6g, central difference %.6g\n", layer, name, i, analytic, numeric[0]);
    }
}

/* The number of elements that disagree, each reported; near ones count if they
 * are more than a few. */
static inline int gradcheck_run(struct gradcheck *g, float tolerance) {
    struct err err;
    struct network_view view = network_view(g->network);
    gradcheck_loss(g);
    memcpy(g->dlogits, g->mix, (size_t)g->n * g->classes * sizeof(float));
    memset(view.grads, 0, view.size * sizeof(float));
    gradcheck_ok(network_backward_input(g->network, g->dlogits, g->dinput, &err), &err);
    for (int i = 0; i < view.nparams; i++) {
        const struct network_param *p = &view.params[i];
        gradcheck_tensor(g, p->name, p->layer, view.values + p->offset, view.grads + p->offset, p->size, tolerance);
    }
    gradcheck_tensor(g, "input", -1, g->input, g->dinput, g->inputs, tolerance);
    return g->near > 1 + g->checked / 50 ? g->failed + g->near : g->failed;
}

/* One network under each of several plans (a NULL ends them). */
static inline void gradcheck(const char *cfg_text, int n, const char *const *plans) {
    for (; *plans; plans++) {
        struct gradcheck g;
        gradcheck_init(&g, cfg_text, n, *plans);
        int failed = gradcheck_run(&g, 0.02f);
        int checked = g.checked;
        gradcheck_fini(&g);
        if (failed) fail_msg("%d of %d gradients disagree under plan %s of\n%s", failed, checked, *plans, cfg_text);
        assert_true(checked > 0);
    }
}

/* The usual beginning and end of a checked network. */
#define GRADCHECK_NET(c, h, w) \
    "[net]\nchannels=" #c "\nheight=" #h "\nwidth=" #w "\n[prune]\nlevels=1,.75,.5,.25\nalign=1\n"
#define GRADCHECK_STEM \
    "[convolutional]\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=tanh\n"
#define GRADCHECK_HEAD "[connected]\noutput=3\nactivation=linear\n[softmax]\n"

#endif
