/* Soft masks: weights that sum to the channels kept, steps once it is cold, an
 * order that is that of the importance, and what cannot be masked refused. */
#include "tests/unit/training.h"
#include "train/soft_mask.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct fixture {
    struct model *model;
    struct network_param params[128];
    struct network_view view;
    struct soft_mask *mask;
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct err err;
    size_t size;
    assert_int_equal(training_model(&f->model, training_cfg, &err), STATUS_OK);
    training_randomize(f->model, 4);
    int n = training_params(f->model, f->params, &size);
    f->view = (struct network_view){ n, f->params, malloc(size * sizeof(float)), calloc(size, sizeof(float)), size };
    for (size_t i = 0; i < size; i++) f->view.values[i] = 1;
    assert_int_equal(soft_mask_create(&f->mask, f->model, &f->view, &err), STATUS_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    soft_mask_destroy(&f->mask);
    model_destroy(&f->model);
    free(f->view.values);
    free(f->view.grads);
    free(f);
    return 0;
}

/* gamma of layer i under the mask of a level, all ones without it. */
static const float *masked_gamma(struct fixture *f, int layer, int level, int *width) {
    *width = soft_mask_set(f->mask, level);
    soft_mask_apply(f->mask, &f->view);
    for (int i = 0; i < f->view.nparams; i++)
        if (f->params[i].layer == layer && f->params[i].role == NETWORK_GAMMA) return f->view.values + f->params[i].offset;
    fail();
    return NULL;
}

static void test_sums(void **state) {
    struct fixture *f = *state;
    struct random random = random_stream(3, 0, 0);
    training_fill(f->mask->importance, (size_t)f->mask->nunits, &random, 0, 1);
    const int kept[] = { 8, 6, 4, 2 };
    for (int level = 0; level < 4; level++) {
        int width, between = 0;
        const float *gamma = masked_gamma(f, 0, level, &width);
        double sum = 0;
        for (int c = 0; c < 8; c++) {
            sum += (double)gamma[c];
            between += gamma[c] > .01f && gamma[c] < .99f;
        }
        assert_float_equal(sum, kept[level], 1e-4);
        assert_int_equal(between > 0, level > 0);
        assert_true(width <= level);
        soft_mask_collect(f->mask, &f->view);
        for (size_t i = 0; i < f->view.size; i++) assert_true(f->view.values[i] == 1);
    }
}

static void test_cold(void **state) {
    struct fixture *f = *state;
    int width;
    f->mask->begin = 10;
    f->mask->end = 20;
    assert_false(soft_mask_step(f->mask, 9));
    assert_true(soft_mask_step(f->mask, 10));
    double warm = f->mask->temperature;
    assert_true(soft_mask_step(f->mask, 19));
    assert_true(f->mask->temperature < warm / 5);
    assert_false(soft_mask_step(f->mask, 20));
    f->mask->temperature = .002;
    /* In order from the beginning, so the level is its own prefix. */
    const float *gamma = masked_gamma(f, 0, 2, &width);
    for (int c = 0; c < 8; c++) assert_float_equal(gamma[c], c < 4 ? 1 : 0, .01);
    assert_int_equal(width, 2);
}

/* The last channel of each tier becomes the most important one. */
static void test_order(void **state) {
    struct fixture *f = *state;
    struct err err;
    struct order *order;
    int entered, tiers = 0;
    for (int t = 0; t < f->model->groups->ntiers; t++) {
        const struct tier *tier = &f->model->groups->tiers[t];
        assert_int_equal(f->mask->first[t] < 0, tier->fixed);
        if (tier->fixed) continue;
        f->mask->importance[f->mask->first[t] + tier->last - tier->first - 1] = 2;
        tiers++;
    }
    assert_int_equal(soft_mask_order(f->mask, &order, &entered, &err), STATUS_OK);
    assert_true(tiers > 3 && entered >= 1 && entered <= tiers);
    for (int t = 0; t < f->model->groups->ntiers; t++) {
        const struct tier *tier = &f->model->groups->tiers[t];
        int first = f->mask->first[t], n = tier->last - tier->first;
        for (int g = 0; g < tier->ngroups; g++) {
            const int *from = order->from + order->first[tier->groups[g]] + tier->first;
            for (int u = 0; u < n; u++) {
                int was = tier->fixed ? u : u == 0 ? n - 1 : u - 1;
                assert_int_equal(from[u], tier->first + was);
            }
        }
        if (first < 0) continue;
        assert_true(f->mask->importance[first] == 2);
        for (int u = 1; u < n; u++) assert_true(f->mask->importance[first + u] < f->mask->importance[first + u - 1]);
    }
    order_destroy(&order);
}

static void test_refused(void **state) {
    static const char cfg[] = "[net]\nwidth=8\nheight=8\nchannels=3\n"
                              "[convolutional]\nfilters=16\nsize=3\nstride=1\npad=1\nactivation=logistic\n"
                              "[connected]\noutput=5\nactivation=linear\n[softmax]\n";
    struct model *model;
    struct soft_mask *mask;
    struct err err;
    struct network_view none = { 0 };
    assert_int_equal(training_model(&model, cfg, &err), STATUS_OK);
    assert_int_equal(soft_mask_create(&mask, model, &none, &err), STATUS_USAGE);
    assert_non_null(strstr(err.text, "logistic"));
    model_destroy(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sums, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cold, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
