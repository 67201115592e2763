/* Pruning holds on every network in cfg/, with seeded weights and a smaller input:
 * - a level gives what full width gives with the pruned channels' weights set to zero;
 * - engine and trainer agree at that level and on a random plan;
 * - the order changes the weights, and not the outputs. */
#include "deploy/engine.h"
#include "deploy/selftest.h"
#include "tests/family.h"
#include "tests/reference.h"
#include "train/network.h"
#include "train/order.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_CFGS = 100, OUTPUTS = 256 /* of connected layers: VGG's need not be as they are */ };

static void must(enum status status, const struct err *err) {
    if (status) fail_msg("%s", err->text);
}

static struct model *seeded(const char *name) {
    char path[300];
    struct cfg *cfg;
    struct model *model;
    struct err err;
    snprintf(path, sizeof path, "cfg/%s", name);
    must(family_cfg(&cfg, path, false, OUTPUTS, &err), &err);
    must(model_create(&model, cfg, 1, &err), &err);
    selftest_fill(model, 7);
    return model;
}

static void zero(float *values, size_t at, size_t n) {
    if (values) memset(values + at, 0, n * sizeof *values);
}

/* Nothing comes out of the channels that `level` prunes. */
static void zero_pruned(struct model *m, int level) {
    for (int i = 0; i < m->net->nlayers; i++) {
        const struct net_layer *l = &m->net->layers[i];
        if (!net_has_weights(l)) continue;
        assert_true(activation_apply(l->activation, 0) == 0);
        int nsegments;
        const struct segment *segments = groups_segments(m->groups, i, &nsegments);
        const struct model_layer *w = &m->layers[i];
        const size_t row = net_weight_count(l) / (size_t)model_outputs(m, i);
        for (int s = 0; s < nsegments; s++) {
            const int keep = levels_keep(m->levels, level, segments[s].group) * segments[s].unit;
            const size_t at = (size_t)(segments[s].first + keep), n = (size_t)(segments[s].channels - keep);
            zero(w->weight, at * row, n * row);
            zero(w->bias, at, n);
            zero(w->gamma, at, n);
            zero(w->beta, at, n);
        }
    }
}

static struct engine *engine_of(const struct model *model) {
    struct engine *engine;
    struct err err;
    const struct engine_config config = engine_defaults();
    must(engine_create(&engine, model, &config, &err), &err);
    return engine;
}

/* The logits at a plan, malloc'ed. */
static float *infer(struct engine *engine, const struct model *model, const struct plan *plan, const float *input) {
    const size_t n = (size_t)model->net->classes;
    float *output = malloc(engine_output_max(engine) * sizeof *output), *logits = malloc(n * sizeof *logits);
    engine_set_plan(engine, plan);
    engine_run(engine, input, output);
    memcpy(logits, engine_logits(engine), n * sizeof *logits);
    free(output);
    return logits;
}

/* Frees `got`. */
static void same(float *got, const float *expected, size_t n, const char *what) {
    double worst;
    if (!reference_agrees(got, expected, n, &worst)) fail_msg("%s: off by %g of the largest magnitude", what, worst);
    free(got);
}

static struct plan *uniform(const struct model *model, int level) {
    struct plan *plan;
    struct err err;
    must(plan_create(&plan, model->blocks->nblocks, level, &err), &err);
    return plan;
}

static void check_zeroed(const char *name, int level, const float *expected, const float *input) {
    struct model *zeroed = seeded(name);
    struct plan *full = uniform(zeroed, 0);
    zero_pruned(zeroed, level);
    struct engine *engine = engine_of(zeroed);
    same(infer(engine, zeroed, full, input), expected, (size_t)zeroed->net->classes, "zeroed channels, by the level");
    engine_destroy(&engine);
    plan_destroy(&full);
    model_destroy(&zeroed);
}

static void check_trainer(struct model *model, struct plan *const plans[2], float *const expected[2], const float *input) {
    struct network *network;
    struct err err;
    const size_t n = (size_t)model->net->classes;
    must(network_create(&network, model, 1, 1, &err), &err);
    for (int p = 0; p < 2; p++) {
        float *logits = malloc(n * sizeof *logits);
        must(network_forward(network, plans[p], NETWORK_INFERENCE, input, 1, 0, logits, &err), &err);
        same(logits, expected[p], n, p ? "the trainer at a random plan, by the engine" : "the trainer at a level, by the engine");
    }
    network_destroy(&network);
}

static void check_order(struct model *model, const struct plan *full, const float *expected, const float *input) {
    struct order *order;
    struct err err;
    must(order_create(&order, model, ORDER_L1, 0, NULL, &err), &err);
    bool moves = false;
    for (int g = 0; g < model->groups->ngroups; g++)
        for (int u = 0; u < model->groups->group[g].units; u++) moves |= order->from[order->first[g] + u] != u;
    assert_true(moves);
    must(order_apply_model(order, model, &err), &err);
    order_destroy(&order);
    struct engine *engine = engine_of(model);
    same(infer(engine, model, full, input), expected, (size_t)model->net->classes, "another order, by the first");
    engine_destroy(&engine);
}

static void test_pruning(void **state) {
    enum { LEVEL, MIXED, FULL };
    const char *name = *state;
    struct model *model = seeded(name);
    struct engine *engine = engine_of(model);
    struct random random = random_stream(8, 0, 0);
    float *input = malloc(net_shape_size(model->net->input) * sizeof *input), *logits[3];
    selftest_input(model, input);
    struct plan *plans[] = {uniform(model, model->levels->nlevels / 2), uniform(model, 0), uniform(model, 0)};
    reference_random_plan(plans[MIXED], model, &random);
    for (int p = 0; p < 3; p++) logits[p] = infer(engine, model, plans[p], input);
    engine_destroy(&engine);
    check_zeroed(name, plans[LEVEL]->level[0], logits[LEVEL], input);
    check_trainer(model, plans, logits, input);
    check_order(model, plans[FULL], logits[FULL], input);
    for (int p = 0; p < 3; p++) {
        free(logits[p]);
        plan_destroy(&plans[p]);
    }
    free(input);
    model_destroy(&model);
}

static int is_network(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    char path[300];
    struct cfg *cfg;
    if (!dot || strcmp(dot, ".cfg") != 0) return 0;
    snprintf(path, sizeof path, "cfg/%s", entry->d_name);
    if (cfg_load(&cfg, path, NULL)) return 1; /* the test will say what is wrong */
    const bool network = !cfg_find(cfg, "source") && !cfg_find(cfg, "worker");
    cfg_destroy(&cfg);
    return network;
}

int main(void) {
    struct dirent **entries = NULL;
    struct CMUnitTest tests[MAX_CFGS];
    family_reuse_memory();
    const int n = scandir("cfg", &entries, is_network, alphasort);
    if (n < 20 || n > MAX_CFGS) {
        fprintf(stderr, "cfg/ holds %d networks, 20 to %d are expected\n", n, MAX_CFGS);
        return 1;
    }
    for (int i = 0; i < n; i++)
        tests[i] = (struct CMUnitTest){entries[i]->d_name, test_pruning, NULL, NULL, entries[i]->d_name};
    const int failed = _cmocka_run_group_tests("shipped", tests, (size_t)n, NULL, NULL);
    for (int i = 0; i < n; i++) free(entries[i]);
    free(entries);
    return failed;
}
