/* Channel order: a permutation inside tiers that leaves the network's function
 * as it is. (On every shipped cfg: tests/golden/test_shipped.c.) */
#include "tests/unit/training.h"
#include "train/order.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { IMAGES = 2 };

/* Logits of two random images under the model's batch-norm rows. */
static float *run(struct model *model) {
    struct err err;
    struct network *network;
    struct plan *plan;
    struct random random = random_stream(9, 0, 0);
    size_t pixels = net_shape_size(model->net->input) * IMAGES, classes = (size_t)model->net->classes;
    float *input = malloc(pixels * sizeof *input), *logits = malloc(classes * IMAGES * sizeof *logits);
    training_fill(input, pixels, &random, -1, 1);
    assert_int_equal(network_create(&network, model, IMAGES, 1, &err), STATUS_OK);
    assert_int_equal(plan_create(&plan, model->blocks->nblocks, 0, &err), STATUS_OK);
    assert_int_equal(network_forward(network, plan, NETWORK_INFERENCE, input, IMAGES, 0, logits, &err), STATUS_OK);
    plan_destroy(&plan);
    network_destroy(&network);
    free(input);
    return logits;
}

static void check_permutation(const struct order *order) {
    const struct groups *groups = order->model->groups;
    for (int t = 0; t < groups->ntiers; t++) {
        const struct tier *tier = &groups->tiers[t];
        for (int g = 0; g < tier->ngroups; g++) {
            const struct group *group = &groups->group[tier->groups[g]];
            const int *from = order->from + order->first[tier->groups[g]];
            const int *first = order->from + order->first[tier->groups[0]];
            unsigned char *seen = calloc((size_t)group->units, 1);
            for (int u = tier->first; u < tier->last; u++) {
                assert_in_range(from[u], tier->first, tier->last - 1);
                assert_int_equal(seen[from[u]]++, 0);
                assert_int_equal(from[u], first[u]);
                if (tier->fixed || group->whole) assert_int_equal(from[u], u);
            }
            free(seen);
        }
    }
}

static bool moves(const struct order *order) {
    for (int g = 0; g < order->model->groups->ngroups; g++)
        for (int u = 0; u < order->model->groups->group[g].units; u++)
            if (order->from[order->first[g] + u] != u) return true;
    return false;
}

/* Outputs before and after agree, relative to their largest magnitude. */
static void check_function(struct model *model, enum order_criterion criterion) {
    struct err err;
    struct order *order;
    float largest = 0, *before = run(model);
    struct taylor taylor = { model->net->nlayers, calloc((size_t)model->net->nlayers, sizeof(double *)) };
    for (int i = 0; i < taylor.nlayers; i++) { /* the last channels weigh most */
        int channels = net_has_weights(&model->net->layers[i]) ? model_outputs(model, i) : 0;
        taylor.importance[i] = malloc((size_t)(channels + 1) * sizeof(double));
        for (int c = 0; c < channels; c++) taylor.importance[i][c] = c;
    }
    assert_int_equal(order_create(&order, model, criterion, 5, &taylor, &err), STATUS_OK);
    for (int i = 0; i < taylor.nlayers; i++) free(taylor.importance[i]);
    free(taylor.importance);
    check_permutation(order);
    assert_int_equal(moves(order), criterion != ORDER_NONE);
    assert_int_equal(order_apply_model(order, model, &err), STATUS_OK);
    order_destroy(&order);
    float *after = run(model);
    for (int i = 0; i < IMAGES * model->net->classes; i++) largest = fmaxf(largest, fabsf(before[i]));
    assert_true(largest > 0);
    for (int i = 0; i < IMAGES * model->net->classes; i++)
        assert_true(fabsf(before[i] - after[i]) <= 1e-4f * largest);
    free(before);
    free(after);
}

static void test_everything(void **state) {
    for (int criterion = 0; criterion < ORDER_COUNT; criterion++) {
        struct model *model;
        struct err err;
        assert_int_equal(training_model(&model, training_cfg, &err), STATUS_OK);
        training_randomize(model, (uint64_t)criterion);
        check_function(model, (enum order_criterion)criterion);
        model_destroy(&model);
    }
}

/* Scores fall within every tier once the order is applied. */
static void test_sorted(void **state) {
    struct model *model;
    struct order *order;
    struct err err;
    assert_int_equal(training_model(&model, training_cfg, &err), STATUS_OK);
    training_randomize(model, 3);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(order_create(&order, model, ORDER_L1, 0, NULL, &err), STATUS_OK);
        assert_int_equal(moves(order), round == 0);
        assert_int_equal(order_apply_model(order, model, &err), STATUS_OK);
        order_destroy(&order);
    }
    /* A convolution on its own: plain l1 norms fall. */
    const float *weight = model->layers[8].weight;
    size_t row = net_weight_count(&model->net->layers[8]) / 12;
    double last = INFINITY;
    for (int o = 0; o < 12; o++) {
        double norm = 0;
        for (size_t i = 0; i < row; i++) norm += fabs((double)weight[(size_t)o * row + i]);
        assert_true(norm <= last);
        last = norm;
    }
    model_destroy(&model);
}

/* Values laid out as parameters move as the model's tensors do. */
static void test_values(void **state) {
    struct model *model;
    struct order *order;
    struct err err;
    struct network_param params[128];
    size_t size;
    assert_int_equal(training_model(&model, training_cfg, &err), STATUS_OK);
    training_randomize(model, 4);
    int n = training_params(model, params, &size);
    float *values = malloc(size * sizeof *values);
    struct network_view view = { n, params, values, NULL, size };
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < n; i++) {
            const struct model_layer *l = &model->layers[params[i].layer];
            const float *const tensors[] = { l->weight, l->bias, l->gamma, l->beta };
            const float *tensor = tensors[params[i].role];
            float *own = values + params[i].offset;
            if (pass == 0) memcpy(own, tensor, params[i].size * sizeof *own);
            else assert_memory_equal(own, tensor, params[i].size * sizeof *own);
        }
        if (pass) break;
        assert_int_equal(order_create(&order, model, ORDER_L2, 0, NULL, &err), STATUS_OK);
        assert_int_equal(order_apply_values(order, &view, values, &err), STATUS_OK);
        assert_int_equal(order_apply_model(order, model, &err), STATUS_OK);
        order_destroy(&order);
    }
    free(values);
    model_destroy(&model);
}

static void test_names(void **state) {
    for (int c = 0; c < ORDER_COUNT; c++) assert_int_equal(order_parse(order_name((enum order_criterion)c)), c);
    assert_int_equal(order_parse("L1"), ORDER_COUNT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything), cmocka_unit_test(test_sorted),
        cmocka_unit_test(test_values), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
