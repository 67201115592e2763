/* Robustness to pruning: what a training step runs.
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
 * The first steps, a share `from` of all, are plain; then channels are put in
 * order. The wide network gets further that way, and less of it is lost
 * again than narrow levels gain by an early start (as progressive shrinking
 * has it: Cai, Gan, Wang, Zhang, Han, Once-for-all, 2020).
 *
 * A random plan: a number of cuts, uniform in 0..max_cuts, at random cut
 * points; each slice at a random level; each link capped, with probability
 * `link`, at a random level narrower than the slice before it; and each prune
 * group, with probability `groups`, at a random level of its own. What is
 * dropped are the last channels, the least important ones; or, as a control,
 * any (`channels` random): a random order holds for the pass.
 *
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
enum robust_channels { ROBUST_LEAST, ROBUST_RANDOM };

struct robust_config {
    enum robust_mode mode;
    double from;    /* share of the steps that are plain, before it begins */
    double full;    /* drop: probability of a full-width pass */
    int plans;      /* random plans per batch, 0 to ROBUST_MAX_PASSES - 2 */
    int max_cuts;   /* of a random plan */
    double link;    /* probability that a link is capped */
    double groups;  /* probability that a group has a level of its own */
    enum robust_channels channels;
    double distill; /* share of the soft labels in the pruned passes' targets */
    double weight;  /* of a pruned pass's gradient; full width has 1 */
};

/* A pass: a plan, the level table that it refers to, and, if `shuffled`, the
 * seed of the order that holds for it. */
struct robust_pass {
    struct plan *plan;
    struct levels *levels;
    bool shuffled;
    uint64_t shuffle;
};
enum status robust_pass_create(struct robust_pass *pass, const struct model *model, struct err *err) MUST_CHECK;
void robust_pass_destroy(struct robust_pass *pass);

const char *robust_name(enum robust_mode mode);
/* ROBUST_COUNT if there is none of that name. */
enum robust_mode robust_parse(const char *name);
struct robust_config robust_defaults(enum robust_mode mode);
/* STATUS_USAGE naming the option that is out of range. */
enum status robust_check(const struct robust_config *config, struct err *err) MUST_CHECK;

/* Draws a plan into `plan` (of the model's blocks): cuts, levels and links. */
void robust_draw(const struct robust_config *config, const struct model *model, struct random *random,
                 struct plan *plan);
/* The passes of training step `step` under `seed`, into passes[0..*npasses),
 * each created by the caller, ROBUST_MAX_PASSES of them. A full-width pass
 * comes first; returns whether there is one. */
bool robust_passes(const struct robust_config *config, const struct model *model, uint64_t seed, int step,
                   struct robust_pass *passes, int *npasses);

#endif
