/* Robustness to pruning: which plans a training step runs.
 *
 * Every pass computes only its plan's kept prefixes, so that the first channels
 * learn to do without the last ones, whatever the neighbouring slices do.
 * - drop: with probability `full` the batch runs at full width, and it runs
 *   under `plans` random plans (at least one pass in all).
 * - sandwich: full width, the narrowest level throughout, and `plans` random
 *   plans.
 * Where a batch has a full-width pass, the others learn from its soft labels
 * (in-place distillation) in the proportion `distill`, from the true labels
 * for the rest.
 *
 * A random plan: a number of cuts, uniform in 0..max_cuts, at random cut
 * points; each slice at a random level; each link capped, with probability
 * `link`, at a random level narrower than the slice before it.
 * Source of sandwich rule and in-place distillation: Yu, Huang, Universally
 * slimmable networks and improved training techniques, 2019. */
#ifndef ESPALIER_ROBUST_H
#define ESPALIER_ROBUST_H

#include "common/err.h"
#include "common/model.h"
#include "common/random.h"

#include <stdbool.h>
#include <stdint.h>

enum { ROBUST_MAX_PASSES = 16 };

enum robust_mode { ROBUST_NONE, ROBUST_DROP, ROBUST_SANDWICH, ROBUST_COUNT };

struct robust_config {
    enum robust_mode mode;
    double full;    /* drop: probability of a full-width pass */
    int plans;      /* random plans per batch, 0 to ROBUST_MAX_PASSES - 2 */
    int max_cuts;   /* of a random plan */
    double link;    /* probability that a link is capped */
    double distill; /* share of the soft labels in the pruned passes' targets */
    double weight;  /* of a pruned pass's gradient; full width has 1 */
};

const char *robust_name(enum robust_mode mode);
/* ROBUST_COUNT if there is none of that name. */
enum robust_mode robust_parse(const char *name);
struct robust_config robust_defaults(enum robust_mode mode);
/* STATUS_USAGE naming the option that is out of range. */
enum status robust_check(const struct robust_config *config, struct err *err) MUST_CHECK;

/* Draws a plan into `plan` (of the model's blocks). */
void robust_draw(const struct robust_config *config, const struct model *model, struct random *random,
                 struct plan *plan);
/* The plans of training step `step` under `seed`, into plans[0..*npasses), each
 * created by the caller, ROBUST_MAX_PASSES of them. A full-width pass comes
 * first; returns whether there is one. */
bool robust_passes(const struct robust_config *config, const struct model *model, uint64_t seed, int step,
                   struct plan **plans, int *npasses);

#endif
