/* Steady latency: as the clock of the cores moves, the plan that keeps a
 * frame's time where it was.
 *
 * The ladder: every level throughout, and between two neighbouring levels the
 * plans that run the blocks in front of a cut at the one and those behind it at the other,
 * which are finer steps. A rung's time at a clock comes from the profile (`profile
 * --frequencies`), which has every level's time at several clocks: between clocks it is linear in
 * 1/clock, beyond them proportional to it; a mixed plan lies between its two
 * levels as far as its blocks' times do. The rung is taken whose time is nearest to the
 * target; of those within 1% of it the most accurate.
 *
 * The target is the least time that can be held over the clocks of the profile: full
 * width at the fastest clock, or the narrowest level at the slowest, whichever takes longer.
 *
 * What frames take against what they should is followed, slowly, and the clock taken to be
 * that much lower or higher: for what a profile cannot know, such as a busy neighbour. Each clock
 * of the profile has its own such factor, linear between them, since what a profile has wrong at one
 * need not be wrong at another. Firmware that throttles may do so behind cpufreq's back: while it says
 * that it does, frames are followed quickly; once it lets go, the clock is believed again.
 *
 * After All-in-One (train/soft_mask.h): one model, a ratio per frequency. How
 * that ladder is made was not to be had; all of this is inferred. */
#ifndef ESPALIER_STEADY_H
#define ESPALIER_STEADY_H

#include "common/err.h"
#include "common/model.h"
#include "common/profile.h"
#include "deploy/cpufreq.h"

struct steady;

struct steady_config {
    const struct model *model;
    const struct profile *profile; /* with clocks, of that model */
    int nslices;                   /* a plan changes its level only between slices; 0: at any block */
    const int *slice_first;        /* [nslices] their first blocks */
    double target_ms;              /* of a frame; 0: as above */
};
/* Everything is borrowed until creation ends. STATUS_USAGE if profile and model do not match. */
enum status steady_create(struct steady **steady, const struct steady_config *config, struct err *err) MUST_CHECK;
void steady_destroy(struct steady **steady);

double steady_target_ms(const struct steady *steady);
int steady_rungs(const struct steady *steady);
/* The plan for that state of the clock; valid until the next call. Allocates nothing, and does
 * nothing if the state is as before. */
const struct plan *steady_choose(struct steady *steady, const struct cpufreq_state *state);
/* What a frame should take under the plan chosen last, and what one took, which counts with the next choice, if the
 * clock has not moved. */
double steady_expected_ms(const struct steady *steady);
void steady_observe(struct steady *steady, double ms);

#endif
