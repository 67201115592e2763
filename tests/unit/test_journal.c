#include "deploy/journal.h"

#include "common/log.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64], path[96];

static int setup(void **unused) {
    strcpy(folder, "/tmp/espalier-journal-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/r.db", folder);
    return 0;
}
static int teardown(void **unused) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static struct journal_config config(void) {
    return (struct journal_config){ .path = path, .model = "m", .source = "folder /x", .policy = "static",
                                    .slo_ms = 50 };
}

static struct journal *open_journal(void) {
    struct journal *j = NULL;
    struct err err;
    struct journal_config c = config();
    if (journal_open(&j, &c, &err)) fail_msg("%s", err.text);
    return j;
}

static void accept_frame(struct journal *j, int64_t seq, double due_ms, int truth) {
    char name[32];
    snprintf(name, sizeof name, "/x/%d.jpg", (int)seq);
    struct journal_frame f = { .seq = seq, .path = name, .size = 10, .mtime_ns = 5, .due_ms = due_ms, .truth = truth };
    assert_int_equal(journal_accept(j, &f, NULL), STATUS_OK);
}

static void store(struct journal *j, int64_t seq, double due_ms, int label, const char *levels, const char *error) {
    struct journal_result r = { .seq = seq, .label = label, .name = "fox", .prob = .5, .due_ms = due_ms,
                                .sent_ms = due_ms, .levels = levels, .links = "0:f32", .stages = "[]",
                                .attempts = 1, .error = error };
    assert_int_equal(journal_store(j, &r, NULL), STATUS_OK);
}

/* Waits until `count` results are committed. */
static void collect(struct journal *j, int count) {
    struct journal_stored stored[16];
    struct err err;
    for (int got = 0, n; got < count; got += n) {
        struct pollfd p = { .fd = journal_fd(j), .events = POLLIN };
        assert_int_equal(poll(&p, 1, 10000), 1);
        assert_int_equal(journal_collect(j, stored, 16, &n, &err), STATUS_OK);
        for (int i = 0; i < n; i++) assert_true(stored[i].latency_ms >= 0 && stored[i].latency_ms < 10000);
    }
}

static int64_t count_rows(const char *sql) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return value;
}

static void a_run_is_stored_and_summed_up(void **unused) {
    struct journal *j = open_journal();
    struct err err;
    assert_false(journal_resumed(j));
    double due = journal_now_ms(j);
    for (int i = 0; i < 10; i++) accept_frame(j, i, due, i % 2);
    for (int i = 0; i < 9; i++) store(j, i, due - (i == 4 ? 1000 : 0), i == 3 ? 0 : i % 2, i < 5 ? "0,0" : "1,0", NULL);
    store(j, 9, due, -1, NULL, "cannot be decoded");
    collect(j, 10);
    assert_int_equal(count_rows("SELECT count(*) FROM timeline WHERE correct"), 8); /* a reader is not shut out */
    if (journal_close_run(j, true, &err)) fail_msg("%s", err.text);
    struct journal_summary m;
    if (journal_summarise(j, 900, &m, &err)) fail_msg("%s", err.text);
    assert_true(m.frames == 10 && m.results == 10 && m.failed == 1 && m.within == 8);
    assert_true(m.labelled == 10 && m.correct == 8 && m.switches == 1 && m.resent == 0);
    assert_true(m.p50_ms >= 0 && m.p50_ms < 900 && m.p95_ms >= 1000 && m.p99_ms == m.p95_ms);
    assert_true(m.last_stored_ms >= m.first_due_ms);
    journal_destroy(&j);
    j = open_journal(); /* finished: a new run */
    assert_false(journal_resumed(j));
    assert_true(journal_next_seq(j) == 0);
    journal_destroy(&j);
}

static enum status visit(void *context, const struct journal_frame *frame, bool has_result, struct err *err) {
    int *seen = context;
    assert_true(frame->seq == seen[0]);
    assert_true(frame->size == 10 && frame->mtime_ns == 5 && frame->truth == -1);
    assert_int_equal(has_result, frame->seq != 1);
    seen[0]++;
    return STATUS_OK;
}

static void an_unfinished_run_is_taken_up(void **unused) {
    struct journal *j = open_journal();
    uint64_t token = journal_token(j);
    for (int i = 0; i < 3; i++) accept_frame(j, i, 5000 + i, -1);
    store(j, 0, 0, 1, "0", NULL);
    store(j, 2, 0, 1, "0", NULL);
    collect(j, 2);
    assert_int_equal(journal_close_run(j, false, NULL), STATUS_OK);
    journal_destroy(&j);
    j = open_journal();
    assert_true(journal_resumed(j) && journal_token(j) == token && journal_next_seq(j) == 3);
    assert_true(journal_now_ms(j) >= 5002); /* time does not run back */
    int seen = 0;
    assert_int_equal(journal_each(j, visit, &seen, NULL), STATUS_OK);
    assert_int_equal(seen, 3);
    struct journal *other = NULL;
    struct journal_config c = config();
    struct err err;
    assert_int_equal(journal_open(&other, &c, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "another run is writing to it"));
    journal_destroy(&j);
    c.model = "another";
    assert_int_equal(journal_open(&j, &c, &err), STATUS_OK);
    assert_false(journal_resumed(j));
    journal_destroy(&j);
}

/* What journal_collect handed out is there after SIGKILL. */
static void committed_survives_a_kill(void **unused) {
    int pipe_fd[2];
    assert_int_equal(pipe(pipe_fd), 0);
    pid_t child = fork();
    if (child == 0) {
        struct journal *j = open_journal();
        for (int i = 0;; i++) {
            accept_frame(j, i, 0, -1);
            store(j, i, 0, 1, "0", NULL);
            struct journal_stored stored[4];
            int n = 0;
            struct pollfd p = { .fd = journal_fd(j), .events = POLLIN };
            while (n == 0) {
                poll(&p, 1, 1000);
                if (journal_collect(j, stored, 4, &n, NULL)) _exit(1);
            }
            if (write(pipe_fd[1], "x", 1) != 1) _exit(1);
        }
    }
    char byte;
    for (int i = 0; i < 20; i++) assert_int_equal(read(pipe_fd[0], &byte, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(pipe_fd[1]);
    int collected = 20;
    while (read(pipe_fd[0], &byte, 1) == 1) collected++;
    close(pipe_fd[0]);
    assert_true(count_rows("SELECT count(*) FROM results") >= collected);
    assert_int_equal(count_rows("SELECT count(*) FROM results r WHERE NOT EXISTS"
                                " (SELECT 1 FROM frames f WHERE f.seq = r.seq)"), 0);
}

static void a_second_result_is_an_error(void **unused) {
    struct journal *j = open_journal();
    struct err err = { 0 };
    store(j, 0, 0, 1, "0", NULL);
    store(j, 0, 0, 1, "0", NULL);
    assert_int_equal(journal_close_run(j, true, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "UNIQUE"));
    journal_destroy(&j);
}

static void other_files_are_left_alone(void **unused) {
    struct journal *j = NULL;
    struct journal_config c = config();
    struct err err;
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 300; i++) fputs("not a database\n", f);
    fclose(f);
    assert_int_equal(journal_open(&j, &c, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "not a database"));
    remove(path);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t(x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(journal_open(&j, &c, &err), STATUS_FORMAT);
    assert_int_equal(count_rows("SELECT count(*) FROM sqlite_master"), 1);
    c.path = "/nonexistent/r.db";
    assert_int_equal(journal_open(&j, &c, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "No such file"));
}

/* A disk that takes no more is one clear error, and what was committed stays. */
static void a_full_disk_ends_the_run(void **unused) {
    struct journal *j = open_journal();
    struct err err = { 0 };
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    limit = (struct rlimit){ 200000, old.rlim_max };
    setrlimit(RLIMIT_FSIZE, &limit);
    enum status status = STATUS_OK;
    int collected = 0;
    for (int i = 0; i < 100000 && !status; i++) {
        accept_frame(j, i, 0, -1);
        store(j, i, 0, 1, "0", NULL);
        struct journal_stored stored[64];
        int n = 0;
        struct pollfd p = { .fd = journal_fd(j), .events = POLLIN };
        if (poll(&p, 1, 50) == 1) status = journal_collect(j, stored, 64, &n, &err);
        collected += status ? 0 : n;
    }
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(journal_close_run(j, true, &err), STATUS_IO);
    journal_destroy(&j);
    assert_true(count_rows("SELECT count(*) FROM results") >= collected);
    j = open_journal();
    assert_true(journal_resumed(j));
    journal_destroy(&j);
}

int main(void) {
    log_init("test", LOG_WARN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_is_stored_and_summed_up, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unfinished_run_is_taken_up, setup, teardown),
        cmocka_unit_test_setup_teardown(committed_survives_a_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_result_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(other_files_are_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_ends_the_run, setup, teardown),
    };
    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
