#include "deploy/worker.h"

#include "common/file.h"
#include "common/log.h"
#include "deploy/kernels/table.h"
#include "deploy/outlet.h"
#include "deploy/signals.h"
#include "deploy/stage_thread.h"
#include "deploy/store.h"
#include "deploy/transport.h"
#include "deploy/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>

enum {
    CHUNK = 128 << 10,     /* a second on a slow link */
    CHUNKS_AHEAD = 4,
    REFUSALS = 5,          /* failed handshakes in a row before a link counts as refused */
    IDLE_MS = 1000,
    RETRY_MS = 20,
};
static const double SILENT_S = 3;  /* after which another run may take over */
static const double REFETCH_S = 8; /* without a chunk: ask again */

enum slice_state { SLICE_NONE, SLICE_CHECKING, SLICE_FETCHING, SLICE_LOADED, SLICE_FAILED };

struct worker {
    const struct worker_config *config;
    struct transport *transport;
    struct channel *listener;
    struct store *store;
    struct stage_thread *thread;
    int signal_fd;
    uint64_t incarnation, dropped;
    char device[WIRE_NAME];

    uint64_t run, session; /* session 0: nobody's */
    struct channel_peer owner;
    double heard_s;

    bool assigned;
    struct wire_assign assign;
    enum slice_state slice;
    char text[WIRE_TEXT]; /* why SLICE_FAILED, or the link's refusal */
    int loads; /* asked for and not yet answered: only the last answer counts */
    struct wire_assign loaded; /* what the stage thread holds; no hash: nothing */
    uint64_t wanted;
    double chunk_s;

    struct channel *next;
    bool next_up;
    int refusals;
    uint32_t breaks;
    struct outlet outlet;
    uint64_t frames;
    enum wire_state told; /* the state in the last STATUS */
};

/* ---- status ---- */

static bool is_last(const struct worker *w) {
    return w->assign.stage + 1 == w->assign.nstages;
}

static enum wire_state state_of(const struct worker *w) {
    if (!w->session || !w->assigned) return WIRE_IDLE;
    if (w->slice == SLICE_FAILED || w->refusals >= REFUSALS) return WIRE_REFUSED;
    return w->slice == SLICE_LOADED && (is_last(w) || w->next_up) ? WIRE_READY : WIRE_LOADING;
}

static void say_status(struct worker *w, const struct channel_peer *to, uint64_t token) {
    struct wire_message m = { .kind = WIRE_STATUS, .session = w->session };
    struct wire_status *s = &m.status;
    s->incarnation = w->incarnation;
    s->token = token;
    s->state = w->told = state_of(w);
    s->stage = w->assigned ? w->assign.stage : 0;
    if (w->assigned) strcpy(s->hash, w->assign.hash);
    strcpy(s->device, w->device);
    s->threads = (uint16_t)stage_thread_cores(w->thread);
    s->queued = (uint32_t)stage_thread_queued(w->thread);
    s->frames = w->frames;
    s->dropped = w->dropped;
    s->breaks = w->breaks;
    double age = outlet_age(&w->outlet, log_now_s());
    s->unacked_us = age < 4000 ? (uint32_t)(age * 1e6) : UINT32_MAX;
    if (s->state == WIRE_REFUSED) strcpy(s->text, w->text);
    channel_say(w->listener, to, &m); /* the next HELLO asks again */
}

static void say_busy(struct worker *w, const struct channel_peer *to, uint64_t token) {
    struct wire_message m = { .kind = WIRE_STATUS };
    m.status.incarnation = w->incarnation;
    m.status.token = token;
    m.status.state = WIRE_BUSY;
    snprintf(m.status.text, sizeof m.status.text, "it serves another run%s%s", w->owner.user[0] ? ", of " : "",
             w->owner.user);
    channel_say(w->listener, to, &m);
}

static void fail_slice(struct worker *w, const char *text) {
    w->slice = SLICE_FAILED;
    snprintf(w->text, sizeof w->text, "%.399s", text);
    log_warn("%s", w->text);
}

/* ---- the slice ---- */

static void load_slice(struct worker *w) {
    struct err err;
    char path[4096];
    enum status status = store_path(w->store, w->assign.hash, ".safetensors", path, sizeof path, &err);
    if (!status)
        status = stage_thread_load(w->thread, path, w->assign.hash, w->assign.stage, w->assign.nstages, &err);
    if (status) {
        fail_slice(w, err.text);
        return;
    }
    w->slice = SLICE_CHECKING;
    w->loaded.hash[0] = '\0';
    w->loads++;
}

/* The stage of the run before serves again if it is the same. */
static bool is_loaded(const struct worker *w) {
    return w->loads == 0 && strcmp(w->loaded.hash, w->assign.hash) == 0 && w->loaded.stage == w->assign.stage &&
           w->loaded.nstages == w->assign.nstages;
}

static void want_chunks(struct worker *w) {
    uint64_t received = store_received(w->store);
    while (w->wanted < w->assign.size && w->wanted < received + CHUNKS_AHEAD * CHUNK) {
        uint64_t left = w->assign.size - w->wanted;
        struct wire_message m = { .kind = WIRE_WANT, .session = w->session };
        m.want.offset = w->wanted;
        m.want.length = left < CHUNK ? (uint32_t)left : CHUNK;
        strcpy(m.want.hash, w->assign.hash);
        if (!channel_say(w->listener, &w->owner, &m)) return;
        w->wanted += m.want.length;
    }
}

static void refetch(struct worker *w) {
    w->wanted = store_received(w->store);
    w->chunk_s = log_now_s();
    want_chunks(w);
}

static void fetch_slice(struct worker *w) {
    struct err err;
    if (store_begin(w->store, w->assign.hash, w->assign.size, &err)) {
        fail_slice(w, err.text);
        return;
    }
    log_info("fetching a slice of %.1f MB", (double)w->assign.size / 1e6);
    w->slice = SLICE_FETCHING;
    refetch(w);
}

static void on_chunk(struct worker *w, const struct wire_message *m) {
    if (w->slice != SLICE_FETCHING || strcmp(m->chunk.hash, w->assign.hash) != 0 ||
        m->chunk.offset != store_received(w->store)) {
        w->dropped++; /* asked for twice */
        return;
    }
    struct err err;
    enum status status = store_append(w->store, m->chunk.offset, m->payload, m->payload_length, &err);
    w->chunk_s = log_now_s();
    if (!status && store_received(w->store) < w->assign.size) {
        want_chunks(w);
        return;
    }
    if (!status) status = store_commit(w->store, &err);
    if (status) fail_slice(w, err.text);
    else load_slice(w);
}

static void on_loaded(struct worker *w, const struct outcome *o) {
    if (--w->loads > 0 || w->slice != SLICE_CHECKING) return;
    if (o->kind == OUTCOME_MISSING) {
        fetch_slice(w);
    } else if (o->status) {
        fail_slice(w, o->text);
    } else {
        w->slice = SLICE_LOADED;
        w->loaded = w->assign;
        log_info("ready as stage %d of %d", w->assign.stage + 1, w->assign.nstages);
    }
}

/* ---- runs ---- */

static void forget_frames(struct worker *w) {
    stage_thread_clear(w->thread);
    outlet_clear(&w->outlet);
}

static void end_session(struct worker *w) {
    forget_frames(w);
    channel_close(&w->next);
    w->next_up = false;
    if (w->slice == SLICE_FETCHING) store_abort(w->store);
    w->slice = SLICE_NONE;
    w->assigned = false;
    w->session = w->run = 0;
}

static bool same_user(const struct channel_peer *a, const struct channel_peer *b) {
    return strcmp(a->user, b->user) == 0;
}

static bool is_free_for(const struct worker *w, const struct channel_peer *from, uint64_t run) {
    if (!w->session || log_now_s() - w->heard_s > SILENT_S) return true;
    return w->run == run && same_user(&w->owner, from);
}

static void on_hello(struct worker *w, const struct channel_peer *from, const struct wire_message *m) {
    bool ours = w->session && m->session == w->session && same_user(from, &w->owner);
    if (!ours) {
        if (m->session == 0 || !is_free_for(w, from, m->hello.run)) {
            say_busy(w, from, m->hello.token);
            return;
        }
        end_session(w);
        w->run = m->hello.run;
        w->session = m->session;
        w->frames = 0;
        log_info("a run begins: %s", m->hello.name);
    }
    bool moved = from->length != w->owner.length || memcmp(from->id, w->owner.id, from->length) != 0;
    w->owner = *from;
    w->heard_s = log_now_s();
    if (ours && moved && w->slice == SLICE_FETCHING) refetch(w); /* what was under way is lost */
    say_status(w, from, m->hello.token);
}

static enum status connect_next(struct worker *w, struct err *err) {
    channel_close(&w->next);
    w->next_up = false;
    w->refusals = 0;
    if (is_last(w)) return STATUS_OK;
    return channel_connect(&w->next, w->transport, w->assign.next_address, w->assign.next_key, err);
}

static void on_assign(struct worker *w, const struct wire_message *m) {
    const struct wire_assign *a = &m->assign;
    bool same = w->assigned && a->stage == w->assign.stage && a->nstages == w->assign.nstages &&
                a->window == w->assign.window && a->size == w->assign.size && strcmp(a->hash, w->assign.hash) == 0 &&
                strcmp(a->next_address, w->assign.next_address) == 0 && strcmp(a->next_key, w->assign.next_key) == 0;
    struct err err;
    if (same && w->slice != SLICE_FAILED) { /* said twice, or to try the link again */
        if (w->refusals >= REFUSALS && connect_next(w, &err)) fail_slice(w, err.text);
        return;
    }
    if (w->slice == SLICE_FETCHING) store_abort(w->store);
    forget_frames(w);
    w->assign = *a;
    w->assigned = true;
    if (connect_next(w, &err)) fail_slice(w, err.text);
    else if (is_loaded(w)) w->slice = SLICE_LOADED;
    else load_slice(w);
}

/* ---- frames ---- */

static void on_frame(struct worker *w, const struct channel_peer *from, struct packet *packet,
                     const struct wire_message *m) {
    const struct wire_frame *f = &m->frame;
    struct wire_message ack = { .kind = WIRE_ACK, .session = w->session,
                                .ack = { .seq = f->seq, .attempt = f->attempt } };
    channel_say(w->listener, from, &ack);
    struct err err;
    if (w->slice != SLICE_LOADED || f->stage != w->assign.stage || f->nstages != w->assign.nstages ||
        stage_thread_frame(w->thread, packet, m, 2 * w->assign.window, &err))
        w->dropped++;
}

static void on_frame_done(struct worker *w, struct outcome *o) {
    if (o->session != w->session || w->slice != SLICE_LOADED) return;
    if (!o->status) {
        w->frames++;
        outlet_put(&w->outlet, o->seq, o->attempt, &o->packet);
    } else if (o->status == STATUS_FORMAT || o->status == STATUS_LIMIT) {
        struct wire_message m = { .kind = WIRE_FAILED, .session = w->session };
        m.failed.seq = o->seq;
        m.failed.attempt = o->attempt;
        m.failed.stage = w->assign.stage;
        strcpy(m.failed.text, o->text);
        channel_say(w->listener, &w->owner, &m);
    } else {
        log_warn("frame %llu: %s", (unsigned long long)o->seq, o->text); /* it will be sent again */
    }
}

static void on_measured(struct worker *w, struct outcome *o) {
    if (o->status) {
        fail_slice(w, o->text);
        return;
    }
    struct wire_message m = { .kind = WIRE_MEASURED, .session = w->session, .payload = (const uint8_t *)o->json,
                              .payload_length = strlen(o->json) };
    channel_say(w->listener, &w->owner, &m);
}

static void on_measure(struct worker *w) {
    char path[4096], ending[32];
    struct err err;
    snprintf(ending, sizeof ending, ".%s.%d.profile", kernels_best()->isa, stage_thread_cores(w->thread));
    enum status status = store_path(w->store, w->assign.hash, ending, path, sizeof path, &err);
    if (!status) status = stage_thread_measure(w->thread, path, &err);
    if (status) fail_slice(w, err.text);
}

static void on_ack(struct worker *w, const struct wire_message *m) {
    struct outlet_sample sample;
    if (!outlet_acknowledge(&w->outlet, m->ack.seq, m->ack.attempt, log_now_s(), &sample)) return;
    double us = sample.seconds * 1e6;
    stage_thread_link(w->thread, sample.bytes, us < 1 ? 1 : us < UINT32_MAX ? (uint32_t)us : UINT32_MAX);
}

/* ---- messages ---- */

static void on_message(struct worker *w, const struct channel_peer *from, struct packet *packet) {
    struct wire_message m;
    struct err err;
    size_t length;
    const uint8_t *bytes = packet_bytes(packet, &length);
    if (wire_read(&m, bytes, length, &err)) {
        if (w->dropped++ % 1000 == 0) log_warn("refused: %s", err.text);
        return;
    }
    if (m.kind == WIRE_HELLO) {
        on_hello(w, from, &m);
        return;
    }
    if (!w->session || m.session != w->session) {
        w->dropped++; /* of a run that is over */
        return;
    }
    if (m.kind == WIRE_FRAME) {
        on_frame(w, from, packet, &m);
        return;
    }
    if (!same_user(from, &w->owner)) {
        w->dropped++;
        return;
    }
    switch (m.kind) {
    case WIRE_ASSIGN: on_assign(w, &m); break;
    case WIRE_CHUNK: on_chunk(w, &m); break;
    case WIRE_MEASURE: on_measure(w); break;
    case WIRE_ACK: on_ack(w, &m); break;
    case WIRE_BYE:
        log_info("the run has ended: %llu frames", (unsigned long long)w->frames);
        end_session(w);
        break;
    default: w->dropped++;
    }
}

static void serve_listener(struct worker *w) {
    struct channel_peer from;
    struct packet packet = { 0 };
    while (channel_receive(w->listener, &from, &packet)) {
        on_message(w, &from, &packet);
        packet_free(&packet);
    }
}

static void serve_next(struct worker *w) {
    struct packet packet = { 0 };
    while (w->next && channel_receive(w->next, NULL, &packet)) {
        struct wire_message m;
        size_t length;
        const uint8_t *bytes = packet_bytes(&packet, &length);
        if (!wire_read(&m, bytes, length, NULL) && m.kind == WIRE_ACK && m.session == w->session) on_ack(w, &m);
        else w->dropped++;
        packet_free(&packet);
    }
}

static void watch_next(struct worker *w) {
    char text[WIRE_TEXT];
    enum channel_event event;
    while (w->next && (event = channel_watch(w->next, text)) != CHANNEL_NOTHING) {
        if (event == CHANNEL_UP) {
            w->next_up = true;
            w->refusals = 0;
        } else if (event == CHANNEL_DOWN) {
            log_warn("the link to the next stage, %s, is down", w->assign.next_address);
            w->next_up = false;
            w->breaks++;
            w->outlet.nsent = 0; /* whatever was on it is lost */
        } else {
            bool told = w->refusals >= REFUSALS;
            w->refusals = event == CHANNEL_BARRED ? REFUSALS : w->refusals + 1;
            if (told || w->refusals < REFUSALS) continue;
            snprintf(w->text, sizeof w->text, "no link to the next stage, %.200s: %.150s", w->assign.next_address,
                     text);
            log_warn("%s", w->text);
        }
    }
}

static void watch_listener(struct worker *w) {
    char text[WIRE_TEXT];
    while (channel_watch(w->listener, text) != CHANNEL_NOTHING) w->dropped++; /* the gate names strangers */
}

static void serve_thread(struct worker *w) {
    struct outcome o;
    while (stage_thread_collect(w->thread, &o)) {
        if (o.kind == OUTCOME_FRAME) on_frame_done(w, &o);
        else if (o.kind == OUTCOME_MEASURED) on_measured(w, &o);
        else on_loaded(w, &o);
        packet_free(&o.packet);
        free(o.json);
    }
}

/* ---- the loop ---- */

static void flush(struct worker *w) {
    if (!w->assigned) return;
    if (is_last(w)) outlet_flush(&w->outlet, w->listener, &w->owner);
    else if (w->next) outlet_flush(&w->outlet, w->next, NULL);
}

static void loop(struct worker *w) {
    int signal_number = 0;
    while (!signal_number) {
        zmq_pollitem_t items[6] = {
            { NULL, w->signal_fd, ZMQ_POLLIN, 0 },
            { NULL, stage_thread_fd(w->thread), ZMQ_POLLIN, 0 },
            { channel_socket(w->listener), 0, ZMQ_POLLIN, 0 },
            { channel_monitor(w->listener), 0, ZMQ_POLLIN, 0 },
        };
        int n = 4;
        bool waits = w->outlet.nwaiting > 0;
        if (w->next) {
            items[n++] = (zmq_pollitem_t){ channel_socket(w->next), 0,
                                           (short)(ZMQ_POLLIN | (waits && w->next_up ? ZMQ_POLLOUT : 0)), 0 };
            items[n++] = (zmq_pollitem_t){ channel_monitor(w->next), 0, ZMQ_POLLIN, 0 };
        }
        zmq_poll(items, n, waits && is_last(w) ? RETRY_MS : IDLE_MS);
        signal_number = signals_take(w->signal_fd);
        watch_listener(w);
        watch_next(w);
        serve_next(w);
        serve_listener(w);
        serve_thread(w);
        flush(w);
        if (w->slice == SLICE_FETCHING && log_now_s() - w->chunk_s > REFETCH_S) refetch(w);
        if (w->session && state_of(w) != w->told) say_status(w, &w->owner, 0);
    }
}

static enum status announce(const struct worker_config *config, const char *address, struct err *err) {
    printf("%s\n", address);
    if (fflush(stdout) != 0) return err_errno(err, "standard output");
    if (!config->address_file) return STATUS_OK;
    struct file_replace file;
    enum status status = file_replace_open(&file, config->address_file, err);
    if (status) return status;
    fprintf(file.stream, "%s\n", address);
    return file_replace_commit(&file, err);
}

enum status worker_run(const struct worker_config *config, struct err *err) {
    struct worker *w = calloc(1, sizeof *w);
    if (!w) return err_memory(err, "worker");
    w->config = config;
    w->signal_fd = -1;
    outlet_init(&w->outlet);
    struct utsname system;
    snprintf(w->device, sizeof w->device, "%.40s %.20s", uname(&system) == 0 ? system.nodename : "?", system.machine);
    char address[WIRE_ADDRESS];
    enum status status = STATUS_OK;
    if (getrandom(&w->incarnation, sizeof w->incarnation, 0) != sizeof w->incarnation)
        status = err_errno(err, "random numbers");
    if (!status) status = signals_open(&w->signal_fd, err);
    if (!status) status = store_create(&w->store, config->cache, err);
    if (!status) status = stage_thread_create(&w->thread, config->threads, err);
    if (!status) status = transport_create(&w->transport, config->keys, err);
    if (!status) status = channel_listen(&w->listener, w->transport, config->listen, address, err);
    if (!status) status = announce(config, address, err);
    if (!status) {
        log_info("listening on %s, %s; %d thread(s)", address, config->keys ? "encrypted" : "not encrypted",
                 stage_thread_cores(w->thread));
        loop(w);
        log_info("stopped");
        end_session(w);
    }
    outlet_clear(&w->outlet);
    channel_close(&w->next);
    channel_close(&w->listener);
    transport_destroy(&w->transport);
    stage_thread_destroy(&w->thread);
    store_destroy(&w->store);
    signals_close(&w->signal_fd);
    free(w);
    return status;
}
