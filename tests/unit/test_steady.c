/* Steady latency: the ladder's rungs, the rung for a clock, and what throttling
 * firmware hides. Times are made up: a frame is work divided by the clock. */
#include "common/accuracy.h"
#include "deploy/steady.h"
#include "tests/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static const char cfg[] =
    "[net]\nwidth=12\nheight=12\nchannels=3\n[prune]\nlevels=1,.75,.5,.25\nalign=4\n"
    "[convolutional]\nbatch_normalize=1\nfilters=32\nsize=3\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=32\nsize=3\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=32\nsize=3\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=32\nsize=3\npad=1\nactivation=relu\n"
    "[avgpool]\n[connected]\noutput=4\nactivation=linear\n[softmax]\n";

enum { CLOCKS = 5 };
static const double mhz[CLOCKS] = { 600, 900, 1200, 1500, 1800 };
static const double work[] = { 1, .6, .3, .1 }; /* of a frame at each level */

struct fixture {
    struct model *model;
    struct profile *profile;
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct err err;
    if (reference_model(&f->model, cfg, 1, &err)) fail_msg("%s", err.text);
    const int nblocks = f->model->blocks->nblocks;
    if (profile_create(&f->profile, nblocks, 4, &err)) fail_msg("%s", err.text);
    for (int b = 0; b < nblocks; b++)
        for (int own = 0; own < 4; own++)
            for (int incoming = 0; incoming < 4; incoming++)
                f->profile->ms[(b * 4 + own) * 4 + incoming] = work[own] / nblocks;
    f->profile->nclocks = CLOCKS;
    for (int i = 0; i < CLOCKS; i++) {
        f->profile->clocks[i].mhz = mhz[i];
        for (int l = 0; l < 4; l++) f->profile->clocks[i].frame_ms[l] = 18000 * work[l] / mhz[i];
    }
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    profile_destroy(&f->profile);
    model_destroy(&f->model);
    free(f);
    return 0;
}

static struct steady *open_steady(const struct fixture *f, int nslices, const int *first, double target) {
    struct steady *s;
    struct err err;
    const struct steady_config config = { f->model, f->profile, nslices, first, target };
    if (steady_create(&s, &config, &err)) fail_msg("%s", err.text);
    return s;
}

/* What the frame really takes. */
static double frame_ms(const struct plan *plan, double clock) {
    double ms = 0;
    for (int b = 0; b < plan->nblocks; b++) ms += 18000 * work[plan->level[b]] / plan->nblocks / clock;
    return ms;
}

static void test_holds(void **state) {
    const struct fixture *f = *state;
    struct steady *s = open_steady(f, 0, NULL, 0);
    const int nblocks = f->model->blocks->nblocks;
    assert_int_equal(steady_rungs(s), 4 + 3 * 2 * (nblocks - 1));
    assert_float_equal(steady_target_ms(s), 10, 1e-9); /* full width at 1800 MHz */
    /* Between the clocks that were measured, too. The largest step between rungs is .4 of the frame over the blocks. */
    for (double clock = 600; clock <= 1800; clock += 50) {
        const struct plan *plan = steady_choose(s, &(struct cpufreq_state){ clock, 0 });
        double ms = frame_ms(plan, clock);
        assert_float_equal(ms, steady_expected_ms(s), .02 * ms);
        assert_true(fabs(ms - 10) <= 18000 * .4 / nblocks / clock / 2 + .02 * 10);
        int changes = 0;
        for (int b = 1; b < nblocks; b++) changes += plan->level[b] != plan->level[b - 1];
        assert_in_range(changes, 0, 1);
    }
    for (int b = 0; b < nblocks; b++)
        assert_int_equal(steady_choose(s, &(struct cpufreq_state){ 1800, 0 })->level[b], 0);
    /* Beyond the ladder: the narrowest, or the widest. */
    assert_int_equal(steady_choose(s, &(struct cpufreq_state){ 50, 0 })->level[0], 3);
    assert_int_equal(steady_choose(s, &(struct cpufreq_state){ 4000, 0 })->level[nblocks - 1], 0);
    steady_destroy(&s);
}

static void test_slices(void **state) {
    const struct fixture *f = *state;
    const int first[] = { 0, 2 };
    struct steady *s = open_steady(f, 2, first, 0);
    assert_int_equal(steady_rungs(s), 4 + 3 * 2);
    for (double clock = 600; clock <= 1800; clock += 100) {
        const struct plan *plan = steady_choose(s, &(struct cpufreq_state){ clock, 0 });
        for (int b = 1; b < plan->nblocks; b++)
            if (b != 2) assert_int_equal(plan->level[b], plan->level[b - 1]);
    }
    steady_destroy(&s);
}

/* Where two rungs take the same time the accuracy model says which. */
static void test_accuracy_decides(void **state) {
    struct fixture *f = *state;
    struct err err;
    const int nblocks = f->model->blocks->nblocks;
    for (int costly_front = 0; costly_front < 2; costly_front++) {
        accuracy_destroy(&f->model->accuracy);
        if (accuracy_create(&f->model->accuracy, nblocks, 4, &err)) fail_msg("%s", err.text);
        for (int b = 0; b < nblocks; b++)
            for (int l = 0; l < 4; l++)
                f->model->accuracy->block[b * 4 + l] = (b < nblocks / 2) == costly_front ? .05 * l : .01 * l;
        struct steady *s = open_steady(f, 0, NULL, 8);
        /* .8 of a frame: half the blocks at level 1. */
        const struct plan *plan = steady_choose(s, &(struct cpufreq_state){ 1800, 0 });
        assert_int_equal(plan->level[0], costly_front ? 0 : 1);
        assert_int_equal(plan->level[nblocks - 1], costly_front ? 1 : 0);
        steady_destroy(&s);
    }
}

/* Firmware that runs at 900 MHz while cpufreq says 1800. */
static void test_throttled(void **state) {
    const struct fixture *f = *state;
    struct steady *s = open_steady(f, 0, NULL, 0);
    const struct cpufreq_state hot = { 1800, CPUFREQ_THROTTLED_NOW }, volts = { 1800, CPUFREQ_UNDER_VOLTAGE };
    double ms = 0;
    for (int i = 0; i < 40; i++) {
        ms = frame_ms(steady_choose(s, &hot), 900);
        if (i == 0) assert_float_equal(ms, 20, 1e-6);
        steady_observe(s, ms);
    }
    assert_float_equal(ms, 10, .8);
    /* As soon as it lets go, the clock is believed again. */
    assert_int_equal(steady_choose(s, &(struct cpufreq_state){ 1800, 0 })->level[0], 0);
    /* Without such a flag something else is slow: that is followed, too, but one frame does not count for much. */
    steady_observe(s, 1000);
    ms = frame_ms(steady_choose(s, &volts), 1800);
    assert_true(ms > 9 && ms <= 10);
    for (int i = 0; i < 100; i++) {
        ms = frame_ms(steady_choose(s, &volts), 900);
        steady_observe(s, ms);
    }
    assert_float_equal(ms, 10, .8);
    steady_destroy(&s);
}

/* What a profile has wrong at one clock is learnt there, and is there when the clock comes back. */
static void test_learns_each_clock(void **state) {
    const struct fixture *f = *state;
    struct steady *s = open_steady(f, 0, NULL, 14); /* within the ladder's reach throughout */
    const struct cpufreq_state low = { 900, 0 }, high = { 1800, 0 };
    const int nblocks = f->model->blocks->nblocks;
    double ms = 0;
    for (int i = 0; i < 150; i++) {
        ms = frame_ms(steady_choose(s, &low), 720);
        steady_observe(s, ms);
    }
    assert_float_equal(ms, 14, 18000 * .4 / nblocks / 720 / 2 + .4);
    for (int visit = 0; visit < 2; visit++) {
        assert_float_equal(frame_ms(steady_choose(s, &high), 1800), 10, 1e-6);
        steady_observe(s, 10);
        assert_float_equal(frame_ms(steady_choose(s, &low), 720), ms, 18000 * .4 / nblocks / 720 / 2 + .2);
    }
    steady_destroy(&s);
}

static void test_refused(void **state) {
    struct fixture *f = *state;
    struct steady *s = NULL;
    struct err err;
    struct profile *other;
    const struct steady_config config = { f->model, f->profile, 0, NULL, 0 };
    f->profile->nclocks = 0;
    assert_int_equal(steady_create(&s, &config, &err), STATUS_USAGE);
    assert_non_null(strstr(err.hint, "--frequencies"));
    if (profile_create(&other, 2, 4, &err)) fail_msg("%s", err.text);
    other->nclocks = 1;
    const struct steady_config wrong = { f->model, other, 0, NULL, 0 };
    assert_int_equal(steady_create(&s, &wrong, &err), STATUS_USAGE);
    assert_non_null(strstr(err.text, "another model"));
    assert_null(s);
    profile_destroy(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slices, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_accuracy_decides, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_throttled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_learns_each_clock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
