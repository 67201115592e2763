#include "deploy/simulate.h"

#include "common/random.h"
#include "deploy/codec.h"
#include "deploy/outlet.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* While one frame is computed others are received and sent: so much of that
 * shows in the computing of frames that were waiting, about. */
#define OTHER_SEEN 0.6
#define HEARTBEAT_S 0.3 /* apart, workers tell how they fare */

enum happening { DUE, CROSSED /* off the link */, ARRIVED /* behind its delay */, COMPUTED, STORED };

struct event {
    double at_s;
    uint64_t order; /* of scheduling: ties are served first come, first served */
    enum happening what;
    int stage, slot; /* STORED: slot is the frame */
};

/* A frame under way. */
struct slot {
    int frame; /* -1: free */
    int reached; /* stages that have begun with it */
    double came_s; /* into the present queue */
    double waited_ms, queue_ms;
    struct controller_report *reports; /* [nstages] */
};

/* A server with a queue: a link or a stage. */
struct server {
    int *queue; /* [credits] slots */
    int first, count;
    bool busy;
    double woken_s;   /* a stage: when it last began to work, having had nothing to do, */
    double arrived_s; /* and when the latest frame came into its queue */
    double contention_s; /* that others have kept it from working, altogether */
};

struct simulation {
    const struct simulate_config *config;
    struct simulate_frame *frames;
    struct controller *controller;
    struct random random;
    struct event *heap;
    int nheap, heap_size;
    uint64_t scheduled;
    struct slot *slots;
    struct controller_report *reports;
    int *queues;
    struct server *links, *stages; /* [nstages] */
    bool *dead;                    /* [nevents] a death that the controller has not heard the end of */
    int next_due, next_sent, in_flight;
    double heard_s; /* of contention, last */
    struct controller_outcome *outcomes; /* [nframes] */
};

struct simulate_config simulate_defaults(void) {
    return (struct simulate_config){.controller = controller_defaults(),
                                    .credits = 5,
                                    .noise = 0.05,
                                    .spike_factor = 1,
                                    .packing = 0.6};
}

/* ---- events: a binary heap ---- */

static bool earlier(const struct event *a, const struct event *b) {
    return a->at_s != b->at_s ? a->at_s < b->at_s : a->order < b->order;
}

static void schedule(struct simulation *s, double at_s, enum happening what, int stage, int slot) {
    assert(s->nheap < s->heap_size);
    struct event e = {at_s, s->scheduled++, what, stage, slot};
    int i = s->nheap++;
    for (; i > 0 && earlier(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
}

static struct event take(struct simulation *s) {
    struct event top = s->heap[0], last = s->heap[--s->nheap];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= s->nheap) break;
        if (child + 1 < s->nheap && earlier(&s->heap[child + 1], &s->heap[child])) child++;
        if (!earlier(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* ---- disturbances ---- */

static bool during(const struct simulate_event *e, double t) {
    return t >= e->from_s && t < e->to_s;
}

/* What a device or link does at time t: takes `factor` times as long, or (0)
 * nothing; until that may change. `back_s`: when a dead one returns, or -1. */
struct pace {
    double factor, until_s, back_s;
};

static void sooner(double *until_s, double t) {
    if (t < *until_s) *until_s = t;
}

/* The core's turns, from when the device woke up or the others came. */
static void take_turns(const struct simulate_event *e, double t, double woken_s, struct pace *pace) {
    double round_s = e->factor * SIMULATE_SLICE_S, first = fmax(e->from_s, woken_s);
    double begun = floor((t - first) / round_s) * round_s + first;
    bool turn = t < begun + SIMULATE_SLICE_S;
    sooner(&pace->until_s, turn ? begun + SIMULATE_SLICE_S : begun + round_s);
    if (pace->until_s <= t) pace->until_s = t + 1e-9; /* rounding */
    if (!turn) pace->factor = 0;
}

static struct pace pace_at(const struct simulation *s, bool link, int stage, double t) {
    const struct simulate_config *c = s->config;
    struct pace pace = {1, DBL_MAX, -1};
    const struct simulate_event *share = NULL;
    for (int i = 0; i < c->nevents; i++) {
        const struct simulate_event *e = &c->events[i];
        if (e->stage != stage || (e->kind == SIMULATE_FADE) != link) continue;
        if (e->from_s > t) sooner(&pace.until_s, e->from_s);
        if (!during(e, t)) continue;
        sooner(&pace.until_s, e->to_s);
        if (e->kind == SIMULATE_SHARE) share = e;
        else if (e->kind == SIMULATE_DEATH) pace.back_s = fmax(pace.back_s, e->to_s);
        else pace.factor *= e->factor;
    }
    if (share) take_turns(share, t, s->stages[stage].woken_s, &pace);
    return pace;
}

/* When `work_s` of undisturbed work, begun at `t`, is done. */
static double finish(const struct simulation *s, bool link, int stage, double t, double work_s) {
    double left = work_s;
    while (left > 0) {
        struct pace pace = pace_at(s, link, stage, t);
        if (pace.back_s >= 0) {
            t = pace.back_s;
            left = work_s; /* from the beginning */
        } else if (pace.factor > 0 && t + left * pace.factor <= pace.until_s) {
            return t + left * pace.factor;
        } else {
            if (pace.factor > 0) left -= (pace.until_s - t) / pace.factor;
            t = pace.until_s;
        }
    }
    return t;
}

static bool shared(const struct simulation *s, int stage, double t) {
    bool any = false;
    for (int i = 0; i < s->config->nevents; i++) {
        const struct simulate_event *e = &s->config->events[i];
        any |= e->kind == SIMULATE_SHARE && e->stage == stage && during(e, t);
    }
    return any;
}

/* Whoever shares the core is in the midst of a turn when the device wakes up. */
static double wake_up_s(struct simulation *s, int stage, double t) {
    double wait_s = shared(s, stage, t) ? random_uniform(&s->random) * SIMULATE_SLICE_S : 0;
    s->stages[stage].contention_s += wait_s;
    return wait_s;
}

/* ---- links and stages ---- */

static double values(const struct simulation *s, const struct slot *slot, int stage) {
    const struct controller_report *r = &slot->reports[stage];
    const struct controller_map *m =
        &s->config->maps[stage * s->config->nlevels + (r->level > r->incoming ? r->level : r->incoming)];
    return (double)m->c * m->hw;
}

/* Bytes of the frame on the link into a stage. */
static double bytes_on_link(const struct simulation *s, const struct slot *slot, int stage) {
    const struct simulate_config *c = s->config;
    if (stage == 0) return c->image_bytes;
    const struct controller_report *r = &slot->reports[stage];
    const struct controller_map *m = &c->maps[stage * c->nlevels + (r->level > r->incoming ? r->level : r->incoming)];
    double raw = (double)codec_raw_size(r->codec, m->c, m->hw);
    return r->codec % 2 ? raw * c->packing : raw;
}

static void start_link(struct simulation *s, double now_s, int stage) {
    struct server *link = &s->links[stage];
    if (link->busy || link->count == 0) return;
    struct slot *slot = &s->slots[link->queue[link->first]];
    const struct simulate_stage *truth = &s->config->truth[stage];
    double bytes = bytes_on_link(s, slot, stage);
    double work_s = truth->bytes_per_s > 0 ? bytes / truth->bytes_per_s : 0;
    double end_s = finish(s, true, stage, now_s, work_s);
    slot->reports[stage].bytes = (size_t)llround(bytes);
    slot->reports[stage].link_ms = (end_s - now_s) * 1e3 + truth->latency_ms;
    link->busy = true;
    schedule(s, end_s, CROSSED, stage, link->queue[link->first]);
}

static double coding_ms(const struct simulation *s, const struct slot *slot, int stage, const double *ns) {
    return ns[slot->reports[stage].codec] * values(s, slot, stage) * 1e-6;
}

static void start_stage(struct simulation *s, double now_s, int stage) {
    const struct simulate_config *c = s->config;
    struct server *server = &s->stages[stage];
    if (server->busy || server->count == 0) return;
    struct slot *slot = &s->slots[server->queue[server->first]];
    struct controller_report *r = &slot->reports[stage];
    const struct profile *profile = c->truth[stage].profile;
    const struct controller_stage *slice = &c->stages[stage];
    double compute = profile_ms(profile, slice->first_block, r->level, r->incoming);
    for (int b = slice->first_block + 1; b < slice->first_block + slice->nblocks; b++)
        compute += profile_ms(profile, b, r->level, r->level);
    compute *= exp(c->noise * random_normal(&s->random));
    if (random_uniform(&s->random) < c->spike_share) compute *= c->spike_factor;
    double decode = stage ? coding_ms(s, slot, stage, profile->decode_ns) : c->image_ms;
    double encode = stage + 1 < c->nstages ? coding_ms(s, slot, stage + 1, profile->encode_ns) : 0;
    double work = decode + compute + encode + c->truth[stage].other_ms;
    bool waited = now_s > slot->came_s;
    if (!waited) now_s = server->woken_s = now_s + wake_up_s(s, stage, now_s);
    double end_s = finish(s, false, stage, now_s, work * 1e-3);
    if (shared(s, stage, now_s)) server->contention_s += end_s - now_s - work * 1e-3;
    double stretch = work > 0 ? (end_s - now_s) * 1e3 / work : 1;
    r->queue_ms = (now_s - slot->came_s) * 1e3;
    if (waited) compute += OTHER_SEEN * c->truth[stage].other_ms;
    r->compute_ms = compute * stretch;
    r->decode_ms = decode * stretch;
    r->encode_ms = encode * stretch;
    slot->queue_ms += r->queue_ms;
    slot->reached = stage + 1;
    server->busy = true;
    schedule(s, end_s, COMPUTED, stage, server->queue[server->first]);
}

static void put(struct simulation *s, struct server *server, int slot) {
    int size = s->config->credits;
    assert(server->count < size);
    server->queue[(server->first + server->count++) % size] = slot;
}

static void drop_first(struct simulation *s, struct server *server) {
    server->first = (server->first + 1) % s->config->credits;
    server->count--;
    server->busy = false;
}

/* ---- frames ---- */

static void log_line(const struct simulation *s, double now_s, const char *line) {
    if (s->config->log && line[0]) s->config->log(s->config->log_context, now_s, line);
}

/* Where in the queue of the link into a stage; -1: not there. */
static int place_on_link(const struct simulation *s, int stage, int slot) {
    const struct server *link = &s->links[stage];
    for (int i = 0; i < link->count; i++)
        if (link->queue[(link->first + i) % s->config->credits] == slot) return i;
    return -1;
}

/* Frames under way take over the higher levels of a new plan at the stages
 * that they have not reached yet, and its codecs where these make them smaller
 * and they have not been handed over to the link. */
static void relieve(struct simulation *s, const struct plan *plan) {
    const struct simulate_config *c = s->config;
    for (int i = 0; i < c->credits; i++) {
        struct slot *slot = &s->slots[i];
        for (int k = slot->reached; slot->frame >= 0 && k < c->nstages; k++) {
            struct controller_report *r = &slot->reports[k];
            int level = plan->level[c->stages[k].first_block];
            enum codec codec = plan->codec[c->stages[k].first_block];
            bool here = k > slot->reached || place_on_link(s, k, i) >= OUTLET_AHEAD;
            if (k > 0 && here && codec_is_smaller(codec, r->codec)) r->codec = codec;
            if (level <= r->level) continue;
            r->level = level;
            if (k + 1 < c->nstages && r[1].incoming < level) r[1].incoming = level;
        }
    }
}

static struct controller_decision decide(struct simulation *s, double now_s) {
    struct controller_decision d = controller_decide(s->controller, now_s, s->next_due - s->next_sent, s->in_flight);
    log_line(s, now_s, d.reason);
    if (d.changed) relieve(s, d.plan);
    return d;
}

static void send(struct simulation *s, double now_s) {
    const struct simulate_config *c = s->config;
    while (s->next_sent < s->next_due && s->in_flight < c->credits) {
        struct controller_decision d = decide(s, now_s);
        int i = 0;
        while (s->slots[i].frame >= 0) i++;
        struct slot *slot = &s->slots[i];
        slot->frame = s->next_sent++;
        slot->waited_ms = (now_s - s->frames[slot->frame].due_s) * 1e3;
        slot->queue_ms = 0;
        slot->reached = 0;
        for (int k = 0; k < c->nstages; k++) {
            int b = c->stages[k].first_block, before = k ? slot->reports[k - 1].level : 0;
            int link = k ? d.plan->link[b] : 0;
            slot->reports[k] = (struct controller_report){.stage = k,
                                                          .level = d.plan->level[b],
                                                          .incoming = before > link ? before : link,
                                                          .codec = d.plan->codec[b]};
        }
        if (c->accuracy) s->frames[slot->frame].accuracy = accuracy_predict(c->accuracy, d.plan);
        s->in_flight++;
        put(s, &s->links[0], i);
        start_link(s, now_s, 0);
    }
}

static void hear_of_deaths(struct simulation *s, double now_s) {
    for (int i = 0; i < s->config->nevents; i++) {
        const struct simulate_event *e = &s->config->events[i];
        if (e->kind != SIMULATE_DEATH) continue;
        if (during(e, now_s)) s->dead[i] = true;
        if (s->dead[i] && now_s >= e->to_s) {
            s->dead[i] = false;
            controller_restarted(s->controller, e->stage);
        }
    }
}

static void computed(struct simulation *s, double now_s, int stage, int i) {
    const struct simulate_config *c = s->config;
    struct slot *slot = &s->slots[i];
    drop_first(s, &s->stages[stage]);
    start_stage(s, now_s, stage);
    if (stage + 1 < c->nstages) {
        put(s, &s->links[stage + 1], i);
        start_link(s, now_s, stage + 1);
        return;
    }
    for (int k = 0; k < c->nstages; k++) controller_report(s->controller, now_s, &slot->reports[k]);
    double stored_s = now_s + c->store_ms * 1e-3 * random_uniform(&s->random);
    s->frames[slot->frame].stored_s = stored_s;
    s->outcomes[slot->frame] =
        (struct controller_outcome){.waited_ms = slot->waited_ms, .queue_ms = slot->queue_ms};
    schedule(s, stored_s, STORED, 0, slot->frame);
    slot->frame = -1;
    s->in_flight--;
    if (s->next_sent < s->next_due) send(s, now_s);
    else if (s->in_flight > 0) decide(s, now_s);
}

/* The threads that receive and send sleep between frames, too; what both wait
 * for their turns is put in front. In order all the same. */
static void arrive(struct simulation *s, double at_s, int stage, int slot) {
    struct server *to = &s->stages[stage];
    for (int i = 0; i < 2; i++) at_s += wake_up_s(s, stage, at_s);
    to->arrived_s = fmax(to->arrived_s, at_s);
    schedule(s, to->arrived_s, ARRIVED, stage, slot);
}

static void hear_of_contention(struct simulation *s, double now_s) {
    if (now_s - s->heard_s < HEARTBEAT_S) return;
    s->heard_s = now_s;
    for (int k = 0; k < s->config->nstages; k++)
        controller_contention(s->controller, k, now_s, s->stages[k].contention_s);
}

static void handle(struct simulation *s, const struct event *e) {
    hear_of_deaths(s, e->at_s);
    hear_of_contention(s, e->at_s);
    struct simulate_frame *f;
    switch (e->what) {
    case DUE:
        controller_arrival(s->controller, e->at_s);
        s->next_due++;
        if (s->next_due < s->config->nframes) schedule(s, s->config->due_s[s->next_due], DUE, 0, 0);
        send(s, e->at_s);
        return;
    case CROSSED:
        drop_first(s, &s->links[e->stage]);
        start_link(s, e->at_s, e->stage);
        arrive(s, e->at_s + s->config->truth[e->stage].latency_ms * 1e-3, e->stage, e->slot);
        return;
    case ARRIVED:
        s->slots[e->slot].came_s = e->at_s;
        put(s, &s->stages[e->stage], e->slot);
        start_stage(s, e->at_s, e->stage);
        return;
    case COMPUTED:
        computed(s, e->at_s, e->stage, e->slot);
        return;
    case STORED:
        f = &s->frames[e->slot];
        s->outcomes[e->slot].latency_ms = (f->stored_s - f->due_s) * 1e3;
        controller_result(s->controller, e->at_s, &s->outcomes[e->slot]);
        return;
    }
}

/* ---- setting up ---- */

static enum status check(const struct simulate_config *c, struct err *err) {
    if (c->nframes < 1 || c->credits < 1 || c->nstages < 1)
        return err_set(err, STATUS_USAGE, "simulation of %d frames, %d credits and %d stages: at least 1 of each",
                       c->nframes, c->credits, c->nstages);
    for (int i = 0; i < c->nframes; i++)
        if (!isfinite(c->due_s[i]) || c->due_s[i] < (i ? c->due_s[i - 1] : 0))
            return err_set(err, STATUS_USAGE, "frame %d is due at %g s, out of order", i, c->due_s[i]);
    for (int i = 0; i < c->nevents; i++) {
        const struct simulate_event *e = &c->events[i];
        bool factor = e->kind == SIMULATE_DEATH ||
                      (e->factor >= (e->kind == SIMULATE_SHARE ? 1 : 1e-6) && isfinite(e->factor));
        if (e->stage < 0 || e->stage >= c->nstages || !isfinite(e->from_s) || !isfinite(e->to_s) ||
            e->to_s < e->from_s || !factor)
            return err_set(err, STATUS_USAGE, "disturbance %d: stage %d of %d, %g to %g s, factor %g", i + 1,
                           e->stage + 1, c->nstages, e->from_s, e->to_s, e->factor);
    }
    return STATUS_OK;
}

static enum status allocate(struct simulation *s, struct err *err) {
    const struct simulate_config *c = s->config;
    size_t n = (size_t)c->nstages, credits = (size_t)c->credits;
    /* one DUE, one event per frame under way, and frames that are being stored */
    s->heap_size = 1 + c->credits + c->nframes;
    s->heap = calloc((size_t)s->heap_size, sizeof *s->heap);
    s->slots = calloc(credits, sizeof *s->slots);
    s->reports = calloc(credits * n, sizeof *s->reports);
    s->queues = calloc(2 * credits * n, sizeof *s->queues);
    s->links = calloc(n, sizeof *s->links);
    s->stages = calloc(n, sizeof *s->stages);
    s->dead = calloc((size_t)c->nevents + 1, sizeof *s->dead);
    s->outcomes = calloc((size_t)c->nframes, sizeof *s->outcomes);
    if (!s->heap || !s->slots || !s->reports || !s->queues || !s->links || !s->stages || !s->dead ||
        !s->outcomes)
        return err_memory(err, "simulation");
    for (size_t i = 0; i < credits; i++)
        s->slots[i] = (struct slot){.frame = -1, .reports = s->reports + i * n};
    for (size_t i = 0; i < n; i++) {
        s->links[i].queue = s->queues + 2 * i * credits;
        s->stages[i].queue = s->queues + (2 * i + 1) * credits;
    }
    return STATUS_OK;
}

enum status simulate_run(const struct simulate_config *config, struct simulate_frame *frames, int *switches,
                         struct err *err) {
    enum status status = check(config, err);
    if (status) return status;
    struct simulation s = {.config = config, .frames = frames, .random = random_stream(config->seed, 0, 0)};
    status = controller_create(&s.controller, &config->controller, config->stages, config->nstages, config->accuracy,
                               config->nblocks, config->nlevels, config->maps, err);
    if (!status) status = allocate(&s, err);
    if (!status) {
        for (int i = 0; i < config->nframes; i++) frames[i] = (struct simulate_frame){.due_s = config->due_s[i]};
        schedule(&s, config->due_s[0], DUE, 0, 0);
        while (s.nheap > 0) {
            struct event e = take(&s);
            handle(&s, &e);
        }
        *switches = controller_switches(s.controller);
    }
    controller_destroy(&s.controller);
    free(s.heap);
    free(s.slots);
    free(s.reports);
    free(s.queues);
    free(s.links);
    free(s.stages);
    free(s.dead);
    free(s.outcomes);
    return status;
}
