#include "deploy/gate.h"

#include "common/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

struct gate {
    void *socket;
    const struct keys *keys;
    pthread_t thread;
    double warned_s; /* refusals are logged once a second at most */
    int unlogged;
};

enum { PARTS = 7, PART = 256 };
/* version, request id, domain, address, identity, mechanism, client's key */
enum { VERSION, REQUEST, DOMAIN, ADDRESS, IDENTITY, MECHANISM, KEY };

struct request {
    uint8_t part[PARTS][PART];
    size_t length[PARTS];
    int parts;
};

/* False once the context has been shut down. */
static bool receive(void *socket, struct request *request) {
    memset(request, 0, sizeof *request);
    int more = 1;
    size_t more_size = sizeof more;
    for (int i = 0; more; i++) {
        uint8_t spare[PART];
        int n = zmq_recv(socket, i < PARTS ? request->part[i] : spare, PART - 1, 0);
        if (n < 0 && errno == EINTR) {
            i--;
            continue;
        }
        if (n < 0) return false;
        if (i < PARTS) request->length[i] = (size_t)n < PART ? (size_t)n : PART - 1;
        request->parts = i + 1;
        zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &more_size);
    }
    return true;
}

static bool equals(const struct request *r, int part, const char *text) {
    return r->length[part] == strlen(text) && memcmp(r->part[part], text, r->length[part]) == 0;
}

static void log_refusal(struct gate *gate, const struct request *r) {
    double now = log_now_s();
    if (now - gate->warned_s < 1) {
        gate->unlogged++;
        return;
    }
    char hex[KEYS_HEX] = "?";
    if (r->length[KEY] == KEYS_BYTES) keys_to_hex(r->part[KEY], hex);
    log_warn("refused a connection from %.64s: no .pub file in %s holds its key %s", (const char *)r->part[ADDRESS],
             gate->keys->folder, hex);
    if (gate->unlogged) log_warn("refused %d more connections", gate->unlogged);
    gate->warned_s = now;
    gate->unlogged = 0;
}

static void *gate_thread(void *argument) {
    struct gate *gate = argument;
    struct request r;
    while (receive(gate->socket, &r)) {
        const struct keys_peer *peer = NULL;
        if (r.parts == PARTS && equals(&r, VERSION, "1.0") && equals(&r, MECHANISM, "CURVE") &&
            equals(&r, DOMAIN, GATE_DOMAIN) && r.length[KEY] == KEYS_BYTES)
            peer = keys_find(gate->keys, r.part[KEY]);
        if (!peer) log_refusal(gate, &r);
        const char *code = peer ? "200" : "400", *text = peer ? "OK" : "not on the list";
        const char *user = peer ? peer->name : "";
        zmq_send(gate->socket, "1.0", 3, ZMQ_SNDMORE);
        zmq_send(gate->socket, r.part[REQUEST], r.length[REQUEST], ZMQ_SNDMORE);
        zmq_send(gate->socket, code, 3, ZMQ_SNDMORE);
        zmq_send(gate->socket, text, strlen(text), ZMQ_SNDMORE);
        zmq_send(gate->socket, user, strlen(user), ZMQ_SNDMORE);
        zmq_send(gate->socket, "", 0, 0);
    }
    zmq_close(gate->socket);
    return NULL;
}

enum status gate_create(struct gate **out, void *context, const struct keys *keys, struct err *err) {
    struct gate *gate = calloc(1, sizeof *gate);
    if (!gate) return err_memory(err, "gate");
    gate->keys = keys;
    gate->warned_s = -1;
    gate->socket = zmq_socket(context, ZMQ_REP);
    int linger = 0, rc = 0;
    if (!gate->socket || zmq_setsockopt(gate->socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_bind(gate->socket, "inproc://zeromq.zap.01") != 0 ||
        (rc = pthread_create(&gate->thread, NULL, gate_thread, gate)) != 0) {
        enum status status = err_set(err, STATUS_IO, "authentication: %s", zmq_strerror(rc ? rc : zmq_errno()));
        if (gate->socket) zmq_close(gate->socket);
        free(gate);
        return status;
    }
    *out = gate;
    return STATUS_OK;
}

void gate_destroy(struct gate **gate) {
    if (!*gate) return;
    pthread_join((*gate)->thread, NULL);
    free(*gate);
    *gate = NULL;
}
