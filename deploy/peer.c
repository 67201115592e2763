#include "deploy/peer.h"

#include "common/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REFUSALS = 5 }; /* failed handshakes in a row before it counts as refused */
static const double HELLO_S = 0.3, SILENT_S = 3, ASSIGN_S = 1, BARRED_S = 2;

enum status peer_open(struct peer *p, const struct cluster_worker *worker, const char *key,
                      const struct cluster_worker *next, const char *next_key, struct transport *transport,
                      uint64_t run, uint64_t session, struct slices *slices, int stage, int window,
                      struct err *err) {
    *p = (struct peer){ .worker = worker, .transport = transport, .run = run, .session = session, .slices = slices };
    snprintf(p->key, sizeof p->key, "%s", key);
    outlet_init(&p->outlet);
    struct wire_assign *a = &p->assign;
    a->stage = (uint16_t)stage;
    a->nstages = (uint16_t)slices->count;
    a->window = (uint16_t)window;
    a->size = slices->size[stage];
    strcpy(a->hash, slices->hash[stage]);
    if (next) {
        snprintf(a->next_address, sizeof a->next_address, "%s", next->address);
        snprintf(a->next_key, sizeof a->next_key, "%s", next_key);
    }
    p->hello_s = p->assigned_s = -1e9;
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

static void lose(struct peer *p, const char *why) {
    if (p->ready) log_warn("%s: %s", p->worker->name, why);
    snprintf(p->trouble, sizeof p->trouble, "%s", why);
    p->ready = p->measuring = false;
    p->disturbed = true;
}

static void say_hello(struct peer *p, double now_s) {
    struct wire_message m = { .kind = WIRE_HELLO, .session = p->session };
    m.hello.run = p->run;
    m.hello.token = (uint64_t)(now_s * 1e6);
    snprintf(m.hello.name, sizeof m.hello.name, "stage %d of %d", p->assign.stage + 1, p->assign.nstages);
    channel_say(p->channel, NULL, &m);
    p->hello_s = now_s;
}

static void say_assign(struct peer *p, double now_s) {
    if (now_s - p->assigned_s < ASSIGN_S) return;
    struct wire_message m = { .kind = WIRE_ASSIGN, .session = p->session, .assign = p->assign };
    channel_say(p->channel, NULL, &m);
    p->assigned_s = now_s;
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
            p->assigned_s = -1e9;
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
    if (p->ready && now_s - p->heard_s > SILENT_S) lose(p, "no answer");
}

/* ---- messages ---- */

static void on_status(struct peer *p, const struct wire_message *m, double now_s) {
    const struct wire_status *s = &m->status;
    double rtt_s = s->token ? now_s - (double)s->token * 1e-6 : 0;
    if (rtt_s > 0 && (p->rtt_s <= 0 || rtt_s < p->rtt_s)) p->rtt_s = rtt_s;
    if (p->known && s->incarnation != p->status.incarnation) {
        lose(p, "was restarted");
        p->restarted = true;
        p->assigned_s = -1e9;
    } else if (p->known && s->breaks != p->status.breaks) {
        p->disturbed = true;
    }
    p->status = *s;
    p->known = true;
    bool ours = m->session == p->session;
    if (ours && s->state == WIRE_READY && s->stage == p->assign.stage && strcmp(s->hash, p->assign.hash) == 0) {
        if (!p->ready) log_debug("%s: ready", p->worker->name);
        if (!p->ready) slices_release(p->slices, p->assign.stage);
        p->ready = true;
        p->trouble[0] = '\0';
        return;
    }
    if (p->ready) lose(p, "waits for the next stage");
    if (s->state == WIRE_BUSY || s->state == WIRE_REFUSED) snprintf(p->trouble, sizeof p->trouble, "%s", s->text);
    else snprintf(p->trouble, sizeof p->trouble, "still setting up its slice");
    if (ours && s->state != WIRE_LOADING) say_assign(p, now_s);
}

static void on_want(struct peer *p, const struct wire_want *want) {
    const uint8_t *bytes;
    struct err err;
    if (strcmp(want->hash, p->assign.hash) != 0 || want->offset > p->assign.size ||
        want->length > p->assign.size - want->offset)
        return;
    if (slices_bytes(p->slices, p->assign.stage, &bytes, &err)) {
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
    int nblocks = p->slices->first[p->assign.stage + 1] - p->slices->first[p->assign.stage];
    if (!status && (profile->nblocks != nblocks || profile->nlevels != p->slices->model->levels->nlevels))
        status = err_set(&err, STATUS_FORMAT, "a profile of %d blocks at %d levels, its slice has %d at %d",
                         profile->nblocks, profile->nlevels, nblocks, p->slices->model->levels->nlevels);
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
    p->load.choice = *choice;
    follow(&p->load.stage_s, (time->decode_us + time->compute_us + time->encode_us) * 1e-6);
    if (link_bytes > 0 && link_s > 0) follow(&p->load.bytes_per_s, link_bytes / link_s);
}

void peer_measure(struct peer *p) {
    struct wire_message m = { .kind = WIRE_MEASURE, .session = p->session };
    p->measuring = channel_say(p->channel, NULL, &m);
}

bool peer_hopeless(const struct peer *p) {
    if (!p->up) return p->barred_s > 0 || p->refusals >= REFUSALS;
    return p->known && p->status.state == WIRE_REFUSED;
}
