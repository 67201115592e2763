#include "deploy/transport.h"

#include "deploy/gate.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HIGH_WATER = 32,        /* messages; frames are bounded by credits well below it */
    SOCKET_BUFFER = 64 << 10,
    LINGER_MS = 500,
    BEAT_MS = 1000,         /* the connecting side asks, a dead link shows within: */
    BEAT_TIMEOUT_MS = 6000,
    HANDSHAKE_MS = 5000,
    CONNECT_MS = 3000,
    RETRY_MS = 100,
    RETRY_MAX_MS = 1000,
    BACKLOG = 64,
};

struct transport {
    void *context;
    const struct keys *keys;
    struct gate *gate;
    int nchannels; /* made so far: names of monitors */
};

struct channel {
    void *socket, *monitor;
    bool listens, up;
};

static enum status zmq_error(struct err *err, const char *what) {
    return err_set(err, STATUS_IO, "%s: %s", what, zmq_strerror(zmq_errno()));
}

enum status transport_create(struct transport **out, const struct keys *keys, struct err *err) {
    if (keys && !zmq_has("curve")) return err_set(err, STATUS_IO, "this libzmq was built without CURVE");
    struct transport *t = calloc(1, sizeof *t);
    if (!t) return err_memory(err, "transport");
    t->keys = keys;
    t->context = zmq_ctx_new();
    enum status status = t->context ? STATUS_OK : zmq_error(err, "ZeroMQ");
    if (!status && keys) status = gate_create(&t->gate, t->context, keys, err);
    if (status) transport_destroy(&t);
    else *out = t;
    return status;
}

void transport_destroy(struct transport **pointer) {
    struct transport *t = *pointer;
    if (!t) return;
    if (t->context) zmq_ctx_shutdown(t->context);
    gate_destroy(&t->gate);
    if (t->context) zmq_ctx_term(t->context);
    free(t);
    *pointer = NULL;
}

bool transport_is_loopback(const char *address) {
    if (strncmp(address, "ipc://", 6) == 0 || strncmp(address, "inproc://", 9) == 0) return true;
    if (strncmp(address, "tcp://", 6) != 0) return false;
    const char *host = address + 6;
    if (strncmp(host, "[::1]:", 6) == 0 || strncmp(host, "localhost:", 10) == 0) return true;
    int a, b, c, d, used = 0;
    return sscanf(host, "%d.%d.%d.%d%n", &a, &b, &c, &d, &used) == 4 && a == 127 && host[used] == ':';
}

/* ---- channels ---- */

static bool set_int(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool set_options(struct channel *c, const char *address) {
    int64_t largest = WIRE_MAX_MESSAGE;
    bool good = set_int(c->socket, ZMQ_LINGER, LINGER_MS) && set_int(c->socket, ZMQ_SNDHWM, HIGH_WATER) &&
                set_int(c->socket, ZMQ_RCVHWM, HIGH_WATER) && set_int(c->socket, ZMQ_SNDBUF, SOCKET_BUFFER) &&
                set_int(c->socket, ZMQ_RCVBUF, SOCKET_BUFFER) && set_int(c->socket, ZMQ_TCP_KEEPALIVE, 1) &&
                set_int(c->socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) &&
                zmq_setsockopt(c->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest) == 0;
    if (strchr(address, '[')) good = good && set_int(c->socket, ZMQ_IPV6, 1);
    if (c->listens)
        return good && set_int(c->socket, ZMQ_ROUTER_MANDATORY, 1) && set_int(c->socket, ZMQ_BACKLOG, BACKLOG);
    /* Only this side beats: on a slow link the other side's beats would wait
     * behind a large message of ours and take the link for dead. */
    return good && set_int(c->socket, ZMQ_IMMEDIATE, 1) && set_int(c->socket, ZMQ_CONNECT_TIMEOUT, CONNECT_MS) &&
           set_int(c->socket, ZMQ_RECONNECT_IVL, RETRY_MS) &&
           set_int(c->socket, ZMQ_RECONNECT_IVL_MAX, RETRY_MAX_MS) &&
           set_int(c->socket, ZMQ_HEARTBEAT_IVL, BEAT_MS) && set_int(c->socket, ZMQ_HEARTBEAT_TIMEOUT, BEAT_TIMEOUT_MS);
}

static bool set_keys(struct channel *c, const struct keys *keys, const uint8_t server[KEYS_BYTES]) {
    bool good = zmq_setsockopt(c->socket, ZMQ_CURVE_SECRETKEY, keys->secret, KEYS_BYTES) == 0 &&
                zmq_setsockopt(c->socket, ZMQ_CURVE_PUBLICKEY, keys->public, KEYS_BYTES) == 0;
    if (!c->listens) return good && zmq_setsockopt(c->socket, ZMQ_CURVE_SERVERKEY, server, KEYS_BYTES) == 0;
    return good && set_int(c->socket, ZMQ_CURVE_SERVER, 1) &&
           zmq_setsockopt(c->socket, ZMQ_ZAP_DOMAIN, GATE_DOMAIN, strlen(GATE_DOMAIN)) == 0;
}

static bool open_monitor(struct channel *c, struct transport *t) {
    char name[64];
    snprintf(name, sizeof name, "inproc://monitor-%d", t->nchannels++);
    int events = ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                 ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    if (!c->listens) events |= ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
    if (zmq_socket_monitor(c->socket, name, events) != 0) return false;
    c->monitor = zmq_socket(t->context, ZMQ_PAIR);
    return c->monitor && set_int(c->monitor, ZMQ_LINGER, 0) && zmq_connect(c->monitor, name) == 0;
}

/* A socket with all options set, not yet bound or connected. */
static enum status open_channel(struct channel **out, struct transport *t, bool listens, const char *address,
                                const uint8_t *server_key, struct err *err) {
    struct channel *c = calloc(1, sizeof *c);
    if (!c) return err_memory(err, "socket");
    c->listens = listens;
    c->socket = zmq_socket(t->context, listens ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!c->socket || !set_options(c, address) || (t->keys && !set_keys(c, t->keys, server_key)) ||
        !open_monitor(c, t)) {
        enum status status = zmq_error(err, address);
        channel_close(&c);
        return status;
    }
    *out = c;
    return STATUS_OK;
}

enum status channel_listen(struct channel **channel, struct transport *t, const char *address,
                           char bound[WIRE_ADDRESS], struct err *err) {
    if (!t->keys && !transport_is_loopback(address)) {
        err_set(err, STATUS_USAGE, "%s: without keys a worker listens on this machine's own addresses only", address);
        err_hint(err, "make keys with 'espalier-deploy keygen' and give --keys DIR, or listen on tcp://127.0.0.1:PORT");
        return STATUS_USAGE;
    }
    struct channel *c = NULL;
    enum status status = open_channel(&c, t, true, address, NULL, err);
    if (status) return status;
    size_t length = WIRE_ADDRESS;
    if (zmq_bind(c->socket, address) != 0 || zmq_getsockopt(c->socket, ZMQ_LAST_ENDPOINT, bound, &length) != 0) {
        status = zmq_error(err, address);
        channel_close(&c);
        return status;
    }
    *channel = c;
    return STATUS_OK;
}

enum status channel_connect(struct channel **channel, struct transport *t, const char *address, const char *key,
                            struct err *err) {
    uint8_t server_key[KEYS_BYTES];
    enum status status = STATUS_OK;
    if (t->keys) status = keys_from_hex(server_key, key, err);
    if (status) {
        err_prefix(err, "%s: public key of the other side", address);
        return status;
    }
    struct channel *c = NULL;
    status = open_channel(&c, t, false, address, server_key, err);
    if (status) return status;
    if (zmq_connect(c->socket, address) != 0) {
        status = zmq_error(err, address);
        channel_close(&c);
        return status;
    }
    *channel = c;
    return STATUS_OK;
}

void channel_close(struct channel **pointer) {
    struct channel *c = *pointer;
    if (!c) return;
    if (c->monitor) {
        zmq_socket_monitor(c->socket, NULL, 0);
        zmq_close(c->monitor);
    }
    if (c->socket) zmq_close(c->socket);
    free(c);
    *pointer = NULL;
}

void *channel_socket(const struct channel *c) { return c->socket; }
void *channel_monitor(const struct channel *c) { return c->monitor; }

/* Why a handshake failed, in words. A side that does not like the other's keys
 * just hangs up, so it is often all that can be known. */
static const char *refusal(uint16_t event, uint32_t value) {
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) return "our key is not among its allowed keys";
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL || value == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
        return "its key is not the expected one, or only one side has keys";
    if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) return "only one side has keys";
    return "what answers is not an Espalier worker, or not of this version";
}

enum channel_event channel_watch(struct channel *c, char text[WIRE_TEXT]) {
    for (;;) {
        uint8_t head[6], rest[256];
        int n = zmq_recv(c->monitor, head, sizeof head, ZMQ_DONTWAIT);
        if (n < 0) return CHANNEL_NOTHING;
        zmq_recv(c->monitor, rest, sizeof rest, 0); /* the address */
        if (n != sizeof head) continue;
        uint16_t event;
        uint32_t value;
        memcpy(&event, head, 2);
        memcpy(&value, head + 2, 4);
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            c->up = true;
            return CHANNEL_UP;
        }
        if (event == ZMQ_EVENT_DISCONNECTED) {
            if (!c->up) continue; /* of a handshake that failed */
            c->up = false;
            return CHANNEL_DOWN;
        }
        if (event != ZMQ_EVENT_HANDSHAKE_FAILED_AUTH && event != ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL &&
            event != ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL)
            continue;
        snprintf(text, WIRE_TEXT, "%s", refusal(event, value));
        return event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL ? CHANNEL_REFUSED : CHANNEL_BARRED;
    }
}

/* ---- packets ---- */

void packet_free(struct packet *packet) {
    if (packet->held) zmq_msg_close(&packet->body);
    packet->held = false;
}

void packet_move(struct packet *to, struct packet *from) {
    assert(!to->held && from->held);
    zmq_msg_init(&to->body);
    zmq_msg_move(&to->body, &from->body);
    zmq_msg_close(&from->body);
    to->held = true;
    from->held = false;
}

const uint8_t *packet_bytes(const struct packet *packet, size_t *length) {
    zmq_msg_t *body = (zmq_msg_t *)(uintptr_t)&packet->body; /* ZeroMQ's getter is not const */
    *length = zmq_msg_size(body);
    return zmq_msg_data(body);
}

uint8_t *packet_buffer(struct wire_message *message, size_t capacity, uint8_t **payload, struct err *err) {
    size_t head = wire_head_size(message);
    uint8_t *buffer = malloc(head + capacity);
    if (!buffer) {
        err_memory(err, "message");
        return NULL;
    }
    *payload = buffer + head;
    return buffer;
}

static void free_buffer(void *buffer, void *hint) {
    free(buffer);
}

enum status packet_seal(struct packet *packet, struct wire_message *message, uint8_t *buffer, struct err *err) {
    wire_write_head(message, buffer);
    size_t length = wire_head_size(message) + message->payload_length;
    if (zmq_msg_init_data(&packet->body, buffer, length, free_buffer, NULL) != 0) {
        free(buffer);
        return err_memory(err, "message");
    }
    packet->held = true;
    return STATUS_OK;
}

enum status packet_make(struct packet *packet, struct wire_message *message, struct err *err) {
    uint8_t *payload, *buffer = packet_buffer(message, message->payload_length, &payload, err);
    if (!buffer) return STATUS_MEMORY;
    if (message->payload_length) memcpy(payload, message->payload, message->payload_length);
    return packet_seal(packet, message, buffer, err);
}

enum channel_result channel_send(struct channel *c, const struct channel_peer *to, struct packet *packet) {
    assert(packet->held && c->listens == (to != NULL));
    while (to && zmq_send(c->socket, to->id, to->length, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        if (zmq_errno() != EINTR) return zmq_errno() == EAGAIN ? CHANNEL_LATER : CHANNEL_GONE;
    while (zmq_msg_send(&packet->body, c->socket, ZMQ_DONTWAIT) < 0)
        if (zmq_errno() != EINTR) return zmq_errno() == EAGAIN ? CHANNEL_LATER : CHANNEL_GONE;
    packet->held = false; /* ZeroMQ has it */
    return CHANNEL_DONE;
}

bool channel_say(struct channel *c, const struct channel_peer *to, struct wire_message *message) {
    struct packet packet = { 0 };
    if (packet_make(&packet, message, NULL)) return false;
    bool sent = channel_send(c, to, &packet) == CHANNEL_DONE;
    packet_free(&packet);
    return sent;
}

static void drop_rest(void *socket) {
    int more = 0;
    size_t size = sizeof more;
    while (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == 0 && more) {
        char byte;
        if (zmq_recv(socket, &byte, 1, 0) < 0 && zmq_errno() != EINTR) return;
    }
}

/* Only the last part may follow; takes it as the message's bytes. */
static bool receive_body(struct channel *c, struct channel_peer *from, struct packet *packet) {
    if (zmq_msg_init(&packet->body) != 0) return false;
    if (zmq_msg_recv(&packet->body, c->socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&packet->body);
        return false;
    }
    packet->held = true;
    if (from) {
        const char *user = zmq_msg_gets(&packet->body, "User-Id");
        snprintf(from->user, sizeof from->user, "%s", user ? user : "");
    }
    return true;
}

bool channel_receive(struct channel *c, struct channel_peer *from, struct packet *packet) {
    assert(c->listens == (from != NULL));
    for (;;) {
        if (from) {
            int n = zmq_recv(c->socket, from->id, sizeof from->id, ZMQ_DONTWAIT);
            if (n < 0 && zmq_errno() == EINTR) continue;
            if (n < 0) return false;
            from->length = (uint8_t)n;
            int more = 0;
            size_t size = sizeof more;
            if (zmq_getsockopt(c->socket, ZMQ_RCVMORE, &more, &size) != 0 || !more) continue;
        }
        if (!receive_body(c, from, packet)) return false;
        int more = zmq_msg_more(&packet->body);
        if (!more) return true;
        packet_free(packet);
        drop_rest(c->socket);
    }
}
