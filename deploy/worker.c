#include "deploy/worker.h"

#include "common/file.h"
#include "common/log.h"
#include "deploy/contention.h"
#include "deploy/kernels/table.h"
#include "deploy/post.h"
#include "deploy/signals.h"
#include "deploy/stage_thread.h"
#include "deploy/store.h"
#include "deploy/transport.h"
#include "deploy/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/utsname.h>

enum {
    CHUNK = 128 << 10,     /* a second on a slow link */
    CHUNKS_AHEAD = 4,
    IDLE_MS = 1000,
    RETRY_MS = 20,
    DESCRIPTORS = 4096,
};
static const double SILENT_S = 3;  /* after which another run may take over */
static const double REFETCH_S = 8; /* without a chunk: ask again */

/* A slot of the stage thread, and the slice that is on its way into it or there. */
enum slice_state { SLICE_NONE, SLICE_CHECKING, SLICE_MISSING, SLICE_FETCHING, SLICE_LOADED, SLICE_FAILED };
struct slot {
    enum slice_state state;
    char hash[WIRE_HASH];
    uint64_t size;
    uint16_t stage, nstages;
    int loads;            /* asked for and not yet answered: only the last answer counts */
    char text[WIRE_TEXT]; /* why SLICE_FAILED */
};

struct worker {
    const struct worker_config *config;
    struct transport *transport;
    struct channel *listener;
    struct store *store;
    struct stage_thread *thread;
    struct recoder *recoder;
    int signal_fd;
    uint64_t incarnation, dropped;
    double warned_s; /* of messages that are none: once a second at most */
    char device[WIRE_NAME];

    uint64_t run, session; /* session 0: nobody's */
    struct channel_peer owner;
    double heard_s;

    struct post post[WIRE_POSTS];
    struct slot slot[STAGE_SLOTS];
    int fetching; /* slot, or -1 */
    uint64_t wanted;
    double chunk_s;

    uint32_t breaks;
    uint64_t frames;
    struct wire_post told[WIRE_POSTS]; /* as in the last STATUS */
};

/* ---- status ---- */

static enum wire_state state_of(const struct worker *w, const struct post *p) {
    enum slice_state slice = w->slot[p->slot].state;
    if (slice == SLICE_FAILED || post_refused(p)) return WIRE_REFUSED;
    return slice == SLICE_LOADED && (post_is_last(p) || post_links(p)) ? WIRE_READY : WIRE_LOADING;
}

static int describe_posts(const struct worker *w, struct wire_post out[WIRE_POSTS]) {
    int n = 0;
    memset(out, 0, WIRE_POSTS * sizeof *out);
    for (int i = 0; i < WIRE_POSTS && w->session; i++) {
        const struct post *p = &w->post[i];
        if (!p->held) continue;
        struct wire_post *o = &out[n++];
        o->layout = p->assign.layout;
        o->state = state_of(w, p);
        o->stage = p->assign.stage;
        o->links = post_links(p);
        strcpy(o->hash, p->assign.hash);
        bool failed = w->slot[p->slot].state == SLICE_FAILED;
        double us = p->news.seconds * 1e6;
        o->link_bytes = p->news.bytes;
        o->link_us = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
        if (o->state == WIRE_REFUSED) strcpy(o->text, failed ? w->slot[p->slot].text : p->text);
    }
    return n;
}

static void say_status(struct worker *w, const struct channel_peer *to, uint64_t token) {
    struct wire_message m = { .kind = WIRE_STATUS, .session = w->session };
    struct wire_status *s = &m.status;
    s->incarnation = w->incarnation;
    s->token = token;
    s->nposts = (uint8_t)describe_posts(w, s->post);
    memcpy(w->told, s->post, sizeof w->told);
    strcpy(s->device, w->device);
    s->threads = (uint16_t)stage_thread_cores(w->thread);
    s->queued = (uint32_t)stage_thread_queued(w->thread);
    s->frames = w->frames;
    s->dropped = w->dropped;
    s->breaks = w->breaks;
    double age = 0;
    for (int i = 0; i < WIRE_POSTS; i++)
        if (w->post[i].held && post_age(&w->post[i], log_now_s()) > age) age = post_age(&w->post[i], log_now_s());
    s->unacked_us = age < 4000 ? (uint32_t)(age * 1e6) : UINT32_MAX;
    s->contention_us = contention_us();
    channel_say(w->listener, to, &m); /* the next HELLO asks again */
}

static bool has_news(const struct worker *w) {
    struct wire_post now[WIRE_POSTS];
    describe_posts(w, now);
    return w->session && memcmp(now, w->told, sizeof now) != 0;
}

static void say_busy(struct worker *w, const struct channel_peer *to, uint64_t token) {
    struct wire_message m = { .kind = WIRE_STATUS };
    m.status.incarnation = w->incarnation;
    m.status.token = token;
    m.status.busy = true;
    snprintf(m.status.text, sizeof m.status.text, "it serves another run%s%s", w->owner.user[0] ? ", of " : "",
             w->owner.user);
    channel_say(w->listener, to, &m);
}

/* ---- slices ---- */

static void fail_slice(struct slot *s, const char *text) {
    s->state = SLICE_FAILED;
    snprintf(s->text, sizeof s->text, "%.399s", text);
    log_warn("%s", s->text);
}

static void load_slice(struct worker *w, struct slot *s) {
    struct err err;
    char path[4096];
    enum status status = store_path(w->store, s->hash, ".safetensors", path, sizeof path, &err);
    if (!status)
        status = stage_thread_load(w->thread, (int)(s - w->slot), path, s->hash, s->stage, s->nstages, &err);
    if (status) {
        fail_slice(s, err.text);
        return;
    }
    s->state = SLICE_CHECKING;
    s->loads++;
}

static bool slot_holds(const struct slot *s, const struct wire_assign *a) {
    return s->state != SLICE_NONE && s->state != SLICE_FAILED && strcmp(s->hash, a->hash) == 0 &&
           s->stage == a->stage && s->nstages == a->nstages;
}

static bool slot_is_used(const struct worker *w, int slot) {
    for (int i = 0; i < WIRE_POSTS; i++)
        if (w->post[i].held && w->post[i].slot == slot) return true;
    return false;
}

static void stop_fetching(struct worker *w) {
    if (w->fetching >= 0) store_abort(w->store);
    w->fetching = -1;
}

/* The slot that has the slice, of another post or of the run before; else a
 * free one, into which it is loaded. */
static int take_slot(struct worker *w, const struct wire_assign *a) {
    int slot = -1;
    for (int i = 0; i < STAGE_SLOTS; i++)
        if (slot_holds(&w->slot[i], a)) return i;
    for (int i = 0; i < STAGE_SLOTS; i++)
        if (!slot_is_used(w, i)) slot = i;
    struct slot *s = &w->slot[slot];
    if (w->fetching == slot) stop_fetching(w);
    int loads = s->loads;
    *s = (struct slot){ .size = a->size, .stage = a->stage, .nstages = a->nstages, .loads = loads };
    strcpy(s->hash, a->hash);
    load_slice(w, s);
    return slot;
}

static void want_chunks(struct worker *w) {
    const struct slot *s = &w->slot[w->fetching];
    uint64_t received = store_received(w->store);
    while (w->wanted < s->size && w->wanted < received + CHUNKS_AHEAD * CHUNK) {
        uint64_t left = s->size - w->wanted;
        struct wire_message m = { .kind = WIRE_WANT, .session = w->session };
        m.want.offset = w->wanted;
        m.want.length = left < CHUNK ? (uint32_t)left : CHUNK;
        strcpy(m.want.hash, s->hash);
        if (!channel_say(w->listener, &w->owner, &m)) return;
        w->wanted += m.want.length;
    }
}

static void refetch(struct worker *w) {
    w->wanted = store_received(w->store);
    w->chunk_s = log_now_s();
    want_chunks(w);
}

/* Fetches the next slice that is missing; one at a time. */
static void fetch_slices(struct worker *w) {
    for (int i = 0; i < STAGE_SLOTS && w->fetching < 0; i++) {
        struct slot *s = &w->slot[i];
        struct err err;
        if (s->state != SLICE_MISSING || !slot_is_used(w, i)) continue;
        if (store_begin(w->store, s->hash, s->size, &err)) {
            fail_slice(s, err.text);
            continue;
        }
        log_info("fetching a slice of %.1f MB", (double)s->size / 1e6);
        s->state = SLICE_FETCHING;
        w->fetching = i;
        refetch(w);
    }
}

static void on_chunk(struct worker *w, const struct wire_message *m) {
    struct slot *s = w->fetching >= 0 ? &w->slot[w->fetching] : NULL;
    if (!s || strcmp(m->chunk.hash, s->hash) != 0 || m->chunk.offset != store_received(w->store)) {
        w->dropped++; /* asked for twice */
        return;
    }
    struct err err;
    enum status status = store_append(w->store, m->chunk.offset, m->payload, m->payload_length, &err);
    w->chunk_s = log_now_s();
    if (!status && store_received(w->store) < s->size) {
        want_chunks(w);
        return;
    }
    if (!status) status = store_commit(w->store, &err);
    w->fetching = -1;
    if (status) fail_slice(s, err.text);
    else load_slice(w, s);
}

static void on_loaded(struct worker *w, const struct outcome *o) {
    struct slot *s = &w->slot[o->slot];
    if (--s->loads > 0 || s->state != SLICE_CHECKING) return;
    if (o->kind == OUTCOME_MISSING) {
        s->state = SLICE_MISSING;
    } else if (o->status) {
        fail_slice(s, o->text);
    } else {
        s->state = SLICE_LOADED;
        log_info("ready as stage %d of %d", s->stage + 1, s->nstages);
    }
}

/* ---- runs ---- */

static struct post *post_in(struct worker *w, uint32_t layout) {
    for (int i = 0; i < WIRE_POSTS; i++)
        if (w->post[i].held && w->post[i].assign.layout == layout) return &w->post[i];
    return NULL;
}

/* Leaves a post; its slice stays for whoever may need it next. */
static void leave_post(struct worker *w, struct post *p) {
    uint32_t layout = p->assign.layout;
    stage_thread_clear(w->thread, &layout);
    post_close(p);
    if (w->fetching == p->slot && !slot_is_used(w, p->slot)) {
        stop_fetching(w);
        w->slot[p->slot].state = SLICE_NONE;
    }
}

/* The memory of slices that no post needs. */
static void unload_unused(struct worker *w) {
    for (int i = 0; i < STAGE_SLOTS; i++) {
        struct slot *s = &w->slot[i];
        if (s->state != SLICE_LOADED || slot_is_used(w, i)) continue;
        if (!stage_thread_load(w->thread, i, NULL, "", 0, 0, NULL)) s->state = SLICE_NONE;
    }
}

static void end_session(struct worker *w) {
    for (int i = 0; i < WIRE_POSTS; i++)
        if (w->post[i].held) leave_post(w, &w->post[i]);
    stage_thread_clear(w->thread, NULL);
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
    bool left = false;
    for (int i = 0; i < WIRE_POSTS; i++) {
        if (!w->post[i].held || w->post[i].assign.layout >= m->hello.oldest) continue;
        leave_post(w, &w->post[i]);
        left = true;
    }
    if (left) unload_unused(w);
    bool moved = from->length != w->owner.length || memcmp(from->id, w->owner.id, from->length) != 0;
    w->owner = *from;
    w->heard_s = log_now_s();
    if (ours && moved && w->fetching >= 0) refetch(w); /* what was under way is lost */
    say_status(w, from, m->hello.token);
}

/* A free place, or the one of the oldest layout. */
static struct post *make_place(struct worker *w) {
    struct post *oldest = &w->post[0];
    for (int i = 0; i < WIRE_POSTS; i++) {
        if (!w->post[i].held) return &w->post[i];
        if (w->post[i].assign.layout < oldest->assign.layout) oldest = &w->post[i];
    }
    leave_post(w, oldest);
    return oldest;
}

static void on_assign(struct worker *w, const struct wire_message *m) {
    const struct wire_assign *a = &m->assign;
    struct post *p = post_in(w, a->layout);
    struct err err;
    if (p && post_is(p, a)) { /* said twice, or to try again what failed */
        if (w->slot[p->slot].state == SLICE_FAILED) load_slice(w, &w->slot[p->slot]);
        if (post_refused(p) && post_reconnect(p, w->transport, &err)) log_warn("%s", err.text);
        return;
    }
    if (p) leave_post(w, p);
    p = make_place(w);
    int slot = take_slot(w, a);
    if (post_open(p, a, slot, w->transport, &err)) log_warn("%s", err.text); /* it is assigned again */
}

/* ---- frames ---- */

static void on_frame(struct worker *w, const struct channel_peer *from, struct packet *packet,
                     const struct wire_message *m) {
    const struct wire_frame *f = &m->frame;
    struct wire_message ack = { .kind = WIRE_ACK, .session = w->session,
                                .ack = { .seq = f->seq, .attempt = f->attempt } };
    channel_say(w->listener, from, &ack);
    const struct post *p = post_in(w, f->layout);
    struct err err;
    if (!p || w->slot[p->slot].state != SLICE_LOADED || f->stage != p->assign.stage ||
        f->nstages != p->assign.nstages ||
        (!post_is_last(p) && f->choice[f->stage + 1].worker >= p->assign.nnext) ||
        stage_thread_frame(w->thread, p->slot, packet, m, 2 * p->assign.window, &err))
        w->dropped++;
}

static void on_frame_done(struct worker *w, struct outcome *o) {
    struct post *p = o->session == w->session ? post_in(w, o->layout) : NULL;
    if (!p) return;
    if (!o->status) {
        w->frames++;
        if (post_is_last(p) || o->next < p->assign.nnext) post_put(p, o->next, o->seq, o->attempt, &o->packet);
    } else if (o->status == STATUS_FORMAT || o->status == STATUS_LIMIT) {
        struct wire_message m = { .kind = WIRE_FAILED, .session = w->session };
        m.failed.seq = o->seq;
        m.failed.attempt = o->attempt;
        m.failed.stage = p->assign.stage;
        strcpy(m.failed.text, o->text);
        channel_say(w->listener, &w->owner, &m);
    } else {
        log_warn("frame %llu: %s", (unsigned long long)o->seq, o->text); /* it will be sent again */
    }
}

static void on_measured(struct worker *w, struct outcome *o) {
    if (o->status) {
        fail_slice(&w->slot[o->slot], o->text);
        return;
    }
    struct wire_message m = { .kind = WIRE_MEASURED, .session = w->session, .measure = { o->layout },
                              .payload = (const uint8_t *)o->json, .payload_length = strlen(o->json) };
    channel_say(w->listener, &w->owner, &m);
}

static void on_measure(struct worker *w, uint32_t layout) {
    const struct post *p = post_in(w, layout);
    if (!p) return;
    char path[4096], ending[32];
    struct err err;
    snprintf(ending, sizeof ending, ".%s.%d.profile", kernels_best()->isa, stage_thread_cores(w->thread));
    enum status status = store_path(w->store, p->assign.hash, ending, path, sizeof path, &err);
    if (!status) status = stage_thread_measure(w->thread, p->slot, layout, path, &err);
    if (status) fail_slice(&w->slot[p->slot], err.text);
}

static void on_ack(struct worker *w, const struct wire_message *m) {
    struct outlet_sample sample;
    for (int i = 0; i < WIRE_POSTS; i++) {
        if (!w->post[i].held || !post_acknowledge(&w->post[i], m->ack.seq, m->ack.attempt, log_now_s(), &sample))
            continue;
        double us = sample.seconds * 1e6;
        stage_thread_link(w->thread, sample.bytes, us < 1 ? 1 : us < UINT32_MAX ? (uint32_t)us : UINT32_MAX);
        return;
    }
}

static void on_relieve(struct worker *w, const struct wire_message *m) {
    stage_thread_relieve(w->thread, m->session, &m->relieve);
    struct post *p = post_in(w, m->relieve.layout);
    if (p) post_recode(p, m->relieve.before, w->recoder, (enum codec)m->relieve.codec);
}

/* ---- messages ---- */

static void on_message(struct worker *w, const struct channel_peer *from, struct packet *packet) {
    static struct wire_message m; /* large */
    struct err err;
    size_t length;
    const uint8_t *bytes = packet_bytes(packet, &length);
    if (wire_read(&m, bytes, length, &err)) {
        w->dropped++;
        if (log_now_s() - w->warned_s < 1) return;
        log_warn("refused%s%s: %s; %llu messages dropped so far", from->user[0] ? " from " : "", from->user, err.text,
                 (unsigned long long)w->dropped);
        w->warned_s = log_now_s();
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
    case WIRE_MEASURE: on_measure(w, m.measure.layout); break;
    case WIRE_ACK: on_ack(w, &m); break;
    case WIRE_RELIEVE: on_relieve(w, &m); break;
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

static void serve_next(struct worker *w, struct channel *channel) {
    struct packet packet = { 0 };
    while (channel && channel_receive(channel, NULL, &packet)) {
        struct wire_message m;
        size_t length;
        const uint8_t *bytes = packet_bytes(&packet, &length);
        if (!wire_read(&m, bytes, length, NULL) && m.kind == WIRE_ACK && m.session == w->session) on_ack(w, &m);
        else w->dropped++;
        packet_free(&packet);
    }
}

static void serve_posts(struct worker *w) {
    for (int i = 0; i < WIRE_POSTS; i++) {
        struct post *p = &w->post[i];
        if (!p->held) continue;
        w->breaks += (uint32_t)post_watch(p);
        for (int k = 0; k < p->assign.nnext; k++) serve_next(w, p->next[k].channel);
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

static void sleep_until_needed(struct worker *w) {
    zmq_pollitem_t items[4 + 2 * WIRE_POSTS * WIRE_MAX_REPLICAS] = {
        { NULL, w->signal_fd, ZMQ_POLLIN, 0 },
        { NULL, stage_thread_fd(w->thread), ZMQ_POLLIN, 0 },
        { channel_socket(w->listener), 0, ZMQ_POLLIN, 0 },
        { channel_monitor(w->listener), 0, ZMQ_POLLIN, 0 },
    };
    int n = 4;
    double now_s = log_now_s();
    bool retry = false; /* a listener cannot tell when there is room again */
    for (int i = 0; i < WIRE_POSTS; i++) {
        const struct post *p = &w->post[i];
        retry |= p->held && outlet_pressing(&p->results, now_s);
        for (int k = 0; p->held && k < p->assign.nnext; k++) {
            const struct post_link *link = &p->next[k];
            if (!link->channel) continue;
            short out = link->up && outlet_pressing(&link->outlet, now_s) ? ZMQ_POLLOUT : 0;
            items[n++] = (zmq_pollitem_t){ channel_socket(link->channel), 0, (short)(ZMQ_POLLIN | out), 0 };
            items[n++] = (zmq_pollitem_t){ channel_monitor(link->channel), 0, ZMQ_POLLIN, 0 };
        }
    }
    zmq_poll(items, n, retry ? RETRY_MS : IDLE_MS);
}

static void loop(struct worker *w) {
    int signal_number = 0;
    while (!signal_number) {
        sleep_until_needed(w);
        signal_number = signals_take(w->signal_fd);
        watch_listener(w);
        serve_posts(w);
        serve_listener(w);
        serve_thread(w);
        for (int i = 0; i < WIRE_POSTS; i++)
            if (w->post[i].held) post_flush(&w->post[i], w->listener, &w->owner);
        fetch_slices(w);
        if (w->fetching >= 0 && log_now_s() - w->chunk_s > REFETCH_S) refetch(w);
        if (has_news(w)) say_status(w, &w->owner, 0);
    }
}

/* Strangers in the middle of a handshake hold a descriptor each, for seconds;
 * there should be some left for those who are expected. */
static void allow_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= DESCRIPTORS) return;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) log_warn("open files: %s", strerror(errno));
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
    w->fetching = -1;
    allow_descriptors();
    struct utsname system;
    snprintf(w->device, sizeof w->device, "%.40s %.20s", uname(&system) == 0 ? system.nodename : "?", system.machine);
    char address[WIRE_ADDRESS];
    enum status status = STATUS_OK;
    if (getrandom(&w->incarnation, sizeof w->incarnation, 0) != sizeof w->incarnation)
        status = err_errno(err, "random numbers");
    if (!status) status = signals_open(&w->signal_fd, err);
    if (!status) status = store_create(&w->store, config->cache, err);
    if (!status) status = stage_thread_create(&w->thread, config->threads, store_folder(w->store), err);
    if (!status) status = recoder_create(&w->recoder, err);
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
    channel_close(&w->listener);
    transport_destroy(&w->transport);
    recoder_destroy(&w->recoder);
    stage_thread_destroy(&w->thread);
    store_destroy(&w->store);
    signals_close(&w->signal_fd);
    free(w);
    return status;
}
