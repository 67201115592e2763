/* A thousand connections by strangers: they learn nothing, cost a bounded
 * amount of memory, and those who hold keys are served meanwhile. And a peer
 * that holds a key and sends garbage: dropped and counted. */
#include "common/log.h"
#include "common/random.h"
#include "deploy/keys.h"
#include "deploy/metrics.h"
#include "deploy/transport.h"
#include "tests/pipeline.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#ifdef __SANITIZE_ADDRESS__
enum { MOST_KB = 400 << 10 }; /* it keeps what was freed, 256 MB of it */
#else
enum { MOST_KB = 16 << 10 };
#endif
enum { STRANGERS = 1000, WAVES = 3, GARBAGE = 2000 };

static char keys[96];

static void make_keys(void) {
    static const char *const names[] = { "w1", "w2", "w3", "runner", "rogue" };
    char hex[KEYS_HEX];
    strcpy(keys, pipeline_path("keys"));
    for (int i = 0; i < 5; i++) assert_int_equal(keys_generate(keys, names[i], hex, NULL), STATUS_OK);
}

static long memory_kb(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    const char *at = strstr(process_file(path), "VmRSS:");
    assert_non_null(at);
    return atol(at + 6);
}

/* Returns before the connection is made if `nonblocking`. */
static int call(const char *address, int nonblocking) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    to.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | nonblocking, 0);
    assert_true(fd >= 0);
    int rc = connect(fd, (struct sockaddr *)&to, sizeof to);
    assert_true(rc == 0 || (nonblocking && errno == EINPROGRESS));
    return fd;
}

/* What strangers say: nothing, noise, and the greeting of ZMTP 3 with one
 * mechanism or the other, with noise or a first command behind it. */
static size_t words(int i, uint8_t *out) {
    static const uint8_t signature[10] = { 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f };
    struct random random = random_stream(5, (uint64_t)i, 0);
    size_t n = 0;
    if (i % 5 == 0) return 0;
    if (i % 5 != 1) {
        memset(out, 0, 64);
        memcpy(out, signature, sizeof signature);
        out[10] = 3, out[11] = i % 2;
        strcpy((char *)out + 12, i % 5 == 2 ? "NULL" : "CURVE");
        n = 64;
    }
    if (i % 5 == 4) { /* a HELLO of the right shape, with keys made up */
        static const uint8_t hello[] = "\x04\xc8\x05HELLO\x01\x00";
        memcpy(out + n, hello, sizeof hello - 1);
        for (int k = 10; k < 202; k++) out[n + (size_t)k] = (uint8_t)random_below(&random, 256);
        return n + 202;
    }
    size_t noise = 1 + (size_t)random_below(&random, 1000);
    for (size_t k = 0; k < noise; k++) out[n++] = (uint8_t)random_below(&random, 256);
    return n;
}

/* All that ever comes is ZMTP's greeting, and at most the word that something
 * was wrong: nothing that depends on what the worker is or does. Returns how many bytes. */
static size_t expect_nothing_learnt(int fd) {
    uint8_t said[4096];
    size_t n = 0;
    struct timeval tick = { 0, 1000 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
    for (ssize_t got; n < sizeof said && (got = recv(fd, said + n, sizeof said - n, 0)) > 0;) n += (size_t)got;
    assert_true(n <= 64 + 16);
    for (size_t i = 0; i < n && i < 64; i++) {
        bool signature = i < 12, mechanism = i >= 12 && i < 17, server = i == 32;
        if (!signature && !mechanism && !server) assert_int_equal(said[i], 0);
    }
    if (n > 12) assert_memory_equal(said + 12, "CURVE", n < 17 ? n - 12 : 5);
    return n;
}

static void raise_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void a_thousand_strangers_learn_nothing(void **unused) {
    static int fd[WAVES][STRANGERS];
    char options[256];
    size_t heard = 0;
    raise_limit();
    make_keys();
    pipeline_start_workers(keys);
    snprintf(options, sizeof options, "--keys %s --name runner", keys);
    long before_kb = memory_kb(pipeline.worker[0].pid), peak_kb[WAVES] = { 0 };
    for (int wave = 0; wave < WAVES; wave++) { /* each hangs up when the next has come */
        for (int i = 0; i < STRANGERS; i++) {
            uint8_t bytes[2048];
            fd[wave][i] = call(pipeline.address[0], 0);
            size_t n = words(i, bytes);
            if (n) send(fd[wave][i], bytes, n, MSG_NOSIGNAL);
            if (wave) close(fd[wave - 1][i]);
            long kb = i % 50 ? 0 : memory_kb(pipeline.worker[0].pid);
            if (kb > peak_kb[wave]) peak_kb[wave] = kb;
        }
        for (int i = 0; i < STRANGERS; i++) heard += expect_nothing_learnt(fd[wave][i]);
        fprintf(stderr, "%d strangers: %ld KB more\n", (wave + 1) * STRANGERS, peak_kb[wave] - before_kb);
        assert_true(peak_kb[wave] - before_kb < MOST_KB);
    }
    assert_true(heard > STRANGERS); /* they were answered at all */
    pipeline_start_runner(pipeline.frames, options); /* while the last ones hold on */
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
    for (int i = 0; i < STRANGERS; i++) close(fd[WAVES - 1][i]);
}

/* More strangers than the worker may have files open: it does without them, and serves on. */
static void running_out_of_descriptors_passes(void **unused) {
    static int fd[STRANGERS];
    char options[256];
    raise_limit();
    make_keys();
    pipeline_start_workers(keys);
    snprintf(options, sizeof options, "--keys %s --name runner", keys);
    struct rlimit few = { 100, 100 };
    assert_int_equal(prlimit(pipeline.worker[0].pid, RLIMIT_NOFILE, &few, NULL), 0);
    for (int i = 0; i < STRANGERS; i++) fd[i] = call(pipeline.address[0], SOCK_NONBLOCK);
    for (int i = 0; i < STRANGERS; i++) close(fd[i]);
    pipeline_start_runner(pipeline.frames, options);
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
}

/* ---- a peer with a key ---- */

/* Messages that are none, or none for this worker: noise, messages cut short or
 * spoilt, and good ones of another session or of a kind that is not its to send. */
static size_t garbage(int i, uint8_t *out) {
    struct random random = random_stream(9, (uint64_t)i, 0);
    struct wire_message m = { .kind = (enum wire_kind)(WIRE_STATUS + i % (WIRE_KINDS - WIRE_STATUS)),
                              .session = random_next(&random) };
    if (m.kind == WIRE_ASSIGN) {
        m.assign = (struct wire_assign){ .nstages = 1, .window = 1, .size = 1 };
        memset(m.assign.hash, 'a', WIRE_HASH - 1);
    }
    if (m.kind == WIRE_WANT) m.want.length = 1;
    if (m.kind == WIRE_FRAME) m.frame.nstages = 1, m.frame.layout = 1;
    size_t head = wire_head_size(&m);
    m.payload_length = m.kind == WIRE_FRAME || m.kind == WIRE_CHUNK || m.kind == WIRE_MEASURED ? 10 : 0;
    wire_write_head(&m, out);
    memset(out + head, 7, 10);
    size_t n = head + m.payload_length;
    if (i % 4 == 1) n = (size_t)random_below(&random, (int)n);
    if (i % 4 == 2) out[random_below(&random, (int)n)] ^= (uint8_t)(1 + random_below(&random, 255));
    if (i % 4 == 3)
        for (size_t k = 0; k < n; k++) out[k] = (uint8_t)random_below(&random, 256);
    return n;
}

static void garbage_is_dropped_and_counted(void **unused) {
    struct keys *mine = NULL;
    struct transport *transport = NULL;
    struct channel *channel = NULL;
    struct err err;
    char options[256], hex[KEYS_HEX], address[64], text[WIRE_TEXT];
    uint8_t bytes[WIRE_MAX_HEAD + 16];
    make_keys();
    pipeline_start_workers(keys);
    snprintf(options, sizeof options, "--keys %s --name runner --fps 60 --metrics 0", keys);
    pipeline_start_runner(pipeline.frames, options);
    pipeline_wait_results(10);
    if (keys_load(&mine, keys, "rogue", &err) || transport_create(&transport, mine, &err)) fail_msg("%s", err.text);
    keys_to_hex(keys_named(mine, "w1")->public, hex);
    if (channel_connect(&channel, transport, pipeline.address[0], hex, &err)) fail_msg("%s", err.text);
    double end_s = log_now_s() + PIPELINE_PATIENCE_S;
    while (channel_watch(channel, text) != CHANNEL_UP) assert_true(log_now_s() < end_s);
    for (int i = 0; i < GARBAGE; i++) {
        size_t n = garbage(i, bytes);
        while (zmq_send(channel_socket(channel), bytes, n, ZMQ_DONTWAIT) < 0) assert_true(log_now_s() < end_s);
    }
    const char *at = strstr(process_file(pipeline_path("runner.log")), "http://");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "http://%63[0-9.:]", address), 1);
    double counted = 0;
    while (counted < GARBAGE) { /* told with the next status */
        char *page = NULL;
        if (metrics_fetch(address, PIPELINE_PATIENCE_S, &page, &err)) fail_msg("%.0f counted: %s", counted, err.text);
        at = strstr(page, "espalier_worker_refused_total{stage=\"1\",worker=\"w1\"} ");
        assert_non_null(at);
        counted = atof(strchr(at, '}') + 1);
        free(page);
        process_line(&pipeline.runner, text, sizeof text, 0.05);
    }
    struct packet packet = { 0 }; /* not a word in return: the session is not its own */
    assert_false(channel_receive(channel, NULL, &packet));
    pipeline_expect_exit(0);
    pipeline_expect_all_results();
    assert_non_null(strstr(process_file(pipeline_path("worker1.log")), "refused from rogue: a"));
    channel_close(&channel);
    transport_destroy(&transport);
    keys_destroy(&mine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_thousand_strangers_learn_nothing, pipeline_teardown),
        cmocka_unit_test_teardown(running_out_of_descriptors_passes, pipeline_teardown),
        cmocka_unit_test_teardown(garbage_is_dropped_and_counted, pipeline_teardown),
    };
    return cmocka_run_group_tests_name("strangers", tests, pipeline_group_setup, pipeline_group_teardown);
}
