/* A model with fewer channels: what pruning to files, pruning at
 * initialisation and the variants of a portfolio have in common. */
#ifndef ESPALIER_SHRINK_H
#define ESPALIER_SHRINK_H

#include "common/err.h"
#include "common/model.h"

#include <stdbool.h>

enum shrink_levels {
    SHRINK_ONE_LEVEL,   /* the small model has full width only */
    SHRINK_KEEP_LEVELS, /* [prune] stays as it is: the small model can be trained to be pruned again */
};

/* The cfg of the same layers with other counts: held[i + 1] channels of the
 * tensor that layer i puts out (index 0: the input, of a slice). */
enum status shrink_cfg(const struct model *model, const int *held, enum shrink_levels levels, struct cfg **cfg,
                       struct err *err) MUST_CHECK;
/* Batch-norm form, preprocessing, Darknet's header, training record, and
 * labels where the part holds the last layer. */
enum status shrink_facts(const struct model *model, struct model *part, struct err *err) MUST_CHECK;

/* Which units of every prune group are kept. Units of one tier go together. */
struct shrink_units {
    const struct groups *groups; /* borrowed */
    int *first;                  /* [ngroups] where a group's units begin in `kept` */
    bool *kept;
};
/* All of them. */
enum status shrink_units_create(struct shrink_units **units, const struct groups *groups, struct err *err) MUST_CHECK;
void shrink_units_destroy(struct shrink_units **units);
static inline bool *shrink_unit(const struct shrink_units *units, int group, int unit) {
    return &units->kept[units->first[group] + unit];
}
int shrink_units_count(const struct shrink_units *units, int group);
/* Gives or takes a unit, and that of all the groups that share its tier. */
void shrink_units_set(const struct shrink_units *units, int group, int unit, bool kept);
/* Takes a unit unless some group would lose its last one; whether it did. */
bool shrink_units_take(const struct shrink_units *units, int group, int unit);
/* place[c]: where channel c of the tensor that `layer` puts out (-1: the input)
 * goes, or -1; returns how many are kept. */
int shrink_places(const struct shrink_units *units, int layer, int *place);

/* A dense model of those units, weights copied; of batch norm, row 0. Every
 * group keeps one unit at least. */
enum status shrink_model(const struct model *model, const struct shrink_units *units, enum shrink_levels levels,
                         struct model **small, struct err *err) MUST_CHECK;

#endif
