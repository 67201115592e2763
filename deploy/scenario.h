/* A scenario: hosts and links, when frames are due, and what disturbs them
 * when. One file serves the simulator and the emulated cluster of tests/bench.
 *
 *   [scenario]
 *   seconds=60            # frames are due in this time
 *   seed=1                # of all random draws
 *   arrivals=steady       # steady, poisson, or bursty (a camera trap: silence, then a burst)
 *   load=.7               # rate of arrivals (bursty: within a burst), as a share of what the
 *                         # undisturbed pipeline takes at level 0
 *   burst_frames=10,60    # bursty: least and most frames of one burst
 *   silence_s=6           # bursty: mean time between bursts, half as much at least
 *   spread=.05            # simulated: compute times vary by exp(spread * normal)
 *   store_ms=8            # simulated: from the result's arrival to its being on disk, at most
 *   [link]                # optional, as in a cluster cfg: the hop into the host that follows
 *   rate_kb_s=5000
 *   delay_ms=0
 *   [host]                # in the order of the pipeline
 *   name=h1
 *   cpu=.45               # emulated: share of a core; 0 (the default): all of it
 *   memory_mb=512         # emulated: limit; 0: none
 *   device=pi4b           # simulated, where there is no measured profile: see deploy/roofline.h
 *   [event]
 *   kind=cpu              # cpu: quota or speed divided by factor; link: rate of the link into the
 *                         # host divided by factor; neighbour: processes compete for the host's
 *                         # cores; death: the worker is killed, and started again at the end
 *   host=2                # from 1
 *   from=15
 *   to=28                 # default: the end
 *   factor=3              # cpu, link
 *   processes=2           # neighbour */
#ifndef ESPALIER_SCENARIO_H
#define ESPALIER_SCENARIO_H

#include "common/err.h"
#include "deploy/cluster.h"
#include "deploy/simulate.h"

#include <stdint.h>

enum { SCENARIO_MAX_EVENTS = 256, SCENARIO_MAX_FRAMES = 4000000 };

enum scenario_arrivals { SCENARIO_STEADY, SCENARIO_POISSON, SCENARIO_BURSTY, SCENARIO_ARRIVALS };

struct scenario_host {
    char name[CLUSTER_NAME];
    float cpu, memory_mb; /* 0: not limited */
    char device[32];      /* or "" */
    struct cluster_link link;
};

struct scenario {
    float seconds, load, silence_s, spread, store_ms;
    int seed, burst_least, burst_most;
    enum scenario_arrivals arrivals;
    int nhosts; /* at least 1 */
    struct scenario_host host[CLUSTER_MAX_WORKERS];
    int nevents;
    struct simulate_event event[SCENARIO_MAX_EVENTS]; /* stages from 0, as the simulator takes them */
    int processes[SCENARIO_MAX_EVENTS];               /* of a neighbour, else 0 */
};

/* Errors name file and line. */
enum status scenario_load(struct scenario **scenario, const char *path, struct err *err) MUST_CHECK;
enum status scenario_parse(struct scenario **scenario, const char *name, const char *text, size_t length,
                           struct err *err) MUST_CHECK;
void scenario_destroy(struct scenario **scenario);

/* When frames are due, seconds, ascending; malloc'ed. `fps`: the rate of
 * arrivals; the seed's `copy` (0, 1, ...) is a trace of its own. STATUS_LIMIT
 * beyond SCENARIO_MAX_FRAMES. */
enum status scenario_due(const struct scenario *scenario, double fps, int copy, double **due_s, int *nframes,
                              struct err *err) MUST_CHECK;

/* All of it as JSON, arrivals at `fps` included: what the emulated cluster
 * works from. malloc'ed; NULL if memory ran out. */
char *scenario_json(const struct scenario *scenario, const double *due_s, int nframes);

#endif
