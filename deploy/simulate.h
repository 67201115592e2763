/* A pipeline simulated event by event, under the controller that also drives
 * real ones: devices and links from profiles, disturbances from a script.
 *
 * It behaves as `run` does: a frame is due, waits for one of the credits, is
 * sent with the plan of that moment, which holds for it all the way, crosses
 * link and stage after link and stage (each serves one frame at a time, in
 * order), and comes back with what the stages measured; then it is stored.
 * Same seed, same result. Time is in seconds from the start. */
#ifndef ESPALIER_SIMULATE_H
#define ESPALIER_SIMULATE_H

#include "common/accuracy.h"
#include "common/err.h"
#include "common/profile.h"
#include "deploy/controller.h"

#include <stdint.h>

enum simulate_kind {
    SIMULATE_SLOW,  /* the device takes `factor` times as long */
    SIMULATE_SHARE, /* its core goes round: SIMULATE_SLICE_S for the device, then as long for each of factor - 1 others.
                     * A device that has slept comes next, once the present turn ends: little to do is hardly slowed */
    SIMULATE_FADE,  /* the link into the stage has 1/factor of its rate */
    SIMULATE_DEATH, /* the worker is gone; its frame is done anew once it is back */
};
/* Overlapping factors multiply, except that of shares the latest counts. */
#define SIMULATE_SLICE_S 0.004
struct simulate_event {
    enum simulate_kind kind;
    int stage;
    double from_s, to_s, factor;
};

/* What is so, as against what the controller is told. */
struct simulate_stage {
    const struct profile *profile;
    double bytes_per_s; /* of the link into it; 0: takes no time */
    double latency_ms;
    double other_ms; /* that a frame takes the device beside computing and coding: receiving, sending */
};

struct simulate_config {
    struct controller_config controller;
    const struct controller_stage *stages; /* what the controller is told */
    const struct simulate_stage *truth;
    const struct accuracy *accuracy;   /* or NULL; of the results, too */
    const struct controller_map *maps; /* [nstages][nlevels] */
    int nstages, nblocks, nlevels;
    int credits;
    const struct simulate_event *events;
    int nevents;
    const double *due_s; /* [nframes], ascending */
    int nframes;
    uint64_t seed;
    double noise;        /* compute times vary by exp(noise * normal) */
    double spike_share;  /* of computations take spike_factor times as long */
    double spike_factor;
    double packing;      /* bytes that zlib leaves, as a share */
    double image_bytes;  /* of a frame from the source */
    double image_ms;     /* to decode it at the first stage */
    double store_ms;     /* from the result's arrival to its being stored, at most (it varies below) */
    void (*log)(void *context, double now_s, const char *line); /* of switches; may be NULL */
    void *log_context;
};
/* Five credits, noise 0.05, nothing else. */
struct simulate_config simulate_defaults(void);

struct simulate_frame {
    double due_s, stored_s;
    double accuracy; /* expected, at the levels it was computed with */
};

/* frames: [nframes], in order of due_s. *switches: level switches made. */
enum status simulate_run(const struct simulate_config *config, struct simulate_frame *frames, int *switches,
                         struct err *err) MUST_CHECK;

/* A stretch of time: a disturbance, and how long it was felt. */
struct simulate_window {
    double from_s, to_s; /* disturbed */
    double end_s;        /* its backlog has cleared; never before to_s */
};
/* The events' windows, those that touch made one: windows[nevents], returns
 * how many. A backlog has cleared at the first of SIMULATE_STEADY frames in a row, due
 * behind the event, that are in time; `frames`: of the static policy. */
enum { SIMULATE_STEADY = 5 };
int simulate_windows(const struct simulate_event *events, int nevents, const struct simulate_frame *frames,
                     int nframes, double slo_ms, struct simulate_window *windows);

enum simulate_part { SIMULATE_ALL, SIMULATE_INSIDE, SIMULATE_OUTSIDE }; /* of the windows, [from_s, end_s) */
struct simulate_summary {
    int frames;
    double attainment; /* share stored within the SLO */
    double p50_ms, p95_ms, p99_ms, worst_ms;
    double fps;      /* frames stored per second, from the first due to the last stored */
    double accuracy; /* mean */
    int reaction;    /* frames due from a window's begin to the first in time behind a late one, 0: none was late; */
    int settled;     /* to the first of SIMULATE_STEADY in a row; of the windows the longest */
    double settled_s;
    double recovery_s; /* from a disturbance's end (to_s) to its window's, or the run's, last frame of less than
                        * `full` accuracy; of the windows the longest */
};
enum status simulate_summarise(const struct simulate_frame *frames, int nframes, double slo_ms, double full,
                               const struct simulate_window *windows, int nwindows, enum simulate_part part,
                               struct simulate_summary *summary, struct err *err) MUST_CHECK;

#endif
