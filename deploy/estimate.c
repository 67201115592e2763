#include "deploy/estimate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A profile is not wrong by more than this between two levels. */
#define LEARN_MAX 2.5

static bool usable(double sample) {
    return isfinite(sample) && sample > 0;
}

/* Sorts a copy; 0 < count <= ESTIMATE_SPREAD. share 0.5: the median, the mean
 * of the middle two if they are two. */
static double quantile(const double *values, int count, double share) {
    double sorted[ESTIMATE_SPREAD];
    for (int i = 0; i < count; i++) { /* so few are sorted fastest by insertion */
        int k = i;
        for (; k > 0 && sorted[k - 1] > values[i]; k--) sorted[k] = sorted[k - 1];
        sorted[k] = values[i];
    }
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
    if (e->doubted > 0 && sample * sample < e->doubted * e->value) estimate_reset(e, e->doubted);
    e->doubted = 0;
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

bool estimate_hasten(struct estimate *e) {
    if (e->samples < ESTIMATE_MIN || e->run < 2) return false;
    double two[2];
    latest(e, 2, two);
    double least = fmin(two[0], two[1]);
    if (least < ESTIMATE_HASTY * e->value) return false;
    e->doubted = e->value;
    e->value = least;
    e->samples = 2;
    e->evidence = 0;
    e->run = 0;
    return true;
}

/* ---- a mean ---- */

void estimate_mean_reset(struct estimate_mean *m) {
    m->count = m->next = 0;
}

bool estimate_mean_add(struct estimate_mean *m, double now_s, double sample) {
    if (!usable(sample) || !isfinite(now_s)) return false;
    m->window[m->next] = sample;
    m->at_s[m->next] = now_s;
    m->next = (m->next + 1) % ESTIMATE_MEAN;
    if (m->count < ESTIMATE_MEAN) m->count++;
    return true;
}

double estimate_mean_value(const struct estimate_mean *m) {
    if (m->count < ESTIMATE_MEAN_MIN) return 0;
    enum { DROPPED_MAX = ESTIMATE_MEAN / 32 };
    double largest[DROPPED_MAX] = {0}, sum = 0, now_s = m->at_s[(m->next + ESTIMATE_MEAN - 1) % ESTIMATE_MEAN];
    int n = 0;
    for (; n < m->count; n++) {
        int i = (m->next + ESTIMATE_MEAN - 1 - n) % ESTIMATE_MEAN;
        if (n >= ESTIMATE_MEAN_MIN && now_s - m->at_s[i] > ESTIMATE_MEAN_S) break;
        double sample = m->window[i];
        sum += sample;
        for (int j = 0; j < DROPPED_MAX; j++)
            if (sample > largest[j]) {
                double smaller = largest[j];
                largest[j] = sample;
                sample = smaller;
            }
    }
    int dropped = (n + 31) / 32;
    for (int j = 0; j < dropped; j++) sum -= largest[j];
    return fmax(0, sum) / (n - dropped);
}

/* ---- a device's slowdown ---- */

void estimate_slowdown_reset(struct estimate_slowdown *s) {
    memset(s, 0, sizeof *s);
    for (int l = 0; l < PLAN_MAX_LEVELS; l++) s->correction[l] = 1;
    s->trusted[0] = true;
    s->calm = 1;
    estimate_slowdown_restart(s);
}

/* Forgets samples of the speed, and takes it to be undisturbed. */
static void assume_calm(struct estimate_slowdown *s) {
    s->value = s->calm;
    estimate_reset(&s->ratio, s->value);
    estimate_mean_reset(&s->mean);
}

void estimate_slowdown_restart(struct estimate_slowdown *s) {
    assume_calm(s);
    s->level = s->reference = -1;
    s->at_level = 0;
}

double estimate_slowdown_latest(const struct estimate_slowdown *s) {
    double recent[ESTIMATE_MIN], most = 0;
    if (s->ratio.samples < ESTIMATE_MIN) return 0;
    latest(&s->ratio, ESTIMATE_MIN, recent);
    for (int i = 0; i < ESTIMATE_MIN; i++) most = fmax(most, recent[i]);
    return most;
}

bool estimate_slowdown_trusted(const struct estimate_slowdown *s) {
    return s->level < 0 || s->trusted[s->level];
}

bool estimate_slowdown_hasten(struct estimate_slowdown *s) {
    if (!estimate_hasten(&s->ratio)) return false;
    s->value = fmax(s->ratio.value, estimate_mean_value(&s->mean));
    return true;
}

void estimate_slowdown_calm(struct estimate_slowdown *s) {
    assume_calm(s);
    s->reference = -1;
}

/* Compares the present level with the reference: corrects whichever of them is
 * not trusted; if both are, the one that is not level 0. */
static void learn(struct estimate_slowdown *s) {
    double factor = quantile(s->after, ESTIMATE_SETTLED, 0.5) / s->reference_ratio;
    int level = s->level;
    if (!s->trusted[s->reference] && !s->trusted[level]) return;
    if (level == 0 || !s->trusted[s->reference]) {
        factor = 1 / factor;
        level = s->reference;
    }
    if (factor < 1 / LEARN_MAX || factor > LEARN_MAX) return; /* more than a profile errs by: the device did change */
    double correction = s->correction[level] * (s->trusted[level] ? sqrt(factor) : factor);
    s->correction[level] = fmax(1 / LEARN_MAX, fmin(LEARN_MAX, correction));
    s->trusted[level] = true;
}

/* A level was left: it becomes the reference if it was settled at; if it was
 * not, the one before remains, for as long as it is fresh. */
static void leave(struct estimate_slowdown *s) {
    if (s->level >= 0 && s->at_level >= ESTIMATE_SETTLED) {
        s->reference = s->level;
        s->reference_ratio = s->ratio.value;
        s->reference_age = 0;
    } else if (s->reference_age > 2 * ESTIMATE_SETTLED) {
        s->reference = -1;
    }
}

enum estimate_event estimate_slowdown_add(struct estimate_slowdown *s, double now_s, int level, double measured_ms,
                                          double profiled_ms) {
    if (!usable(measured_ms) || !usable(profiled_ms) || level < 0 || level >= PLAN_MAX_LEVELS) return ESTIMATE_IGNORED;
    double ratio = measured_ms / (profiled_ms * s->correction[level]);
    if (!usable(ratio)) return ESTIMATE_IGNORED;
    if (level != s->level) {
        leave(s);
        s->level = level;
        s->at_level = 0;
        estimate_mean_reset(&s->mean); /* what waiting adds is not a ratio that holds at another level */
    }
    s->reference_age++;
    if (s->at_level < ESTIMATE_SETTLED) {
        s->after[s->at_level++] = ratio;
        if (s->at_level == ESTIMATE_SETTLED && s->reference >= 0 && s->reference != level) learn(s);
    }
    enum estimate_event event = estimate_add(&s->ratio, ratio);
    estimate_mean_add(&s->mean, now_s, ratio);
    double mean = estimate_mean_value(&s->mean), steady = mean > 0 ? mean : s->ratio.value;
    s->value = fmax(s->ratio.value, mean);
    bool settled = s->at_level == ESTIMATE_SETTLED && s->ratio.samples >= ESTIMATE_SETTLED;
    if (settled && s->trusted[level] && (!s->calm_known || steady < s->calm)) {
        s->calm = steady;
        s->calm_known = true;
    }
    return event;
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

/* Over the latest `count` events. */
static double rate_over(const struct estimate_rate *r, double now_s, int count) {
    int last = (r->next + ESTIMATE_EVENTS - 1) % ESTIMATE_EVENTS;
    double first = r->at_s[(r->next + ESTIMATE_EVENTS - count) % ESTIMATE_EVENTS];
    /* the interval under way counts once it is longer than the mean of the others */
    double mean = (r->at_s[last] - first) / (count - 1);
    if (now_s - r->at_s[last] > mean) mean = (now_s - first) / count;
    return mean > 0 ? 1 / mean : 0;
}

double estimate_rate_per_s(const struct estimate_rate *r, double now_s) {
    return r->count < ESTIMATE_EVENTS_MIN ? 0 : rate_over(r, now_s, r->count);
}

/* The interval in front of the latest `count` events. */
static double interval_before(const struct estimate_rate *r, int count) {
    int first = (r->next + 2 * ESTIMATE_EVENTS - count) % ESTIMATE_EVENTS;
    return r->at_s[first] - r->at_s[(first + ESTIMATE_EVENTS - 1) % ESTIMATE_EVENTS];
}

double estimate_rate_recent(const struct estimate_rate *r, double now_s) {
    int count = ESTIMATE_BURST;
    if (r->count <= count) return 0;
    while (count <= ESTIMATE_RECENT && r->count > count &&
           interval_before(r, count) < ESTIMATE_SILENCE / rate_over(r, now_s, count))
        count++;
    bool silence = count <= ESTIMATE_RECENT && r->count > count;
    return count > ESTIMATE_RECENT || silence ? rate_over(r, now_s, count) : 0;
}

double estimate_rate_wait(const struct estimate_rate *r, double service_s) {
    double longest[ESTIMATE_EVENTS], wait = 0, last = 0;
    for (int i = 0; i < r->count; i++) { /* longest first */
        double at = r->at_s[(r->next + ESTIMATE_EVENTS - r->count + i) % ESTIMATE_EVENTS];
        wait = i ? fmax(0, wait + service_s - (at - last)) : 0;
        last = at;
        int k = i;
        for (; k > 0 && longest[k - 1] < wait; k--) longest[k] = longest[k - 1];
        longest[k] = wait;
    }
    return r->count ? longest[(int)(ESTIMATE_WAIT_SHARE * r->count)] : 0;
}

/* ---- a spread ---- */

void estimate_spread_reset(struct estimate_spread *s) {
    s->count = s->next = 0;
    s->value = s->median = 0;
}

bool estimate_spread_add(struct estimate_spread *s, double sample) {
    if (!isfinite(sample)) return false;
    s->window[s->next] = sample;
    s->next = (s->next + 1) % ESTIMATE_SPREAD;
    if (s->count < ESTIMATE_SPREAD) s->count++;
    if (s->count < ESTIMATE_SPREAD / 2) return true;
    s->value = quantile(s->window, s->count, ESTIMATE_SPREAD_SHARE);
    s->median = quantile(s->window, s->count, 0.5);
    return true;
}

/* ---- an ease ---- */

void estimate_ease_reset(struct estimate_ease *e) {
    *e = (struct estimate_ease){0};
}

bool estimate_ease_add(struct estimate_ease *e, int size, double now_s, int level, double sample) {
    if (!(sample >= 0 && isfinite(sample)) || !isfinite(now_s) || level < 0 || level >= PLAN_MAX_LEVELS) return false;
    if (level != e->level) {
        if (level < e->level) e->worst[level] = fmax(e->worst[level], e->worst[e->level]);
        e->level = level;
        e->count = e->next = 0;
        e->eased = false;
    }
    e->window[e->next] = sample;
    e->next = (e->next + 1) % size;
    if (e->count < size) e->count++;
    if (e->count < size) return true;
    double *worst = &e->worst[level];
    *worst = fmax(*worst, quantile(e->window, size, 0.5));
    bool eased = quantile(e->window, size, ESTIMATE_SPREAD_SHARE) < ESTIMATE_EASED * *worst;
    if (eased && !e->eased) e->since_s = now_s;
    e->eased = eased;
    return true;
}

double estimate_ease_held(const struct estimate_ease *e, double now_s) {
    return e->eased ? now_s - e->since_s : 0;
}
