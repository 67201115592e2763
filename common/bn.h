/* Batch-norm statistics of a layer under any plan.
 *
 * A network's statistics differ with the width that it runs at, so a model has a
 * row of them for every level, measured with that level throughout. In a plan of
 * several slices there is more to it. Along a residual stage each block adds its
 * share to a sum; channels that a block left out lack its share (and, the sum
 * being cut there, those of all before it) all the way down; and what wider or
 * narrower blocks computed is not quite what blocks of the own level would have.
 * All this adds up, block by block, to a good approximation:
 *
 *   mean = mean[own] + sigma[own] * sum_t w_t * dmean[t]
 *   1/sigma = 1/sigma[own] * (1 + sum_t w_t * dscale[t])
 *
 * Corrections t, with their weights w_t, are, for a block before, of own level l
 * and whose share arrives at level a (plan_before):
 * - what is missing: correction a less correction own, if a > own;
 * - that it was wider: in proportion to own - l, if that is positive;
 * each in its slot: the block just before has slot 0, and so on along the chain,
 * whose older blocks share the last slot, evenly. For the blocks before the chain
 * there are two, in proportion to how much wider, and how much narrower, they are
 * on average. With a level throughout nothing is corrected.
 *
 * In the tensors of mean and var [R, O] the rows of the levels come first; then,
 * slot by slot, those of missing levels 1, 2, ... and of wider blocks; then the
 * two of what lies before the chain: dmean in mean's, dscale in var's. Models
 * that were not trained to be pruned have one row. */
#ifndef ESPALIER_BN_H
#define ESPALIER_BN_H

#include "common/model.h"
#include "common/plan.h"

#include <stdbool.h>

enum { BN_SLOTS = 4 };

/* R of a model with corrections: nlevels * (1 + BN_SLOTS) + 2. */
int bn_rows(int nlevels);
/* The row of a level, and how many rows are such. */
int bn_row(const struct model *model, int level);
int bn_level_rows(const struct model *model);
/* Rows of corrections: of a missing level (1 or more), of wider blocks, and of those before the chain. */
int bn_missing(const struct model *model, int slot, int level);
int bn_wider(const struct model *model, int slot);
int bn_outside(const struct model *model, bool narrower);

/* What holds for a block: a row, and weighted corrections. */
struct bn_terms {
    int row, n;
    struct bn_term {
        int row;
        float weight;
    } term[BN_SLOTS * PLAN_MAX_LEVELS + 2];
};
/* With a level throughout. */
struct bn_terms bn_uniform(const struct model *model, int level);
/* Of a block under a plan. Allocates nothing. */
struct bn_terms bn_planned(const struct model *model, const struct plan *plan, int block);

/* mean, var: [O], caller's. */
void bn_stats(const struct model *model, int layer, const struct bn_terms *terms, float *mean, float *var);
/* The affine form: y = x * scale[o] + shift[o], with gamma, beta, mean, var, eps
 * and form folded in. scale, shift: [O]. */
void bn_affine(const struct model *model, int layer, const struct bn_terms *terms, float *scale, float *shift);
/* 1/sigma of a variance in the model's form, and back. */
float bn_inverse_sigma(const struct model *model, float var);

#endif
