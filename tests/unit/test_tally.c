/* Counting results. */
#include "deploy/tally.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void results_are_counted_by_outcome_and_latency(void **unused) {
    struct tally t = { 0 };
    assert_true(tally_attainment(&t) == 1 && tally_quantile(&t, .5) == 0 && tally_results(&t) == 0);
    for (int i = 1; i <= 100; i++) tally_add(&t, TALLY_DONE, i * 1e-3, .080);
    tally_add(&t, TALLY_DROPPED, .5, .080);
    tally_add(&t, TALLY_FAILED, .001, .080);
    assert_true(tally_results(&t) == 102 && t.results[TALLY_DONE] == 100 && t.results[TALLY_DROPPED] == 1);
    assert_true(t.in_time == 80); /* a failure is no result in time, however quick */
    assert_true(t.bucket[0] == 5 && t.bucket[1] == 10 && t.bucket[TALLY_BUCKETS - 1] == 100);
    assert_true(fabs(t.latency_sum_s - 5.05) < 1e-9);
    assert_true(fabs(tally_attainment(&t) - 80. / 102) < 1e-12);
    assert_true(fabs(tally_quantile(&t, .5) - .050) < 1e-12 && fabs(tally_quantile(&t, .99) - .099) < 1e-12);
}

static void only_the_latest_make_up_the_attainment(void **unused) {
    struct tally t = { 0 };
    for (int i = 0; i < 1000; i++) tally_add(&t, TALLY_DONE, 1, .1);
    for (int i = 0; i < TALLY_RECENT; i++) tally_add(&t, TALLY_DONE, .05, .1);
    assert_true(tally_attainment(&t) == 1 && tally_quantile(&t, 1) == .05);
    tally_add(&t, TALLY_DONE, 1e9, 0); /* no deadline: in time */
    assert_true(tally_attainment(&t) == 1 && t.bucket[TALLY_BUCKETS - 1] == 1001 + TALLY_RECENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_counted_by_outcome_and_latency),
        cmocka_unit_test(only_the_latest_make_up_the_attainment),
    };
    return cmocka_run_group_tests_name("tally", tests, NULL, NULL);
}
