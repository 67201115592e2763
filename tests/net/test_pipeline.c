/* The whole pipeline with real processes on loopback: three workers, a runner,
 * and what goes wrong between them. */
#include "deploy/keys.h"
#include "tests/pipeline.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- tests ---- */

static void results_are_those_of_one_device(void **unused) {
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--summary");
    process_wait(&pipeline.runner, PIPELINE_PATIENCE_S); /* --summary without a file: misused, nothing begun */
    assert_int_equal(access(pipeline.results, F_OK), -1);
    char options[128];
    snprintf(options, sizeof options, "--summary %s", pipeline_path("summary.json"));
    pipeline_start_runner(pipeline.frames, options);
    pipeline_wait_results(PIPELINE_FRAMES);
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
    const char *summary = process_file(pipeline_path("summary.json"));
    assert_non_null(strstr(summary, "\"attainment\":\t1"));
    assert_non_null(strstr(summary, "\"lost\":\t0"));
    assert_non_null(strstr(summary, "\"accuracy\":\t0."));
    assert_true(pipeline_query("SELECT avg(label = truth) FROM frames JOIN results USING (run_id, seq)") > 0);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE json_array_length(stages) = 3") == PIPELINE_FRAMES);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE levels = '0,0,0'") == PIPELINE_FRAMES);
}

static void a_pruned_plan_crosses_coded_links(void **unused) {
    pipeline_start_workers(NULL);
    pipeline_write_cluster("slo_ms=100000\nfps=1000\n");
    pipeline_start_runner(pipeline.frames, "--plan 0,1,2 --link 1:q8z,0:f16");
    pipeline_expect_exit(0);
    pipeline_expect_said("100.0% of 120 frames within 100000 ms");
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE levels = '0,1,2' AND links LIKE '%1:q8z,0:f16'") == PIPELINE_FRAMES);
}

static void a_killed_worker_costs_no_frame(void **unused) {
    pipeline_start_workers(NULL);
    for (int victim = 0; victim < PIPELINE_WORKERS; victim++) {
        unlink(pipeline.results);
        pipeline_start_runner(pipeline.frames, "--fps 200");
        pipeline_wait_results(20);
        pipeline_kill_worker(victim);
        pipeline_start_worker(victim, pipeline.address[victim], NULL);
        pipeline_wait_results(PIPELINE_FRAMES - 20);
        pipeline_expect_exit(0);
        pipeline_expect_all_results();
    }
}

/* Stopped (SIGSTOP), a worker's connections stay up: only its silence tells. */
static void a_stopped_worker_is_waited_for(void **unused) {
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 100");
    pipeline_wait_results(10);
    process_signal(&pipeline.worker[1], SIGSTOP);
    assert_true(process_said(pipeline_path("runner.log"), "w2: no answer", PIPELINE_PATIENCE_S));
    process_signal(&pipeline.worker[1], SIGCONT);
    pipeline_wait_results(PIPELINE_FRAMES - 10);
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
}

static void a_run_that_gets_nowhere_can_give_up(void **unused) {
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 100 --timeout 2");
    pipeline_wait_results(10);
    process_signal(&pipeline.worker[2], SIGKILL);
    pipeline_expect_exit(1);
    pipeline_expect_said("w3 at tcp://127.0.0.1:");
    pipeline_start_worker(2, pipeline.address[2], NULL);
    pipeline_start_runner(pipeline.frames, "");
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
}

static void a_killed_runner_goes_on(void **unused) {
    pipeline_start_workers(NULL);
    for (int i = 0, seen = 0; i < 3; i++, seen += 25) {
        pipeline_start_runner(pipeline.frames, "--fps 200");
        pipeline_wait_results(25);
        process_signal(&pipeline.runner, SIGKILL);
        process_wait(&pipeline.runner, PIPELINE_PATIENCE_S);
        assert_true(pipeline_query("SELECT count(*) FROM results") >= seen + 25);
    }
    pipeline_start_runner(pipeline.frames, "--fps 200");
    pipeline_expect_exit(0);
    pipeline_expect_said("going on with the run");
    pipeline_expect_all_results();
}

static void a_signal_stops_it_cleanly(void **unused) {
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 200");
    pipeline_wait_results(30);
    process_signal(&pipeline.runner, SIGINT);
    pipeline_expect_exit(1);
    pipeline_expect_said("the same command goes on from there");
    assert_true(pipeline_query("SELECT count(*) FROM results") >= 30);
    pipeline_start_runner(pipeline.frames, "");
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
}

static void bad_frames_fail_once_with_a_reason(void **unused) {
    mkdir(pipeline_path("mixed"), 0755);
    FILE *f = fopen(pipeline_path("mixed/a.jpg"), "w");
    fputs("this is text, whatever its name says\n", f);
    fclose(f);
    fclose(fopen(pipeline_path("mixed/b.jpg"), "w"));
    uint8_t bytes[2048];
    size_t length = pipeline_frame(0, bytes);
    f = fopen(pipeline_path("mixed/c.ppm"), "wb");
    fwrite(bytes, 1, length, f);
    fclose(f);
    symlink("/nonexistent", pipeline_path("mixed/d.png"));
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline_path("mixed"), "");
    pipeline_expect_exit(0);
    assert_true(pipeline_query("SELECT count(*) FROM results") == 4);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE error IS NULL AND seq = 2 AND label NOT NULL") == 1);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE error NOT NULL AND label IS NULL") == 3);
    pipeline_expect_said("No such file or directory");
    pipeline_expect_said("3 failed");
}

static void frames_come_on_standard_input_and_in_a_watched_folder(void **unused) {
    pipeline_start_workers(NULL);
    pipeline_start_runner("-", "");
    process_close_input(&pipeline.runner);
    pipeline_expect_exit(0);
    pipeline_expect_said("0 frames");
    unlink(pipeline.results);

    mkdir(pipeline_path("watched"), 0755);
    pipeline_start_runner(pipeline_path("watched"), "--watch --frames 40");
    for (int i = 0; i < 40; i++) {
        uint8_t bytes[2048];
        size_t length = pipeline_frame(i, bytes);
        FILE *f = fopen(pipeline_path("watched/%02d.part", i), "wb");
        fwrite(bytes, 1, length, f);
        fclose(f);
        char part[256];
        strcpy(part, pipeline_path("watched/%02d.part", i));
        rename(part, pipeline_path("watched/%02d.ppm", i));
    }
    pipeline_wait_results(40);
    pipeline_expect_exit(0);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE error IS NULL") == 40);
    assert_true(pipeline_query("SELECT count(DISTINCT path) FROM frames") == 40);
}

static void a_damaged_cache_is_fetched_again(void **unused) {
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "");
    pipeline_expect_exit(0);
    for (int i = 0; i < PIPELINE_WORKERS; i++) {
        process_signal(&pipeline.worker[i], SIGTERM);
        assert_int_equal(process_wait(&pipeline.worker[i], PIPELINE_PATIENCE_S), 0);
    }
    DIR *dir = opendir(pipeline_path("cache"));
    int damaged = 0, packed = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        packed += strstr(entry->d_name, ".packed") != NULL;
        if (!strstr(entry->d_name, ".safetensors") && !strstr(entry->d_name, ".packed")) continue;
        FILE *f = fopen(pipeline_path("cache/%s", entry->d_name), "r+b");
        fseek(f, -100, SEEK_END);
        int byte = fgetc(f);
        fseek(f, -100, SEEK_END);
        fputc(byte ^ 0x40, f);
        fclose(f);
        damaged++;
    }
    closedir(dir);
    assert_int_equal(packed, PIPELINE_WORKERS);
    assert_int_equal(damaged - packed, PIPELINE_WORKERS);
    unlink(pipeline.results);
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "");
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
    assert_non_null(strstr(process_file(pipeline_path("worker2.log")), "fetching a slice"));
}

static void what_cannot_begin_says_why(void **unused) {
    pipeline_start_workers(NULL);
    pipeline_kill_worker(1);
    pipeline_start_runner(pipeline.frames, PIPELINE_CONNECT);
    pipeline_expect_exit(1);
    pipeline_expect_said("w2 at tcp://127.0.0.1:");
    pipeline_expect_said("nothing answers there");
    pipeline_start_runner(pipeline_path("nowhere"), "");
    pipeline_expect_exit(1);
    pipeline_expect_said("nowhere: No such file or directory");
    pipeline_start_runner(pipeline.frames, "--policy exacd --slo-ms 5");
    pipeline_expect_exit(2);
    pipeline_expect_said("did you mean 'exact'?");
    pipeline_start_runner(pipeline.frames, "--plan 0,9,0");
    assert_int_not_equal(process_wait(&pipeline.runner, PIPELINE_PATIENCE_S), 0);
}

/* ---- keys ---- */

static void make_keys(const char *keys) {
    char hex[KEYS_HEX];
    static const char *const names[] = { "w1", "w2", "w3", "runner" };
    for (int i = 0; i < 4; i++) assert_int_equal(keys_generate(keys, names[i], hex, NULL), STATUS_OK);
}

/* The worker that the runner's last words are about: it gives up with the first that refuses it. */
static int named_worker(void) {
    const char *said = process_file(pipeline_path("runner.log"));
    for (int i = 1; i <= PIPELINE_WORKERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d at ", i);
        if (strstr(said, name)) return i;
    }
    fail_msg("no worker is named in: %s", said);
    return 0;
}

static void keys_let_in_those_who_hold_them(void **unused) {
    char keys[96], apart[96], options[256], command[512];
    strcpy(keys, pipeline_path("keys"));
    strcpy(apart, pipeline_path("apart"));
    make_keys(keys);
    pipeline_start_workers(keys);
    snprintf(options, sizeof options, "--keys %s --name runner", keys);
    pipeline_start_runner(pipeline.frames, options);
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
    unlink(pipeline.results);

    char hex[KEYS_HEX]; /* a stranger: knows the workers' keys, is not on their list */
    assert_int_equal(keys_generate(apart, "stranger", hex, NULL), STATUS_OK);
    snprintf(command, sizeof command, "cp %s/w1.pub %s/w2.pub %s/w3.pub %s", keys, keys, keys, apart);
    assert_int_equal(system(command), 0);
    snprintf(options, sizeof options, "--keys %s --name stranger", apart);
    pipeline_start_runner(pipeline.frames, options);
    pipeline_expect_exit(1);
    pipeline_expect_said("our key is not among its allowed keys");
    assert_true(process_said(pipeline_path("worker%d.log", named_worker()), hex, PIPELINE_PATIENCE_S));

    pipeline_start_runner(pipeline.frames, ""); /* no keys at all */
    pipeline_expect_exit(1);
    pipeline_expect_said("only one side has keys");

    /* A worker that holds another key than the one it is known by. */
    pipeline_kill_worker(1);
    snprintf(command, sizeof command, "rm %s/w2.key && cp %s/stranger.key %s/w2.key", keys, apart, keys);
    assert_int_equal(system(command), 0);
    pipeline_start_worker(1, pipeline.address[1], keys);
    snprintf(options, sizeof options, "--keys %s --name runner", keys);
    pipeline_start_runner(pipeline.frames, options);
    pipeline_expect_exit(1);
    pipeline_expect_said("w");
    pipeline_expect_said("its key is not the expected one");
    assert_true(pipeline_query("SELECT count(*) FROM results") == 0); /* nothing was served */

    chmod(pipeline_path("keys/w2.key"), 0644);
    const char *argv[] = { process_program("espalier-deploy"), "worker", "--keys", keys, "--name", "w2", NULL };
    process_start(&pipeline.runner, argv, pipeline_path("runner.log"));
    pipeline_expect_exit(1);
    pipeline_expect_said("a secret key that others can read");
    const char *open_argv[] = { process_program("espalier-deploy"), "worker", "--listen", "tcp://0.0.0.0:7799", NULL };
    process_start(&pipeline.runner, open_argv, pipeline_path("runner.log"));
    pipeline_expect_exit(2);
    pipeline_expect_said("without keys a worker listens on this machine's own addresses only");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(results_are_those_of_one_device, pipeline_teardown),
        cmocka_unit_test_teardown(a_pruned_plan_crosses_coded_links, pipeline_teardown),
        cmocka_unit_test_teardown(a_killed_worker_costs_no_frame, pipeline_teardown),
        cmocka_unit_test_teardown(a_stopped_worker_is_waited_for, pipeline_teardown),
        cmocka_unit_test_teardown(a_run_that_gets_nowhere_can_give_up, pipeline_teardown),
        cmocka_unit_test_teardown(a_killed_runner_goes_on, pipeline_teardown),
        cmocka_unit_test_teardown(a_signal_stops_it_cleanly, pipeline_teardown),
        cmocka_unit_test_teardown(bad_frames_fail_once_with_a_reason, pipeline_teardown),
        cmocka_unit_test_teardown(frames_come_on_standard_input_and_in_a_watched_folder, pipeline_teardown),
        cmocka_unit_test_teardown(a_damaged_cache_is_fetched_again, pipeline_teardown),
        cmocka_unit_test_teardown(what_cannot_begin_says_why, pipeline_teardown),
        cmocka_unit_test_teardown(keys_let_in_those_who_hold_them, pipeline_teardown),
    };
    return cmocka_run_group_tests_name("pipeline", tests, pipeline_group_setup, pipeline_group_teardown);
}
