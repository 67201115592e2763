#include "deploy/post.h"

#include "common/log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define NEWS 1.6       /* times as long or as short as usual */
#define USUAL_WINDOW 8 /* frames that an average goes over */

enum { REFUSALS = 5 }; /* failed handshakes in a row before a link counts as refused */

static enum status connect_link(struct post *p, int i, struct transport *transport, struct err *err) {
    struct post_link *link = &p->next[i];
    channel_close(&link->channel);
    link->up = false;
    link->refusals = 0;
    return channel_connect(&link->channel, transport, p->assign.next[i].address, p->assign.next[i].key, err);
}

enum status post_open(struct post *p, const struct wire_assign *assign, int slot, struct transport *transport,
                      struct err *err) {
    *p = (struct post){ .held = true, .assign = *assign, .slot = slot };
    outlet_init(&p->results);
    for (int i = 0; i < assign->nnext; i++) outlet_init(&p->next[i].outlet);
    for (int i = 0; i < assign->nnext; i++) {
        enum status status = connect_link(p, i, transport, err);
        if (!status) continue;
        post_close(p);
        return status;
    }
    return STATUS_OK;
}

void post_close(struct post *p) {
    if (!p->held) return;
    post_forget(p);
    for (int i = 0; i < p->assign.nnext; i++) channel_close(&p->next[i].channel);
    p->held = false;
}

bool post_is(const struct post *p, const struct wire_assign *a) {
    const struct wire_assign *b = &p->assign;
    bool same = p->held && a->layout == b->layout && a->stage == b->stage && a->nstages == b->nstages &&
                a->window == b->window && a->size == b->size && strcmp(a->hash, b->hash) == 0 && a->nnext == b->nnext;
    for (int i = 0; i < a->nnext && same; i++)
        same = strcmp(a->next[i].address, b->next[i].address) == 0 && strcmp(a->next[i].key, b->next[i].key) == 0;
    return same;
}

bool post_is_last(const struct post *p) {
    return p->assign.stage + 1 == p->assign.nstages;
}

enum status post_reconnect(struct post *p, struct transport *transport, struct err *err) {
    enum status status = STATUS_OK;
    for (int i = 0; i < p->assign.nnext && !status; i++)
        if (p->next[i].refusals >= REFUSALS) status = connect_link(p, i, transport, err);
    return status;
}

uint8_t post_links(const struct post *p) {
    unsigned links = 0;
    for (int i = 0; i < p->assign.nnext; i++) links |= (unsigned)p->next[i].up << i;
    return (uint8_t)links;
}

bool post_refused(const struct post *p) {
    bool refused = false;
    for (int i = 0; i < p->assign.nnext; i++) refused |= p->next[i].refusals >= REFUSALS;
    return refused && !post_links(p);
}

int post_watch(struct post *p) {
    int breaks = 0;
    for (int i = 0; i < p->assign.nnext; i++) {
        struct post_link *link = &p->next[i];
        char text[WIRE_TEXT];
        enum channel_event event;
        while (link->channel && (event = channel_watch(link->channel, text)) != CHANNEL_NOTHING) {
            if (event == CHANNEL_UP) {
                link->up = true;
                link->refusals = 0;
            } else if (event == CHANNEL_DOWN) {
                log_warn("the link to the next stage, %s, is down", p->assign.next[i].address);
                link->up = false;
                breaks++;
                link->outlet.nsent = 0; /* whatever was on it is lost */
            } else {
                bool told = link->refusals >= REFUSALS;
                link->refusals = event == CHANNEL_BARRED ? REFUSALS : link->refusals + 1;
                if (told || link->refusals < REFUSALS) continue;
                snprintf(p->text, sizeof p->text, "no link to the next stage, %.200s: %.150s",
                         p->assign.next[i].address, text);
                log_warn("%s", p->text);
            }
        }
    }
    return breaks;
}

/* ---- frames ---- */

void post_put(struct post *p, int next, uint64_t seq, uint32_t attempt, struct packet *packet) {
    assert(post_is_last(p) || next < p->assign.nnext);
    outlet_put(post_is_last(p) ? &p->results : &p->next[next].outlet, seq, attempt, packet);
}

void post_flush(struct post *p, struct channel *listener, const struct channel_peer *runner) {
    if (post_is_last(p)) outlet_flush(&p->results, listener, runner);
    for (int i = 0; i < p->assign.nnext; i++)
        if (p->next[i].channel) outlet_flush(&p->next[i].outlet, p->next[i].channel, NULL);
}

void post_recode(struct post *p, uint64_t before, struct recoder *recoder, enum codec codec) {
    for (int i = 0; i < p->assign.nnext; i++) {
        struct outlet_waiting *w;
        for (int k = 0; (w = outlet_waiting(&p->next[i].outlet, k)); k++)
            if (w->seq < before) recode(recoder, &w->packet, codec);
    }
}

void post_forget(struct post *p) {
    outlet_clear(&p->results);
    for (int i = 0; i < p->assign.nnext; i++) outlet_clear(&p->next[i].outlet);
}

bool post_acknowledge(struct post *p, uint64_t seq, uint32_t attempt, double now_s, struct outlet_sample *sample) {
    bool found = outlet_acknowledge(&p->results, seq, attempt, now_s, sample);
    for (int i = 0; i < p->assign.nnext && !found; i++)
        found = outlet_acknowledge(&p->next[i].outlet, seq, attempt, now_s, sample);
    if (!found || post_is_last(p) || sample->bytes == 0) return found;
    double ns = sample->seconds * 1e9 / sample->bytes;
    if (p->usual_ns > 0 && (ns > NEWS * p->usual_ns || NEWS * ns < p->usual_ns)) p->news = *sample;
    p->usual_ns = p->usual_ns > 0 ? p->usual_ns + (ns - p->usual_ns) / USUAL_WINDOW : ns;
    return found;
}

double post_age(const struct post *p, double now_s) {
    double age = outlet_age(&p->results, now_s);
    for (int i = 0; i < p->assign.nnext; i++) {
        double other = outlet_age(&p->next[i].outlet, now_s);
        if (other > age) age = other;
    }
    return age;
}
