#include "deploy/estimate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool usable(double sample) {
    return isfinite(sample) && sample > 0;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts a copy; 0 < count <= ESTIMATE_SPREAD. share 0.5: the median, the mean
 * of the middle two if they are two. */
static double quantile(const double *values, int count, double share) {
    double sorted[ESTIMATE_SPREAD];
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    double at = share * (count - 1);
    int low = (int)at;
    return low + 1 < count ? sorted[low] + (at - low) * (sorted[low + 1] - sorted[low]) : sorted[low];
}

/* ---- a positive quantity ---- */

void estimate_reset(struct estimate *e, double prior) {
    *e = (struct estimate){.value = prior};
}

/* The latest `count` samples, oldest first. */
static void latest(const struct estimate *e, int count, double *out) {
    for (int i = 0; i < count; i++) out[i] = e->window[(e->next - count + i + ESTIMATE_WINDOW) % ESTIMATE_WINDOW];
}

enum estimate_event estimate_add(struct estimate *e, double sample) {
    if (!usable(sample)) return ESTIMATE_IGNORED;
    if (e->value <= 0) e->value = sample;
    double off = log(sample / e->value);
    if (off * e->evidence < 0 || off == 0) {
        e->evidence = 0;
        e->run = 0;
    }
    e->evidence += fmax(-ESTIMATE_EVIDENCE_MAX, fmin(ESTIMATE_EVIDENCE_MAX, off));
    if (e->run < ESTIMATE_WINDOW) e->run++;
    e->window[e->next] = sample;
    e->next = (e->next + 1) % ESTIMATE_WINDOW;
    if (e->samples < ESTIMATE_WINDOW) e->samples++;

    bool jumped = e->samples > ESTIMATE_MIN && fabs(e->evidence) >= ESTIMATE_EVIDENCE_JUMP;
    if (jumped) e->samples = e->run < e->samples ? e->run : e->samples;
    double recent[ESTIMATE_WINDOW];
    latest(e, e->samples, recent);
    if (e->samples >= ESTIMATE_MIN || jumped) e->value = quantile(recent, e->samples, 0.5);
    if (!jumped) return ESTIMATE_TAKEN;
    e->evidence = 0;
    e->run = 0;
    return ESTIMATE_JUMPED;
}

/* ---- a device's slowdown ---- */

void estimate_slowdown_reset(struct estimate_slowdown *s) {
    memset(s, 0, sizeof *s);
    for (int l = 0; l < PLAN_MAX_LEVELS; l++) s->correction[l] = 1;
    estimate_slowdown_restart(s);
}

void estimate_slowdown_restart(struct estimate_slowdown *s) {
    estimate_reset(&s->ratio, 1);
    s->level = s->before = -1;
    s->at_level = 0;
}

double estimate_slowdown_at(const struct estimate_slowdown *s, int level) {
    return s->ratio.value * s->correction[level];
}

/* The samples after a switch are complete: corrects the level that is not 0. */
static void learn(struct estimate_slowdown *s) {
    double factor = quantile(s->after, ESTIMATE_SETTLED, 0.5) / s->ratio_before;
    int level = s->level > 0 ? s->level : s->before;
    if (s->level == 0) factor = 1 / factor;
    if (factor < 0.5 || factor > 2) return; /* more than a profile errs by: the device did change */
    double correction = s->correction[level] * sqrt(factor);
    s->correction[level] = fmax(0.5, fmin(2, correction));
}

enum estimate_event estimate_slowdown_add(struct estimate_slowdown *s, int level, double measured_ms,
                                          double profiled_ms) {
    if (!usable(measured_ms) || !usable(profiled_ms) || level < 0 || level >= PLAN_MAX_LEVELS) return ESTIMATE_IGNORED;
    if (level != s->level) {
        s->before = s->level >= 0 && s->at_level >= ESTIMATE_SETTLED ? s->level : -1;
        s->ratio_before = s->ratio.value;
        s->level = level;
        s->at_level = 0;
    }
    double ratio = measured_ms / (profiled_ms * s->correction[level]);
    if (!usable(ratio)) return ESTIMATE_IGNORED;
    if (s->at_level < ESTIMATE_SETTLED) s->after[s->at_level] = ratio;
    if (++s->at_level == ESTIMATE_SETTLED && s->before >= 0) learn(s);
    if (s->at_level > ESTIMATE_SETTLED) s->at_level = ESTIMATE_SETTLED; /* enough to count on */
    return estimate_add(&s->ratio, ratio);
}

/* ---- a rate of events ---- */

void estimate_rate_reset(struct estimate_rate *r) {
    r->count = r->next = 0;
}

bool estimate_rate_add(struct estimate_rate *r, double now_s) {
    int last = (r->next + ESTIMATE_EVENTS - 1) % ESTIMATE_EVENTS;
    if (!isfinite(now_s) || (r->count > 0 && now_s < r->at_s[last])) return false;
    r->at_s[r->next] = now_s;
    r->next = (r->next + 1) % ESTIMATE_EVENTS;
    if (r->count < ESTIMATE_EVENTS) r->count++;
    return true;
}

double estimate_rate_per_s(const struct estimate_rate *r, double now_s) {
    if (r->count < ESTIMATE_EVENTS_MIN) return 0;
    int last = (r->next + ESTIMATE_EVENTS - 1) % ESTIMATE_EVENTS;
    double first = r->at_s[(r->next + ESTIMATE_EVENTS - r->count) % ESTIMATE_EVENTS];
    /* the interval under way counts once it is longer than the mean of the others */
    double mean = (r->at_s[last] - first) / (r->count - 1);
    if (now_s - r->at_s[last] > mean) mean = (now_s - first) / r->count;
    return mean > 0 ? 1 / mean : 0;
}

/* ---- a spread ---- */

void estimate_spread_reset(struct estimate_spread *s) {
    s->count = s->next = 0;
    s->value = 0;
}

bool estimate_spread_add(struct estimate_spread *s, double sample) {
    if (!isfinite(sample)) return false;
    s->window[s->next] = sample;
    s->next = (s->next + 1) % ESTIMATE_SPREAD;
    if (s->count < ESTIMATE_SPREAD) s->count++;
    if (s->count >= ESTIMATE_SPREAD / 2) s->value = quantile(s->window, s->count, ESTIMATE_SPREAD_SHARE);
    return true;
}
