/* The planner: the most accurate plan that holds a deadline, found exactly.
 *
 * A pipeline of slices, one per device, with a link at the entrance of each
 * (slice 0's comes from the source). For every slice the planner chooses a
 * level, and for its entrance a link level and a codec:
 *
 *   arriving(s)  = max(level(s-1), link(s)), 0 for slice 0
 *   crossing(s)  = max(arriving(s), level(s)): what is not read is not sent
 *   stage(s)     = decode[s][crossing][codec] + compute[s][level][arriving]
 *                  + encode[s+1][crossing(s+1)][codec(s+1)]
 *   load(s)      = wire[s][crossing][codec], what the link is busy with a frame
 *   sum          = encode[0] + all stages, loads and link latencies
 *   bottleneck   = the largest stage or load (encode[0] is one of them), each over the slice's servers
 *   latency      = sum + queued * bottleneck
 *   cost         = slice_cost[s][level][arriving] + codec_cost[s][codec], over all slices
 *
 * and minimises cost subject to latency, bottleneck and cost limits. Times are
 * whole nanoseconds and costs whole billionths of accuracy: sums are exact, so
 * equal is equal, and the same input gives the same plan.
 *
 * Among plans of equal cost the one of lowest latency is taken. If none holds
 * the limits: the plan of lowest latency whose cost is within the limit (then
 * of lowest cost). If no plan's cost is within the limit: the plan of lowest
 * cost (then of lowest latency), which comes nearest to it. */
#ifndef ESPALIER_PLANNER_H
#define ESPALIER_PLANNER_H

#include "common/err.h"
#include "common/plan.h"

#include <stdbool.h>
#include <stdint.h>

enum { PLANNER_MAX_SLICES = 64, PLANNER_MAX_SERVERS = 1000 };
#define PLANNER_UNLIMITED INT64_MAX
#define PLANNER_COST_ONE 1000000000 /* a cost of 1.0, all accuracy lost */

/* Filled in by the caller between solves; no value below 0 or above
 * PLANNER_TIME_MAX, masks not empty. */
#define PLANNER_TIME_MAX ((int64_t)1000000000 * 3600)
struct planner_problem {
    int nslices, nlevels;
    int64_t *compute;    /* [nslices][own level][incoming level] */
    int64_t *encode;     /* [nslices][crossing level][CODEC_COUNT]: at the sender into slice s */
    int64_t *wire;       /* likewise: on the link */
    int64_t *decode;     /* likewise: at slice s */
    int64_t *latency;    /* [nslices] the link's delay: adds to the sum, loads nothing */
    int64_t *slice_cost; /* [nslices][own level][incoming level] */
    int64_t *codec_cost; /* [nslices][CODEC_COUNT] */
    double *servers;     /* [nslices] devices that share the slice's frames (and links to them), at least 1; a slower
                          * one counts as its share of one */
    unsigned *levels;    /* [nslices] bit set: levels the slice may run at */
    unsigned *links;     /* [nslices] bit set: link levels above 0 that the entrance may have */
    unsigned *codecs;    /* [nslices] bit set */
};

struct planner_choice {
    int level, link;
    enum codec codec;
};

struct planner_limits {
    int64_t latency;    /* PLANNER_UNLIMITED: none, as below */
    int64_t bottleneck;
    int64_t cost;
    int queued; /* frames that wait before the next one, at least 0 */
};

enum planner_outcome {
    PLANNER_FEASIBLE,  /* all limits hold */
    PLANNER_TOO_SLOW,  /* no plan within the cost limit is fast enough: the fastest of them */
    PLANNER_TOO_COSTLY /* no plan is within the cost limit: the most accurate one */
};

struct planner_value {
    int64_t sum, bottleneck, latency, cost;
};

struct planner_solution {
    enum planner_outcome outcome;
    bool exact; /* false: given up after a bounded effort (many slices, many codecs and frames queued);
                 * then the best plan found, and an outcome that may be too pessimistic */
    struct planner_choice choice[PLANNER_MAX_SLICES];
    struct planner_value value;
    int states; /* partial plans kept, a measure of effort */
};

struct planner;

/* All allocation happens here. Masks start full for levels, empty for links,
 * and with CODEC_F32 only for codecs; servers start 1, all other numbers 0. */
enum status planner_create(struct planner **planner, int nslices, int nlevels, struct err *err) MUST_CHECK;
void planner_destroy(struct planner **planner);
struct planner_problem *planner_problem(struct planner *planner);

/* Whether a plan holds the limits; the best one, then. Far cheaper where none does
 * than planner_solve, which looks for the nearest. A number out of range: false. */
bool planner_find(struct planner *planner, const struct planner_limits *limits, struct planner_solution *solution);
/* STATUS_USAGE names the number of the problem or limit that is out of range. */
enum status planner_solve(struct planner *planner, const struct planner_limits *limits,
                          struct planner_solution *solution, struct err *err) MUST_CHECK;
/* The value of any choice of nslices entries, allowed by the masks or not. */
struct planner_value planner_evaluate(const struct planner_problem *problem, const struct planner_choice *choice,
                                      int queued);

#endif
