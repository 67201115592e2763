/* Channels that carry no information, and how they are cut out without a
 * change to what the network computes.
 *
 * A channel can go if nobody reads it (all weights on it are zero), or if it is
 * the same everywhere for every image: its weights are zero, or lie on such
 * channels only, so that it emits the constant that bias or batch norm and the
 * activation make of that. The constant is carried into the layers that read
 * the channel: into bias or batch norm's mean where every output position sees
 * it whole (connected layers, convolutions without padding). A padded
 * convolution sees less of it at the borders of the image; so where any reads
 * a group's constants, one of the group's constant channels stays, with the
 * weights of all of them: being padded with zeros as they were, it gives the
 * same values at the borders, too. A residual group loses a unit only if it is
 * constant, or unread, in all its members, the sums included. */
#ifndef ESPALIER_CONSTANTS_H
#define ESPALIER_CONSTANTS_H

#include "common/err.h"
#include "common/model.h"
#include "common/shrink.h"

#include <stdbool.h>

struct constants {
    const struct model *model; /* borrowed */
    int *first;                /* [nlayers + 2] where the channels of layer i begin, at i + 1 */
    float *value;              /* of each channel of each layer; NaN: it varies */
    bool *read, *padded;       /* whether anything depends on it; and whether a padded convolution does */
    bool *replaced;            /* it varies, but counts as `value` */
    int *stays;                /* [ngroups] the unit that stays for all constant ones, or -1 */
};

/* Of a whole network under its first batch-norm row, at full width. */
enum status constants_find(struct constants **constants, const struct model *model, struct err *err) MUST_CHECK;
void constants_destroy(struct constants **constants);
/* Of channel `channel` of layer `layer`'s output. */
static inline float *constants_value(const struct constants *c, int layer, int channel) {
    return &c->value[c->first[layer + 1] + channel];
}

/* A channel that varies counts as its mean from now on; near the borders of the image, where a
 * padded convolution sees less of it, that is an approximation, too. */
void constants_replace(struct constants *constants, int layer, int channel, float mean);

/* Takes from `units` all those that can go; every group keeps one at least. */
enum status constants_cut(struct constants *constants, struct shrink_units *units, struct err *err) MUST_CHECK;
/* Behind shrink_model with those units: carries what was cut into `small`. */
enum status constants_carry(const struct constants *constants, const struct shrink_units *units, struct model *small,
                            struct err *err) MUST_CHECK;

/* Both, with shrink_model between them. */
enum status constants_shrink_found(struct constants *constants, struct model **small, struct err *err) MUST_CHECK;
/* All of it: `model` without what it does not need. */
enum status constants_shrink(const struct model *model, struct model **small, struct err *err) MUST_CHECK;

#endif
