/* Global magnitude pruning: how many weights, and whose. */
#include "tests/nets.h"
#include "tests/unit/training.h"
#include "common/constants.h"
#include "train/magnitude.h"
#include "train/sparsity.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void must(enum status status, const struct err *err) {
    if (status) fail_msg("%s", err->text);
}

struct fixture {
    struct model *model;
    struct network *network;
};

static struct fixture make(const char *cfg) {
    struct fixture f;
    struct err err;
    must(training_model(&f.model, cfg, &err), &err);
    must(network_create(&f.network, f.model, 1, 1, &err), &err);
    network_init(f.network, 5);
    return f;
}

static void destroy(struct fixture *f) {
    network_destroy(&f->network);
    model_destroy(&f->model);
}

/* With share 0: no zero is larger than what is left, except where a layer would lose all. */
static void test_single_weights(void **state) {
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = make(nets[k].cfg);
        struct network_view view = network_view(f.network);
        struct err err;
        float *before = malloc(view.size * sizeof *before);
        memcpy(before, view.values, view.size * sizeof *before);
        must(magnitude_prune(f.network, f.model, .7, 0, &err), &err);
        size_t all = sparsity_weights(&view), exceptions = 0;
        assert_int_equal(sparsity_left(&view), (size_t)((double)all * (1 - .7) + .5));
        float largest_zero = 0;
        for (int i = 0; i < view.nparams; i++)
            for (size_t j = view.params[i].offset; j < view.params[i].offset + view.params[i].size; j++) {
                if (view.values[j] != 0) assert_true(view.values[j] == before[j]);
                else if (view.params[i].role == NETWORK_WEIGHT) largest_zero = fmaxf(largest_zero, fabsf(before[j]));
            }
        for (int i = 0; i < view.nparams; i++)
            for (size_t j = view.params[i].offset; j < view.params[i].offset + view.params[i].size; j++)
                exceptions += view.params[i].role == NETWORK_WEIGHT && view.values[j] != 0 && fabsf(before[j]) < largest_zero;
        assert_true(exceptions <= (size_t)view.nparams + all / 500);
        free(before);
        destroy(&f);
    }
}

/* Even of nearly all, every layer keeps something. */
static void test_no_layer_dies(void **state) {
    struct fixture f = make(nets[0].cfg);
    struct network_view view = network_view(f.network);
    struct err err;
    for (size_t j = 0; j < view.params[0].size; j++) view.values[view.params[0].offset + j] *= 1e-6f;
    must(magnitude_prune(f.network, f.model, .99, .5, &err), &err);
    for (int i = 0; i < view.nparams; i++) {
        size_t left = 0;
        for (size_t j = 0; j < view.params[i].size; j++) left += view.values[view.params[i].offset + j] != 0;
        if (view.params[i].role == NETWORK_WEIGHT) assert_true(left > 0);
    }
    destroy(&f);
}

static int channels_left(struct fixture *f) {
    struct model *small;
    struct err err;
    int sum = 0;
    network_store(f->network, f->model);
    must(constants_shrink(f->model, &small, &err), &err);
    for (int i = 0; i < small->net->nlayers; i++)
        if (net_weight_count(&small->net->layers[i])) sum += small->net->layers[i].filters;
    model_destroy(&small);
    return sum;
}

/* At one sparsity, the larger the share of the channels, the more of them empty, in residual groups, too. */
static void test_channels_empty(void **state) {
    static const char cfg[] = "[net]\nwidth=8\nheight=8\nchannels=3\n[prune]\nlevels=1\n" CONV(32, 3, 1, relu) CONV(32, 3, 1, relu)
        CONV(32, 3, 1, linear) SUM(-3, relu) CONV(32, 3, 1, relu) CONV(32, 3, 1, linear) SUM(-3, relu) HEAD;
    struct err err;
    int left[3];
    const double shares[] = { 0, .5, 1 };
    for (int k = 0; k < 3; k++) {
        struct fixture f = make(cfg);
        struct network_view view = network_view(f.network);
        for (int i = 0; i < view.nparams; i++) /* units of different strength, as training makes them */
            for (size_t j = 0; view.params[i].role == NETWORK_WEIGHT && view.params[i].ndims == 4 && j < view.params[i].size; j++)
                view.values[view.params[i].offset + j] *= .5f + (float)(j / (view.params[i].size / 32)) / 32;
        must(magnitude_prune(f.network, f.model, .6, shares[k], &err), &err);
        must(magnitude_prune(f.network, f.model, .8, shares[k], &err), &err);
        left[k] = channels_left(&f);
        destroy(&f);
    }
    double most = 10 + 160 * sqrt(.2); /* the 10 classes; a layer of a of its inputs and outputs has a^2 of its weights */
    if (!(left[0] > left[1] && left[1] > left[2] && fabs(left[2] - most) < 3))
        fail_msg("channels left: %d, %d, %d", left[0], left[1], left[2]);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_single_weights), cmocka_unit_test(test_no_layer_dies),
                                        cmocka_unit_test(test_channels_empty) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
