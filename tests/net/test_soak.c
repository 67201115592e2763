/* Faults at random, round after round, against one long-lived cluster of real
 * processes. Whatever happens in a round, at its end every accepted frame has
 * exactly one result, the one that a single device gives, in bounded memory,
 * and the log names who was at fault.
 *
 * SOAK_ROUNDS and SOAK_SEED choose how many and which; `make soak` plays 200. */
#include "common/log.h"
#include "common/random.h"
#include "tests/pipeline.h"
#include "tests/relay.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#ifdef __SANITIZE_ADDRESS__
enum { MEMORY_KB = 800 << 10 }; /* it keeps what was freed */
#else
enum { MEMORY_KB = 96 << 10 };
#endif
enum { ALL = 4, MOST_FAULTS = 4, MOST_STARTS = 40 };
static const double FAULTS_S = 3; /* faults begin within */

enum kind { KILL_WORKER, STOP_WORKER, CUT_LINK, STALL_LINK, KILL_RUNNER, RUNNER_DIES_WRITING, FULL_DISK, KINDS };
static const char *const kind_name[KINDS] = { "killed",     "stopped",        "link cut", "link stalled",
                                              "run killed", "dies at write", "disk full" };

struct fault {
    enum kind kind;
    int worker;
    double begin_s, end_s; /* of the round */
    bool begun, ended;
    bool midway; /* frames had come through when it began */
};

static struct random random_state;
static struct relay relay[ALL];
static char listen_address[ALL][64];
static struct {
    int faults[KINDS], starts, spares, clocks;
    long peak_kb; /* of the runner or a worker */
} totals;

static double between(double low, double high) {
    return random_between(&random_state, low, high);
}

static int below(int n) {
    return random_below(&random_state, n);
}

/* ---- the cluster ---- */

/* Workers behind relays: the cluster cfg names the relays. */
static void start_cluster(void) {
    pipeline.nworkers = ALL;
    for (int i = 0; i < ALL; i++) {
        pipeline_start_worker(i, "tcp://127.0.0.1:*", NULL);
        strcpy(listen_address[i], pipeline.address[i]);
        relay_start(&relay[i], atoi(strrchr(pipeline.address[i], ':') + 1));
        snprintf(pipeline.address[i], sizeof pipeline.address[i], "tcp://127.0.0.1:%d", relay[i].port);
    }
}

static void restart_worker(int i) {
    char behind_relay[64];
    snprintf(behind_relay, sizeof behind_relay, "%s", pipeline.address[i]);
    pipeline_start_worker(i, listen_address[i], NULL);
    strcpy(pipeline.address[i], behind_relay);
}

static void start_run(int die_at, bool clock) {
    char library[300], text[32];
    snprintf(library, sizeof library, "%s", process_program("tests/libfaults.so"));
    setenv("LD_PRELOAD", library, 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
    setenv("FAULTS_FULL", pipeline_path("full"), 1);
    if (clock) snprintf(text, sizeof text, "%d", below(1000000)), setenv("FAULTS_CLOCK", text, 1);
    if (die_at) snprintf(text, sizeof text, "%d", die_at), setenv("FAULTS_DIE_AT", text, 1);
    pipeline_start_runner(pipeline.frames, "--fps 50 --takeover 0.5 --connect-timeout 60");
    unsetenv("LD_PRELOAD"), unsetenv("FAULTS_FULL"), unsetenv("FAULTS_CLOCK"), unsetenv("FAULTS_DIE_AT");
    totals.starts++;
}

/* ---- faults ---- */

static void begin_fault(struct fault *f) {
    f->begun = true;
    totals.faults[f->kind]++;
    switch (f->kind) {
    case KILL_WORKER: pipeline_kill_worker(f->worker); break;
    case STOP_WORKER: process_signal(&pipeline.worker[f->worker], SIGSTOP); break;
    case CUT_LINK: relay_cut(&relay[f->worker]); break;
    case STALL_LINK:
        if (relay[f->worker].pid) kill(relay[f->worker].pid, SIGSTOP);
        break;
    case KILL_RUNNER: process_signal(&pipeline.runner, SIGKILL); break;
    case FULL_DISK: fclose(fopen(pipeline_path("full"), "w")); break;
    case RUNNER_DIES_WRITING: /* told at its start */
    case KINDS: break;
    }
}

static void end_fault(struct fault *f) {
    f->ended = true;
    switch (f->kind) {
    case KILL_WORKER:
        if (!pipeline.worker[f->worker].pid) restart_worker(f->worker);
        break;
    case STOP_WORKER: process_signal(&pipeline.worker[f->worker], SIGCONT); break;
    case CUT_LINK: relay_restore(&relay[f->worker]); break;
    case STALL_LINK:
        if (relay[f->worker].pid) kill(relay[f->worker].pid, SIGCONT);
        break;
    case FULL_DISK: unlink(pipeline_path("full")); break;
    case KILL_RUNNER:
    case RUNNER_DIES_WRITING:
    case KINDS: break;
    }
}

static int plan_faults(struct fault *faults, int *die_at) {
    int n = 1 + below(MOST_FAULTS);
    *die_at = 0;
    for (int i = 0; i < n; i++) {
        double begin_s = between(0, FAULTS_S);
        faults[i] = (struct fault){ .kind = (enum kind)below(KINDS), .worker = below(ALL), .begin_s = begin_s,
                                    .end_s = begin_s + between(0.05, below(3) ? 1 : 4) };
        if (faults[i].kind == RUNNER_DIES_WRITING) *die_at = 1 + below(500);
    }
    return n;
}

/* ---- a round ---- */

static void expect_bounded(pid_t pid, const char *who) {
    char path[64];
    long peak_kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    const char *at = strstr(process_file(path), "VmHWM:");
    if (at) peak_kb = atol(at + 6);
    if (peak_kb > totals.peak_kb) totals.peak_kb = peak_kb;
    if (peak_kb > MEMORY_KB) fail_msg("%s has used %ld KB", who, peak_kb);
}

/* What the runs of this round have said. */
static char story[1 << 20];
static size_t told;

static void keep_story(void) {
    told += (size_t)snprintf(story + told, sizeof story - told, "%s", process_file(pipeline_path("runner.log")));
    if (told >= sizeof story) told = sizeof story - 1;
}

static void describe(const struct fault *faults, int n, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%sw%d %s %.2f-%.2f s", i ? ", " : "", faults[i].worker + 1,
                                 kind_name[faults[i].kind], faults[i].begin_s, faults[i].end_s);
}

/* A worker of the pipeline that was killed between the first frame of an undisturbed
 * run, which came through it, and a while before the run's end, must be in its log. One
 * that died and came back before may have gone unnoticed. */
static void expect_named(const struct fault *faults, int n, double end_s) {
    bool restarted = false;
    for (int i = 0; i < n; i++)
        restarted |= faults[i].kind == KILL_RUNNER || faults[i].kind == RUNNER_DIES_WRITING || faults[i].kind == FULL_DISK;
    for (int i = 0; i < n && !restarted; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", faults[i].worker + 1);
        if (faults[i].kind == KILL_WORKER && faults[i].worker < PIPELINE_WORKERS && faults[i].midway &&
            faults[i].begin_s + 1 < end_s && !strstr(story, name))
            fail_msg("%s was killed, and the log does not say so: %s", name, story);
    }
}

static bool a_frame_is_through(void) {
    return access(pipeline.results, F_OK) == 0 &&
           pipeline_query("SELECT count(*) FROM sqlite_master WHERE name = 'results'") == 1 &&
           pipeline_query("SELECT count(*) FROM results") > 0;
}

static bool is_finished(void) {
    return access(pipeline.results, F_OK) == 0 &&
           pipeline_query("SELECT count(*) FROM sqlite_master WHERE name = 'runs'") == 1 &&
           pipeline_query("SELECT count(*) FROM runs WHERE finished NOT NULL") == 1;
}

static bool a_worker_is_dead(const struct fault *faults, int n) {
    bool dead = false;
    for (int i = 0; i < n; i++) dead |= faults[i].kind == KILL_WORKER && faults[i].begun && !faults[i].ended;
    return dead;
}

static void play_round(int round) {
    struct fault faults[MOST_FAULTS];
    int die_at, n = plan_faults(faults, &die_at), starts = 1;
    bool spare = below(2), clock = below(3) == 0, running = true;
    char text[400];
    describe(faults, n, text, sizeof text);
    fprintf(stderr, "round %d: %s%s%s\n", round + 1, text, spare ? "; a spare" : "", clock ? "; clock jumps" : "");
    totals.spares += spare;
    totals.clocks += clock;
    told = 0;
    pipeline.nworkers = spare ? ALL : PIPELINE_WORKERS;
    pipeline.more[PIPELINE_WORKERS] = "spare=1\n";
    pipeline_write_cluster("");
    start_run(die_at, clock);
    const double start_s = log_now_s();
    double end_s = 0;
    bool healed = false;
    while (running || !healed) {
        double now_s = log_now_s() - start_s;
        char line[4096];
        if (now_s > FAULTS_S + 4 + PIPELINE_PATIENCE_S) fail_msg("round %d (%s) does not end: %s", round + 1, text, process_file(pipeline_path("runner.log")));
        healed = true;
        for (int i = 0; i < n; i++) {
            if (!faults[i].begun && running && now_s >= faults[i].begin_s) {
                faults[i].midway = faults[i].kind == KILL_WORKER && a_frame_is_through();
                begin_fault(&faults[i]);
            }
            if (faults[i].begun && !faults[i].ended && now_s >= faults[i].end_s) end_fault(&faults[i]);
            healed &= faults[i].begun == faults[i].ended;
        }
        if (!running) continue;
        process_line(&pipeline.runner, line, sizeof line, 0.01);
        if (!process_ended(&pipeline.runner)) {
            expect_bounded(pipeline.runner.pid, "the runner");
            continue;
        }
        int status = process_wait(&pipeline.runner, PIPELINE_PATIENCE_S);
        keep_story();
        bool full = status == 1 && strstr(process_file(pipeline_path("runner.log")), "full");
        /* A relay takes the connection that its dead worker would not have taken. */
        bool hung_up = status == 1 && a_worker_is_dead(faults, n) &&
                       strstr(process_file(pipeline_path("runner.log")), "only one side has keys");
        running = status != 0 && !is_finished(); /* killed when all was done? */
        if (!full) starts++; /* while it is full, as often as a service is restarted */
        if (running && ((status != -1 && !full && !hung_up) || starts > MOST_STARTS))
            fail_msg("round %d (%s): the run ends with %d: %s", round + 1, text, status,
                     process_file(pipeline_path("runner.log")));
        if (!running) end_s = now_s;
        if (full || hung_up) nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL); /* as a service would be restarted */
        if (running) start_run(0, clock);
    }
    for (int i = 0; i < ALL; i++)
        if (pipeline.worker[i].pid) expect_bounded(pipeline.worker[i].pid, pipeline.address[i]);
    pipeline_expect_all_results();
    expect_named(faults, n, end_s);
    pipeline_remove_results();
}

static void every_frame_has_one_result(void **unused) {
    const char *rounds = getenv("SOAK_ROUNDS"), *seed = getenv("SOAK_SEED");
    int n = rounds ? atoi(rounds) : 6;
    random_state = random_stream(seed ? strtoull(seed, NULL, 10) : 1, 0, 0);
    assert_true(n > 0);
    start_cluster();
    for (int i = 0; i < n; i++) play_round(i);
    fprintf(stderr, "%d rounds, %d starts of the run, %d rounds with a spare, %d with a jumping clock;", n, totals.starts,
            totals.spares, totals.clocks);
    for (int k = 0; k < KINDS; k++) fprintf(stderr, " %s %d", kind_name[k], totals.faults[k]);
    fprintf(stderr, "; %ld KB at most\n", totals.peak_kb);
}

static int end(void **unused) {
    for (int i = 0; i < ALL; i++) relay_cut(&relay[i]);
    return pipeline_teardown(unused);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(every_frame_has_one_result, end) };
    return cmocka_run_group_tests_name("soak", tests, pipeline_group_setup, pipeline_group_teardown);
}
