/* When the cuts should lie elsewhere: conditions have moved for good. A stage
 * that takes longer than its profile says, for minutes on end, should have
 * fewer blocks; pruning is for what passes.
 *
 * Each stage's slowdown is the median of measured over profiled times, whatever
 * the level, so that pruned slices are compared with what they would take at
 * full size. Every few seconds the best cuts for those of that window are
 * compared with the present ones (deploy/placement.h, the largest stage). Only
 * when every window for as long as `patience_s` finds better cuts by RECUT_GAIN
 * or more are they moved, to where they are best for all that time. */
#ifndef ESPALIER_RECUT_H
#define ESPALIER_RECUT_H

#include "common/err.h"
#include "common/profile.h"

#include <stdbool.h>
#include <stddef.h>

#define RECUT_GAIN 1.25 /* present largest stage over the best one's */

struct recut;

struct recut_stage {
    const struct profile *profile; /* of all blocks, on this stage's device; any unit of time */
    const int *level;              /* [nblocks] that the cuts are to be best for */
    int workers;                   /* that share the stage */
};

/* `first`: [nstages + 1], the present cuts; `link_bytes`: [nblocks], what would
 * enter a stage that begins there. All copied. */
enum status recut_create(struct recut **recut, const struct recut_stage *stages, int nstages, const int *first,
                         const double *link_bytes, double patience_s, struct err *err) MUST_CHECK;
void recut_destroy(struct recut **recut);

/* What a stage took for a frame. */
void recut_report(struct recut *recut, int stage, int level, int incoming, double compute_ms);
/* The rate of the link into a stage, as it is now. */
void recut_link(struct recut *recut, int stage, double bytes_per_s);
/* True: it is time; `first` gets the cuts, and `gain` by how much the largest
 * stage shrinks. */
bool recut_decide(struct recut *recut, double now_s, int *first, double *gain);

#endif
