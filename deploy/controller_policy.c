/* When to switch, and to what. */
#include "deploy/controller_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A restoration that has to be undone within this many waits counts as failed,
 * and the next one waits twice as long, up to 2^UNDONE_MAX times. */
enum { FAILED_WITHIN = 5, UNDONE_MAX = 5, QUEUED_MAX = 10000, TRIAL_AFTER = 8 };
enum { HORIZON = 10, QUEUE_BEGUN = 1, REPLAYS = 6 };
enum { LATE_SHOWN = CONTROLLER_RECENT / 2, TEMPER_AFTER = 2 * CONTROLLER_RECENT };
#define OVERLOADED 1.15    /* of a burst's rate over what the plan takes, and over the rate in the long run */
#define CONTENDED 1.25     /* slowdown over the undisturbed one that tells of contention */
#define NEARLY_FULL 0.7    /* of level 0's time */
#define RELIEF_SHARE 0.75  /* of the deadline, that relief is planned for at first: frames queued at the old
                            * plan are not all counted, and accuracy is soon given back */
#define RELIEF_UTILISATION 0.6 /* of the utilisation allowed, likewise: what is queued must drain */
#define LEAST_SHARE 0.4    /* and at last */
#define SHARE_STEP 0.1     /* between those that are tried, up to all of it */
#define LEAST_GAIN 0.0005  /* of accuracy, worth a switch; all of it always is */
#define NEARLY 1.1         /* times the fastest plan's latency: as good, where no plan is fast enough */
#define LEAST_SPEEDUP 0.85 /* of latency, worth a switch where nothing is fast enough */

static struct planner_value value_of(const struct controller *c, const struct planner_choice *choice, int queued) {
    return planner_evaluate(planner_problem(c->planner), choice, queued);
}

static double expected_ms(const struct controller *c, const struct planner_value *value) {
    return (double)value->latency * 1e-6 + c->spread.value;
}

/* Frames that the next one to come must wait for. A pipeline in flow holds
 * sum / bottleneck frames, each being served somewhere; what is in flight
 * beyond that waits in front of the bottleneck. */
static int frames_ahead(const struct controller *c, int waiting, int in_flight) {
    struct planner_value v = value_of(c, c->choice, 0);
    double served = v.bottleneck > 0 ? ceil((double)v.sum / (double)v.bottleneck) : 0;
    double ahead = (waiting > 0 ? waiting - 1 : 0) + fmax(0, in_flight - served);
    return ahead < QUEUED_MAX ? (int)ahead : QUEUED_MAX;
}

static int slowest_device(const struct controller *c) {
    int slowest = 0;
    for (int s = 1; s < c->nstages; s++)
        if (c->slice[s].slowdown.value > c->slice[slowest].slowdown.value) slowest = s;
    return slowest;
}

/* ---- saying why ---- */

static int print_levels(const struct controller *c, const struct planner_choice *choice, char *out, size_t size) {
    size_t used = 0;
    for (int s = 0; s < c->nstages && used < size; s++) {
        used += (size_t)snprintf(out + used, size - used, "%s%d", s ? "," : "", choice[s].level);
        bool plain = choice[s].link == 0 && choice[s].codec == CODEC_F32;
        if (s > 0 && !plain && used < size)
            used += (size_t)snprintf(out + used, size - used, "(%d:%s)", choice[s].link, codec_name(choice[s].codec));
    }
    return (int)used;
}

/* What differs most from the profile. */
static void print_cause(const struct controller *c, int ahead, char *out, size_t size) {
    int s = slowest_device(c);
    snprintf(out, size, "%d queued, stage %d at %.1fx its profile", ahead, s + 1, c->slice[s].slowdown.value);
}

static void switch_to(struct controller *c, double now_s, const struct planner_choice *choice, const char *why,
                      int ahead, int in_flight) {
    char from[150], to[150], cause[80];
    struct planner_value old = value_of(c, c->choice, ahead), new = value_of(c, choice, ahead);
    print_levels(c, c->choice, from, sizeof from);
    print_levels(c, choice, to, sizeof to);
    print_cause(c, ahead, cause, sizeof cause);
    snprintf(c->reason, sizeof c->reason, "%s: levels %s -> %s, %.0f -> %.0f ms expected (%s)", why, from, to,
             expected_ms(c, &old), expected_ms(c, &new), cause);
    memcpy(c->choice, choice, (size_t)c->nstages * sizeof *choice);
    c->changed = true;
    c->switched_s = now_s;
    c->nrecent = 0;
    c->old_plan_results = in_flight + c->nstages; /* and some being stored */
    c->risk_from = -1;
    c->room_since = -1;
    c->gone_s = INFINITY;
    c->stale = true; /* times of fuller levels depend on the present one */
}

/* ---- exact ---- */

/* Frames that come, as far as one can see. */
struct traffic {
    double rate;   /* per second in the long run, 0: at no rate of their own */
    double recent; /* just now, if that is a burst: faster than in the long run and than the present plan; else 0 */
};

static struct traffic traffic_now(const struct controller *c, double now_s) {
    struct traffic t = {0, 0};
    if (!c->config.paced) return t;
    struct planner_value v = value_of(c, c->choice, 0);
    double recent = estimate_rate_recent(&c->arrivals, now_s);
    t.rate = estimate_rate_per_s(&c->arrivals, now_s);
    if (recent > OVERLOADED * t.rate && recent * (double)v.bottleneck * 1e-9 > OVERLOADED) t.recent = recent;
    return t;
}

/* Within `room_ms`, behind `ahead` others, with every stage and link busy for at
 * most `utilisation` of the time between frames that come at `rate` (0: as fast
 * as they are taken). */
static struct planner_limits limits_for(const struct controller *c, double room_ms, double rate, double utilisation,
                                        int ahead) {
    return (struct planner_limits){
        .latency = room_ms > 0 ? (int64_t)(room_ms * 1e6) : 0,
        .bottleneck = rate > 0 ? (int64_t)(utilisation / rate * 1e9) : PLANNER_UNLIMITED,
        .cost = c->cost_max,
        .queued = ahead,
    };
}

/* A burst comes faster than any plan can keep up with. The queue grows by 1 -
 * interval / bottleneck with every frame that comes. The one HORIZON frames from
 * now waits for ahead + HORIZON * (1 - interval / bottleneck) others, so it takes
 *     sum + (ahead + HORIZON) * bottleneck - HORIZON * interval,
 * which is what the planner knows, with more frames queued and a later deadline.
 * As many frames from now as can be. */
static bool endure(struct controller *c, struct planner_limits limits, double recent,
                   struct planner_solution *solution) {
    for (int frames = HORIZON; frames > 0; frames /= 2) {
        struct planner_limits later = limits;
        later.queued += frames;
        later.latency += (int64_t)(frames / recent * 1e9);
        if (planner_find(c->planner, &later, solution)) return true;
    }
    return false;
}

/* Relief that did not last was planned too tightly: each time within a while
 * the next plan keeps more of the deadline free. */
static double relief_share(struct controller *c, double now_s) {
    if (now_s - c->relieved_s > c->config.restore_ms * 1e-3) c->relieved = 0;
    return fmax(LEAST_SHARE, RELIEF_SHARE - c->config.margin * c->relieved);
}

/* ---- when a disturbance has gone ------------------------------------------------
 *
 * A device whose core is shared looks little disturbed while it has little to
 * do, and is slow once it has more: what is measured at a pruned level is a
 * lower bound for fuller ones. So the slowdown at which a slice was relieved
 * (`heavy`) goes on to hold for fuller levels.
 *
 * That the disturbance has gone shows in what the device takes now, against
 * what it took at this level before; or, where so little is hardly slowed, in
 * how long its threads wait for their turns. When either has eased for a
 * while, `heavy` is forgotten. If neither tells, it is so after a much longer
 * while, which doubles each time that a restoration had to be undone. */

static double wait_s(const struct controller *c) {
    return c->config.restore_ms * 1e-3;
}

static double patience_s(const struct controller *c) {
    return wait_s(c) * (1 << c->undone);
}

/* Remembers how slow the slices are that go up. `undoes`: a restoration that has
 * just failed: what it was planned with was too little, or else it has to wait
 * longer. */
static void note_relief(struct controller *c, double now_s, const struct planner_choice *after, bool undoes) {
    bool learnt = false;
    for (int s = 0; s < c->nstages; s++) {
        struct controller_slice *slice = &c->slice[s];
        if (after[s].level <= c->choice[s].level || slice->slowdown.value < CONTENDED * slice->slowdown.calm) continue;
        /* the first reliefs in a row are still finding out how slow it is */
        if (slice->heavy == 0) slice->relieved_s = now_s;
        learnt |= undoes && slice->heavy > 0 && slice->slowdown.value > slice->heavy;
        if (undoes || now_s - slice->relieved_s < wait_s(c)) slice->heavy = fmax(slice->heavy, slice->slowdown.value);
        slice->heavy_s = now_s;
    }
    if (undoes && !learnt && c->undone < UNDONE_MAX) c->undone++;
}

/* For how long the slice's disturbance has looked gone, seconds. */
static double ease_held(const struct controller_slice *slice, double now_s) {
    return fmax(estimate_ease_held(&slice->computing, now_s), estimate_ease_held(&slice->contention, now_s));
}

static void forget_worst(struct controller_slice *slice) {
    estimate_ease_reset(&slice->computing);
    estimate_ease_reset(&slice->contention);
}

/* It shows, and is about to be believed: another plan would end that. */
static bool easing(const struct controller *c, double now_s) {
    bool any = false;
    for (int s = 0; s < c->nstages; s++) any |= c->slice[s].heavy > 0 && ease_held(&c->slice[s], now_s) > 0;
    return any;
}

/* At level 0, or undisturbed at one that leaves a device hardly less to do. */
static bool is_nearly_full(const struct controller *c, int s) {
    const struct controller_slice *slice = &c->slice[s];
    int level = c->choice[s].level;
    return level == 0 || (slice->profile_ms[level * c->nlevels + level] > NEARLY_FULL * slice->profile_ms[0] &&
                          slice->slowdown.value < CONTENDED * slice->slowdown.calm);
}

static void review(struct controller *c, double now_s) {
    for (int s = 0; s < c->nstages; s++) {
        struct controller_slice *slice = &c->slice[s];
        bool full = is_nearly_full(c, s); /* measured itself */
        bool tells = slice->contention.worst[c->choice[s].level] > 0; /* that it lasts: a trial is likely to fail */
        bool eased = ease_held(slice, now_s) > wait_s(c);
        bool tried = now_s - slice->heavy_s > (tells ? 2 : 1) * TRIAL_AFTER * patience_s(c);
        if (slice->heavy == 0 || (!full && !eased && !tried)) continue;
        if (eased) {
            c->undone = 0;
            c->gone_s = now_s - ease_held(slice, now_s);
            forget_worst(slice);
        }
        slice->heavy = 0;
        c->stale = true;
    }
    if (c->stale) controller_fill_times(c);
}

/* A plan within `room_ms`: so that what is queued drains, if that can be; or so that
 * a burst's end, or else what is queued, is in time. */
static bool solve_within(struct controller *c, double room_ms, struct traffic t, int ahead,
                         struct planner_solution *s) {
    double rate = fmax(t.rate, t.recent), most = c->config.utilisation;
    struct planner_limits draining = limits_for(c, room_ms, rate, RELIEF_UTILISATION * most, ahead),
                          lasting = limits_for(c, room_ms, rate, most, ahead),
                          late = limits_for(c, room_ms, t.rate, most, ahead),
                          patient = limits_for(c, room_ms, 0, most, ahead);
    if (planner_find(c->planner, &draining, s) || planner_find(c->planner, &lasting, s)) return true;
    if (t.recent > 0 && (endure(c, late, t.recent, s) || planner_find(c->planner, &late, s))) return true;
    return planner_find(c->planner, &patient, s);
}

/* Where nothing is fast enough: the fastest, so that what is queued drains; with
 * little queued, the most accurate of those nearly as fast. */
static bool solve_fastest(struct controller *c, const struct planner_limits *limits, struct planner_solution *s) {
    if (planner_solve(c->planner, limits, s, NULL)) return false;
    if (s->outcome != PLANNER_TOO_SLOW || limits->queued > c->nstages) return true;
    struct planner_limits near = *limits;
    near.latency = (int64_t)(NEARLY * (double)s->value.latency);
    near.bottleneck = (int64_t)(NEARLY * (double)s->value.bottleneck);
    struct planner_solution nearly;
    if (planner_find(c->planner, &near, &nearly)) *s = nearly;
    s->outcome = PLANNER_TOO_SLOW;
    return true;
}

/* The plan for relief, from `share` of the deadline on, as early as can be; false:
 * none can be had. What is left free of the deadline is for the spread, too: pruning
 * does not help against what neither stages nor links account for. */
static bool solve_relief(struct controller *c, double now_s, double share, int ahead, struct planner_solution *s) {
    struct traffic t = traffic_now(c, now_s);
    for (; share < 1; share += SHARE_STEP)
        if (solve_within(c, c->config.slo_ms * share - c->spread.median, t, ahead, s)) return true;
    struct planner_limits limits = limits_for(c, c->config.slo_ms, t.rate, c->config.utilisation, ahead);
    return solve_fastest(c, &limits, s);
}

/* Plans as though the slices were so slow. */
static void suppose(struct controller *c, const double *slowdown) {
    for (int i = 0; i < c->nstages; i++) c->slice[i].slowdown.value = slowdown[i];
    controller_fill_times(c);
}

/* The same where slices have just become slow: how slow is known late, so for
 * the worst of their latest frames, if anything is fast enough for that. */
static bool solve_first_relief(struct controller *c, double now_s, double share, int ahead,
                               struct planner_solution *s) {
    double kept[PLANNER_MAX_SLICES], worst[PLANNER_MAX_SLICES];
    bool any = false;
    for (int i = 0; i < c->nstages; i++) {
        const struct estimate_slowdown *slowdown = &c->slice[i].slowdown;
        kept[i] = worst[i] = slowdown->value;
        if (c->slice[i].heavy > 0 || kept[i] < CONTENDED * slowdown->calm) continue;
        worst[i] = fmax(kept[i], estimate_slowdown_latest(slowdown));
        any |= worst[i] > kept[i];
    }
    if (!any) return false;
    suppose(c, worst);
    bool found = solve_relief(c, now_s, share, ahead, s) && s->outcome == PLANNER_FEASIBLE;
    suppose(c, kept);
    if (found) s->value = value_of(c, s->choice, ahead);
    return found;
}

static void relieve(struct controller *c, double now_s, int ahead, int in_flight) {
    struct planner_value now = value_of(c, c->choice, ahead);
    struct planner_solution s;
    double share = relief_share(c, now_s);
    if (!solve_first_relief(c, now_s, share, ahead, &s) && !solve_relief(c, now_s, share, ahead, &s)) return;
    if (memcmp(s.choice, c->choice, (size_t)c->nstages * sizeof *s.choice) == 0) return;
    bool enough = s.outcome == PLANNER_FEASIBLE, too_costly = now.cost > c->cost_max && s.value.cost < now.cost;
    /* Where nothing is fast enough, go on up for any gain, but sideways or down
     * for a clear one only: estimates waver. */
    double least = s.value.cost > now.cost ? 1 : LEAST_SPEEDUP;
    bool faster = (double)s.value.latency < least * (double)now.latency;
    if (!enough && !faster && !too_costly) return;
    bool undoes = false;
    if (c->restored_s >= 0 && s.value.cost > now.cost) {
        undoes = now_s - c->restored_s < FAILED_WITHIN * patience_s(c);
        c->restored_s = -1;
    }
    note_relief(c, now_s, s.choice, undoes);
    c->excessive = now_s - c->tempered_s > wait_s(c);
    c->relieved_s = now_s;
    c->relieved++;
    switch_to(c, now_s, s.choice, enough ? "deadline at risk" : "no plan is fast enough, the fastest", ahead,
              in_flight);
}

/* Relief is for what the latest frames were at their worst. When those of the new
 * plan have shown how slow the slices are, what relief would choose now is enough;
 * unless it was tried just now, and more relief had to follow. */
static bool temper(struct controller *c, double now_s, int ahead, int in_flight) {
    bool burst = traffic_now(c, now_s).recent > 0;
    if (!c->excessive || c->nrecent < TEMPER_AFTER || ahead > c->nstages || burst) return false;
    c->excessive = false;
    struct planner_solution s;
    if (!solve_relief(c, now_s, RELIEF_SHARE, ahead, &s) || s.outcome != PLANNER_FEASIBLE) return false;
    if (value_of(c, c->choice, ahead).cost - s.value.cost < (int64_t)(LEAST_GAIN * PLANNER_COST_ONE)) return false;
    c->tempered_s = now_s;
    switch_to(c, now_s, s.choice, "less is enough", ahead, in_flight);
    return true;
}

/* A plan to go back to: the frames that came lately, a burst before a silence
 * among them, would have been in time with it, too. The larger the bottleneck,
 * the longer their waits: so the largest that leaves enough of the deadline. The
 * present bottleneck has shown that it keeps up. */
static bool solve_room(struct controller *c, double now_s, int ahead, struct planner_solution *s) {
    double rate = traffic_now(c, now_s).rate;
    double room_ms = c->config.slo_ms * (1 - 1.5 * c->config.margin) - c->spread.value;
    struct planner_limits limits = limits_for(c, room_ms, rate, 0.95 * c->config.utilisation, ahead);
    int64_t proven = value_of(c, c->choice, 0).bottleneck;
    if (limits.bottleneck < proven) limits.bottleneck = proven;
    if (!planner_find(c->planner, &limits, s)) return false;
    if (!c->config.paced || s->value.bottleneck <= proven) return true;
    int64_t deadline = limits.latency, too_large = s->value.bottleneck, small_enough = 0;
    bool found = false;
    for (int i = 0; i < REPLAYS; i++) {
        int64_t most = i ? (too_large + small_enough) / 2 : too_large;
        struct planner_solution other;
        limits.bottleneck = most;
        limits.latency = deadline - (int64_t)(estimate_rate_wait(&c->arrivals, (double)most * 1e-9) * 1e9);
        if (limits.latency > 0 && planner_find(c->planner, &limits, &other)) {
            *s = other;
            found = true;
            if (i == 0) break;
            small_enough = most;
        } else {
            too_large = most;
        }
    }
    return found;
}

static bool room_for_more(struct controller *c, double now_s, int ahead, struct planner_solution *s) {
    struct planner_value now = value_of(c, c->choice, ahead);
    if (ahead > c->nstages) return false; /* first things first */
    if (!solve_room(c, now_s, ahead, s) || s->value.cost >= now.cost) return false;
    return s->value.cost == 0 || (double)(now.cost - s->value.cost) >= LEAST_GAIN * PLANNER_COST_ONE;
}

/* Stages at levels whose profile was never compared with level 0's may look
 * slow for ever. So, after a long quiet while, take them to be undisturbed and
 * see: if they are not, a few samples say so, and the next trial waits longer. */
static void try_out(struct controller *c, double now_s, int ahead, int in_flight) {
    double kept[PLANNER_MAX_SLICES], calm[PLANNER_MAX_SLICES];
    bool any = false;
    for (int i = 0; i < c->nstages; i++) {
        const struct estimate_slowdown *slowdown = &c->slice[i].slowdown;
        bool doubtful = !estimate_slowdown_trusted(slowdown);
        kept[i] = slowdown->value;
        calm[i] = doubtful ? slowdown->calm : kept[i];
        any |= doubtful;
    }
    if (!any) return;
    suppose(c, calm);
    struct planner_solution s;
    bool room = room_for_more(c, now_s, ahead, &s);
    suppose(c, kept);
    if (!room) return;
    for (int i = 0; i < c->nstages; i++) {
        struct estimate_slowdown *slowdown = &c->slice[i].slowdown;
        if (!estimate_slowdown_trusted(slowdown)) estimate_slowdown_calm(slowdown);
    }
    controller_fill_times(c);
    c->restored_s = now_s;
    switch_to(c, now_s, s.choice, "quiet for long, trying more accuracy", ahead, in_flight);
}

/* `idle_s`: since the last decision; without frames there was room, too; and since the disturbance has gone. */
static void restore(struct controller *c, double now_s, double idle_s, int ahead, int in_flight) {
    double patience = patience_s(c);
    struct planner_value now = value_of(c, c->choice, ahead);
    if (c->restored_s >= 0 && now_s - c->restored_s > FAILED_WITHIN * patience) { /* it held */
        c->restored_s = -1;
        if (now.cost == 0) {
            c->undone = 0;
            for (int s = 0; s < c->nstages; s++) forget_worst(&c->slice[s]);
        }
    }
    if (now.cost == 0 || now_s - c->checked_s < patience / 16) return;
    c->checked_s = now_s;
    struct planner_solution s;
    bool room = room_for_more(c, now_s, ahead, &s);
    if (!room && now_s - c->switched_s > TRIAL_AFTER * patience) try_out(c, now_s, ahead, in_flight);
    if (!room) c->room_since = -1;
    else if (c->room_since < 0) c->room_since = fmin(now_s - fmin(idle_s, patience), fmax(c->gone_s, c->switched_s));
    if (!room || now_s - c->room_since < patience || easing(c, now_s)) return;
    c->restored_s = now_s;
    switch_to(c, now_s, s.choice, "room for more accuracy", ahead, in_flight);
}

/* How many of the latest results of the present plan were late. */
static int late_lately(const struct controller *c, double limit_ms) {
    int late = 0;
    for (int i = 0; i < CONTROLLER_RECENT && i < c->nrecent; i++) late += c->recent_ms[i] > limit_ms;
    return late;
}

void controller_follow_exact(struct controller *c, double now_s, int waiting, int in_flight) {
    review(c, now_s);
    int ahead = frames_ahead(c, waiting, in_flight);
    if (ahead > c->nstages) c->crowded_s = now_s;
    double idle_s = c->decided_s >= 0 && waiting <= 1 && in_flight == 0 ? now_s - c->decided_s : 0;
    c->decided_s = now_s;
    double limit_ms = c->config.slo_ms * (1 - c->config.margin / 2);
    struct planner_value now = value_of(c, c->choice, ahead), flowing = value_of(c, c->choice, 0);
    struct traffic traffic = traffic_now(c, now_s);
    double recent = traffic.recent;
    if (recent > 0 && ahead >= QUEUE_BEGUN) /* see endure() */
        now.latency += HORIZON * (now.bottleneck - (int64_t)(1e9 / recent));
    if (expected_ms(c, &now) <= limit_ms && now.cost <= c->cost_max) {
        c->risk_from = -1;
        if (!temper(c, now_s, ahead, in_flight)) restore(c, now_s, idle_s, ahead, in_flight);
        return;
    }
    c->room_since = -1;
    if (c->risk_from < 0) c->risk_from = c->narrivals;
    /* Estimates are steady by themselves; a queue may be a hiccup that passes,
     * unless frames come faster than the slowest stage takes them. */
    bool only_queue = expected_ms(c, &flowing) <= limit_ms && now.cost <= c->cost_max;
    bool grows = (double)flowing.bottleneck * 1e-9 * traffic.rate > c->config.utilisation;
    for (int s = 0; s < c->nstages; s++) grows &= c->slice[s].slowdown.ratio.doubted == 0;
    if (only_queue && recent == 0 && !grows && c->narrivals - c->risk_from < c->config.trigger_frames) return;
    /* Where hardly anybody queues and the stages keep up, frames must show it: what
     * is estimated of times that scatter widely is on the safe side, and after a
     * stall of a few frames all is as before. */
    bool scattered = ahead <= QUEUE_BEGUN && recent == 0 && !grows && now.cost <= c->cost_max;
    bool judged = c->nrecent > 0 || c->switches > 0; /* before the first result the profile is all there is */
    if (scattered && judged && late_lately(c, c->config.slo_ms) < LATE_SHOWN) return;
    relieve(c, now_s, ahead, in_flight);
}

/* ---- bottleneck ---- */

/* The stage that takes longest at present and can still go up, or -1. */
static int slowest_stage(const struct controller *c) {
    const struct planner_problem *p = planner_problem(c->planner);
    int slowest = -1, arriving = 0;
    int64_t most = -1;
    for (int s = 0; s < c->nstages; s++) {
        if (s > 0) {
            int before = c->choice[s - 1].level;
            arriving = before > c->choice[s].link ? before : c->choice[s].link;
        }
        int level = c->choice[s].level;
        int64_t time = p->compute[(s * c->nlevels + level) * c->nlevels + arriving];
        if (time > most && level + 1 < c->nlevels) {
            most = time;
            slowest = s;
        }
    }
    return slowest;
}

/* The published controller prunes the stage that is the bottleneck, from
 * latency and accuracy curves measured beforehand, while the deadline is
 * violated for a sustained while. Inferred here, for the paper leaves them
 * open: a step is one level; "violated" is the mean latency of the results of
 * the present plan (CONTROLLER_RECENT / 2 at least) against the same limit at
 * which `exact` acts; a stage at its last level passes its turn to the next
 * slowest; accuracy comes back one step at a time, on the stage whose step
 * back gains most accuracy among those that the latency curves allow, once
 * the whole window has been clear of the deadline by twice the margin, and
 * restore_ms after the last step. */
void controller_follow_bottleneck(struct controller *c, double now_s, int in_flight) {
    int n = c->nrecent < CONTROLLER_RECENT ? c->nrecent : CONTROLLER_RECENT;
    if (n < CONTROLLER_RECENT / 2) return;
    double mean = 0, worst = 0;
    for (int i = 0; i < n; i++) {
        mean += c->recent_ms[i] / n;
        worst = fmax(worst, c->recent_ms[i]);
    }
    double slo = c->config.slo_ms, margin = c->config.margin;
    struct planner_choice choice[PLANNER_MAX_SLICES];
    memcpy(choice, c->choice, (size_t)c->nstages * sizeof *choice);
    if (mean > slo * (1 - margin / 2)) {
        int stage = slowest_stage(c);
        if (stage < 0) return;
        choice[stage].level++;
        if (value_of(c, choice, 0).cost <= c->cost_max)
            switch_to(c, now_s, choice, "deadline missed, slowest stage up", 0, in_flight);
        return;
    }
    if (n < CONTROLLER_RECENT || worst > slo * (1 - 2 * margin) || now_s - c->switched_s < c->config.restore_ms * 1e-3)
        return;
    int best = -1;
    int64_t least = value_of(c, choice, 0).cost;
    for (int s = 0; s < c->nstages; s++) {
        if (choice[s].level == 0) continue;
        choice[s].level--;
        struct planner_value v = value_of(c, choice, 0);
        if (v.cost < least && expected_ms(c, &v) <= slo * (1 - 1.5 * margin)) {
            least = v.cost;
            best = s;
        }
        choice[s].level++;
    }
    if (best < 0) return;
    choice[best].level--;
    switch_to(c, now_s, choice, "room, a step back", 0, in_flight);
}
