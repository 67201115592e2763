/* Layouts of a run. There is a present one. When another one is wanted - a
 * worker has gone, or is back, or the cuts are to lie elsewhere - it is set up
 * beside the present one: cut by a thread, sent to the workers, loaded there.
 * Once it is ready new frames go through it; those on their way through the
 * one before finish there or, if it has a gap, are sent again. */
#include "deploy/runner_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double BACK_S = 1;     /* how long a worker must be there before it is used again */
static const double STALE_S = 30;
static const double SETTLE_S = 0.3; /* how long another layout must be wanted: faults come in groups */

/* ---- making ---- */

enum status runner_layout_create(struct layout **out, const struct runner *r, const struct layout_places *places,
                                 const char *cuts, struct err *err) {
    struct layout *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "layout");
    l->places = *places;
    enum status status = r->portfolio ? slices_create_portfolio(&l->slices, r->portfolio, places->nstages, cuts, err)
                                      : slices_create(&l->slices, r->model, places->nstages, cuts, err);
    if (status) runner_layout_destroy(&l);
    else *out = l;
    return status;
}

void runner_layout_destroy(struct layout **layout) {
    struct layout *l = *layout;
    if (!l) return;
    governor_destroy(&l->governor);
    slices_destroy(&l->slices);
    free(l);
    *layout = NULL;
}

void runner_layout_assign(struct runner *r, struct layout *l) {
    l->number = ++r->nlayouts;
    for (int s = 0; s < l->places.nstages; s++) {
        struct wire_assign a = { .layout = l->number, .stage = (uint16_t)s, .nstages = (uint16_t)l->places.nstages,
                                 .window = (uint16_t)r->credits, .size = l->slices->size[s] };
        strcpy(a.hash, l->slices->hash[s]);
        const struct layout_stage *next = s + 1 < l->places.nstages ? &l->places.stage[s + 1] : NULL;
        for (int i = 0; next && i < next->count; i++) {
            const struct peer *p = &r->peers[next->worker[i]];
            struct wire_contact *contact = &a.next[a.nnext++];
            snprintf(contact->address, sizeof contact->address, "%s", p->worker->address);
            snprintf(contact->key, sizeof contact->key, "%s", p->key);
        }
        for (int i = 0; i < l->places.stage[s].count; i++)
            peer_assign(&r->peers[l->places.stage[s].worker[i]], &a, l->slices);
    }
}

struct layout *runner_layout_find(const struct runner *r, uint32_t number) {
    if (r->layout && r->layout->number == number) return r->layout;
    return r->old && r->old->number == number ? r->old : NULL;
}

/* ---- the way through a layout ---- */

/* Bit i of reach[s]: worker i of stage s is ready, and the end can be reached from it. */
static bool reachable(const struct runner *r, const struct layout *l, uint8_t reach[WIRE_MAX_STAGES]) {
    for (int s = l->places.nstages - 1; s >= 0; s--) {
        const struct layout_stage *stage = &l->places.stage[s];
        reach[s] = 0;
        for (int i = 0; i < stage->count; i++) {
            const struct peer *p = &r->peers[stage->worker[i]];
            const struct peer_post *post = peer_post(p, l->number);
            bool on = s + 1 == l->places.nstages || (post && post->links & reach[s + 1]);
            if (post && post->ready && p->up && on) reach[s] |= (uint8_t)(1u << i);
        }
        if (!reach[s]) return false;
    }
    return true;
}

bool runner_layout_ready(const struct runner *r, const struct layout *l) {
    uint8_t reach[WIRE_MAX_STAGES];
    return l && reachable(r, l, reach);
}

/* All its workers are ready: to begin with, nobody is left out for being slow to start. */
bool runner_layout_whole(const struct runner *r, const struct layout *l) {
    for (int s = 0; s < l->places.nstages; s++)
        for (int i = 0; i < l->places.stage[s].count; i++) {
            const struct peer_post *post = peer_post(&r->peers[l->places.stage[s].worker[i]], l->number);
            if (!post || !post->ready) return false;
        }
    return runner_layout_ready(r, l);
}

static int frames_at(const struct runner *r, uint8_t peer) {
    int n = 0;
    for (int i = 0; i < r->sent.count; i++)
        for (int s = 0; s < r->sent.frames[i]->nstages; s++) n += r->sent.frames[i]->peer[s] == peer;
    return n;
}

/* How long a worker is busy with the frames on their way to it and one more. How
 * fast it is counts for less the longer ago it was seen: it may have recovered. */
static double load_of(const struct runner *r, int peer, double now_s) {
    const struct peer_load *load = &r->peers[peer].load;
    double stage_s = load->stage_s / (1 + (now_s - load->latest_s) / STALE_S);
    return (frames_at(r, (uint8_t)peer) + 1) * (load->stage_s > 0 ? stage_s : 1e-9);
}

/* The least loaded of each stage: who would be through with the frame first. */
void runner_route(const struct runner *r, const struct layout *l, struct frame *f) {
    uint8_t reach[WIRE_MAX_STAGES], next = UINT8_MAX;
    bool ready = reachable(r, l, reach);
    double now_s = log_now_s();
    assert(ready);
    (void)ready;
    f->layout = l->number;
    f->nstages = l->places.nstages;
    for (int s = 0; s < l->places.nstages; s++) {
        const struct layout_stage *stage = &l->places.stage[s];
        int best = -1;
        double least = 0;
        for (int i = 0; i < stage->count; i++) {
            if (!(reach[s] & next & 1u << i)) continue;
            double load = stage->count > 1 ? load_of(r, stage->worker[i], now_s) : 0;
            if (best < 0 || load < least) best = i, least = load;
        }
        assert(best >= 0);
        f->choice[s].worker = (uint8_t)best;
        f->peer[s] = (uint8_t)stage->worker[best];
        next = peer_post(&r->peers[stage->worker[best]], l->number)->links;
    }
}

/* ---- cutting, by a thread ---- */

struct cutting {
    pthread_t thread;
    const struct runner *runner;
    struct layout_places places;
    char cuts[512]; /* "": where they fall */
    struct layout *layout;
    enum status status;
    struct err err;
    atomic_bool done;
};

static void *cut(void *argument) {
    struct cutting *c = argument;
    c->status = runner_layout_create(&c->layout, c->runner, &c->places, c->cuts[0] ? c->cuts : NULL, &c->err);
    atomic_store(&c->done, true);
    return NULL;
}

static void begin_cutting(struct runner *r, const struct layout_places *places, const char *cuts) {
    struct cutting *c = calloc(1, sizeof *c);
    if (!c) return; /* tried again */
    c->runner = r;
    c->places = *places;
    snprintf(c->cuts, sizeof c->cuts, "%s", cuts);
    if (pthread_create(&c->thread, NULL, cut, c) == 0) r->cutting = c;
    else free(c);
}

/* Its layout, once it is done; waits for it if `wait`. */
static struct layout *end_cutting(struct runner *r, bool wait) {
    struct cutting *c = r->cutting;
    if (!c || (!wait && !atomic_load(&c->done))) return NULL;
    pthread_join(c->thread, NULL);
    struct layout *l = c->layout;
    if (c->status) log_warn("%s", c->err.text);
    free(c);
    r->cutting = NULL;
    return l;
}

/* ---- changing ---- */

static void release(struct runner *r) {
    uint32_t oldest = r->old ? r->old->number : r->layout->number;
    for (int i = 0; i < r->npeers; i++) peer_release(&r->peers[i], oldest);
}

static enum status drop_old(struct runner *r, struct err *err) {
    if (!r->old) return STATUS_OK;
    enum status status = runner_requeue_layout(r, r->old->number, err);
    runner_layout_destroy(&r->old);
    release(r);
    return status;
}

static void drop_next(struct runner *r) {
    struct layout *l = end_cutting(r, true);
    runner_layout_destroy(&l);
    if (!r->next) return;
    uint32_t number = r->next->number;
    for (int i = 0; i < r->npeers; i++)
        for (int k = 0; k < WIRE_POSTS; k++)
            if (r->peers[i].post[k].assign.layout == number) r->peers[i].post[k].held = false;
    runner_layout_destroy(&r->next);
}

static enum status go_over(struct runner *r, struct err *err) {
    char text[400];
    enum status status = runner_start_governor(r, r->next, err);
    if (!status) status = runner_recut_begin(r, r->next, err);
    if (status) return status;
    for (int s = 0; s < r->next->places.nstages; s++) slices_release(r->next->slices, s);
    r->old = r->layout;
    r->layout = r->next;
    r->next = NULL;
    char cuts[200];
    layout_text(r->cluster, &r->layout->places, text, sizeof text);
    slices_text(r->layout->slices, cuts, sizeof cuts);
    log_info("layout %u: %s%s%s", r->layout->number, text, cuts[0] ? ", cut behind " : "", cuts);
    if (!runner_layout_ready(r, r->old)) return drop_old(r, err);
    return STATUS_OK;
}

/* Who counts as there: for a while gone is not gone, and back is not back. */
static void judge_workers(struct runner *r, double now_s) {
    for (int i = 0; i < r->npeers; i++) {
        bool there = peer_alive(&r->peers[i]) && !peer_hopeless(&r->peers[i]);
        if (there == r->there[i]) r->changed_s[i] = now_s;
        double patience = there ? BACK_S : r->config->takeover_s;
        if (there == r->there[i] || now_s - r->changed_s[i] < patience) continue;
        r->there[i] = there;
        if (there) log_info("%s is back", r->peers[i].worker->name);
        else log_warn("%s is gone: %s", r->peers[i].worker->name, r->peers[i].trouble);
    }
}

static bool same_places(const struct layout_places *a, const struct layout_places *b) {
    bool same = a->nstages == b->nstages;
    for (int s = 0; s < a->nstages && same; s++)
        same = a->stage[s].count == b->stage[s].count &&
               memcmp(a->stage[s].worker, b->stage[s].worker, (size_t)a->stage[s].count * sizeof(int)) == 0;
    return same;
}

/* The cuts of a layout with so many stages, "": where they fall. */
static const char *cuts_for(const struct runner *r, const struct layout_places *places) {
    return places->nstages == r->cluster->nworkers ? r->cuts : "";
}

enum status runner_relayout(struct runner *r, double now_s, struct err *err) {
    struct layout_places wanted;
    bool old_is_empty = true;
    enum status status = STATUS_OK;
    if (r->stopping) return STATUS_OK;
    for (int i = 0; i < r->sent.count && r->old; i++) old_is_empty &= r->sent.frames[i]->layout != r->old->number;
    if (r->old && old_is_empty) status = drop_old(r, err);
    if (r->config->takeover_s > 0) judge_workers(r, now_s);
    runner_recut(r, now_s);
    layout_choose(r->cluster, r->there, &wanted);
    bool serves = !wanted.nstages || (layout_serves(&r->layout->places, &wanted, r->there) &&
                                      strcmp(r->layout->cuts, cuts_for(r, &wanted)) == 0);
    if (serves || !same_places(&wanted, &r->wanted)) {
        r->wanted = wanted;
        r->wanted_s = now_s;
        if (r->next || r->cutting) drop_next(r);
    }
    if (serves || status || now_s - r->wanted_s < SETTLE_S) return status;
    if (!r->next && !r->cutting) {
        status = drop_old(r, err); /* a worker has two posts at most */
        begin_cutting(r, &wanted, cuts_for(r, &wanted));
    }
    if (!r->next && (r->next = end_cutting(r, false))) {
        strcpy(r->next->cuts, cuts_for(r, &wanted));
        runner_layout_assign(r, r->next);
    }
    return !status && runner_layout_ready(r, r->next) ? go_over(r, err) : status;
}

void runner_layout_close(struct runner *r) {
    if (r->layout) drop_next(r);
    runner_layout_destroy(&r->old);
    runner_layout_destroy(&r->layout);
}
