/* Channels that carry nothing are cut without a change to the function. */
#include "common/constants.h"
#include "deploy/engine.h"
#include "tests/nets.h"
#include "tests/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void must(enum status status, const struct err *err) {
    if (status) fail_msg("%s", err->text);
}

static size_t parameters(const struct model *m) {
    size_t n = 0;
    for (int i = 0; i < m->net->nlayers; i++) n += net_weight_count(&m->net->layers[i]);
    return n;
}

/* The output of the last layer; caller frees. */
static float *run(const struct model *model, const float *input, size_t *n) {
    struct reference *reference;
    struct plan *plan;
    struct err err;
    must(reference_create(&reference, model, &err), &err);
    must(plan_create(&plan, model->blocks->nblocks, 0, &err), &err);
    reference_run(reference, plan, input);
    float *out = malloc(net_shape_size(net_shape_of(model->net, model->net->nlayers - 1)) * sizeof *out);
    *n = reference_compact(reference, model->net->nlayers - 1, out);
    plan_destroy(&plan);
    reference_destroy(&reference);
    return out;
}

static void expect_same(const struct model *a, const struct model *b, const char *what) {
    struct random random = random_stream(3, 0, 0);
    size_t size = net_shape_size(a->net->input), n, m;
    float *input = malloc(size * sizeof *input);
    for (size_t i = 0; i < size; i++) input[i] = (float)random_uniform(&random);
    float *x = run(a, input, &n), *y = run(b, input, &m);
    double worst;
    assert_int_equal(n, m);
    if (!reference_agrees(y, x, n, &worst)) fail_msg("%s: off by %g of the largest magnitude", what, worst);
    struct engine *engine;
    struct engine_config config = engine_defaults();
    struct err err;
    must(engine_create(&engine, b, &config, &err), &err);
    engine_run(engine, input, y);
    engine_destroy(&engine);
    if (!reference_agrees(y, x, n, &worst)) fail_msg("%s, engine: off by %g of the largest magnitude", what, worst);
    free(input);
    free(x);
    free(y);
}

/* Zeroes the rows of a share of the units, in all layers that compute them; what
 * they emit then follows from bias or batch norm. */
static void silence(struct model *m, double share, uint64_t seed) {
    struct random random = random_stream(seed, 1, 0);
    for (int t = 0; t < m->groups->ntiers; t++) {
        const struct tier *tier = &m->groups->tiers[t];
        for (int u = tier->first; u < tier->last; u++) {
            if (random_uniform(&random) >= share) continue;
            for (int g = 0; g < tier->ngroups; g++) {
                const struct group *group = &m->groups->group[tier->groups[g]];
                for (int k = 0; k < group->nmembers; k++) {
                    int layer = group->members[k], n;
                    if (layer < 0 || !net_weight_count(&m->net->layers[layer])) continue;
                    const struct segment *s = groups_segments(m->groups, layer, &n);
                    size_t row = net_weight_count(&m->net->layers[layer]) / (size_t)m->net->layers[layer].filters;
                    memset(m->layers[layer].weight + (size_t)(u * s->unit) * row, 0,
                           (size_t)s->unit * row * sizeof(float));
                }
            }
        }
    }
}

/* Every level-0 row as in a trained sparse model: nothing else has to hold. */
static void test_silent_channels(void **state) {
    for (int k = 0; k < NNETS; k++)
        for (int trial = 0; trial < 6; trial++) {
            struct model *model, *small;
            struct err err;
            must(reference_model(&model, nets[k].cfg, 7 + (uint64_t)trial, &err), &err);
            silence(model, trial < 4 ? .4 : .95, (uint64_t)trial);
            must(constants_shrink(model, &small, &err), &err);
            expect_same(model, small, nets[k].name);
            model_destroy(&small);
            model_destroy(&model);
        }
}

/* Plain chains: all that is silent goes, except one channel for the borders. */
static const char chain[] = NET(8) CONV(16, 3, 1, relu) CONV(24, 3, 1, leaky) CONV(12, 1, 1, relu)
    "[convolutional]\nfilters=20\nsize=1\nactivation=relu\n" HEAD;

static void test_counts(void **state) {
    struct model *model, *small;
    struct err err;
    must(reference_model(&model, chain, 3, &err), &err);
    const struct net_layer *layers = model->net->layers;
    for (int i = 0; i < 4; i++) { /* 6 channels each */
        size_t row = net_weight_count(&layers[i]) / (size_t)layers[i].filters;
        memset(model->layers[i].weight, 0, 6 * row * sizeof(float));
        for (int o = 0; o < 6 && model->layers[i].beta; o++) {
            model->layers[i].mean[o] = 0;
            model->layers[i].beta[o] = .25f + .125f * (float)o;
        }
    }
    must(constants_shrink(model, &small, &err), &err);
    assert_int_equal(small->net->layers[0].filters, 16 - 6 + 1); /* a padded convolution reads it */
    assert_int_equal(small->net->layers[1].filters, 24 - 6);     /* a 1x1 one reads it: into its mean */
    expect_same(model, small, "a chain");
    model_destroy(&small);
    /* The same constants, but zero behind the activation: nothing has to stay. */
    for (int o = 0; o < 6; o++) model->layers[0].beta[o] = -1;
    must(constants_shrink(model, &small, &err), &err);
    assert_int_equal(small->net->layers[0].filters, 10);
    expect_same(model, small, "a chain without constants");
    model_destroy(&small);
    model_destroy(&model);
}

/* What nobody reads goes with all that only it needed. */
static void test_unread_channels(void **state) {
    struct model *model, *small;
    struct err err;
    must(reference_model(&model, chain, 5, &err), &err);
    const struct net_layer *l = &model->net->layers[1];
    size_t taps = 9, row = net_weight_count(l) / (size_t)l->filters;
    for (int o = 0; o < l->filters; o++) memset(model->layers[1].weight + (size_t)o * row, 0, 4 * taps * sizeof(float));
    must(constants_shrink(model, &small, &err), &err);
    assert_int_equal(small->net->layers[0].filters, 12);
    expect_same(model, small, "unread");
    model_destroy(&small);
    model_destroy(&model);
}

/* A residual group loses what is constant in every member; a channel that only
 * one branch has lost stays. */
static void test_residual(void **state) {
    static const char cfg[] = NET(8) CONV(16, 3, 1, relu) CONV(16, 3, 1, relu) CONV(16, 3, 1, linear) SUM(-3, relu)
        CONV(8, 3, 1, relu) HEAD;
    struct model *model, *small;
    struct err err;
    must(reference_model(&model, cfg, 11, &err), &err);
    for (int o = 0; o < 8; o++) { /* 0 to 3 in both, 4 to 7 in the branch only */
        size_t row0 = net_weight_count(&model->net->layers[0]) / 16, row2 = net_weight_count(&model->net->layers[2]) / 16;
        if (o < 4) memset(model->layers[0].weight + (size_t)o * row0, 0, row0 * sizeof(float));
        memset(model->layers[2].weight + (size_t)o * row2, 0, row2 * sizeof(float));
        model->layers[0].mean[o] = model->layers[2].mean[o] = -1;
        model->layers[0].gamma[o] = model->layers[2].gamma[o] = 1;
    }
    must(constants_shrink(model, &small, &err), &err);
    assert_int_equal(small->net->layers[0].filters, 13);
    assert_int_equal(small->net->layers[2].filters, 13);
    assert_int_equal(small->net->layers[3].out.c, 13);
    assert_true(parameters(small) < parameters(model));
    expect_same(model, small, "residual");
    model_destroy(&small);
    model_destroy(&model);
}

/* Nothing to cut: the same tensors come back. */
static void test_nothing(void **state) {
    for (int k = 0; k < NNETS; k++) {
        struct model *model, *small;
        struct err err;
        must(reference_model(&model, nets[k].cfg, 7, &err), &err);
        must(constants_shrink(model, &small, &err), &err);
        if (parameters(small) == parameters(model))
            for (int i = 0; i < model->net->nlayers; i++)
                if (net_weight_count(&model->net->layers[i]))
                    assert_memory_equal(small->layers[i].weight, model->layers[i].weight,
                                        net_weight_count(&model->net->layers[i]) * sizeof(float));
        expect_same(model, small, nets[k].name);
        model_destroy(&small);
        model_destroy(&model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_channels), cmocka_unit_test(test_counts),   cmocka_unit_test(test_unread_channels),
        cmocka_unit_test(test_residual),        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
