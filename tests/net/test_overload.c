/* Frames that come faster than the pipeline takes them, under each --overload:
 * what is given up is recorded as such, and nothing is lost silently. */
#include "tests/pipeline.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* A worker stands still while frames go on coming; `said` tells when it may go on. */
static void run_overloaded(const char *options, const char *said) {
    char text[256];
    snprintf(text, sizeof text, "--fps 100 --summary %s %s", pipeline_path("summary.json"), options);
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, text);
    pipeline_wait_results(10);
    process_signal(&pipeline.worker[1], SIGSTOP);
    pipeline_wait_said(said);
    process_signal(&pipeline.worker[1], SIGCONT);
    pipeline_wait_results(PIPELINE_FRAMES - 10);
    pipeline_expect_exit(0);
    assert_true(pipeline_query("SELECT count(*) FROM frames") == PIPELINE_FRAMES);
    assert_true(pipeline_query("SELECT count(*) FROM results") == PIPELINE_FRAMES);
}

static double summary(const char *name) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(process_file(pipeline_path("summary.json")), key);
    double value = -1;
    assert_non_null(at);
    assert_int_equal(sscanf(at + strlen(key), "%lf", &value), 1);
    return value;
}

static void frames_wait_unless_told_otherwise(void **unused) {
    run_overloaded("", "w2: no answer");
    pipeline_expect_all_results();
    assert_true(summary("dropped") == 0 && summary("refused") == 0 && summary("lost") == 0);
}

static void the_oldest_are_dropped(void **unused) {
    run_overloaded("--overload drop-oldest --queue 4", "more dropped");
    double dropped = pipeline_query("SELECT count(*) FROM results WHERE error LIKE 'dropped: %' AND label IS NULL");
    assert_true(dropped > 0 && dropped == pipeline_query("SELECT count(*) FROM results WHERE error NOT NULL"));
    /* The newest have results. */
    assert_true(pipeline_query("SELECT min(error IS NULL) FROM results WHERE seq >= 116") == 1);
    assert_true(summary("dropped") == dropped && summary("failed") == 0 && summary("lost") == 0);
    pipeline_expect_said("frames dropped, 0 refused");
}

/* With a deadline, frames that have missed it are the ones to go, however few wait. */
static void frames_past_their_deadline_are_dropped(void **unused) {
    run_overloaded("--overload drop-oldest --queue 4000 --slo-ms 200", "more dropped");
    assert_true(summary("dropped") > 0);
    assert_true(summary("attainment") <= 1 - summary("dropped") / PIPELINE_FRAMES);
}

static void new_ones_are_refused(void **unused) {
    run_overloaded("--overload refuse --queue 4", "more refused");
    double refused = pipeline_query("SELECT count(*) FROM results WHERE error LIKE 'refused: %' AND label IS NULL");
    assert_true(refused > 0 && refused == pipeline_query("SELECT count(*) FROM results WHERE error NOT NULL"));
    assert_true(summary("refused") == refused && summary("dropped") == 0);
}

static void a_wrong_word_is_misuse(void **unused) {
    pipeline_write_cluster("");
    pipeline_start_runner(pipeline.frames, "--overload drop-newest");
    pipeline_expect_exit(2);
    pipeline_expect_said("--overload takes wait, drop-oldest or refuse, not 'drop-newest'");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(frames_wait_unless_told_otherwise, pipeline_teardown),
        cmocka_unit_test_teardown(the_oldest_are_dropped, pipeline_teardown),
        cmocka_unit_test_teardown(frames_past_their_deadline_are_dropped, pipeline_teardown),
        cmocka_unit_test_teardown(new_ones_are_refused, pipeline_teardown),
        cmocka_unit_test_teardown(a_wrong_word_is_misuse, pipeline_teardown),
    };
    return cmocka_run_group_tests_name("overload", tests, pipeline_group_setup, pipeline_group_teardown);
}
