/* The whole pipeline with real processes on loopback: three workers, a runner,
 * and what goes wrong between them. */
#include "common/model.h"
#include "deploy/engine.h"
#include "deploy/keys.h"
#include "tests/nets.h"
#include "tests/processes.h"
#include "tests/reference.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { WORKERS = 3, FRAMES = 120, SIDE = 16 };
static const double PATIENCE_S = 60; /* far more than anything takes, sanitizers included */

static char folder[64], model_path[96], frames_path[96], cluster_path[96], results_path[96];
static struct process workers[WORKERS], runner;
static char addresses[WORKERS][256];
static int expected_label[FRAMES];
static double expected_prob[FRAMES];

static const char *in_folder(const char *format, ...) {
    static char path[8][256];
    static int turn;
    char *p = path[turn++ % 8];
    int n = snprintf(p, sizeof path[0], "%s/", folder);
    va_list args;
    va_start(args, format);
    vsnprintf(p + n, sizeof path[0] - (size_t)n, format, args);
    va_end(args);
    return p;
}

/* ---- a model and frames ---- */

static size_t frame_bytes(int index, uint8_t *out) {
    struct random random = random_stream(11, (uint64_t)index, 0);
    int head = sprintf((char *)out, "P6\n%d %d\n255\n", SIDE, SIDE);
    for (int i = 0; i < SIDE * SIDE * 3; i++) out[head + i] = (uint8_t)random_below(&random, 256);
    return (size_t)(head + SIDE * SIDE * 3);
}

static const char *frame_name(int index) {
    return in_folder("frames/%s/%03d.ppm", index % 2 ? "fox" : "ant", index / 2);
}

/* The frame's place when the folder is read in order: all ants, then all foxes. */
static int place_of(int index) {
    return index % 2 ? FRAMES / 2 + index / 2 : index / 2;
}

static int write_frames(const struct model *model) {
    struct engine *engine = NULL;
    struct engine_config config = engine_defaults();
    float input[3 * SIDE * SIDE], output[10];
    if (engine_create(&engine, model, &config, NULL)) return -1;
    mkdir(in_folder("frames"), 0755), mkdir(in_folder("frames/ant"), 0755), mkdir(in_folder("frames/fox"), 0755);
    for (int i = 0; i < FRAMES; i++) {
        uint8_t bytes[2048];
        size_t length = frame_bytes(i, bytes);
        FILE *f = fopen(frame_name(i), "wb");
        if (!f || fwrite(bytes, 1, length, f) != length || fclose(f) != 0) return -1;
        if (image_preprocess(&model->preproc, "frame", bytes, length, input, NULL)) return -1;
        engine_run(engine, input, output);
        int best = 0;
        for (int k = 1; k < 10; k++)
            if (output[k] > output[best]) best = k;
        expected_label[place_of(i)] = best;
        expected_prob[place_of(i)] = output[best];
    }
    engine_destroy(&engine);
    return 0;
}

static int group_setup(void **unused) {
    static const char *const names[10] = { "ant", "fox", "cat", "dog", "eel", "hen", "owl", "pig", "rat", "yak" };
    struct model *model = NULL;
    strcpy(folder, "/tmp/espalier-pipeline-XXXXXX");
    if (!mkdtemp(folder) || reference_model(&model, nets[0].cfg, 5, NULL)) return -1;
    model->labels = calloc(10, sizeof *model->labels);
    for (int i = 0; i < 10; i++) model->labels[i] = strdup(names[i]);
    model->nlabels = 10;
    strcpy(model_path, in_folder("model.safetensors"));
    strcpy(frames_path, in_folder("frames"));
    strcpy(cluster_path, in_folder("cluster.cfg"));
    strcpy(results_path, in_folder("results.sqlite"));
    int failed = model_save(model, model_path, NULL) || write_frames(model);
    model_destroy(&model);
    return failed ? -1 : 0;
}

static int group_teardown(void **unused) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* ---- processes ---- */

static void start_worker(int index, const char *address, const char *keys) {
    char name[16], threads[] = "1";
    const char *program = process_program("espalier-deploy");
    snprintf(name, sizeof name, "w%d", index + 1);
    const char *argv[] = { program, "worker", "--listen", address, "--cache", in_folder("cache"), "--threads", threads,
                           keys ? "--keys" : NULL, keys, "--name", name, NULL };
    process_start(&workers[index], argv, in_folder("worker%d.log", index + 1));
    if (!process_line(&workers[index], addresses[index], sizeof addresses[0], PATIENCE_S))
        fail_msg("worker %d does not start: %s", index + 1, process_file(in_folder("worker%d.log", index + 1)));
}

static void write_cluster(const char *extra) {
    FILE *f = fopen(cluster_path, "w");
    fprintf(f, "[source]\n%s", extra);
    for (int i = 0; i < WORKERS; i++) fprintf(f, "[worker]\nname=w%d\naddress=%s\n", i + 1, addresses[i]);
    fclose(f);
}

static void start_workers(const char *keys) {
    for (int i = 0; i < WORKERS; i++) start_worker(i, "tcp://127.0.0.1:*", keys);
    write_cluster("");
}

/* Options after the usual ones, separated by blanks. */
static void start_runner(const char *source, const char *options) {
    static char text[512];
    const char *argv[40] = { process_program("espalier-deploy"), "run", cluster_path, model_path, source, "--results",
                             results_path, "--policy", "static", "--json" };
    int n = 10;
    snprintf(text, sizeof text, "%s", options);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) argv[n++] = word;
    argv[n] = NULL;
    process_start(&runner, argv, in_folder("runner.log"));
}

static void expect_exit(int status) {
    int got = process_wait(&runner, PATIENCE_S);
    if (got != status) fail_msg("exit status %d, not %d: %s", got, status, process_file(in_folder("runner.log")));
}

static void expect_said(const char *text) {
    const char *said = process_file(in_folder("runner.log"));
    if (!strstr(said, text)) fail_msg("expected '%s' in: %s", text, said);
}

static void wait_lines(int count) {
    char line[4096];
    for (int i = 0; i < count; i++)
        if (!process_line(&runner, line, sizeof line, PATIENCE_S))
            fail_msg("result %d of %d does not come: %s", i + 1, count, process_file(in_folder("runner.log")));
}

static int teardown(void **unused) {
    static const char *const left[] = { "results.sqlite", "results.sqlite-wal", "results.sqlite-shm" };
    char command[256];
    process_signal(&runner, SIGKILL);
    process_wait(&runner, PATIENCE_S);
    for (int i = 0; i < WORKERS; i++) {
        process_signal(&workers[i], SIGKILL);
        process_wait(&workers[i], PATIENCE_S);
    }
    for (int i = 0; i < 3; i++) unlink(in_folder("%s", left[i]));
    snprintf(command, sizeof command, "rm -rf %s/keys %s/apart %s/cache", folder, folder, folder);
    return system(command);
}

/* ---- results ---- */

static double query(const char *sql) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    if (sqlite3_open_v2(results_path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    double value = sqlite3_column_double(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return value;
}

/* Every frame has one result, and it is what one device would have said. */
static void expect_all_results(void) {
    assert_true(query("SELECT count(*) FROM runs") == 1);
    assert_true(query("SELECT count(*) FROM frames") == FRAMES);
    assert_true(query("SELECT count(*) FROM results WHERE error IS NULL") == FRAMES);
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_open(results_path, &db), SQLITE_OK);
    const char *sql = "SELECT seq, label, prob FROM results ORDER BY seq";
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    for (int i = 0; i < FRAMES; i++) {
        assert_int_equal(sqlite3_step(s), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(s, 0), i);
        assert_int_equal(sqlite3_column_int(s, 1), expected_label[i]);
        assert_true(fabs(sqlite3_column_double(s, 2) - expected_prob[i]) <= 1e-4);
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
}

/* ---- tests ---- */

static void results_are_those_of_one_device(void **unused) {
    start_workers(NULL);
    start_runner(frames_path, "--summary");
    process_wait(&runner, PATIENCE_S); /* --summary without a file: misused, nothing begun */
    assert_int_equal(access(results_path, F_OK), -1);
    char options[128];
    snprintf(options, sizeof options, "--summary %s", in_folder("summary.json"));
    start_runner(frames_path, options);
    wait_lines(FRAMES);
    expect_exit(0);
    expect_all_results();
    const char *summary = process_file(in_folder("summary.json"));
    assert_non_null(strstr(summary, "\"attainment\":\t1"));
    assert_non_null(strstr(summary, "\"lost\":\t0"));
    assert_non_null(strstr(summary, "\"accuracy\":\t0."));
    assert_true(query("SELECT avg(label = truth) FROM frames JOIN results USING (run_id, seq)") > 0);
    assert_true(query("SELECT count(*) FROM results WHERE json_array_length(stages) = 3") == FRAMES);
    assert_true(query("SELECT count(*) FROM results WHERE levels = '0,0,0'") == FRAMES);
}

static void a_pruned_plan_crosses_coded_links(void **unused) {
    start_workers(NULL);
    write_cluster("slo_ms=100000\nfps=1000\n");
    start_runner(frames_path, "--plan 0,1,2 --link 1:q8z,0:f16");
    expect_exit(0);
    expect_said("100.0% of 120 frames within 100000 ms");
    assert_true(query("SELECT count(*) FROM results WHERE levels = '0,1,2' AND links LIKE '%1:q8z,0:f16'") == FRAMES);
}

static void a_killed_worker_costs_no_frame(void **unused) {
    start_workers(NULL);
    for (int victim = 0; victim < WORKERS; victim++) {
        unlink(results_path);
        start_runner(frames_path, "--fps 200");
        wait_lines(20);
        process_signal(&workers[victim], SIGKILL);
        process_wait(&workers[victim], PATIENCE_S);
        start_worker(victim, addresses[victim], NULL);
        wait_lines(FRAMES - 20);
        expect_exit(0);
        expect_all_results();
    }
}

/* Stopped (SIGSTOP), a worker's connections stay up: only its silence tells. */
static void a_stopped_worker_is_waited_for(void **unused) {
    start_workers(NULL);
    start_runner(frames_path, "--fps 100");
    wait_lines(10);
    process_signal(&workers[1], SIGSTOP);
    assert_true(process_said(in_folder("runner.log"), "w2: no answer", PATIENCE_S));
    process_signal(&workers[1], SIGCONT);
    wait_lines(FRAMES - 10);
    expect_exit(0);
    expect_all_results();
}

static void a_run_that_gets_nowhere_can_give_up(void **unused) {
    start_workers(NULL);
    start_runner(frames_path, "--fps 100 --timeout 2");
    wait_lines(10);
    process_signal(&workers[2], SIGKILL);
    expect_exit(1);
    expect_said("w3 at tcp://127.0.0.1:");
    start_worker(2, addresses[2], NULL);
    start_runner(frames_path, "");
    expect_exit(0);
    expect_all_results();
}

static void a_killed_runner_goes_on(void **unused) {
    start_workers(NULL);
    for (int i = 0, seen = 0; i < 3; i++, seen += 25) {
        start_runner(frames_path, "--fps 200");
        wait_lines(25);
        process_signal(&runner, SIGKILL);
        process_wait(&runner, PATIENCE_S);
        assert_true(query("SELECT count(*) FROM results") >= seen + 25);
    }
    start_runner(frames_path, "--fps 200");
    expect_exit(0);
    expect_said("going on with the run");
    expect_all_results();
}

static void a_signal_stops_it_cleanly(void **unused) {
    start_workers(NULL);
    start_runner(frames_path, "--fps 200");
    wait_lines(30);
    process_signal(&runner, SIGINT);
    expect_exit(1);
    expect_said("the same command goes on from there");
    assert_true(query("SELECT count(*) FROM results") >= 30);
    start_runner(frames_path, "");
    expect_exit(0);
    expect_all_results();
}

static void bad_frames_fail_once_with_a_reason(void **unused) {
    mkdir(in_folder("mixed"), 0755);
    FILE *f = fopen(in_folder("mixed/a.jpg"), "w");
    fputs("this is text, whatever its name says\n", f);
    fclose(f);
    fclose(fopen(in_folder("mixed/b.jpg"), "w"));
    uint8_t bytes[2048];
    size_t length = frame_bytes(0, bytes);
    f = fopen(in_folder("mixed/c.ppm"), "wb");
    fwrite(bytes, 1, length, f);
    fclose(f);
    symlink("/nonexistent", in_folder("mixed/d.png"));
    start_workers(NULL);
    start_runner(in_folder("mixed"), "");
    expect_exit(0);
    assert_true(query("SELECT count(*) FROM results") == 4);
    assert_true(query("SELECT count(*) FROM results WHERE error IS NULL AND seq = 2 AND label NOT NULL") == 1);
    assert_true(query("SELECT count(*) FROM results WHERE error NOT NULL AND label IS NULL") == 3);
    expect_said("No such file or directory");
    expect_said("3 failed");
}

static void frames_come_on_standard_input_and_in_a_watched_folder(void **unused) {
    start_workers(NULL);
    start_runner("-", "");
    process_close_input(&runner);
    expect_exit(0);
    expect_said("0 frames");
    unlink(results_path);

    mkdir(in_folder("watched"), 0755);
    start_runner(in_folder("watched"), "--watch --frames 40");
    for (int i = 0; i < 40; i++) {
        uint8_t bytes[2048];
        size_t length = frame_bytes(i, bytes);
        FILE *f = fopen(in_folder("watched/%02d.part", i), "wb");
        fwrite(bytes, 1, length, f);
        fclose(f);
        char part[256];
        strcpy(part, in_folder("watched/%02d.part", i));
        rename(part, in_folder("watched/%02d.ppm", i));
    }
    wait_lines(40);
    expect_exit(0);
    assert_true(query("SELECT count(*) FROM results WHERE error IS NULL") == 40);
    assert_true(query("SELECT count(DISTINCT path) FROM frames") == 40);
}

static void a_damaged_cache_is_fetched_again(void **unused) {
    start_workers(NULL);
    start_runner(frames_path, "");
    expect_exit(0);
    for (int i = 0; i < WORKERS; i++) {
        process_signal(&workers[i], SIGTERM);
        assert_int_equal(process_wait(&workers[i], PATIENCE_S), 0);
    }
    DIR *dir = opendir(in_folder("cache"));
    int damaged = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strstr(entry->d_name, ".safetensors")) continue;
        FILE *f = fopen(in_folder("cache/%s", entry->d_name), "r+b");
        fseek(f, -100, SEEK_END);
        int byte = fgetc(f);
        fseek(f, -100, SEEK_END);
        fputc(byte ^ 0x40, f);
        fclose(f);
        damaged++;
    }
    closedir(dir);
    assert_int_equal(damaged, WORKERS);
    unlink(results_path);
    start_workers(NULL);
    start_runner(frames_path, "");
    expect_exit(0);
    expect_all_results();
    assert_non_null(strstr(process_file(in_folder("worker2.log")), "fetching a slice"));
}

static void what_cannot_begin_says_why(void **unused) {
    start_workers(NULL);
    process_signal(&workers[1], SIGKILL);
    process_wait(&workers[1], PATIENCE_S);
    start_runner(frames_path, "--connect-timeout 0.5");
    expect_exit(1);
    expect_said("w2 at tcp://127.0.0.1:");
    expect_said("nothing answers there");
    start_runner(in_folder("nowhere"), "");
    expect_exit(1);
    expect_said("nowhere: No such file or directory");
    start_runner(frames_path, "--policy exacd --slo-ms 5");
    expect_exit(2);
    expect_said("did you mean 'exact'?");
    start_runner(frames_path, "--plan 0,9,0");
    assert_int_not_equal(process_wait(&runner, PATIENCE_S), 0);
}

/* ---- keys ---- */

static void make_keys(const char *keys) {
    char hex[KEYS_HEX];
    static const char *const names[] = { "w1", "w2", "w3", "runner" };
    for (int i = 0; i < 4; i++) assert_int_equal(keys_generate(keys, names[i], hex, NULL), STATUS_OK);
}

/* The worker that the runner's last words are about: it gives up with the first that refuses it. */
static int named_worker(void) {
    const char *said = process_file(in_folder("runner.log"));
    for (int i = 1; i <= WORKERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d at ", i);
        if (strstr(said, name)) return i;
    }
    fail_msg("no worker is named in: %s", said);
    return 0;
}

static void keys_let_in_those_who_hold_them(void **unused) {
    char keys[96], apart[96], options[256], command[512];
    strcpy(keys, in_folder("keys"));
    strcpy(apart, in_folder("apart"));
    make_keys(keys);
    start_workers(keys);
    snprintf(options, sizeof options, "--keys %s --name runner", keys);
    start_runner(frames_path, options);
    expect_exit(0);
    expect_all_results();
    unlink(results_path);

    char hex[KEYS_HEX]; /* a stranger: knows the workers' keys, is not on their list */
    assert_int_equal(keys_generate(apart, "stranger", hex, NULL), STATUS_OK);
    snprintf(command, sizeof command, "cp %s/w1.pub %s/w2.pub %s/w3.pub %s", keys, keys, keys, apart);
    assert_int_equal(system(command), 0);
    snprintf(options, sizeof options, "--keys %s --name stranger", apart);
    start_runner(frames_path, options);
    expect_exit(1);
    expect_said("our key is not among its allowed keys");
    assert_true(process_said(in_folder("worker%d.log", named_worker()), hex, PATIENCE_S));

    start_runner(frames_path, ""); /* no keys at all */
    expect_exit(1);
    expect_said("only one side has keys");

    /* A worker that holds another key than the one it is known by. */
    process_signal(&workers[1], SIGKILL);
    process_wait(&workers[1], PATIENCE_S);
    snprintf(command, sizeof command, "rm %s/w2.key && cp %s/stranger.key %s/w2.key", keys, apart, keys);
    assert_int_equal(system(command), 0);
    start_worker(1, addresses[1], keys);
    snprintf(options, sizeof options, "--keys %s --name runner", keys);
    start_runner(frames_path, options);
    expect_exit(1);
    expect_said("w");
    expect_said("its key is not the expected one");
    assert_true(query("SELECT count(*) FROM results") == 0); /* nothing was served */

    chmod(in_folder("keys/w2.key"), 0644);
    const char *argv[] = { process_program("espalier-deploy"), "worker", "--keys", keys, "--name", "w2", NULL };
    process_start(&runner, argv, in_folder("runner.log"));
    expect_exit(1);
    expect_said("a secret key that others can read");
    const char *open_argv[] = { process_program("espalier-deploy"), "worker", "--listen", "tcp://0.0.0.0:7799", NULL };
    process_start(&runner, open_argv, in_folder("runner.log"));
    expect_exit(2);
    expect_said("without keys a worker listens on this machine's own addresses only");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(results_are_those_of_one_device, teardown),
        cmocka_unit_test_teardown(a_pruned_plan_crosses_coded_links, teardown),
        cmocka_unit_test_teardown(a_killed_worker_costs_no_frame, teardown),
        cmocka_unit_test_teardown(a_stopped_worker_is_waited_for, teardown),
        cmocka_unit_test_teardown(a_run_that_gets_nowhere_can_give_up, teardown),
        cmocka_unit_test_teardown(a_killed_runner_goes_on, teardown),
        cmocka_unit_test_teardown(a_signal_stops_it_cleanly, teardown),
        cmocka_unit_test_teardown(bad_frames_fail_once_with_a_reason, teardown),
        cmocka_unit_test_teardown(frames_come_on_standard_input_and_in_a_watched_folder, teardown),
        cmocka_unit_test_teardown(a_damaged_cache_is_fetched_again, teardown),
        cmocka_unit_test_teardown(what_cannot_begin_says_why, teardown),
        cmocka_unit_test_teardown(keys_let_in_those_who_hold_them, teardown),
    };
    return cmocka_run_group_tests_name("pipeline", tests, group_setup, group_teardown);
}
