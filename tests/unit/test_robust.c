/* Random plans: valid, of the stated distribution, the same from the same seed. */
#include "tests/unit/training.h"
#include "train/robust.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct model *make_model(void) {
    struct model *model;
    struct err err;
    assert_int_equal(training_model(&model, training_cfg, &err), STATUS_OK);
    assert_in_range(model->blocks->nblocks, 5, 20);
    return model;
}

static int slices_of(const struct plan *plan) {
    int n = 1;
    for (int b = 1; b < plan->nblocks; b++) n += plan->level[b] != plan->level[b - 1];
    return n;
}

static void test_draw(void **state) {
    enum { DRAWS = 20000 };
    struct model *model = make_model();
    struct plan *plan;
    struct err err;
    struct robust_config config = robust_defaults(ROBUST_DROP);
    struct random random = random_stream(1, 2, 3);
    int nlevels = model->levels->nlevels, nblocks = model->blocks->nblocks;
    int seen[PLAN_MAX_LEVELS] = { 0 }, changes[32] = { 0 }, slices[8] = { 0 }, capped = 0;
    assert_int_equal(plan_create(&plan, nblocks, 0, &err), STATUS_OK);
    config.max_cuts = 3;
    config.link = .5;
    for (int i = 0; i < DRAWS; i++) {
        robust_draw(&config, model, &random, plan);
        assert_int_equal(plan->link[0], 0);
        for (int b = 0; b < nblocks; b++) {
            assert_in_range(plan->level[b], 0, nlevels - 1);
            assert_int_equal(plan->codec[b], CODEC_F32);
            seen[plan->level[b]]++;
            if (b == 0) continue;
            changes[b] += plan->level[b] != plan->level[b - 1];
            if (plan->link[b]) assert_in_range(plan->link[b], plan->level[b - 1] + 1, nlevels - 1);
            capped += plan->link[b] != 0;
        }
        assert_in_range(slices_of(plan), 1, 4);
        slices[slices_of(plan)]++;
    }
    for (int l = 0; l < nlevels; l++) assert_in_range(seen[l], .95 * DRAWS * nblocks / nlevels, 1.05 * DRAWS * nblocks / nlevels);
    /* 1.5 cuts on average, alike over the places; a cut changes the level in
     * nlevels - 1 of nlevels cases, and that many can be capped. */
    double change = 1.5 / (nblocks - 1) * (nlevels - 1) / nlevels;
    for (int b = 1; b < nblocks; b++) assert_in_range(changes[b], .9 * DRAWS * change, 1.1 * DRAWS * change);
    assert_in_range(capped, .9 * DRAWS * 1.5 * .5 * (nlevels - 1) / nlevels, 1.1 * DRAWS * 1.5 * .5 * (nlevels - 1) / nlevels);
    for (int n = 1; n <= 4; n++) assert_true(slices[n] > DRAWS / 20);
    plan_destroy(&plan);
    model_destroy(&model);
}

static void make_plans(struct plan **plans, int nblocks) {
    struct err err;
    for (int i = 0; i < ROBUST_MAX_PASSES; i++) assert_int_equal(plan_create(&plans[i], nblocks, 0, &err), STATUS_OK);
}

static bool same(const struct plan *a, const struct plan *b) {
    size_t bytes = (size_t)a->nblocks * sizeof(int);
    return !memcmp(a->level, b->level, bytes) && !memcmp(a->link, b->link, bytes);
}

static bool uniform(const struct plan *plan, int level) {
    for (int b = 0; b < plan->nblocks; b++)
        if (plan->level[b] != level || plan->link[b]) return false;
    return true;
}

static void test_passes(void **state) {
    struct model *model = make_model();
    struct plan *a[ROBUST_MAX_PASSES], *b[ROBUST_MAX_PASSES];
    struct robust_config config = robust_defaults(ROBUST_DROP);
    int na, nb, full = 0, alike = 0;
    make_plans(a, model->blocks->nblocks);
    make_plans(b, model->blocks->nblocks);
    config.full = .25;
    config.plans = 2;
    for (int step = 0; step < 2000; step++) {
        bool teacher = robust_passes(&config, model, 7, step, a, &na);
        assert_int_equal(robust_passes(&config, model, 7, step, b, &nb), teacher);
        assert_int_equal(na, nb);
        assert_int_equal(na, 2 + teacher);
        full += teacher;
        if (teacher) assert_true(uniform(a[0], 0));
        for (int i = 0; i < na; i++) assert_true(same(a[i], b[i]));
        robust_passes(&config, model, 8, step, b, &nb);
        alike += same(a[na - 1], b[nb - 1]);
    }
    assert_in_range(full, 430, 570);
    assert_true(alike < 400);

    config = robust_defaults(ROBUST_SANDWICH);
    assert_true(robust_passes(&config, model, 1, 0, a, &na));
    assert_int_equal(na, 2 + config.plans);
    assert_true(uniform(a[0], 0) && uniform(a[1], model->levels->nlevels - 1));
    config = robust_defaults(ROBUST_NONE);
    assert_true(robust_passes(&config, model, 1, 0, a, &na));
    assert_int_equal(na, 1);
    assert_true(uniform(a[0], 0));
    config = robust_defaults(ROBUST_DROP);
    config.full = config.plans = 0;
    assert_false(robust_passes(&config, model, 1, 0, a, &na));
    assert_int_equal(na, 1);
    for (int i = 0; i < ROBUST_MAX_PASSES; i++) {
        plan_destroy(&a[i]);
        plan_destroy(&b[i]);
    }
    model_destroy(&model);
}

static void test_check(void **state) {
    struct err err;
    struct robust_config config = robust_defaults(ROBUST_DROP);
    assert_int_equal(robust_check(&config, &err), STATUS_OK);
    config.full = 1.5;
    assert_int_equal(robust_check(&config, &err), STATUS_USAGE);
    assert_non_null(strstr(err.text, "--robust-full"));
    config = robust_defaults(ROBUST_DROP);
    config.plans = ROBUST_MAX_PASSES - 1;
    assert_int_equal(robust_check(&config, &err), STATUS_USAGE);
    assert_non_null(strstr(err.text, "--robust-plans"));
    for (int m = 0; m < ROBUST_COUNT; m++)
        assert_int_equal(robust_parse(robust_name((enum robust_mode)m)), m);
    assert_int_equal(robust_parse("dropp"), ROBUST_COUNT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draw),
        cmocka_unit_test(test_passes),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
