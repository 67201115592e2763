/* Estimates of what drifts, jumps and is measured under noise: how much slower
 * a device is than profiled, what a byte takes on a link, how fast frames come.
 *
 * Samples that are not finite or not above zero are ignored: every function
 * that takes one says whether it took it. Nothing allocates. */
#ifndef ESPALIER_ESTIMATE_H
#define ESPALIER_ESTIMATE_H

#include "common/plan.h"

#include <stdbool.h>

/* ---- a positive quantity -------------------------------------------------------
 *
 * The median of the latest samples, so that single outliers do nothing. A step
 * would take half a window to show; so consecutive samples on the same side
 * collect evidence, |log(sample / value)| each but at most
 * ESTIMATE_EVIDENCE_MAX, and when it reaches ESTIMATE_EVIDENCE_JUMP the value
 * jumps to the median of that run: after 3 samples for a factor of 1.9 or
 * more, 5 for 1.5; two in a row may be a hiccup. A prior of 0 is none: the first sample is it. */
enum { ESTIMATE_WINDOW = 9 };
#define ESTIMATE_EVIDENCE_MAX 0.65
#define ESTIMATE_EVIDENCE_JUMP 1.9

struct estimate {
    double value; /* the prior until ESTIMATE_MIN samples have come */
    int samples;  /* since the last reset or jump, at most ESTIMATE_WINDOW */
    double window[ESTIMATE_WINDOW];
    int next, run; /* run: the latest samples on one side of the value */
    double evidence; /* of the run; negative: below */
    double doubted;  /* the value before it was hastened, until the next sample confirms that or not; 0: it is not */
};
enum { ESTIMATE_MIN = 3 };
enum estimate_event { ESTIMATE_IGNORED, ESTIMATE_TAKEN, ESTIMATE_JUMPED };

void estimate_reset(struct estimate *estimate, double prior);
enum estimate_event estimate_add(struct estimate *estimate, double sample);
/* Believes the latest two samples, if both are far above the value; the next
 * one may undo it. */
#define ESTIMATE_HASTY 2.2
bool estimate_hasten(struct estimate *estimate);

/* ---- a mean ----------------------------------------------------------------------
 *
 * What a queue feels is the mean, not the median: a process that is now and
 * then off its core for ten times as long as a frame takes has the median of
 * an undisturbed one. Over the samples of the latest second, at least
 * ESTIMATE_MEAN_MIN and at most ESTIMATE_MEAN of them, without the largest of
 * every 32 begun: a single hiccup does not count. */
enum { ESTIMATE_MEAN = 128, ESTIMATE_MEAN_MIN = 16 };
#define ESTIMATE_MEAN_S 1.0

struct estimate_mean {
    double window[ESTIMATE_MEAN], at_s[ESTIMATE_MEAN];
    int count, next;
};

void estimate_mean_reset(struct estimate_mean *mean);
bool estimate_mean_add(struct estimate_mean *mean, double now_s, double sample);
/* 0 before ESTIMATE_MEAN_MIN samples. */
double estimate_mean_value(const struct estimate_mean *mean);

/* ---- a device's slowdown --------------------------------------------------------
 *
 * Measured over profiled time, for whatever level is in use. A profile may be
 * wrong by a factor that differs from level to level (it was measured in a
 * hot loop, or on a busy device). What a switch of level shows tells: a
 * device does not change its speed because its level does, so the ratios just
 * before and after a switch should agree, and what they differ by goes into
 * the level's correction: all of it the first time, half of it (of the
 * logarithm) later. Level 0 is the reference, and levels are trusted that were
 * compared with a trusted one. */
enum { ESTIMATE_SETTLED = 5 }; /* samples needed on either side of a switch */

struct estimate_slowdown {
    struct estimate ratio;
    struct estimate_mean mean;
    double value; /* the larger of ratio and mean */
    double correction[PLAN_MAX_LEVELS]; /* of the profile, per own level; times `value`: what the level takes over that */
    bool trusted[PLAN_MAX_LEVELS];
    double calm;         /* least mean (before there is one, ratio), settled at a trusted level: the device
                          * undisturbed; 1 at first */
    bool calm_known;
    int level, at_level; /* the latest sample's, -1: none; samples since it changed */
    int reference;       /* the level settled at last, -1: none; */
    double reference_ratio;
    int reference_age;   /* samples since then */
    double after[ESTIMATE_SETTLED];
};

void estimate_slowdown_reset(struct estimate_slowdown *slowdown);
/* Forgets the speed, keeps the corrections: the same device, started anew. */
void estimate_slowdown_restart(struct estimate_slowdown *slowdown);
enum estimate_event estimate_slowdown_add(struct estimate_slowdown *slowdown, double now_s, int level,
                                          double measured_ms, double profiled_ms);
/* For when something else, a queue in front of the device, says the same. */
bool estimate_slowdown_hasten(struct estimate_slowdown *slowdown);
/* The largest of the latest ESTIMATE_MIN samples, 0 before there are so many: a disturbance that has just begun. */
double estimate_slowdown_latest(const struct estimate_slowdown *slowdown);
/* Whether what is measured at the present level says anything about others. */
bool estimate_slowdown_trusted(const struct estimate_slowdown *slowdown);
/* Takes the device to be undisturbed, until samples say otherwise. */
void estimate_slowdown_calm(struct estimate_slowdown *slowdown);

/* ---- a rate of events ------------------------------------------------------------
 *
 * Events per second over the latest ESTIMATE_EVENTS of them, up to now: a
 * silence counts. */
enum { ESTIMATE_EVENTS = 64, ESTIMATE_EVENTS_MIN = 8, ESTIMATE_RECENT = 8, ESTIMATE_BURST = 4 };
#define ESTIMATE_SILENCE 10 /* times the mean of the intervals behind it */

struct estimate_rate {
    double at_s[ESTIMATE_EVENTS];
    int count, next;
};

void estimate_rate_reset(struct estimate_rate *rate);
/* False: the time is not finite or lies before the latest event. */
bool estimate_rate_add(struct estimate_rate *rate, double now_s);
/* 0 before ESTIMATE_EVENTS_MIN events. */
double estimate_rate_per_s(const struct estimate_rate *rate, double now_s);
/* Likewise over the latest ESTIMATE_RECENT + 1, or those behind a silence,
 * ESTIMATE_BURST at least: a burst's own rate, if less sure. */
double estimate_rate_recent(const struct estimate_rate *rate, double now_s);
/* What the latest events would have had to wait, had a server taken `service_s`
 * for each, one after the other: all but the longest ESTIMATE_WAIT_SHARE. */
#define ESTIMATE_WAIT_SHARE 0.05
double estimate_rate_wait(const struct estimate_rate *rate, double service_s);

/* ---- a spread ----------------------------------------------------------------------
 *
 * A high quantile (ESTIMATE_SPREAD_SHARE) of the latest samples, which may be
 * of any sign, and their median; 0 until half a window has come. */
enum { ESTIMATE_SPREAD = 40 };
#define ESTIMATE_SPREAD_SHARE 0.85

struct estimate_spread {
    double window[ESTIMATE_SPREAD];
    int count, next;
    double value, median;
};

void estimate_spread_reset(struct estimate_spread *spread);
bool estimate_spread_add(struct estimate_spread *spread, double sample);

/* ---- an ease -----------------------------------------------------------------------
 *
 * Whether something has become clearly smaller, without knowing how small it is
 * undisturbed: most of the latest samples (ESTIMATE_SPREAD_SHARE) are below
 * ESTIMATE_EASED of the largest median that there was at the same level; or at the
 * level before, if that was a narrower one: at a fuller one there is more of it. */
enum { ESTIMATE_EASE = 40 };
#define ESTIMATE_EASED 0.65

struct estimate_ease {
    double window[ESTIMATE_EASE]; /* at the present level */
    int level, count, next;
    double worst[PLAN_MAX_LEVELS]; /* the largest median at each; 0: there was none */
    bool eased;
    double since_s; /* since when */
};

void estimate_ease_reset(struct estimate_ease *ease);
/* `size`: of the window, at most ESTIMATE_EASE; the same each time. */
bool estimate_ease_add(struct estimate_ease *ease, int size, double now_s, int level, double sample);
/* For how long it has been so, seconds; 0: it is not. */
double estimate_ease_held(const struct estimate_ease *ease, double now_s);

#endif
