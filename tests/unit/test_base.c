/* Pool, whole files, options, activations. */
#include "common/activation.h"
#include "common/file.h"
#include "common/options.h"
#include "common/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TASKS = 1000, ROUNDS = 1000 };

struct tally {
    atomic_int times[TASKS];
    atomic_int wrong_thread;
    int threads;
};

static void count(void *context, int task, int thread) {
    struct tally *tally = context;
    atomic_fetch_add(&tally->times[task], 1);
    if (thread < 0 || thread >= tally->threads) atomic_fetch_add(&tally->wrong_thread, 1);
}

static void pool_runs_each_task_once(void **state) {
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        struct pool *pool = NULL;
        struct err err;
        assert_int_equal(pool_create(&pool, threads, &err), STATUS_OK);
        struct tally *tally = calloc(1, sizeof *tally);
        tally->threads = threads;
        for (int round = 0; round < 50; round++) pool_run(pool, TASKS, count, tally);
        pool_run(pool, 0, count, tally);
        for (int i = 0; i < TASKS; i++) assert_int_equal(atomic_load(&tally->times[i]), 50);
        assert_int_equal(atomic_load(&tally->wrong_thread), 0);
        free(tally);
        pool_destroy(&pool);
        assert_null(pool);
    }
    struct pool *none = NULL;
    struct err err;
    assert_int_equal(pool_create(&none, 0, &err), STATUS_USAGE);
    pool_destroy(&none);
}

struct caller {
    struct pool *pool;
    struct tally tally;
};

static void *call(void *argument) {
    struct caller *caller = argument;
    for (int round = 0; round < ROUNDS; round++) pool_run(caller->pool, TASKS, count, &caller->tally);
    return NULL;
}

static void pool_serves_callers_at_the_same_time(void **state) {
    (void)state;
    enum { CALLERS = 3 };
    struct pool *pool = NULL;
    pthread_t thread[CALLERS];
    struct caller *caller = calloc(CALLERS, sizeof *caller);
    assert_non_null(caller);
    assert_int_equal(pool_create(&pool, 3, NULL), STATUS_OK);
    for (int i = 0; i < CALLERS; i++) {
        caller[i].pool = pool;
        caller[i].tally.threads = 3;
        assert_int_equal(pthread_create(&thread[i], NULL, call, &caller[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(atomic_load(&caller[i].tally.wrong_thread), 0);
        for (int k = 0; k < TASKS; k++) assert_int_equal(atomic_load(&caller[i].tally.times[k]), ROUNDS);
    }
    pool_destroy(&pool);
    free(caller);
}

static void files_are_replaced_whole(void **state) {
    (void)state;
    char folder[] = "/tmp/espalier-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a", folder);
    struct file_replace file;
    struct err err;
    uint8_t *bytes = NULL;
    size_t length = 0;
    assert_int_equal(file_replace_open(&file, path, &err), STATUS_OK);
    fputs("one", file.stream);
    assert_int_equal(access(path, F_OK), -1); /* not there before the commit */
    assert_int_equal(file_replace_commit(&file, &err), STATUS_OK);
    assert_int_equal(file_replace_open(&file, path, &err), STATUS_OK);
    fputs("two", file.stream);
    file_replace_abort(&file);
    assert_int_equal(file_read(path, 100, &bytes, &length, &err), STATUS_OK);
    assert_int_equal(length, 3);
    assert_string_equal((char *)bytes, "one");
    free(bytes);
    assert_int_equal(file_read(path, 2, &bytes, &length, &err), STATUS_LIMIT);
    assert_int_equal(file_read(folder, 100, &bytes, &length, &err), STATUS_IO);
    assert_int_equal(file_replace_open(&file, "/nonexistent/a", &err), STATUS_IO);
    /* A disk that is full must not pass for success. */
    if (access("/dev/full", W_OK) == 0) {
        assert_int_equal(file_replace_open(&file, path, &err), STATUS_OK);
        fclose(file.stream);
        file.stream = fopen("/dev/full", "wb");
        fputs("three", file.stream);
        assert_int_equal(file_replace_commit(&file, &err), STATUS_IO);
        assert_non_null(strstr(err.text, "No space left"));
    }
    unlink(path);
    rmdir(folder);
}

static void folders_are_made_with_those_above(void **state) {
    (void)state;
    char folder[] = "/tmp/espalier-test-XXXXXX", path[64];
    struct err err;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/b/c", folder);
    assert_int_equal(file_make_folder(path, &err), STATUS_OK);
    assert_int_equal(file_make_folder(path, &err), STATUS_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(file_make_folder("/dev/null/x", &err), STATUS_IO);
    rmdir(path);
    snprintf(path, sizeof path, "%s/b", folder);
    rmdir(path);
    rmdir(folder);
}

static void options_anywhere(void **state) {
    (void)state;
    bool json = false;
    int threads = 2;
    double slo = 100;
    const char *out = "x";
    const struct option table[] = {{"--json", 0, OPTION_FLAG, &json, NULL, "JSON"},
                                   {"--threads", 't', OPTION_INT, &threads, "N", "threads"},
                                   {"--slo-ms", 0, OPTION_DOUBLE, &slo, "MS", "deadline"},
                                   {"--out", 'o', OPTION_STRING, &out, "FILE", "output"},
                                   {0}};
    const struct options_command command = {"do A B", "does it", table, 1, 2};
    char *good[] = {"a", "--threads", "3", "-o", "f", "--slo-ms=1.5", "--json", "--", "--b"};
    int n = 0, help = 0;
    struct err err;
    assert_int_equal(options_parse(&command, 9, good, &n, &help, &err), STATUS_OK);
    assert_int_equal(n, 2);
    assert_string_equal(good[0], "a");
    assert_string_equal(good[1], "--b");
    assert_true(json);
    assert_int_equal(threads, 3);
    assert_true(slo == 1.5);
    assert_string_equal(out, "f");
    char *bad[][3] = {{"a", "--thread", "3"}, {"a", "--threads", "3x"}, {"a", "b", "c"}, {"a", "--json=1", "b"}, {"a", "b", "--out"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(options_parse(&command, 3, bad[i], &n, &help, &err), STATUS_USAGE);
    char *near[] = {"a", "--thraeds", "3"};
    assert_int_equal(options_parse(&command, 3, near, &n, &help, &err), STATUS_USAGE);
    assert_string_equal(err.hint, "did you mean '--threads'?");
}

/* Derivatives against central differences, away from the kinks. */
static void activations_have_their_derivatives(void **state) {
    (void)state;
    for (int a = 0; a < ACTIVATION_COUNT; a++) {
        assert_int_equal(activation_parse(activation_name((enum activation)a)), a);
        for (double x = -7.3; x < 7.5; x += 0.37) {
            const float h = 1e-2f;
            double slope = ((double)activation_apply((enum activation)a, (float)x + h) -
                            (double)activation_apply((enum activation)a, (float)x - h)) / (2 * (double)h);
            double derivative = (double)activation_derivative((enum activation)a, (float)x);
            if (!(fabs(slope - derivative) <= 2e-3)) fail_msg("%s at %g: %g, not %g", activation_name((enum activation)a), x, derivative, slope);
        }
    }
    assert_int_equal(activation_parse("mish"), ACTIVATION_COUNT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_runs_each_task_once),          cmocka_unit_test(pool_serves_callers_at_the_same_time),
        cmocka_unit_test(files_are_replaced_whole),
        cmocka_unit_test(folders_are_made_with_those_above), cmocka_unit_test(options_anywhere),
        cmocka_unit_test(activations_have_their_derivatives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
