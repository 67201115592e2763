/* Workers that go for good and come back: a spare takes over, slices merge,
 * replicas share a stage. Whatever the layout, every frame has one result. */
#include "common/log.h"
#include "tests/pipeline.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

/* Frames that a worker did, as it said at the end of its only run. */
static int frames_of(int worker) {
    const char *path = pipeline_path("worker%d.log", worker + 1);
    assert_true(process_said(path, "the run has ended: ", PIPELINE_PATIENCE_S));
    return atoi(strstr(process_file(path), "the run has ended: ") + strlen("the run has ended: "));
}

/* However often each image comes round. */
static void expect_one_label_an_image(void) {
    assert_true(pipeline_query("SELECT max(n) FROM (SELECT count(DISTINCT label) AS n FROM frames JOIN results"
                               " USING (run_id, seq) GROUP BY path)") == 1);
}

static void a_spare_takes_over(void **unused) {
    pipeline.nworkers = 4;
    pipeline.more[3] = "spare=1\n";
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 15 --takeover 0.3");
    pipeline_wait_results(15);
    pipeline_kill_worker(1);
    pipeline_wait_said("w2 is gone: ");
    pipeline_wait_said("layout 2: w1 | w4 | w3");
    pipeline_wait_results(15);
    pipeline_start_worker(1, pipeline.address[1], NULL);
    pipeline_wait_said("w2 is back");
    pipeline_wait_said("layout 3: w1 | w2 | w3");
    pipeline_wait_results(PIPELINE_FRAMES - 30);
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
    assert_true(frames_of(3) > 0);
    assert_true(frames_of(1) > 0); /* it was started anew: those since then */
}

static void without_a_spare_slices_merge(void **unused) {
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 15 --takeover 0.2");
    pipeline_wait_results(10);
    pipeline_kill_worker(2);
    pipeline_wait_said("layout 2: w1 | w2");
    pipeline_wait_results(10);
    pipeline_kill_worker(0);
    pipeline_wait_said("layout 3: w2");
    pipeline_wait_results(10);
    pipeline_start_worker(0, pipeline.address[0], NULL);
    pipeline_start_worker(2, pipeline.address[2], NULL);
    pipeline_wait_said(": w1 | w2 | w3");
    pipeline_wait_results(PIPELINE_FRAMES - 30);
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE json_array_length(stages) = 1") > 0);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE json_array_length(stages) = 2") > 0);
}

/* The exact policy plans for the slices that there are. */
static void the_controller_follows_the_layout(void **unused) {
    pipeline.policy = "exact";
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 20 --takeover 0.2 --slo-ms 5000");
    pipeline_wait_results(20);
    pipeline_kill_worker(1);
    pipeline_wait_said("layout 2: w1 | w3");
    pipeline_wait_results(PIPELINE_FRAMES - 20);
    pipeline_expect_exit(0);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE error IS NULL") == PIPELINE_FRAMES);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE json_array_length(stages) = 2") > 0);
}

static void at_the_start_a_spare_may_stand_in(void **unused) {
    pipeline.nworkers = 4;
    pipeline.more[3] = "spare=1\n";
    pipeline_start_workers(NULL);
    pipeline_kill_worker(2);
    pipeline_start_runner(pipeline.frames, PIPELINE_CONNECT);
    pipeline_expect_exit(0);
    pipeline_expect_said("going on without w3");
    pipeline_expect_all_results();
}

/* The numbers of results, in the order in which they were printed. */
static void expect_in_order(int frames) {
    char line[4096];
    for (int i = 0; i < frames; i++) {
        int seq = -1;
        if (!process_line(&pipeline.runner, line, sizeof line, PIPELINE_PATIENCE_S)) fail_msg("result %d is missing", i);
        assert_int_equal(sscanf(line, "{\"seq\":%d", &seq), 1);
        assert_int_equal(seq, i);
    }
}

/* So many frames that each of three workers that share two cores has its turns. */
static void replicas_share_a_stage(void **unused) {
    enum { FRAMES = 20 * PIPELINE_FRAMES };
    pipeline.nworkers = 5;
    pipeline.more[3] = "replica_of=w2\n";
    pipeline.more[4] = "replica_of=w2\n";
    pipeline_start_workers(NULL);
    char frames[16];
    snprintf(frames, sizeof frames, "--frames %d", FRAMES);
    pipeline_start_runner(pipeline.frames, frames);
    expect_in_order(FRAMES);
    pipeline_expect_exit(0);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE error IS NULL") == FRAMES);
    expect_one_label_an_image();
    int done[] = { frames_of(1), frames_of(3), frames_of(4) };
    print_message("  frames done: %d, %d and %d\n", done[0], done[1], done[2]);
    assert_int_equal(done[0] + done[1] + done[2], FRAMES);
    for (int i = 0; i < 3; i++) assert_true(done[i] >= FRAMES / 12);
}

static void a_replica_goes_and_the_others_carry_on(void **unused) {
    pipeline.nworkers = 5;
    pipeline.more[3] = "replica_of=w2\n";
    pipeline.more[4] = "replica_of=w1\n";
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 20 --takeover 30");
    pipeline_wait_results(20);
    pipeline_kill_worker(1);
    pipeline_wait_results(30); /* nobody takes over: nobody needs to */
    pipeline_kill_worker(4);
    pipeline_wait_results(20);
    pipeline_start_worker(1, pipeline.address[1], NULL); /* and is used again at once */
    pipeline_wait_results(PIPELINE_FRAMES - 70);
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
    assert_true(frames_of(1) > 0);
    assert_null(strstr(process_file(pipeline_path("runner.log")), "layout 2"));
}

static void nap(double seconds) {
    nanosleep(&(struct timespec){ .tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) }, NULL);
}

/* A replica that stands still nine tenths of the time, however long the machine lets it run in
 * between, and for many frames at a time: the first of them may still go to it. */
static void a_slow_replica_gets_less(void **unused) {
    pipeline.nworkers = 4;
    pipeline.more[3] = "replica_of=w2\n";
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 60");
    pipeline_wait_results(1);
    for (double ran_s = .02; !process_ended(&pipeline.runner);) {
        process_signal(&pipeline.worker[3], SIGSTOP);
        nap(9 * ran_s);
        double start_s = log_now_s();
        process_signal(&pipeline.worker[3], SIGCONT);
        nap(.02);
        ran_s = log_now_s() - start_s;
    }
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
    if (frames_of(3) * 2 > frames_of(1)) fail_msg("%d frames to the slow one, %d to the other", frames_of(3), frames_of(1));
}

/* A worker that is slow for good: its blocks go to its neighbours while frames
 * stream, and not one of them has to be sent twice. */
static void a_slow_stage_gets_fewer_blocks(void **unused) {
    pipeline.isa[1] = "ref"; /* several times slower than the others */
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 100 --recut 4 --frames 6000");
    pipeline_wait_said("conditions have changed for good: cut behind ");
    pipeline_wait_said("layout 2: w1 | w2 | w3, cut behind ");
    double before = pipeline_query("SELECT count(*) FROM results");
    pipeline_wait_results((int)before + 100); /* of the new layout, at last */
    process_signal(&pipeline.runner, SIGINT);
    pipeline_expect_exit(1);
    assert_true(pipeline_query("SELECT count(*) FROM results") >= before + 100);
    assert_true(pipeline_query("SELECT max(attempts) = 1 AND count(error) = 0 FROM results") == 1);
    expect_one_label_an_image();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_spare_takes_over, pipeline_teardown),
        cmocka_unit_test_teardown(without_a_spare_slices_merge, pipeline_teardown),
        cmocka_unit_test_teardown(the_controller_follows_the_layout, pipeline_teardown),
        cmocka_unit_test_teardown(at_the_start_a_spare_may_stand_in, pipeline_teardown),
        cmocka_unit_test_teardown(replicas_share_a_stage, pipeline_teardown),
        cmocka_unit_test_teardown(a_replica_goes_and_the_others_carry_on, pipeline_teardown),
        cmocka_unit_test_teardown(a_slow_replica_gets_less, pipeline_teardown),
        cmocka_unit_test_teardown(a_slow_stage_gets_fewer_blocks, pipeline_teardown),
    };
    return cmocka_run_group_tests_name("layouts", tests, pipeline_group_setup, pipeline_group_teardown);
}
