/* Estimators: medians under outliers, jumps on steps, what is learnt about
 * profiles, rates through silences, and numbers that cannot be. */
#include "common/random.h"
#include "deploy/estimate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void close_to(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) print_error("%g is not %g within %g\n", value, expected, tolerance);
    assert_true(fabs(value - expected) <= tolerance);
}

static void test_prior_then_median(void **state) {
    struct estimate e;
    estimate_reset(&e, 1);
    close_to(e.value, 1, 0);
    estimate_add(&e, 1.3);
    estimate_add(&e, 1.2);
    close_to(e.value, 1, 0);
    estimate_add(&e, 1.25);
    close_to(e.value, 1.25, 1e-12);
    estimate_reset(&e, 0); /* no prior */
    estimate_add(&e, 40);
    close_to(e.value, 40, 0);
}

static void test_outliers_do_nothing(void **state) {
    struct estimate e;
    estimate_reset(&e, 1);
    for (int i = 0; i < 200; i++) {
        double sample = i % 10 == 4 ? 50 : i % 10 == 7 ? 0.01 : 1;
        assert_int_not_equal(estimate_add(&e, sample), ESTIMATE_IGNORED);
        close_to(e.value, 1, 1e-12);
    }
    /* two in a row are still a hiccup */
    estimate_add(&e, 10);
    assert_int_equal(estimate_add(&e, 10), ESTIMATE_TAKEN);
    close_to(e.value, 1, 1e-12);
}

static void test_steps_are_followed(void **state) {
    static const struct {
        double factor;
        int samples;
    } steps[] = {{3, 3}, {1.0 / 3, 3}, {1.95, 3}, {1.5, 5}, {1 / 1.5, 5}, {10, 3}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct estimate e;
        struct random r = random_stream(i, 0, 0);
        estimate_reset(&e, 1);
        for (int k = 0; k < 50; k++) estimate_add(&e, exp(0.02 * random_normal(&r)));
        int n = 0;
        while (fabs(log(e.value / steps[i].factor)) > 0.1 && n < 20) {
            estimate_add(&e, steps[i].factor * exp(0.02 * random_normal(&r)));
            n++;
        }
        if (n != steps[i].samples) print_error("a step by %g took %d samples\n", steps[i].factor, n);
        assert_true(n <= steps[i].samples);
    }
}

static void test_noise_does_not_jump(void **state) {
    int jumps = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct estimate e;
        struct random r = random_stream(seed, 1, 0);
        estimate_reset(&e, 1);
        for (int k = 0; k < 9000; k++) {
            double sample = exp(0.15 * random_normal(&r)) * (random_uniform(&r) < 0.01 ? 3 : 1);
            jumps += estimate_add(&e, sample) == ESTIMATE_JUMPED;
            if (k > 20) assert_true(e.value > 0.6 && e.value < 1.6);
        }
    }
    print_message("%d jumps in 180000 samples of noise\n", jumps);
    assert_true(jumps < 100);
}

static void test_impossible_samples(void **state) {
    static const double bad[] = {0, -1, NAN, INFINITY, -INFINITY};
    struct estimate e;
    struct estimate_slowdown s;
    struct estimate_spread p;
    struct estimate_rate r;
    estimate_reset(&e, 2);
    estimate_slowdown_reset(&s);
    estimate_spread_reset(&p);
    estimate_rate_reset(&r);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(estimate_add(&e, bad[i]), ESTIMATE_IGNORED);
        assert_int_equal(estimate_slowdown_add(&s, 0, 0, bad[i], 1), ESTIMATE_IGNORED);
        assert_int_equal(estimate_slowdown_add(&s, 0, 0, 1, bad[i]), ESTIMATE_IGNORED);
        if (!isfinite(bad[i])) {
            assert_false(estimate_spread_add(&p, bad[i]));
            assert_false(estimate_rate_add(&r, bad[i]));
        }
    }
    assert_int_equal(estimate_slowdown_add(&s, 0, -1, 1, 1), ESTIMATE_IGNORED);
    assert_int_equal(estimate_slowdown_add(&s, 0, PLAN_MAX_LEVELS, 1, 1), ESTIMATE_IGNORED);
    assert_int_equal(estimate_slowdown_add(&s, 0, 0, 1e300, 1e-300), ESTIMATE_IGNORED); /* overflows */
    close_to(e.value, 2, 0);
    close_to(s.ratio.value, 1, 0);
}

/* Ten frames a second. */
static void feed(struct estimate_slowdown *s, int level, double ratio, int count) {
    static double now_s;
    for (int i = 0; i < count; i++) estimate_slowdown_add(s, now_s += 0.1, level, 10 * ratio, 10);
}

/* The profile says half of what level 4 takes: seen at the switch to it. */
static void test_profile_is_corrected(void **state) {
    struct estimate_slowdown s;
    estimate_slowdown_reset(&s);
    feed(&s, 0, 1.1, 20);
    feed(&s, 0, 3.3, 8); /* contention */
    close_to(s.ratio.value, 3.3, 1e-9);
    feed(&s, 4, 6.6, 20);
    close_to(s.correction[4], 2, 1e-9);
    close_to(s.ratio.value, 3.3, 1e-9);
    close_to(s.value * s.correction[4], 6.6, 1e-9);
    feed(&s, 4, 2.2, 20); /* it ends */
    close_to(s.value * s.correction[0], 1.1, 1e-9);
    close_to(s.calm, 1.1, 1e-9);
    assert_true(estimate_slowdown_trusted(&s));
}

/* A level passed through too quickly to be compared leaves the reference. */
static void test_reference_survives_a_short_stay(void **state) {
    struct estimate_slowdown s;
    estimate_slowdown_reset(&s);
    feed(&s, 0, 1, 20);
    feed(&s, 2, 1.5, 3);
    feed(&s, 5, 2, 10);
    close_to(s.correction[5], 2, 1e-9);
    assert_false(s.trusted[2]);
    assert_true(s.trusted[5]);
}

/* A device that changes just when its level does is not the profile's fault. */
static void test_real_change_is_not_learnt(void **state) {
    struct estimate_slowdown s;
    estimate_slowdown_reset(&s);
    feed(&s, 0, 1, 20);
    feed(&s, 3, 4, 20);
    close_to(s.correction[3], 1, 0);
    assert_false(estimate_slowdown_trusted(&s));
    close_to(s.ratio.value, 4, 1e-9);
    estimate_slowdown_calm(&s);
    close_to(s.ratio.value, 1, 1e-9);
    /* back at level 0, it can be told what level 3 takes */
    feed(&s, 3, 1.2, 10);
    feed(&s, 0, 1, 10);
    assert_true(s.trusted[3]);
    close_to(s.correction[3], 1.2, 1e-9);
}

/* Time slices: one frame in five is off its core for long. The median knows
 * nothing of it; two hiccups are not it. */
static void test_mean_of_time_slices(void **state) {
    struct estimate_slowdown s;
    estimate_slowdown_reset(&s);
    for (int i = 0; i < 200; i++) estimate_slowdown_add(&s, i * 0.01, 0, i % 5 ? 1 : 21, 1);
    close_to(s.ratio.value, 1, 1e-9);
    close_to(s.value, 5, 0.8);
    close_to(s.calm, 1, 1e-9);
    estimate_slowdown_reset(&s);
    for (int i = 0; i < 200; i++) estimate_slowdown_add(&s, i * 0.01, 0, i == 150 || i == 155 ? 30 : 1, 1);
    close_to(s.value, 1, 1e-9);
    /* after a silence the latest samples count all the same */
    for (int i = 0; i < 20; i++) estimate_slowdown_add(&s, 100 + i, 0, 2, 1);
    close_to(s.value, 2, 1e-9);
}

static void test_rate(void **state) {
    struct estimate_rate r;
    estimate_rate_reset(&r);
    close_to(estimate_rate_per_s(&r, 0), 0, 0);
    for (int i = 0; i < 100; i++) assert_true(estimate_rate_add(&r, i * 0.05));
    close_to(estimate_rate_per_s(&r, 99 * 0.05), 20, 1e-6);
    close_to(estimate_rate_per_s(&r, 99 * 0.05 + 0.04), 20, 1e-6); /* between two frames */
    assert_true(estimate_rate_per_s(&r, 20) < 6); /* a long silence */
    assert_false(estimate_rate_add(&r, 1)); /* back in time */
    for (int i = 0; i < ESTIMATE_EVENTS; i++) estimate_rate_add(&r, 20); /* all at once: no rate to tell */
    close_to(estimate_rate_per_s(&r, 20), 0, 0);
}

/* Two samples are believed in haste only if both are far above. */
static void test_haste(void **state) {
    struct estimate_slowdown s;
    estimate_slowdown_reset(&s);
    double t = 0;
    for (int i = 0; i < 20; i++) estimate_slowdown_add(&s, t += 0.02, 0, 10, 10);
    assert_false(estimate_slowdown_hasten(&s));
    estimate_slowdown_add(&s, t += 0.02, 0, 30, 10);
    assert_false(estimate_slowdown_hasten(&s));
    estimate_slowdown_add(&s, t += 0.02, 0, 10, 10);
    assert_false(estimate_slowdown_hasten(&s));
    estimate_slowdown_add(&s, t += 0.02, 0, 31, 10);
    estimate_slowdown_add(&s, t += 0.02, 0, 29, 10);
    assert_true(estimate_slowdown_hasten(&s));
    close_to(s.ratio.value, 2.9, 1e-9);
    struct estimate_slowdown confirmed = s;
    estimate_slowdown_add(&confirmed, t + 0.02, 0, 30, 10);
    assert_true(confirmed.ratio.doubted == 0 && confirmed.ratio.value >= 2.9);
    estimate_slowdown_add(&s, t + 0.02, 0, 10, 10); /* it was a hiccup */
    assert_true(s.ratio.doubted == 0);
    close_to(s.ratio.value, 1, 1e-9);
}

/* A burst shows in the recent rate at once, in the long run's hardly. */
static void test_recent_rate(void **state) {
    struct estimate_rate r;
    estimate_rate_reset(&r);
    close_to(estimate_rate_recent(&r, 0), 0, 0);
    for (int i = 0; i <= 60; i++) estimate_rate_add(&r, 0.1 * i);
    close_to(estimate_rate_recent(&r, 6), 10, 1e-9);
    for (int i = 1; i <= ESTIMATE_RECENT; i++) estimate_rate_add(&r, 6 + 0.02 * i);
    close_to(estimate_rate_recent(&r, 6.16), 50, 1e-6);
    assert_true(estimate_rate_per_s(&r, 6.16) < 12);
    /* behind a silence fewer tell, but never fewer than that */
    for (int i = 0; i < ESTIMATE_BURST; i++) {
        estimate_rate_add(&r, 20 + 0.02 * i);
        if (i + 1 < ESTIMATE_BURST) assert_true(estimate_rate_recent(&r, 20 + 0.02 * i) < 2);
    }
    close_to(estimate_rate_recent(&r, 20.06), 50, 1e-6);
}

static void test_waits(void **state) {
    struct estimate_rate r;
    estimate_rate_reset(&r);
    close_to(estimate_rate_wait(&r, 1), 0, 0);
    for (int i = 0; i < 100; i++) estimate_rate_add(&r, 0.1 * i);
    close_to(estimate_rate_wait(&r, 0.1 - 1e-9), 0, 0);
    /* a queue grows by .02 with each; that of the event with three behind it */
    close_to(estimate_rate_wait(&r, 0.12), 0.02 * (ESTIMATE_EVENTS - 1 - 3), 1e-9);
    /* a burst of ten, and a silence in which its queue clears */
    for (int i = 0; i < 10; i++) estimate_rate_add(&r, 20 + 0.01 * i);
    for (int i = 0; i < 20; i++) estimate_rate_add(&r, 30 + 0.1 * i);
    close_to(estimate_rate_wait(&r, 0.05), 0.04 * 6, 1e-9);
    for (int i = 0; i < ESTIMATE_EVENTS; i++) estimate_rate_add(&r, 40 + 0.1 * i); /* it is long ago */
    close_to(estimate_rate_wait(&r, 0.05), 0, 0);
}

static void test_spread(void **state) {
    struct estimate_spread s;
    estimate_spread_reset(&s);
    for (int i = 0; i < ESTIMATE_SPREAD / 2 - 1; i++) estimate_spread_add(&s, 5);
    close_to(s.value, 0, 0);
    for (int i = 0; i < 200; i++) estimate_spread_add(&s, i % 10);
    assert_true(s.value >= 7 && s.value <= 9);
    for (int i = 0; i < 200; i++) estimate_spread_add(&s, i % 10 == 0 ? 1000 : -2); /* a tenth are outliers */
    close_to(s.value, -2, 1e-12);
}

static void test_ease(void **state) {
    struct estimate_ease e;
    estimate_ease_reset(&e);
    for (int i = 0; i < 100; i++) assert_true(estimate_ease_add(&e, 9, i, 3, 10 + i % 5));
    assert_true(estimate_ease_held(&e, 100) == 0);
    for (int i = 0; i < 100; i++) estimate_ease_add(&e, 9, 100 + i, 3, i % 3 ? 10 : 0); /* some are small */
    assert_true(estimate_ease_held(&e, 200) == 0);
    for (int i = 0; i < 9; i++) estimate_ease_add(&e, 9, 200 + i, 3, 0); /* 0: nothing is left of it */
    close_to(estimate_ease_held(&e, 210), 4, 1e-9); /* from 206 on: of the two left one was small, too */
    /* What is small at a narrower level says nothing, until something larger was seen there. */
    for (int i = 0; i < 20; i++) estimate_ease_add(&e, 9, 220 + i, 4, 4);
    assert_true(estimate_ease_held(&e, 240) == 0);
    /* But what there was at a level is remembered. */
    for (int i = 0; i < 9; i++) estimate_ease_add(&e, 9, 240 + i, 3, 4);
    close_to(estimate_ease_held(&e, 250), 2, 1e-9);
    for (int i = 0; i < 9; i++) estimate_ease_add(&e, 9, 250 + i, 3, 9); /* it was not gone */
    assert_true(estimate_ease_held(&e, 260) == 0);
    /* A fuller one has no less of it. */
    for (int i = 0; i < 9; i++) estimate_ease_add(&e, 9, 260 + i, 1, 5);
    close_to(estimate_ease_held(&e, 270), 2, 1e-9);
    assert_false(estimate_ease_add(&e, 9, 261, 3, -1));
    assert_false(estimate_ease_add(&e, 9, 261, 3, NAN));
    assert_false(estimate_ease_add(&e, 9, INFINITY, 3, 1));
    assert_false(estimate_ease_add(&e, 9, 261, PLAN_MAX_LEVELS, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prior_then_median),
        cmocka_unit_test(test_outliers_do_nothing),
        cmocka_unit_test(test_steps_are_followed),
        cmocka_unit_test(test_noise_does_not_jump),
        cmocka_unit_test(test_impossible_samples),
        cmocka_unit_test(test_profile_is_corrected),
        cmocka_unit_test(test_reference_survives_a_short_stay),
        cmocka_unit_test(test_real_change_is_not_learnt),
        cmocka_unit_test(test_mean_of_time_slices),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_haste),
        cmocka_unit_test(test_recent_rate),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_ease),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
