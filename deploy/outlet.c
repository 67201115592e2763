#include "deploy/outlet.h"

#include "common/log.h"

#include <string.h>

void outlet_init(struct outlet *o) {
    memset(o, 0, sizeof *o);
}

static void drop_first(struct outlet *o) {
    packet_free(&o->waiting[o->first].packet);
    o->first = (o->first + 1) % OUTLET_ROOM;
    o->nwaiting--;
}

void outlet_clear(struct outlet *o) {
    while (o->nwaiting) drop_first(o);
    o->nsent = 0;
}

void outlet_put(struct outlet *o, uint64_t seq, uint32_t attempt, struct packet *packet) {
    if (o->nwaiting == OUTLET_ROOM) drop_first(o);
    struct outlet_waiting *w = &o->waiting[(o->first + o->nwaiting++) % OUTLET_ROOM];
    w->seq = seq;
    w->attempt = attempt;
    packet_move(&w->packet, packet);
}

struct outlet_waiting *outlet_waiting(struct outlet *o, int i) {
    return i < o->nwaiting ? &o->waiting[(o->first + i) % OUTLET_ROOM] : NULL;
}

bool outlet_pressing(const struct outlet *o, double now_s) {
    if (o->nwaiting == 0) return false;
    int frames = 0;
    size_t bytes = 0, next;
    packet_bytes(&o->waiting[o->first].packet, &next);
    for (int i = 0; i < o->nsent; i++) {
        if (now_s - o->sent[i].sent_s > OUTLET_LOST_S) continue;
        frames++;
        bytes += o->sent[i].bytes;
    }
    return frames < OUTLET_AHEAD || bytes + next <= OUTLET_BYTES;
}

static void note_sent(struct outlet *o, const struct outlet_waiting *w, size_t bytes) {
    if (o->nsent == OUTLET_ROOM) memmove(o->sent, o->sent + 1, (size_t)--o->nsent * sizeof *o->sent);
    o->sent[o->nsent++] = (struct outlet_sent){ w->seq, w->attempt, (uint32_t)bytes, log_now_s() };
}

void outlet_flush(struct outlet *o, struct channel *channel, const struct channel_peer *to) {
    while (outlet_pressing(o, log_now_s())) {
        struct outlet_waiting *w = &o->waiting[o->first];
        size_t bytes;
        packet_bytes(&w->packet, &bytes);
        enum channel_result result = channel_send(channel, to, &w->packet);
        if (result == CHANNEL_LATER) return;
        if (result == CHANNEL_DONE) note_sent(o, w, bytes);
        drop_first(o);
    }
}

bool outlet_acknowledge(struct outlet *o, uint64_t seq, uint32_t attempt, double now_s, struct outlet_sample *sample) {
    int i = 0;
    while (i < o->nsent && (o->sent[i].seq != seq || o->sent[i].attempt != attempt)) i++;
    if (i == o->nsent) return false;
    double since = o->sent[i].sent_s > o->acked_s ? o->sent[i].sent_s : o->acked_s;
    *sample = (struct outlet_sample){ o->sent[i].bytes, now_s - since };
    o->acked_s = now_s;
    o->nsent -= i + 1; /* those before it were overtaken: lost */
    memmove(o->sent, o->sent + i + 1, (size_t)o->nsent * sizeof *o->sent);
    return true;
}

double outlet_age(const struct outlet *o, double now_s) {
    return o->nsent ? now_s - o->sent[0].sent_s : 0;
}
