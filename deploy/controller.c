#include "deploy/codec.h"
#include "deploy/controller_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Share of the raw form that zlib leaves, before it was seen: rectified maps
 * are half zeros. */
#define PACKING_PRIOR 0.7
#define WAITED 0.5       /* of its computing, in front of a stage: that was busy; of the slowest one's, in front
                          * of all: they were */
#define CONTENTION_S 0.2 /* apart, at least, are totals of contention that are compared */
#define CONTENTION_WINDOW 3
#define BESIDE_WINDOW 16 /* frames that an average goes over */
#define SMALL_MS 1.0     /* a frame that takes the link less, */
#define SMALL_SHARE 0.125 /* and has less than that of the bytes of all channels as they are, tells little of it */
#define HARD_PRESSED 2.0 /* slowdown over the undisturbed one */
enum { UNSURE = 5 };     /* so many that tell little tell something */

static const char *const policy_names[CONTROLLER_POLICIES] = {"static", "bottleneck", "exact"};

const char *controller_policy_name(enum controller_policy policy) {
    return policy_names[policy];
}

enum controller_policy controller_policy_parse(const char *name) {
    int i = 0;
    while (i < CONTROLLER_POLICIES && strcmp(policy_names[i], name) != 0) i++;
    return (enum controller_policy)i;
}

struct controller_config controller_defaults(void) {
    return (struct controller_config){
        .policy = CONTROLLER_EXACT,
        .margin = 0.1,
        .utilisation = 0.9,
        .paced = true,
        .trigger_frames = 3,
        .restore_ms = 1000,
        .codecs = (1u << CODEC_COUNT) - 1,
        .link_levels = true,
    };
}

/* ---- creation ---- */

static enum status check(const struct controller_config *config, const struct controller_stage *stages, int nstages,
                         const struct accuracy *accuracy, int nblocks, int nlevels, struct err *err) {
    if (config->policy != CONTROLLER_STATIC && !(config->slo_ms > 0 && isfinite(config->slo_ms)))
        return err_set(err, STATUS_USAGE, "controller: policy %s needs a deadline above 0 ms, not %g",
                       controller_policy_name(config->policy), config->slo_ms);
    if (!(config->margin >= 0 && config->margin < 0.6) || !(config->utilisation > 0 && config->utilisation <= 1) ||
        !(config->restore_ms >= 0) || config->trigger_frames < 0)
        return err_set(err, STATUS_USAGE,
                       "controller: margin %g must be in [0, 0.6), utilisation %g in (0, 1], restore_ms %g and "
                       "trigger_frames %d at least 0",
                       config->margin, config->utilisation, config->restore_ms, config->trigger_frames);
    if (!(config->min_accuracy >= 0 && config->min_accuracy <= 1))
        return err_set(err, STATUS_USAGE, "controller: minimum accuracy %g is no share from 0 to 1",
                       config->min_accuracy);
    if (config->min_accuracy > 0 && !accuracy) {
        err_set(err, STATUS_USAGE, "the model holds no accuracy model, so no minimum accuracy can be kept");
        err_hint(err, "train with espalier-train, which measures it, or leave out the minimum");
        return STATUS_USAGE;
    }
    if (accuracy && (accuracy->nblocks != nblocks || accuracy->nlevels != nlevels))
        return err_set(err, STATUS_USAGE, "controller: accuracy model of %d blocks and %d levels for %d and %d",
                       accuracy->nblocks, accuracy->nlevels, nblocks, nlevels);
    if (config->start && config->start->nblocks != nblocks)
        return err_set(err, STATUS_USAGE, "controller: plan of %d blocks for %d", config->start->nblocks, nblocks);
    int next = 0;
    for (int s = 0; s < nstages; s++) {
        const struct controller_stage *stage = &stages[s];
        if (stage->first_block != next || stage->nblocks < 1 || stage->nblocks > nblocks - next)
            return err_set(err, STATUS_USAGE, "controller: stage %d begins at block %d, not %d", s + 1,
                           stage->first_block, next);
        next += stage->nblocks;
        if (stage->profile->nblocks != nblocks || stage->profile->nlevels != nlevels)
            return err_set(err, STATUS_USAGE, "controller: stage %d's profile has %d blocks and %d levels, not %d and %d",
                           s + 1, stage->profile->nblocks, stage->profile->nlevels, nblocks, nlevels);
        if (!(stage->bytes_per_s >= 0 && isfinite(stage->bytes_per_s)) ||
            !(stage->latency_ms >= 0 && isfinite(stage->latency_ms)))
            return err_set(err, STATUS_USAGE, "controller: link into stage %d with %g bytes/s and %g ms", s + 1,
                           stage->bytes_per_s, stage->latency_ms);
    }
    if (next != nblocks)
        return err_set(err, STATUS_USAGE, "controller: the stages hold %d of %d blocks", next, nblocks);
    return STATUS_OK;
}

static void forget_link(struct controller_slice *slice) {
    estimate_reset(&slice->ns_per_byte, slice->bytes_per_s > 0 ? 1e9 / slice->bytes_per_s : 0);
}

/* Sums the profile over the slice's blocks. */
static enum status set_profile(struct controller *c, int s, const struct profile *profile, struct err *err) {
    struct controller_slice *slice = &c->slice[s];
    int n = c->nlevels;
    for (int own = 0; own < n; own++)
        for (int in = 0; in < n; in++) {
            /* within the slice every block gets what its own level lets through */
            double ms = profile_ms(profile, slice->first_block, own, in);
            for (int b = slice->first_block + 1; b < slice->first_block + slice->nblocks; b++)
                ms += profile_ms(profile, b, own, own);
            if (!(ms >= 0 && isfinite(ms)))
                return err_set(err, STATUS_FORMAT, "stage %d's profile says %g ms at levels %d, %d", s + 1, ms, own, in);
            slice->profile_ms[own * n + in] = ms;
        }
    for (int k = 0; k < CODEC_COUNT; k++) {
        double encode = profile->encode_ns[k], decode = profile->decode_ns[k];
        if (!(encode >= 0 && isfinite(encode) && decode >= 0 && isfinite(decode)))
            return err_set(err, STATUS_FORMAT, "stage %d's profile says %g and %g ns for codec %s", s + 1, encode,
                           decode, codec_name((enum codec)k));
        slice->encode_ns[k] = encode;
        slice->decode_ns[k] = decode;
    }
    return STATUS_OK;
}

static enum status set_slice(struct controller *c, int s, const struct controller_stage *stage,
                             const struct controller_map *maps, struct err *err) {
    struct controller_slice *slice = &c->slice[s];
    slice->first_block = stage->first_block;
    slice->nblocks = stage->nblocks;
    slice->profile_ms = c->profiles + (size_t)s * c->nlevels * c->nlevels;
    slice->bytes_per_s = stage->bytes_per_s;
    slice->latency_ms = stage->latency_ms;
    slice->told_s = -1;
    memcpy(slice->map, maps + (size_t)s * c->nlevels, c->nlevels * sizeof *maps);
    estimate_slowdown_reset(&slice->slowdown);
    forget_link(slice);
    for (int k = 0; k < CODEC_COUNT; k++) estimate_reset(&slice->packing[k], k % 2 ? PACKING_PRIOR : 1);
    estimate_reset(&slice->image_bytes, 0);
    estimate_reset(&slice->image_ms, 0);
    return set_profile(c, s, stage->profile, err);
}

static void write_plan(const struct controller *c, const struct planner_choice *choice, struct plan *plan) {
    for (int s = 0; s < c->nstages; s++) {
        const struct controller_slice *slice = &c->slice[s];
        for (int b = slice->first_block; b < slice->first_block + slice->nblocks; b++)
            plan->level[b] = choice[s].level;
        plan->link[slice->first_block] = choice[s].link;
        plan->codec[slice->first_block] = choice[s].codec;
    }
}

enum status controller_create(struct controller **out, const struct controller_config *config,
                              const struct controller_stage *stages, int nstages, const struct accuracy *accuracy,
                              int nblocks, int nlevels, const struct controller_map *maps, struct err *err) {
    enum status status = check(config, stages, nstages, accuracy, nblocks, nlevels, err);
    if (status) return status;
    struct controller *c = calloc(1, sizeof *c);
    if (!c) return err_memory(err, "controller");
    c->config = *config;
    c->nstages = nstages;
    c->nlevels = nlevels;
    c->nblocks = nblocks;
    c->risk_from = -1;
    c->room_since = c->restored_s = c->decided_s = -1;
    c->reported_s = c->waited = c->waited_last = -1;
    c->relieved_s = c->tempered_s = c->crowded_s = -INFINITY;
    c->gone_s = INFINITY;
    c->stale = true;
    status = planner_create(&c->planner, nstages, nlevels, err); /* bounds the numbers, too */
    if (status) goto fail;
    c->slice = calloc((size_t)nstages, sizeof *c->slice);
    c->profiles = calloc((size_t)nstages * nlevels * nlevels, sizeof *c->profiles);
    if (!c->slice || !c->profiles) {
        status = err_memory(err, "controller");
        goto fail;
    }
    for (int s = 0; s < nstages; s++) {
        status = set_slice(c, s, &stages[s], maps, err);
        if (status) goto fail;
        planner_problem(c->planner)->servers[s] = fmax(1, fmin(PLANNER_MAX_SERVERS, stages[s].servers));
        if (!config->start) continue;
        int b = stages[s].first_block;
        c->choice[s] = (struct planner_choice){config->start->level[b], s ? config->start->link[b] : 0,
                                               config->start->codec[b]};
    }
    controller_fill_costs(c, accuracy, config->start);
    c->config.start = NULL;
    status = plan_create(&c->plan, nblocks, 0, err);
    if (status) goto fail;
    write_plan(c, c->choice, c->plan);
    *out = c;
    return STATUS_OK;
fail:
    controller_destroy(&c);
    return status;
}

void controller_destroy(struct controller **controller) {
    struct controller *c = *controller;
    if (!c) return;
    planner_destroy(&c->planner);
    plan_destroy(&c->plan);
    free(c->slice);
    free(c->profiles);
    free(c);
    *controller = NULL;
}

/* ---- what goes in ---- */

static bool duration(double ms) {
    return isfinite(ms) && ms >= 0;
}

void controller_arrival(struct controller *c, double now_s) {
    if (!estimate_rate_add(&c->arrivals, now_s)) {
        c->ignored++;
        return;
    }
    c->narrivals++;
}

/* Surely so: a fading link must not be taken for that. */
static bool contended(const struct controller_slice *slice) {
    return slice->heavy > 0 || slice->slowdown.value > HARD_PRESSED * slice->slowdown.calm;
}

/* What a small frame takes is for the most part how long the devices at both ends
 * took to wake up, and where a core is shared any frame waits for that. Such a
 * time shows that the link is as fast as that; that it is slower, the least of
 * several. */
static void note_rate(struct controller *c, int stage, size_t bytes, double link_ms) {
    struct controller_slice *slice = &c->slice[stage];
    double ms = fmax(link_ms - slice->latency_ms, 0.1 * link_ms), ns = ms * 1e6 / (double)bytes;
    double known = slice->ns_per_byte.value;
    double most = (double)codec_raw_size(CODEC_F32, slice->map[0].c, slice->map[0].hw);
    bool small = (double)bytes * known < SMALL_MS * 1e6 && (double)bytes < SMALL_SHARE * most;
    bool unsure = known > 0 && ns > known && (small || contended(slice) || (stage > 0 && contended(slice - 1)));
    if (unsure) {
        slice->least_ns = slice->nunsure ? fmin(slice->least_ns, ns) : ns;
        if (++slice->nunsure < UNSURE) return;
        ns = slice->least_ns;
    }
    slice->nunsure = 0;
    estimate_add(&slice->ns_per_byte, ns);
    if (!unsure) estimate_hasten(&slice->ns_per_byte); /* a link's times scatter little */
}

void controller_link(struct controller *c, int stage, size_t bytes, double link_ms) {
    if (stage < 0 || stage >= c->nstages || bytes == 0 || !(duration(link_ms) && link_ms > 0)) {
        c->ignored++;
        return;
    }
    note_rate(c, stage, bytes, link_ms);
    c->stale = true;
}

/* What the link did: its rate, and how well the codec packed. */
static void report_link(struct controller *c, const struct controller_report *r) {
    struct controller_slice *slice = &c->slice[r->stage];
    if (r->bytes == 0) return;
    if (r->link_ms > 0) note_rate(c, r->stage, r->bytes, r->link_ms);
    if (r->stage == 0) {
        estimate_add(&slice->image_bytes, (double)r->bytes);
        return;
    }
    const struct controller_map *map = &slice->map[r->level > r->incoming ? r->level : r->incoming];
    size_t raw = codec_raw_size(r->codec, map->c, map->hw);
    if (raw > 0) estimate_add(&slice->packing[r->codec], (double)r->bytes / (double)raw);
}

/* A stage that a frame had to wait for went from the frame before to this one
 * without a pause. If neither waited anywhere behind it, their results came as
 * far apart as the stage took; what it does not report of that goes to
 * receiving, sending and waking up. */
static void note_interval(struct controller *c, double now_s, const struct controller_report *r) {
    if (r->stage == 0) c->waited = -1;
    if (r->queue_ms > WAITED * r->compute_ms) {
        c->waited = r->stage;
        c->busy_ms = r->decode_ms + r->compute_ms + r->encode_ms;
    }
    if (r->stage + 1 < c->nstages) return;
    if (c->reported_s >= 0 && c->waited >= 0 && c->waited_last <= c->waited) {
        struct controller_slice *slice = &c->slice[c->waited];
        double beside = ((now_s - c->reported_s) * 1e3 - c->busy_ms) / slice->slowdown.value;
        double limit = c->busy_ms / slice->slowdown.value;
        slice->beside_ms += (fmax(-limit, fmin(limit, beside)) - slice->beside_ms) / BESIDE_WINDOW;
    }
    c->reported_s = now_s;
    c->waited_last = c->waited;
}

void controller_report(struct controller *c, double now_s, const struct controller_report *r) {
    if (!isfinite(now_s) || r->stage < 0 || r->stage >= c->nstages || r->level < 0 || r->level >= c->nlevels ||
        r->incoming < 0 || r->incoming >= c->nlevels || (unsigned)r->codec >= CODEC_COUNT || !duration(r->compute_ms) ||
        !duration(r->decode_ms) || !duration(r->encode_ms) || !duration(r->queue_ms) || !duration(r->link_ms)) {
        c->ignored++;
        return;
    }
    struct controller_slice *slice = &c->slice[r->stage];
    double profiled = slice->profile_ms[r->level * c->nlevels + r->incoming];
    estimate_slowdown_add(&slice->slowdown, now_s, r->level, r->compute_ms, profiled);
    if (now_s - c->crowded_s > c->config.slo_ms * 1e-3)
        estimate_ease_add(&slice->computing, ESTIMATE_EASE, now_s, r->level, r->compute_ms / profiled);
    note_interval(c, now_s, r);
    if (r->queue_ms > WAITED * r->compute_ms) estimate_slowdown_hasten(&slice->slowdown);
    if (r->stage == 0) estimate_add(&slice->image_ms, r->decode_ms);
    report_link(c, r);
    c->stale = true;
}

void controller_contention(struct controller *c, int stage, double now_s, double total_s) {
    if (stage < 0 || stage >= c->nstages || !isfinite(now_s) || !(total_s >= 0 && isfinite(total_s))) {
        c->ignored++;
        return;
    }
    struct controller_slice *slice = &c->slice[stage];
    double seconds = now_s - slice->told_s;
    if (slice->told_s >= 0 && seconds < CONTENTION_S) return;
    bool comparable = slice->told_s >= fmax(c->crowded_s, c->switched_s) && total_s >= slice->contention_s;
    if (comparable)
        estimate_ease_add(&slice->contention, CONTENTION_WINDOW, now_s, c->choice[stage].level,
                          (total_s - slice->contention_s) / seconds);
    slice->told_s = now_s;
    slice->contention_s = total_s;
}

void controller_result(struct controller *c, double now_s, const struct controller_outcome *o) {
    if (!isfinite(now_s) || !duration(o->latency_ms) || !duration(o->waited_ms) || !duration(o->queue_ms)) {
        c->ignored++;
        return;
    }
    if (c->old_plan_results > 0) {
        c->old_plan_results--;
        return;
    }
    c->recent_ms[c->nrecent++ % CONTROLLER_RECENT] = o->latency_ms;
    if (c->stale) controller_fill_times(c);
    struct planner_value v = planner_evaluate(planner_problem(c->planner), c->choice, 0);
    double sum = (double)v.sum * 1e-6, beyond = o->latency_ms - o->waited_ms - o->queue_ms - sum;
    /* Who had to wait to be sent found the pipeline full, and stood in line between its stages, too. */
    bool straight = o->waited_ms <= WAITED * (double)v.bottleneck * 1e-6;
    if (straight) estimate_spread_add(&c->spread, fmax(beyond, -0.5 * sum));
}

void controller_restarted(struct controller *c, int stage) {
    if (stage < 0 || stage >= c->nstages) return;
    estimate_slowdown_restart(&c->slice[stage].slowdown);
    c->slice[stage].told_s = -1;
    forget_link(&c->slice[stage]);
    if (stage + 1 < c->nstages) forget_link(&c->slice[stage + 1]);
    c->stale = true;
}

void controller_link_latency(struct controller *c, int stage, double latency_ms) {
    if (stage < 0 || stage >= c->nstages || !duration(latency_ms)) {
        c->ignored++;
        return;
    }
    c->slice[stage].latency_ms = latency_ms;
    c->stale = true;
}

/* ---- what comes out ---- */

struct controller_decision controller_decide(struct controller *c, double now_s, int waiting, int in_flight) {
    if (waiting < 0) waiting = 0;
    if (in_flight < 0) in_flight = 0;
    c->changed = false;
    if (c->stale) controller_fill_times(c);
    if (isfinite(now_s)) {
        if (c->config.policy == CONTROLLER_EXACT) controller_follow_exact(c, now_s, waiting, in_flight);
        if (c->config.policy == CONTROLLER_BOTTLENECK) controller_follow_bottleneck(c, now_s, in_flight);
    }
    if (c->changed) {
        c->switches++;
        write_plan(c, c->choice, c->plan);
    }
    struct planner_value v = planner_evaluate(planner_problem(c->planner), c->choice, waiting > 0 ? waiting - 1 : 0);
    return (struct controller_decision){
        .plan = c->plan,
        .changed = c->changed,
        .reason = c->changed ? c->reason : "",
        .accuracy = c->base - (double)v.cost / PLANNER_COST_ONE,
        .latency_ms = (double)v.latency * 1e-6 + c->spread.value,
    };
}

enum status controller_optimum(struct controller *c, double latency_ms, int queued, struct plan *plan,
                               struct controller_optimum *expected, struct err *err) {
    if (c->stale) controller_fill_times(c);
    struct planner_limits limits = {.latency = (int64_t)(fmax(0, fmin(latency_ms, 1e9)) * 1e6),
                                    .bottleneck = PLANNER_UNLIMITED,
                                    .cost = c->cost_max,
                                    .queued = queued};
    struct planner_solution s;
    enum status status = planner_solve(c->planner, &limits, &s, err);
    if (status) return status;
    write_plan(c, s.choice, plan);
    *expected = (struct controller_optimum){.sum_ms = (double)s.value.sum * 1e-6,
                                            .bottleneck_ms = (double)s.value.bottleneck * 1e-6,
                                            .accuracy = c->base - (double)s.value.cost / PLANNER_COST_ONE};
    return STATUS_OK;
}

double controller_slowdown(const struct controller *c, int stage) {
    return stage >= 0 && stage < c->nstages ? c->slice[stage].slowdown.value : 0;
}

double controller_link_rate(const struct controller *c, int stage) {
    double ns = stage >= 0 && stage < c->nstages ? c->slice[stage].ns_per_byte.value : 0;
    return ns > 0 ? 1e9 / ns : 0;
}

double controller_arrival_rate(const struct controller *c, double now_s) {
    return estimate_rate_per_s(&c->arrivals, now_s);
}

int controller_switches(const struct controller *c) {
    return c->switches;
}

int controller_ignored(const struct controller *c) {
    return c->ignored;
}
