/* The controller's state, shared by its files: controller.c (what goes in and
 * out), controller_problem.c (the planner's numbers from profiles and
 * estimates), controller_policy.c (when to switch, and to what). */
#ifndef ESPALIER_CONTROLLER_INTERNAL_H
#define ESPALIER_CONTROLLER_INTERNAL_H

#include "deploy/controller.h"
#include "deploy/estimate.h"
#include "deploy/planner.h"

enum { CONTROLLER_RECENT = 8 };

struct controller_slice {
    int first_block, nblocks;
    double *profile_ms; /* [own][incoming] of all its blocks together */
    double encode_ns[CODEC_COUNT], decode_ns[CODEC_COUNT];
    struct controller_map map[PLAN_MAX_LEVELS]; /* by crossing level */
    struct estimate_slowdown slowdown;
    double bytes_per_s; /* of the link, as configured */
    double latency_ms;
    struct estimate ns_per_byte;
    double least_ns; /* a byte, of the latest frames that hardly tell, */
    int nunsure;     /* so many */
    struct estimate packing[CODEC_COUNT]; /* bytes over those of the raw form */
    struct estimate image_bytes, image_ms; /* stage 0: a frame as it comes, and decoding it */
    double beside_ms; /* that a frame takes the undisturbed device beside what it reports: see note_interval() */
    /* While no queue drains, and since the slice was last undisturbed: */
    struct estimate_ease computing;  /* over the profiled time */
    struct estimate_ease contention; /* seconds a second that others kept the device from computing */
    double contention_s, told_s;     /* the latest total of that, and when it was; told_s -1: none */
    double heavy;      /* slowdown at which it was relieved, taken to hold for fuller levels; 0: none */
    double relieved_s; /* when it was first, */
    double heavy_s;    /* and last */
};

struct controller {
    struct controller_config config; /* start is not kept */
    int nstages, nlevels, nblocks;
    struct controller_slice *slice;
    double *profiles; /* storage of profile_ms */
    double base;      /* accuracy of level 0 */
    int64_t cost_max;
    struct planner *planner;
    bool stale; /* the planner's times are older than the estimates */

    struct planner_choice choice[PLANNER_MAX_SLICES];
    struct plan *plan;
    bool changed;
    char reason[480];
    int switches, ignored;

    struct estimate_rate arrivals;
    /* The latest frames' reports, see note_interval(): */
    double reported_s; /* when the one before came, -1: none */
    int waited_last;   /* the last stage at which it waited, -1: none */
    int waited;        /* likewise of the present one, as far as told, */
    double busy_ms;    /* and how long that stage says it was busy with it */
    struct estimate_spread spread; /* of latency beyond the predicted, queues left out; ms */
    int64_t narrivals;
    int old_plan_results; /* to come of frames sent before the latest switch */
    double recent_ms[CONTROLLER_RECENT]; /* latencies of the present plan, a ring */
    int nrecent;          /* how many there were */
    double switched_s;    /* the latest switch */

    /* exact */
    int64_t risk_from;  /* narrivals when the deadline became threatened, -1: it is not */
    double relieved_s;  /* the latest switch for the deadline's sake, */
    int relieved;       /* and how many there were in a row */
    bool excessive;     /* it may be more than it takes: not looked at since */
    double tempered_s;  /* when one was last found to be */
    double decided_s;   /* the latest decision, -1: none */
    double gone_s;      /* since when the disturbance that the present plan is for has looked gone, INFINITY: it does not */
    double room_since;  /* since when accuracy could be restored, -1: it cannot */
    double restored_s;  /* the latest restoration, -1: none */
    double checked_s;   /* when room was last looked for */
    double crowded_s; /* when frames last had several others to wait for */
    int undone;         /* restorations undone in a row */
};

/* Costs and masks of the planner's problem, once. */
void controller_fill_costs(struct controller *controller, const struct accuracy *accuracy, const struct plan *start);
/* Times, from the present estimates. */
void controller_fill_times(struct controller *controller);
/* Chooses; sets `choice`, and `reason` if it changed. */
void controller_follow_exact(struct controller *controller, double now_s, int waiting, int in_flight);
void controller_follow_bottleneck(struct controller *controller, double now_s, int in_flight);

#endif
