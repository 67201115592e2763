/* Prune groups: channels that must be pruned together.
 *
 * A group counts in units: one channel each, or, where a grouped convolution
 * ties its input to its output, one convolution group each. Every tensor
 * reads as a list of segments, one per group whose channels it holds in
 * order: one for most tensors, several behind a [route].
 *
 * - A convolution's or connected layer's outputs are a group; the network's
 *   input and the outputs of the last layer with weights are kept whole.
 * - A shortcut ties the groups it adds. Equal counts become one group;
 *   otherwise the groups stay apart and only the common channels are tied: a
 *   tier is a range of units that all its groups must permute alike.
 * - A grouped convolution ties input and output; depthwise is the case of one
 *   channel per unit.
 * - Where segments do not match (a concatenation added to a single map, a
 *   concatenation into a grouped convolution), the groups are kept whole:
 *   sound, if not small. */
#ifndef ESPALIER_GROUPS_H
#define ESPALIER_GROUPS_H

#include "common/err.h"
#include "common/net.h"

#include <stdbool.h>

struct group {
    int units;
    bool whole; /* never pruned and never permuted */
    int nmembers;
    int *members; /* layers whose outputs are this group (-1: the input); ascending */
};

struct segment {
    int group;
    int unit;  /* channels per unit here */
    int first; /* first channel in the tensor */
    int channels; /* group.units * unit */
};

struct tier {
    int first, last; /* units [first, last) */
    bool fixed;      /* holds units of a whole group: not permuted */
    int ngroups;
    int *groups;
};

struct groups {
    int ngroups;
    struct group *group;
    int nsegments;           /* of all tensors together */
    struct segment *segment; /* those of layer i: [first_segment[i+1], first_segment[i+2]) */
    int *first_segment;      /* [nlayers + 2]; index 0 is the network's input */
    int ntiers;              /* every unit of every group lies in exactly one tier */
    struct tier *tiers;
};

/* The ends of a slice file, whose network begins or ends at a cut. A whole
 * network has {0}. */
struct groups_ends {
    /* The input is a feature map that crossed a cut: its segments are prunable
     * groups of their own instead of one group kept whole. Channel counts that
     * sum to net->input.c, and channels per unit, which divide them. */
    int nincoming;
    struct groups_incoming {
        int channels, unit;
    } *incoming;
    bool outgoing; /* the output crosses a cut: it is prunable, too */
};
enum status groups_create(struct groups **groups, const struct net *net, const struct groups_ends *ends,
                          struct err *err) MUST_CHECK;
void groups_destroy(struct groups **groups);
/* Segments of the tensor that `layer` puts out (-1: the input). */
const struct segment *groups_segments(const struct groups *groups, int layer, int *count);

#endif
