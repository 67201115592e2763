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

static void make_passes(struct robust_pass *passes, const struct model *model) {
    struct err err;
    for (int i = 0; i < ROBUST_MAX_PASSES; i++) assert_int_equal(robust_pass_create(&passes[i], model, &err), STATUS_OK);
}

static bool same_counts(const struct levels *a, const struct levels *b) {
    return !memcmp(a->keep, b->keep, (size_t)a->nlevels * (size_t)a->ngroups * sizeof *a->keep);
}

static bool same(const struct robust_pass *x, const struct robust_pass *y) {
    const struct plan *a = x->plan, *b = y->plan;
    size_t bytes = (size_t)a->nblocks * sizeof(int);
    return !memcmp(a->level, b->level, bytes) && !memcmp(a->link, b->link, bytes) &&
           same_counts(x->levels, y->levels) && x->shuffled == y->shuffled && x->shuffle == y->shuffle;
}

static bool uniform(const struct plan *plan, int level) {
    for (int b = 0; b < plan->nblocks; b++)
        if (plan->level[b] != level || plan->link[b]) return false;
    return true;
}

static void test_passes(void **state) {
    struct model *model = make_model();
    struct robust_pass a[ROBUST_MAX_PASSES], b[ROBUST_MAX_PASSES];
    struct robust_config config = robust_defaults(ROBUST_DROP);
    int na, nb, full = 0, alike = 0;
    make_passes(a, model);
    make_passes(b, model);
    config.full = .25;
    config.plans = 2;
    for (int step = 0; step < 2000; step++) {
        bool teacher = robust_passes(&config, model, 7, step, a, &na);
        assert_int_equal(robust_passes(&config, model, 7, step, b, &nb), teacher);
        assert_int_equal(na, nb);
        assert_int_equal(na, 2 + teacher);
        full += teacher;
        if (teacher) assert_true(uniform(a[0].plan, 0));
        for (int i = 0; i < na; i++) assert_true(same(&a[i], &b[i]));
        robust_passes(&config, model, 8, step, b, &nb);
        alike += same(&a[na - 1], &b[nb - 1]);
    }
    assert_in_range(full, 430, 570);
    assert_true(alike < 400);

    config = robust_defaults(ROBUST_SANDWICH);
    assert_true(robust_passes(&config, model, 1, 0, a, &na));
    assert_int_equal(na, 2 + config.plans);
    assert_true(uniform(a[0].plan, 0) && uniform(a[1].plan, model->levels->nlevels - 1));
    config = robust_defaults(ROBUST_NONE);
    assert_true(robust_passes(&config, model, 1, 0, a, &na));
    assert_int_equal(na, 1);
    assert_true(uniform(a[0].plan, 0));
    config = robust_defaults(ROBUST_DROP);
    config.full = config.plans = 0;
    assert_false(robust_passes(&config, model, 1, 0, a, &na));
    assert_int_equal(na, 1);

    /* Counts of their own: of every level, at every level but 0, in random plans only. */
    config = robust_defaults(ROBUST_SANDWICH);
    config.groups = 1;
    config.channels = ROBUST_RANDOM;
    const struct levels *levels = model->levels;
    int nlevels = levels->nlevels, drawn[PLAN_MAX_LEVELS] = { 0 };
    for (int step = 0; step < 500; step++) {
        robust_passes(&config, model, 3, step, a, &na);
        assert_true(same_counts(a[0].levels, levels) && same_counts(a[1].levels, levels));
        assert_true(!a[0].shuffled && a[1].shuffled && a[2].shuffled && a[1].shuffle != a[2].shuffle);
        for (int g = 0; g < levels->ngroups; g++) {
            assert_int_equal(levels_keep(a[2].levels, 0, g), levels_keep(levels, 0, g));
            for (int l = 0; l < nlevels; l++)
                drawn[l] += levels_keep(a[2].levels, 1, g) == levels_keep(levels, l, g);
        }
    }
    for (int l = 0; l < nlevels; l++) assert_true(drawn[l] > 0);
    for (int i = 0; i < ROBUST_MAX_PASSES; i++) {
        robust_pass_destroy(&a[i]);
        robust_pass_destroy(&b[i]);
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
