#include "tests/pipeline.h"

#include "common/log.h"
#include "common/model.h"
#include "deploy/engine.h"
#include "tests/nets.h"
#include "tests/reference.h"

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

struct pipeline pipeline;

static int expected_label[PIPELINE_FRAMES];
static double expected_prob[PIPELINE_FRAMES];

const char *pipeline_path(const char *format, ...) {
    static char path[8][256];
    static int turn;
    char *p = path[turn++ % 8];
    int n = snprintf(p, sizeof path[0], "%s/", pipeline.folder);
    va_list args;
    va_start(args, format);
    vsnprintf(p + n, sizeof path[0] - (size_t)n, format, args);
    va_end(args);
    return p;
}

/* ---- a model and frames ---- */

size_t pipeline_frame(int index, uint8_t *out) {
    struct random random = random_stream(11, (uint64_t)index, 0);
    int head = sprintf((char *)out, "P6\n%d %d\n255\n", PIPELINE_SIDE, PIPELINE_SIDE);
    for (int i = 0; i < PIPELINE_SIDE * PIPELINE_SIDE * 3; i++) out[head + i] = (uint8_t)random_below(&random, 256);
    return (size_t)(head + PIPELINE_SIDE * PIPELINE_SIDE * 3);
}

static const char *frame_name(int index) {
    return pipeline_path("frames/%s/%03d.ppm", index % 2 ? "fox" : "ant", index / 2);
}

/* The frame's place when the folder is read in order: all ants, then all foxes. */
static int place_of(int index) {
    return index % 2 ? PIPELINE_FRAMES / 2 + index / 2 : index / 2;
}

static int write_frames(const struct model *model) {
    struct engine *engine = NULL;
    struct engine_config config = engine_defaults();
    float input[3 * PIPELINE_SIDE * PIPELINE_SIDE], output[10];
    if (engine_create(&engine, model, &config, NULL)) return -1;
    mkdir(pipeline_path("frames"), 0755), mkdir(pipeline_path("frames/ant"), 0755), mkdir(pipeline_path("frames/fox"), 0755);
    for (int i = 0; i < PIPELINE_FRAMES; i++) {
        uint8_t bytes[2048];
        size_t length = pipeline_frame(i, bytes);
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

static void fresh(void) {
    memset(pipeline.more, 0, sizeof pipeline.more);
    memset(pipeline.isa, 0, sizeof pipeline.isa);
    pipeline.nworkers = PIPELINE_WORKERS;
    pipeline.policy = "static";
}

int pipeline_group_setup(void **unused) {
    fresh();
    static const char *const names[10] = { "ant", "fox", "cat", "dog", "eel", "hen", "owl", "pig", "rat", "yak" };
    struct model *model = NULL;
    strcpy(pipeline.folder, "/tmp/espalier-pipeline-XXXXXX");
    if (!mkdtemp(pipeline.folder) || reference_model(&model, nets[0].cfg, 5, NULL)) return -1;
    model->labels = calloc(10, sizeof *model->labels);
    for (int i = 0; i < 10; i++) model->labels[i] = strdup(names[i]);
    model->nlabels = 10;
    strcpy(pipeline.model, pipeline_path("model.safetensors"));
    strcpy(pipeline.frames, pipeline_path("frames"));
    strcpy(pipeline.cluster, pipeline_path("cluster.cfg"));
    strcpy(pipeline.results, pipeline_path("results.sqlite"));
    int failed = model_save(model, pipeline.model, NULL) || write_frames(model);
    model_destroy(&model);
    return failed ? -1 : 0;
}

int pipeline_group_teardown(void **unused) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", pipeline.folder);
    return system(command);
}

/* ---- processes ---- */

void pipeline_start_worker(int index, const char *address, const char *keys) {
    char name[16], threads[] = "1";
    const char *program = process_program("espalier-deploy");
    snprintf(name, sizeof name, "w%d", index + 1);
    const char *argv[] = { program, "worker", "--listen", address, "--cache", pipeline_path("cache"), "--threads", threads,
                           "--name", name, NULL, NULL, NULL, NULL, NULL };
    int n = 10;
    if (keys) argv[n++] = "--keys", argv[n++] = keys;
    if (pipeline.isa[index]) argv[n++] = "--cpu-mask", argv[n++] = pipeline.isa[index];
    process_start(&pipeline.worker[index], argv, pipeline_path("worker%d.log", index + 1));
    if (!process_line(&pipeline.worker[index], pipeline.address[index], sizeof pipeline.address[0], PIPELINE_PATIENCE_S))
        fail_msg("worker %d does not start: %s", index + 1, process_file(pipeline_path("worker%d.log", index + 1)));
}

void pipeline_kill_worker(int index) {
    process_signal(&pipeline.worker[index], SIGKILL);
    process_wait(&pipeline.worker[index], PIPELINE_PATIENCE_S);
}

void pipeline_write_cluster(const char *extra) {
    FILE *f = fopen(pipeline.cluster, "w");
    fprintf(f, "[source]\n%s", extra);
    for (int i = 0; i < pipeline.nworkers; i++)
        fprintf(f, "[worker]\nname=w%d\naddress=%s\n%s", i + 1, pipeline.address[i],
                pipeline.more[i] ? pipeline.more[i] : "");
    fclose(f);
}

void pipeline_start_workers(const char *keys) {
    for (int i = 0; i < pipeline.nworkers; i++) pipeline_start_worker(i, "tcp://127.0.0.1:*", keys);
    pipeline_write_cluster("");
}

void pipeline_start_runner(const char *source, const char *options) {
    static char text[512];
    const char *argv[40] = { process_program("espalier-deploy"), "run", pipeline.cluster, pipeline.model, source, "--results",
                             pipeline.results, "--policy", pipeline.policy, "--json" };
    int n = 10;
    snprintf(text, sizeof text, "%s", options);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) argv[n++] = word;
    argv[n] = NULL;
    process_start(&pipeline.runner, argv, pipeline_path("runner.log"));
}

void pipeline_expect_exit(int status) {
    int got = process_wait(&pipeline.runner, PIPELINE_PATIENCE_S);
    if (got != status) fail_msg("exit status %d, not %d: %s", got, status, process_file(pipeline_path("runner.log")));
}

void pipeline_expect_said(const char *text) {
    const char *said = process_file(pipeline_path("runner.log"));
    if (!strstr(said, text)) fail_msg("expected '%s' in: %s", text, said);
}

void pipeline_wait_said(const char *text) {
    double end_s = log_now_s() + PIPELINE_PATIENCE_S;
    while (!strstr(process_file(pipeline_path("runner.log")), text)) {
        if (log_now_s() > end_s) pipeline_expect_said(text);
        process_keep_reading(&pipeline.runner, 0.01); /* or it would wait for us */
    }
}

void pipeline_wait_results(int count) {
    char line[4096];
    for (int i = 0; i < count; i++)
        if (!process_line(&pipeline.runner, line, sizeof line, PIPELINE_PATIENCE_S))
            fail_msg("result %d of %d does not come: %s", i + 1, count, process_file(pipeline_path("runner.log")));
}

void pipeline_remove_results(void) {
    static const char *const left[] = { "results.sqlite", "results.sqlite-wal", "results.sqlite-shm" };
    for (int i = 0; i < 3; i++) unlink(pipeline_path("%s", left[i]));
}

int pipeline_teardown(void **unused) {
    char command[256];
    process_signal(&pipeline.runner, SIGKILL);
    process_wait(&pipeline.runner, PIPELINE_PATIENCE_S);
    for (int i = 0; i < PIPELINE_MOST; i++) {
        process_signal(&pipeline.worker[i], SIGKILL);
        process_wait(&pipeline.worker[i], PIPELINE_PATIENCE_S);
    }
    pipeline_remove_results();
    snprintf(command, sizeof command, "rm -rf %s/keys %s/apart %s/cache", pipeline.folder, pipeline.folder,
             pipeline.folder);
    fresh();
    return system(command);
}

/* ---- results ---- */

double pipeline_query(const char *sql) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    if (sqlite3_open_v2(pipeline.results, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(db, 5000) != SQLITE_OK || sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    double value = sqlite3_column_double(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return value;
}

void pipeline_expect_all_results(void) {
    assert_true(pipeline_query("SELECT count(*) FROM runs") == 1);
    assert_true(pipeline_query("SELECT count(*) FROM frames") == PIPELINE_FRAMES);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE error IS NULL") == PIPELINE_FRAMES);
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_open(pipeline.results, &db), SQLITE_OK);
    const char *sql = "SELECT seq, label, prob FROM results ORDER BY seq";
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    for (int i = 0; i < PIPELINE_FRAMES; i++) {
        assert_int_equal(sqlite3_step(s), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(s, 0), i);
        assert_int_equal(sqlite3_column_int(s, 1), expected_label[i]);
        assert_true(fabs(sqlite3_column_double(s, 2) - expected_prob[i]) <= 1e-4);
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
}
