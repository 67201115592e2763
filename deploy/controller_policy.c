/* When to switch, and to what. */
#include "deploy/controller_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A restoration that has to be undone within this many waits counts as failed,
 * and the next one waits twice as long, up to 2^UNDONE_MAX times. */
enum { FAILED_WITHIN = 5, UNDONE_MAX = 4, QUEUED_MAX = 10000, TRIAL_AFTER = 15 };
#define LEAST_SHARE 0.4    /* of the deadline, that relief is planned for */
#define LEAST_GAIN 0.0005  /* of accuracy, worth a switch; all of it always is */
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

static double largest_slowdown(const struct controller *c) {
    return c->slice[slowest_device(c)].slowdown.value;
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
}

/* ---- exact ---- */

/* Solves for a deadline of `share` of the SLO. */
static bool solve(struct controller *c, double now_s, double share, double utilisation, int ahead,
                  struct planner_solution *solution) {
    double room_ms = c->config.slo_ms * share - c->spread.value;
    double rate = c->config.paced ? estimate_rate_per_s(&c->arrivals, now_s) : 0;
    struct planner_limits limits = {
        .latency = room_ms > 0 ? (int64_t)(room_ms * 1e6) : 0,
        .bottleneck = rate > 0 ? (int64_t)(utilisation / rate * 1e9) : PLANNER_UNLIMITED,
        .cost = c->cost_max,
        .queued = ahead,
    };
    if (planner_solve(c->planner, &limits, solution, NULL)) return false;
    if (solution->outcome == PLANNER_FEASIBLE || limits.bottleneck == PLANNER_UNLIMITED) return true;
    /* A burst comes faster than any plan can keep up with, yet its end may be
     * in time: what is queued already is counted, so let it queue. */
    struct planner_solution patient;
    limits.bottleneck = PLANNER_UNLIMITED;
    if (planner_solve(c->planner, &limits, &patient, NULL)) return false;
    if (patient.outcome == PLANNER_FEASIBLE) *solution = patient;
    return true;
}

/* Relief that did not last was planned too tightly: each time within a while
 * the next plan keeps more of the deadline free. */
static double relief_share(struct controller *c, double now_s) {
    if (now_s - c->relieved_s > c->config.restore_ms * 1e-3) c->relieved = 0;
    return fmax(LEAST_SHARE, 1 - c->config.margin * (1 + c->relieved));
}

static void relieve(struct controller *c, double now_s, int ahead, int in_flight) {
    struct planner_value now = value_of(c, c->choice, ahead);
    struct planner_solution s;
    if (!solve(c, now_s, relief_share(c, now_s), c->config.utilisation, ahead, &s)) return;
    if (memcmp(s.choice, c->choice, (size_t)c->nstages * sizeof *s.choice) == 0) return;
    bool feasible = s.outcome == PLANNER_FEASIBLE, too_costly = now.cost > c->cost_max && s.value.cost < now.cost;
    /* Where nothing is fast enough, go on up for any gain, but sideways or down
     * for a clear one only: estimates waver. */
    double least = s.value.cost > now.cost ? 1 : LEAST_SPEEDUP;
    bool faster = (double)s.value.latency < least * (double)now.latency;
    if (!feasible && !faster && !too_costly) return;
    double wait_s = c->config.restore_ms * 1e-3;
    if (c->restored_s >= 0 && s.value.cost > now.cost) {
        if (now_s - c->restored_s < FAILED_WITHIN * wait_s * (1 << c->undone)) {
            if (c->undone < UNDONE_MAX) c->undone++;
            c->undone_slowdown = largest_slowdown(c);
        }
        c->restored_s = -1;
    }
    c->relieved_s = now_s;
    c->relieved++;
    switch_to(c, now_s, s.choice, feasible ? "deadline at risk" : "no plan is fast enough, the fastest", ahead,
              in_flight);
}

static bool room_for_more(struct controller *c, double now_s, int ahead, struct planner_solution *s) {
    struct planner_value now = value_of(c, c->choice, ahead);
    if (ahead > c->nstages) return false; /* first things first */
    if (!solve(c, now_s, 1 - 1.5 * c->config.margin, 0.95 * c->config.utilisation, ahead, s)) return false;
    if (s->outcome != PLANNER_FEASIBLE || s->value.cost >= now.cost) return false;
    return s->value.cost == 0 || (double)(now.cost - s->value.cost) >= LEAST_GAIN * PLANNER_COST_ONE;
}

/* Stages at levels whose profile was never compared with level 0's may look
 * slow for ever. So, after a long quiet while, take them to be undisturbed and
 * see: if they are not, a few samples say so, and the next trial waits longer. */
static void try_out(struct controller *c, double now_s, int ahead, int in_flight) {
    double kept[PLANNER_MAX_SLICES];
    bool doubtful[PLANNER_MAX_SLICES], any = false;
    for (int i = 0; i < c->nstages; i++) {
        struct estimate_slowdown *slowdown = &c->slice[i].slowdown;
        kept[i] = slowdown->value;
        doubtful[i] = !estimate_slowdown_trusted(slowdown);
        if (!doubtful[i]) continue;
        any = true;
        slowdown->value = slowdown->calm;
    }
    if (!any) return;
    controller_fill_times(c);
    struct planner_solution s;
    bool room = room_for_more(c, now_s, ahead, &s);
    for (int i = 0; i < c->nstages; i++) {
        if (room && doubtful[i]) estimate_slowdown_calm(&c->slice[i].slowdown);
        else c->slice[i].slowdown.value = kept[i];
    }
    controller_fill_times(c);
    if (!room) return;
    switch_to(c, now_s, s.choice, "quiet for long, trying more accuracy", ahead, in_flight);
    c->restored_s = now_s;
}

/* `idle_s`: since the last decision; without frames there was room, too. */
static void restore(struct controller *c, double now_s, double idle_s, int ahead, int in_flight) {
    /* what was in the way is gone, or less by half: waiting longer has lost its reason */
    if (c->undone > 0 && largest_slowdown(c) < 0.5 * c->undone_slowdown) c->undone = 0;
    double wait_s = c->config.restore_ms * 1e-3 * (1 << c->undone);
    if (c->restored_s >= 0 && now_s - c->restored_s > FAILED_WITHIN * wait_s) {
        c->restored_s = -1; /* it held */
        c->undone = 0;
    }
    struct planner_value now = value_of(c, c->choice, ahead);
    if (now.cost == 0 || now_s - c->checked_s < wait_s / 16) return;
    c->checked_s = now_s;
    struct planner_solution s;
    bool room = room_for_more(c, now_s, ahead, &s);
    if (!room && now_s - c->switched_s > TRIAL_AFTER * wait_s) try_out(c, now_s, ahead, in_flight);
    if (!room) c->room_since = -1;
    else if (c->room_since < 0) c->room_since = now_s - fmin(idle_s, wait_s);
    if (!room || now_s - c->room_since < wait_s) return;
    switch_to(c, now_s, s.choice, "room for more accuracy", ahead, in_flight);
    c->restored_s = now_s;
}

void controller_follow_exact(struct controller *c, double now_s, int waiting, int in_flight) {
    int ahead = frames_ahead(c, waiting, in_flight);
    double idle_s = c->decided_s >= 0 && waiting <= 1 && in_flight == 0 ? now_s - c->decided_s : 0;
    c->decided_s = now_s;
    double limit_ms = c->config.slo_ms * (1 - c->config.margin / 2);
    struct planner_value now = value_of(c, c->choice, ahead), flowing = value_of(c, c->choice, 0);
    if (expected_ms(c, &now) <= limit_ms && now.cost <= c->cost_max) {
        c->risk_from = -1;
        restore(c, now_s, idle_s, ahead, in_flight);
        return;
    }
    c->room_since = -1;
    if (c->risk_from < 0) c->risk_from = c->narrivals;
    /* Estimates are steady by themselves; a queue may be a hiccup that passes. */
    bool only_queue = expected_ms(c, &flowing) <= limit_ms && now.cost <= c->cost_max;
    if (only_queue && c->narrivals - c->risk_from < c->config.trigger_frames) return;
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
