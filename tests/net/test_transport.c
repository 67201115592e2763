/* Sockets on loopback: who gets in, and what is told of who does not. */
#include "deploy/transport.h"

#include "common/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char folder[64];
static struct keys *worker_keys, *runner_keys, *stranger_keys;
static char worker_hex[KEYS_HEX], stranger_hex[KEYS_HEX];

static int group_setup(void **unused) {
    char hex[KEYS_HEX], command[256];
    strcpy(folder, "/tmp/espalier-transport-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    char known[96], apart[96];
    snprintf(known, sizeof known, "%s/known", folder);
    snprintf(apart, sizeof apart, "%s/apart", folder);
    if (keys_generate(known, "worker", worker_hex, NULL) || keys_generate(known, "runner", hex, NULL) ||
        keys_generate(apart, "stranger", stranger_hex, NULL))
        return -1;
    snprintf(command, sizeof command, "cp %s/worker.pub %s", known, apart);
    if (system(command) != 0) return -1;
    return keys_load(&worker_keys, known, "worker", NULL) || keys_load(&runner_keys, known, "runner", NULL) ||
                   keys_load(&stranger_keys, apart, NULL, NULL)
               ? -1
               : 0;
}

static int group_teardown(void **unused) {
    char command[128];
    keys_destroy(&worker_keys);
    keys_destroy(&runner_keys);
    keys_destroy(&stranger_keys);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

struct pair {
    struct transport *server, *client;
    struct channel *listener, *connector;
    char address[WIRE_ADDRESS];
};

static void open_pair(struct pair *p, const struct keys *server, const struct keys *client, const char *pinned) {
    struct err err;
    memset(p, 0, sizeof *p);
    if (transport_create(&p->server, server, &err) || transport_create(&p->client, client, &err) ||
        channel_listen(&p->listener, p->server, "tcp://127.0.0.1:*", p->address, &err) ||
        channel_connect(&p->connector, p->client, p->address, pinned, &err))
        fail_msg("%s", err.text);
}

static void close_pair(struct pair *p) {
    channel_close(&p->connector);
    channel_close(&p->listener);
    transport_destroy(&p->client);
    transport_destroy(&p->server);
}

static enum channel_event event_of(struct channel *channel, char text[WIRE_TEXT]) {
    zmq_pollitem_t item = { channel_monitor(channel), 0, ZMQ_POLLIN, 0 };
    double end = log_now_s() + 10;
    while (log_now_s() < end) {
        enum channel_event event = channel_watch(channel, text);
        if (event != CHANNEL_NOTHING) return event;
        zmq_poll(&item, 1, 100);
    }
    return CHANNEL_NOTHING;
}

static void wait_readable(struct channel *channel) {
    zmq_pollitem_t item = { channel_socket(channel), 0, ZMQ_POLLIN, 0 };
    assert_int_equal(zmq_poll(&item, 1, 10000), 1);
}

static void exchange(const struct keys *server, const struct keys *client, const char *user) {
    struct pair p;
    char text[WIRE_TEXT];
    open_pair(&p, server, client, worker_hex);
    assert_int_equal(event_of(p.connector, text), CHANNEL_UP);
    struct wire_message m = { .kind = WIRE_ACK, .session = 5, .ack = { .seq = 77 } }, back;
    assert_true(channel_say(p.connector, NULL, &m));
    struct channel_peer from;
    struct packet packet = { 0 };
    size_t length;
    wait_readable(p.listener);
    assert_true(channel_receive(p.listener, &from, &packet));
    assert_string_equal(from.user, user);
    const uint8_t *bytes = packet_bytes(&packet, &length);
    assert_int_equal(wire_read(&back, bytes, length, NULL), STATUS_OK);
    assert_true(back.ack.seq == 77);
    packet_free(&packet);
    assert_true(channel_say(p.listener, &from, &m)); /* and back */
    wait_readable(p.connector);
    assert_true(channel_receive(p.connector, NULL, &packet));
    packet_free(&packet);
    assert_false(channel_receive(p.connector, NULL, &packet));
    from.id[0] ^= 0x55;
    assert_false(channel_say(p.listener, &from, &m));
    close_pair(&p);
}

static void messages_go_both_ways(void **unused) {
    exchange(NULL, NULL, "");
    exchange(worker_keys, runner_keys, "runner");
}

static void refused(const struct keys *server, const struct keys *client, const char *pinned, const char *says) {
    struct pair p;
    char text[WIRE_TEXT] = "";
    open_pair(&p, server, client, pinned);
    enum channel_event event = event_of(p.connector, text);
    assert_true(event == CHANNEL_REFUSED || event == CHANNEL_BARRED);
    if (!strstr(text, says)) fail_msg("expected '%s', got '%s'", says, text);
    struct wire_message m = { .kind = WIRE_ACK };
    assert_false(channel_say(p.connector, NULL, &m)); /* nothing waits for a peer that is not there */
    close_pair(&p);
}

static void strangers_are_refused(void **unused) {
    log_init("test", LOG_QUIET);
    refused(worker_keys, stranger_keys, worker_hex, "our key is not among its allowed keys");
    refused(worker_keys, runner_keys, stranger_hex, "not the expected one");
    refused(worker_keys, NULL, NULL, "only one side has keys");
    refused(NULL, runner_keys, worker_hex, "only one side has keys");
}

static void a_lost_peer_is_told(void **unused) {
    struct pair p;
    char text[WIRE_TEXT], address[WIRE_ADDRESS];
    open_pair(&p, NULL, NULL, NULL);
    assert_int_equal(event_of(p.connector, text), CHANNEL_UP);
    channel_close(&p.listener);
    assert_int_equal(event_of(p.connector, text), CHANNEL_DOWN);
    struct wire_message m = { .kind = WIRE_ACK };
    double end = log_now_s() + 10; /* the event may come before its queue is gone */
    while (channel_say(p.connector, NULL, &m)) assert_true(log_now_s() < end);
    struct err err;
    if (channel_listen(&p.listener, p.server, p.address, address, &err)) fail_msg("%s", err.text);
    assert_int_equal(event_of(p.connector, text), CHANNEL_UP);
    close_pair(&p);
}

static void without_keys_only_loopback(void **unused) {
    struct transport *t = NULL;
    struct channel *c = NULL;
    struct err err;
    char bound[WIRE_ADDRESS];
    assert_int_equal(transport_create(&t, NULL, &err), STATUS_OK);
    static const char *const open[] = { "tcp://0.0.0.0:*", "tcp://*:7700", "tcp://192.168.1.1:7700", "tcp://[::]:7700",
                                        "tcp://127.0.0.1.evil:1", "tcp://eth0:7700" };
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        assert_int_equal(channel_listen(&c, t, open[i], bound, &err), STATUS_USAGE);
        assert_non_null(strstr(err.hint, "keygen"));
    }
    assert_int_equal(channel_listen(&c, t, "tcp://127.0.0.1:*", bound, &err), STATUS_OK);
    struct channel *second = NULL;
    assert_int_equal(channel_listen(&second, t, bound, bound, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "Address already in use"));
    channel_close(&c);
    transport_destroy(&t);
}

int main(void) {
    log_init("test", LOG_WARN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_both_ways),
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(a_lost_peer_is_told),
        cmocka_unit_test(without_keys_only_loopback),
    };
    return cmocka_run_group_tests_name("transport", tests, group_setup, group_teardown);
}
