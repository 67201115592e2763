#include "deploy/peer.h"

#include "common/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REFUSALS = 5 }; /* failed handshakes in a row before it counts as refused */
static const double HELLO_S = 0.3, SILENT_S = 3, ASSIGN_S = 1, BARRED_S = 2;

enum status peer_open(struct peer *p, const struct cluster_worker *worker, const char *key,
                      struct transport *transport, uint64_t run, uint64_t session, struct err *err) {
    *p = (struct peer){ .worker = worker, .transport = transport, .run = run, .session = session };
    snprintf(p->key, sizeof p->key, "%s", key);
    outlet_init(&p->outlet);
    p->hello_s = -1e9;
    snprintf(p->trouble, sizeof p->trouble, "nothing answers there");
    enum status status = channel_connect(&p->channel, transport, worker->address, key, err);
    if (status) err_prefix(err, "%s", worker->name);
    return status;
}

void peer_close(struct peer *p) {
    if (p->channel && p->up) {
        struct wire_message m = { .kind = WIRE_BYE, .session = p->session };
        channel_say(p->channel, NULL, &m);
    }
    outlet_clear(&p->outlet);
    channel_close(&p->channel);
    profile_destroy(&p->profile);
}

static struct peer_post *post_in(struct peer *p, uint32_t layout) {
    for (int i = 0; i < WIRE_POSTS; i++)
        if (p->post[i].held && p->post[i].assign.layout == layout) return &p->post[i];
    return NULL;
}

const struct peer_post *peer_post(const struct peer *p, uint32_t layout) {
    return post_in((struct peer *)(uintptr_t)p, layout);
}

bool peer_alive(const struct peer *p) {
    return p->up && p->known && !p->silent && !p->status.busy;
}

bool peer_ready(const struct peer *p) {
    bool ready = true;
    for (int i = 0; i < WIRE_POSTS; i++) ready &= !p->post[i].held || p->post[i].ready;
    return ready;
}

/* Frames that it has may be lost. */
static void lose(struct peer *p, const char *why) {
    for (int i = 0; i < WIRE_POSTS; i++) p->post[i].ready = false;
    if (p->known) log_warn("%s: %s", p->worker->name, why);
    snprintf(p->trouble, sizeof p->trouble, "%s", why);
    if (!p->profile) p->measured = 0;
    p->disturbed = true;
}

static void say_hello(struct peer *p, double now_s) {
    struct wire_message m = { .kind = WIRE_HELLO, .session = p->session };
    m.hello.run = p->run;
    m.hello.token = (uint64_t)(now_s * 1e6);
    m.hello.oldest = p->oldest;
    snprintf(m.hello.name, sizeof m.hello.name, "%.60s", p->worker->name);
    channel_say(p->channel, NULL, &m);
    p->hello_s = now_s;
}

static void say_assign(struct peer *p, struct peer_post *post, double now_s) {
    if (now_s - post->assigned_s < ASSIGN_S) return;
    struct wire_message m = { .kind = WIRE_ASSIGN, .session = p->session, .assign = post->assign };
    channel_say(p->channel, NULL, &m);
    post->assigned_s = now_s;
}

void peer_assign(struct peer *p, const struct wire_assign *assign, struct slices *slices) {
    struct peer_post *post = post_in(p, assign->layout);
    for (int i = 0; i < WIRE_POSTS && !post; i++)
        if (!p->post[i].held) post = &p->post[i];
    assert(post);
    *post = (struct peer_post){ .held = true, .assign = *assign, .slices = slices, .assigned_s = -1e9 };
    if (!p->up) return;
    say_hello(p, log_now_s()); /* what is over must go first */
    if (p->known && !p->status.busy) say_assign(p, post, log_now_s());
}

void peer_release(struct peer *p, uint32_t oldest) {
    p->oldest = oldest;
    for (int i = 0; i < WIRE_POSTS; i++)
        if (p->post[i].assign.layout < oldest) p->post[i].held = false;
}

static void watch(struct peer *p, double now_s) {
    char text[WIRE_TEXT];
    enum channel_event event;
    while ((event = channel_watch(p->channel, text)) != CHANNEL_NOTHING) {
        if (event == CHANNEL_UP) {
            p->up = true;
            p->refusals = 0;
            p->barred_s = 0;
            p->heard_s = now_s;
            for (int i = 0; i < WIRE_POSTS; i++) p->post[i].assigned_s = -1e9;
            say_hello(p, now_s);
        } else if (event == CHANNEL_DOWN) {
            p->up = false;
            p->outlet.nsent = 0;
            lose(p, "the link is down");
        } else {
            p->refusals++;
            if (event == CHANNEL_BARRED) p->barred_s = now_s;
            snprintf(p->trouble, sizeof p->trouble, "%.399s", text);
        }
    }
}

/* ZeroMQ does not knock again where it was turned away; we do, for keys change. */
static void knock_again(struct peer *p) {
    struct channel *channel = NULL;
    struct err err;
    p->barred_s = 0;
    if (channel_connect(&channel, p->transport, p->worker->address, p->key, &err)) {
        log_warn("%s: %s", p->worker->name, err.text);
        return;
    }
    channel_close(&p->channel);
    p->channel = channel;
}

void peer_tick(struct peer *p, double now_s) {
    watch(p, now_s);
    if (p->barred_s > 0 && now_s - p->barred_s > BARRED_S) knock_again(p);
    if (!p->up) return;
    if (now_s - p->hello_s >= HELLO_S) say_hello(p, now_s);
    if (p->silent || now_s - p->heard_s <= SILENT_S) return;
    p->silent = true;
    lose(p, "no answer");
}

/* ---- messages ---- */

/* What it is in a layout, with what it is to be. */
static void compare(struct peer *p, struct peer_post *post, bool ours, double now_s) {
    const struct wire_post *is = NULL;
    for (int i = 0; i < p->status.nposts && ours; i++)
        if (p->status.post[i].layout == post->assign.layout && p->status.post[i].stage == post->assign.stage &&
            strcmp(p->status.post[i].hash, post->assign.hash) == 0)
            is = &p->status.post[i];
    post->links = is ? is->links : 0;
    if (is && is->state == WIRE_READY) {
        if (!post->ready) log_debug("%s: ready", p->worker->name);
        post->ready = true;
        return;
    }
    if (post->ready) {
        log_warn("%s: %s", p->worker->name, is ? "waits for the next stage" : "has lost its slice");
        post->ready = false;
        p->disturbed = true;
    }
    bool refused = is && is->state == WIRE_REFUSED;
    snprintf(p->trouble, sizeof p->trouble, "%s", refused ? is->text : "still setting up its slice");
    if (ours && (!is || refused)) say_assign(p, post, now_s);
}

/* News of a link is told again with every status: it counts once. */
static void note_news(struct peer *p, const struct wire_post *told) {
    for (int i = 0; i < p->status.nposts && p->known; i++) {
        const struct wire_post *before = &p->status.post[i];
        if (before->layout == told->layout && before->link_bytes == told->link_bytes && before->link_us == told->link_us) return;
    }
    if (told->link_bytes == 0 || told->link_us == 0) return;
    p->news = (struct outlet_sample){ told->link_bytes, told->link_us * 1e-6 };
    p->news_layout = told->layout;
}

static void on_status(struct peer *p, const struct wire_message *m, double now_s) {
    const struct wire_status *s = &m->status;
    double rtt_s = s->token ? now_s - (double)s->token * 1e-6 : 0;
    if (rtt_s > 0 && (p->rtt_s <= 0 || rtt_s < p->rtt_s)) p->rtt_s = rtt_s;
    if (p->known && s->incarnation != p->status.incarnation) {
        lose(p, "was restarted");
        p->restarted = true;
        p->load.stage_s = 0; /* who knows what it is like now */
        for (int i = 0; i < WIRE_POSTS; i++) p->post[i].assigned_s = -1e9;
    } else if (p->known && s->breaks != p->status.breaks) {
        p->disturbed = true;
    }
    for (int i = 0; i < s->nposts; i++) note_news(p, &s->post[i]);
    p->status = *s;
    p->known = p->told = true;
    p->trouble[0] = '\0';
    if (s->busy) snprintf(p->trouble, sizeof p->trouble, "%s", s->text);
    for (int i = 0; i < WIRE_POSTS && !s->busy; i++)
        if (p->post[i].held) compare(p, &p->post[i], m->session == p->session, now_s);
}

static void on_want(struct peer *p, const struct wire_want *want) {
    const struct peer_post *post = NULL;
    for (int i = 0; i < WIRE_POSTS; i++)
        if (p->post[i].held && strcmp(p->post[i].assign.hash, want->hash) == 0) post = &p->post[i];
    const uint8_t *bytes;
    struct err err;
    if (!post || want->offset > post->assign.size || want->length > post->assign.size - want->offset) return;
    if (slices_bytes(post->slices, post->assign.stage, &bytes, &err)) {
        log_warn("%s: %s", p->worker->name, err.text); /* it asks again */
        return;
    }
    struct wire_message m = { .kind = WIRE_CHUNK, .session = p->session };
    strcpy(m.chunk.hash, want->hash);
    m.chunk.offset = want->offset;
    m.payload = bytes + want->offset;
    m.payload_length = want->length;
    channel_say(p->channel, NULL, &m);
}

static void on_measured(struct peer *p, const struct wire_message *m) {
    struct err err;
    struct profile *profile = NULL;
    char *json = strndup((const char *)m->payload, m->payload_length);
    enum status status = json ? profile_parse(&profile, p->worker->name, json, &err) : err_memory(&err, "profile");
    const struct peer_post *post = peer_post(p, m->measure.layout);
    int stage = post ? post->assign.stage : 0;
    int nblocks = post ? post->slices->first[stage + 1] - post->slices->first[stage] : 0;
    int nlevels = post ? post->slices->model->levels->nlevels : 0;
    if (!status && (profile->nblocks != nblocks || profile->nlevels != nlevels))
        status = err_set(&err, STATUS_FORMAT, "a profile of %d blocks at %d levels, its slice has %d at %d",
                         profile->nblocks, profile->nlevels, nblocks, nlevels);
    free(json);
    if (status) {
        log_warn("%s: %s", p->worker->name, err.text);
        profile_destroy(&profile);
        return;
    }
    profile_destroy(&p->profile);
    p->profile = profile;
}

bool peer_receive(struct peer *p, struct packet *packet, struct wire_message *m) {
    while (channel_receive(p->channel, NULL, packet)) {
        struct err err;
        size_t length;
        const uint8_t *bytes = packet_bytes(packet, &length);
        double now_s = log_now_s();
        if (wire_read(m, bytes, length, &err)) {
            log_warn("%s: %s", p->worker->name, err.text);
            packet_free(packet);
            continue;
        }
        p->heard_s = now_s;
        p->silent = false;
        if (m->kind == WIRE_STATUS) {
            on_status(p, m, now_s);
        } else if (m->session != p->session) {
            /* of an earlier run */
        } else if (m->kind == WIRE_FRAME || m->kind == WIRE_FAILED) {
            return true;
        } else if (m->kind == WIRE_WANT) {
            on_want(p, &m->want);
        } else if (m->kind == WIRE_MEASURED) {
            on_measured(p, m);
        } else if (m->kind == WIRE_ACK) {
            outlet_acknowledge(&p->outlet, m->ack.seq, m->ack.attempt, now_s, &p->sample);
        }
        packet_free(packet);
    }
    return false;
}

static void follow(double *value, double latest) {
    *value += (latest - *value) * (*value > 0 ? .125 : 1);
}

void peer_count(struct peer *p, const struct wire_choice *choice, const struct wire_time *time, double link_bytes,
                double link_s) {
    p->load.frames++;
    p->load.latest_s = log_now_s();
    p->load.choice = *choice;
    follow(&p->load.stage_s, (time->decode_us + time->compute_us + time->encode_us) * 1e-6);
    if (link_bytes > 0 && link_s > 0) follow(&p->load.bytes_per_s, link_bytes / link_s);
}

void peer_measure(struct peer *p, uint32_t layout) {
    struct wire_message m = { .kind = WIRE_MEASURE, .session = p->session, .measure = { layout } };
    p->measured = channel_say(p->channel, NULL, &m) ? layout : 0;
}

bool peer_measuring(const struct peer *p) {
    return p->measured && !p->profile;
}

bool peer_hopeless(const struct peer *p) {
    if (!p->up) return p->barred_s > 0 || p->refusals >= REFUSALS;
    bool refused = false;
    for (int i = 0; i < p->status.nposts && p->known; i++) refused |= p->status.post[i].state == WIRE_REFUSED;
    return refused;
}
