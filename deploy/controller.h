/* The controller: holds the deadline of a pipeline at the least loss of
 * accuracy, by choosing the plan while frames stream.
 *
 * It is told of arrivals, of what each stage measured and of results, and is
 * asked for the plan. Time is passed in (seconds of any monotonic clock that
 * never runs back), so the runner and the simulator drive the same code.
 *
 * Policies:
 *   static      the start plan, always.
 *   bottleneck  the published form (arXiv 2503.03070): when the deadline is
 *               threatened, the level of the slowest stage goes up one step;
 *               when there is room, down again. The baseline in every table.
 *   exact       the planner's choice (deploy/planner.h) on live estimates.
 *
 * It acts on sustained change, not on noise: estimates are medians that follow
 * a step within a few samples (deploy/estimate.h); a queue must persist for a
 * few frames, unless it is known why there is one; times that scatter must make
 * frames late. A switch back to more accuracy needs a larger margin, for a
 * while, and waits longer after each one that had to be undone; the frames that
 * came lately, bursts among them, must have been in time with it, too. Relief,
 * planned for the worst of what was seen, is looked at once more when its own
 * frames have come. Time on a link that waiting for a shared core explains is
 * not held against the link.
 *
 * Not thread-safe. Nothing is allocated after creation. Reports with numbers
 * that cannot be (not finite, negative, unknown stage or level) are ignored
 * and counted. */
#ifndef ESPALIER_CONTROLLER_H
#define ESPALIER_CONTROLLER_H

#include "common/accuracy.h"
#include "common/err.h"
#include "common/model.h"
#include "common/plan.h"
#include "common/profile.h"

#include <stdbool.h>
#include <stddef.h>

struct controller;

enum controller_policy { CONTROLLER_STATIC, CONTROLLER_BOTTLENECK, CONTROLLER_EXACT, CONTROLLER_POLICIES };
/* "static", "bottleneck", "exact" */
const char *controller_policy_name(enum controller_policy policy);
/* CONTROLLER_POLICIES if there is none of that name. */
enum controller_policy controller_policy_parse(const char *name);

struct controller_config {
    enum controller_policy policy;
    double slo_ms;       /* the deadline of a frame, from due to stored */
    double min_accuracy; /* never plan below this expected accuracy (a share) */
    double margin;       /* share of the SLO that a new plan keeps free. Act when half of it is gone; restore
                          * accuracy only where half as much again stays free */
    double utilisation;  /* share of the time between frames that a stage or link may be busy */
    bool paced;          /* frames come at their own rate; false: as fast as they are accepted, then no
                          * stage can be slower than frames arrive, and utilisation is not looked at */
    int trigger_frames;  /* frames for which a queue must threaten the deadline before a switch */
    double restore_ms;   /* how long there must be room before accuracy is restored */
    unsigned codecs;     /* bit set of enum codec that links may use. Of those, only what the device's profile
                          * has timed, and 8 and 4 bits only where the accuracy model has measured them */
    bool link_levels;    /* links may have a level of their own, where the accuracy model has measured it */
    const struct plan *start; /* plan to start with (copied), NULL: level 0, float32 links; its own codecs and
                               * link levels are always allowed */
};
struct controller_config controller_defaults(void);

/* One slice on one device, and the link that enters it. */
struct controller_stage {
    int first_block, nblocks;      /* stages cover all blocks, in order */
    const struct profile *profile; /* of the device, all blocks of the model; borrowed until creation ends */
    double bytes_per_s;            /* of the link, before it was measured; 0: not known, taken as free */
    double latency_ms;             /* of the link */
    double servers;                /* workers that share its frames, in those of the profile's speed; 0: one */
};

/* The map that crosses into a stage: [c, hw] planar f32. */
struct controller_map {
    int c, hw;
};
/* The maps of each stage at each arriving level, maps[stage * nlevels + level];
 * for stage 0 the frame itself, at every level. */
enum status controller_maps(const struct model *model, const struct controller_stage *stages, int nstages,
                            struct controller_map *maps, struct err *err) MUST_CHECK;

/* `accuracy` is borrowed until creation ends; NULL: not measured, then every
 * step of level costs the same, and min_accuracy must be 0. `maps` as controller_maps() gives them. */
enum status controller_create(struct controller **controller, const struct controller_config *config,
                              const struct controller_stage *stages, int nstages, const struct accuracy *accuracy,
                              int nblocks, int nlevels, const struct controller_map *maps,
                              struct err *err) MUST_CHECK;
void controller_destroy(struct controller **controller);

/* A frame is due (and counts as waiting from now on). */
void controller_arrival(struct controller *controller, double now_s);

/* What a stage measured for one frame. Those of a frame are told together, with
 * the time at which its result came. */
struct controller_report {
    int stage;
    int level, incoming; /* as used: own level, level of what arrived */
    double compute_ms;   /* the engine's run, without coding */
    double decode_ms;    /* of what arrived (stage 0: of the image); 0: not known */
    double encode_ms;    /* of what leaves */
    double queue_ms;     /* in the stage's own queue before it */
    enum codec codec;    /* of what arrived */
    size_t bytes;        /* that came over the link into the stage; 0: not known */
    double link_ms;      /* from the first of them sent to the last received; 0: not known */
};
void controller_report(struct controller *controller, double now_s, const struct controller_report *report);

/* What a frame of `bytes` took the link into a stage, known before any report:
 * the link has become faster or slower. */
void controller_link(struct controller *controller, int stage, size_t bytes, double link_ms);

/* For how long altogether, in seconds, others have kept a stage's device from
 * computing when it was ready to: told now and then. */
void controller_contention(struct controller *controller, int stage, double now_s, double total_s);

/* A result is stored. */
struct controller_outcome {
    double latency_ms; /* from due to stored */
    double waited_ms;  /* of it, before the frame was sent to stage 0 */
    double queue_ms;   /* of it, in the queues of stages, all together */
};
void controller_result(struct controller *controller, double now_s, const struct controller_outcome *outcome);

/* A worker is new or came back: what was known of its speed and link is void. */
void controller_restarted(struct controller *controller, int stage);
/* The delay of the link into a stage, as measured by small messages. */
void controller_link_latency(struct controller *controller, int stage, double latency_ms);

struct controller_decision {
    const struct plan *plan; /* owned by the controller, valid until the next decision */
    bool changed;            /* since the last decision */
    const char *reason;      /* one line for the log: why it changed, or "" */
    double accuracy;         /* expected, of this plan */
    double latency_ms;       /* expected, of a frame that arrives now */
};
/* To be asked before a frame is sent; the plan is the one to send it with.
 * `waiting`: frames due but not sent, this one included; `in_flight`: sent and
 * without a result. */
struct controller_decision controller_decide(struct controller *controller, double now_s, int waiting, int in_flight);

/* The best plan for what is known now, whatever the present one is: the most
 * accurate one with which a frame behind `queued` others is expected within
 * `latency_ms`, or, if there is none (0: surely), the one with which it comes
 * first above min_accuracy. Nobody queued: the least latency; CONTROLLER_MANY: the most
 * throughput. Writes to `plan`, of the controller's number of blocks. */
enum { CONTROLLER_MANY = 100000 };
struct controller_optimum {
    double sum_ms, bottleneck_ms; /* of a frame with nobody in front; of the slowest stage or link */
    double accuracy;
};
enum status controller_optimum(struct controller *controller, double latency_ms, int queued, struct plan *plan,
                               struct controller_optimum *expected, struct err *err) MUST_CHECK;

/* What it believes, for logs and displays. */
double controller_slowdown(const struct controller *controller, int stage); /* 1: as profiled */
double controller_link_rate(const struct controller *controller, int stage); /* bytes/s; 0: not known */
double controller_arrival_rate(const struct controller *controller, double now_s); /* frames/s; 0: not known */
int controller_switches(const struct controller *controller);
int controller_ignored(const struct controller *controller); /* impossible reports */

#endif
