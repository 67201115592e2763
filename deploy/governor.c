#include "deploy/governor.h"

#include <stdlib.h>
#include <string.h>

struct governor {
    const struct slices *slices;
    struct controller *controller; /* NULL: static */
    struct steady_clock *clock;    /* NULL: no steady latency */
    struct plan *plan;             /* the present one */
    bool variants;                 /* all stages at one level: the controller knows one stage */
    bool stated[WIRE_MAX_STAGES];  /* the cfg states the delay of the link into the stage */
    struct wire_time source;       /* of the link into the first stage: bytes and time of its latest frame */
};

/* A profile of the whole model that knows the blocks of one slice; the others
 * are never asked for. */
static enum status widen(struct profile **out, const struct profile *slice, int nblocks, int first, struct err *err) {
    struct profile *whole = NULL;
    enum status status = profile_create(&whole, nblocks, slice->nlevels, err);
    if (status) return status;
    size_t row = (size_t)slice->nlevels * (size_t)slice->nlevels;
    memcpy(whole->ms + (size_t)first * row, slice->ms, (size_t)slice->nblocks * row * sizeof *whole->ms);
    memcpy(whole->device, slice->device, sizeof whole->device);
    memcpy(whole->encode_ns, slice->encode_ns, sizeof whole->encode_ns);
    memcpy(whole->decode_ns, slice->decode_ns, sizeof whole->decode_ns);
    whole->threads = slice->threads;
    *out = whole;
    return STATUS_OK;
}

/* All stages of a portfolio as one, since they change variant together: its
 * time is the sum of theirs, and of the links between them. */
static void join_stages(const struct governor *g, const struct cluster_link *link, struct profile **whole,
                        const double *servers, struct controller_stage *stage) {
    struct profile *all = whole[0];
    size_t row = (size_t)all->nlevels * (size_t)all->nlevels;
    double least = servers[0];
    for (int i = 1; i < g->slices->count; i++) {
        if (servers[i] < least) least = servers[i];
        size_t first = (size_t)g->slices->first[i] * row, count = (size_t)g->slices->first[i + 1] * row - first;
        memcpy(all->ms + first, whole[i]->ms + first, count * sizeof *all->ms);
    }
    *stage = (struct controller_stage){ .nblocks = all->nblocks, .profile = all, .bytes_per_s = link->rate_kb_s * 1e3,
                                        .latency_ms = link->delay_ms, .servers = least };
}

static enum status create_controller(struct governor *g, const struct governor_config *config,
                                     const struct cluster_link *const *links, const struct profile *const *profiles,
                                     const double *servers, struct err *err) {
    const struct slices *s = g->slices;
    const struct model *m = s->model;
    struct controller_stage stages[WIRE_MAX_STAGES] = { 0 };
    struct profile *whole[WIRE_MAX_STAGES] = { 0 };
    struct controller_map *maps = calloc((size_t)(s->count * m->levels->nlevels), sizeof *maps);
    enum status status = maps ? STATUS_OK : err_memory(err, "controller");
    for (int i = 0; i < s->count && !status; i++) {
        const struct cluster_link *link = links[i];
        g->stated[i] = link->delay_ms > 0;
        status = widen(&whole[i], profiles[i], m->blocks->nblocks, s->first[i], err);
        stages[i] = (struct controller_stage){ .first_block = s->first[i], .nblocks = s->first[i + 1] - s->first[i],
                                               .profile = whole[i], .bytes_per_s = link->rate_kb_s * 1e3,
                                               .latency_ms = link->delay_ms, .servers = servers[i] };
    }
    struct controller_config c = controller_defaults();
    c.policy = config->policy;
    c.slo_ms = config->slo_ms;
    c.min_accuracy = config->min_accuracy;
    c.paced = config->paced;
    c.start = config->start;
    const int nstages = config->variants ? 1 : s->count;
    if (!status && config->variants) join_stages(g, links[0], whole, servers, &stages[0]);
    if (!status) status = controller_maps(m, stages, nstages, maps, err);
    if (!status)
        status = controller_create(&g->controller, &c, stages, nstages, m->accuracy, m->blocks->nblocks,
                                   m->levels->nlevels, maps, err);
    for (int i = 0; i < s->count; i++) profile_destroy(&whole[i]);
    free(maps);
    return status;
}

static void copy_plan(struct plan *to, const struct plan *from) {
    size_t n = (size_t)from->nblocks;
    memcpy(to->level, from->level, n * sizeof *from->level);
    memcpy(to->link, from->link, n * sizeof *from->link);
    memcpy(to->codec, from->codec, n * sizeof *from->codec);
}

enum status governor_create(struct governor **out, const struct governor_config *config, const struct slices *slices,
                            const struct cluster_link *const *links, const struct profile *const *profiles,
                            const double *servers, struct err *err) {
    struct governor *g = calloc(1, sizeof *g);
    if (!g) return err_memory(err, "controller");
    g->slices = slices;
    g->variants = config->variants;
    enum status status = plan_create(&g->plan, config->start->nblocks, 0, err);
    if (!status) copy_plan(g->plan, config->start);
    if (!status && config->policy != CONTROLLER_STATIC) status = create_controller(g, config, links, profiles, servers, err);
    if (!status && config->steady.profile)
        status = steady_clock_open(&g->clock, &config->steady, slices->model, slices->count, slices->first, err);
    if (status) governor_destroy(&g);
    else *out = g;
    return status;
}

void governor_destroy(struct governor **governor) {
    struct governor *g = *governor;
    if (!g) return;
    controller_destroy(&g->controller);
    steady_clock_close(&g->clock);
    plan_destroy(&g->plan);
    free(g);
    *governor = NULL;
}

void governor_arrival(struct governor *g, double now_s) {
    if (g->controller) controller_arrival(g->controller, now_s);
}

void governor_source_link(struct governor *g, double now_s, const struct outlet_sample *sample) {
    g->source.link_bytes = sample->bytes;
    g->source.link_us = (uint32_t)(sample->seconds * 1e6) + 1;
}

/* What a frame took at a stage, and on the link into it. */
static struct controller_report stage_report(const struct governor *g, const struct wire_frame *f, int i) {
    const struct wire_time *t = &f->time[i], *link = i ? &f->time[i - 1] : &g->source;
    int before = i ? f->choice[i - 1].level : 0;
    return (struct controller_report){
        .stage = i, .level = f->choice[i].level,
        .incoming = before > f->choice[i].link ? before : f->choice[i].link,
        .compute_ms = t->compute_us / 1e3, .decode_ms = t->decode_us / 1e3, .encode_ms = t->encode_us / 1e3,
        .queue_ms = t->queue_us / 1e3,
        .codec = (enum codec)f->choice[i].codec,
        .bytes = link->link_us ? link->link_bytes : 0, .link_ms = link->link_bytes ? link->link_us / 1e3 : 0,
    };
}

/* All stages as one: behind the first, links and coding are part of the time. */
static struct controller_report joint_report(const struct governor *g, const struct wire_frame *f) {
    struct controller_report all = stage_report(g, f, 0);
    for (int i = 1; i < f->nstages; i++) {
        struct controller_report r = stage_report(g, f, i);
        all.compute_ms += r.compute_ms + r.decode_ms + r.link_ms;
        all.encode_ms += r.encode_ms;
        all.queue_ms += r.queue_ms;
    }
    return all;
}

void governor_frame(struct governor *g, double now_s, const struct wire_frame *f) {
    double compute_ms = 0;
    for (int i = 0; i < f->nstages; i++) compute_ms += f->time[i].compute_us / 1e3;
    if (g->clock) steady_observe(g->clock->steady, compute_ms);
    if (!g->controller) return;
    for (int i = 0; i < (g->variants ? 1 : f->nstages); i++) {
        struct controller_report report = g->variants ? joint_report(g, f) : stage_report(g, f, i);
        controller_report(g->controller, now_s, &report);
    }
    g->source = (struct wire_time){ 0 };
}

void governor_link(struct governor *g, int stage, const struct outlet_sample *sample) {
    if (g->controller) controller_link(g->controller, stage, sample->bytes, sample->seconds * 1e3);
}

void governor_contention(struct governor *g, int stage, double now_s, double total_s) {
    if (g->controller && !g->variants) controller_contention(g->controller, stage, now_s, total_s);
}

void governor_result(struct governor *g, double now_s, double latency_ms, double waited_ms, double queue_ms) {
    if (!g->controller) return;
    struct controller_outcome outcome = { .latency_ms = latency_ms, .waited_ms = waited_ms, .queue_ms = queue_ms };
    controller_result(g->controller, now_s, &outcome);
}

/* From worker to worker nobody has measured: it is taken to be half of each
 * one's way, as if the runner sat where both ways meet. A delay that the
 * cluster cfg states is believed. */
void governor_round_trips(struct governor *g, const double *rtt_s) {
    for (int i = 0; g->controller && i < (g->variants ? 1 : g->slices->count); i++) {
        if (g->stated[i]) continue;
        double there_and_back_s = i == 0 ? rtt_s[0] : rtt_s[i - 1] > 0 && rtt_s[i] > 0 ? (rtt_s[i - 1] + rtt_s[i]) / 2 : 0;
        if (there_and_back_s > 0) controller_link_latency(g->controller, i, there_and_back_s / 2 * 1e3);
    }
}

void governor_restarted(struct governor *g, int stage) {
    if (g->controller) controller_restarted(g->controller, g->variants ? 0 : stage);
}

const struct plan *governor_plan(const struct governor *g) {
    return g->plan;
}

/* The levels that the clock calls for; returns why they have changed, or "". */
static const char *follow_clock(struct governor *g) {
    const struct plan *plan = steady_clock_plan(g->clock);
    size_t bytes = (size_t)plan->nblocks * sizeof *plan->level;
    if (memcmp(g->plan->level, plan->level, bytes) == 0) return "";
    memcpy(g->plan->level, plan->level, bytes);
    return "the clock moved";
}

void governor_choose(struct governor *g, double now_s, int waiting, int in_flight, struct wire_choice *choice,
                     const char **reason) {
    const struct plan *plan = g->plan;
    *reason = "";
    if (g->controller) {
        struct controller_decision d = controller_decide(g->controller, now_s, waiting, in_flight);
        if (g->variants) memcpy(g->plan->level, d.plan->level, (size_t)g->plan->nblocks * sizeof *g->plan->level);
        else copy_plan(g->plan, d.plan);
        if (d.changed) *reason = d.reason;
    }
    if (g->clock) *reason = follow_clock(g);
    for (int i = 0; i < g->slices->count; i++) {
        int b = g->slices->first[i];
        choice[i].level = (uint8_t)plan->level[b];
        choice[i].link = i ? (uint8_t)plan->link[b] : 0;
        choice[i].codec = (uint8_t)plan->codec[b];
    }
}
