/* Pruning at initialisation: a small network before it is trained.
 *
 * Source: Eccles, Wong, Varghese, Rapid deployment of DNNs for edge computing
 * via structured pruning at initialization (Reconvene), arXiv 2404.16877. Its
 * text could not be had beyond the abstract and summaries; established are two
 * parts, one that finds the convolutions least sensitive to structured pruning
 * and one that prunes those and re-initialises the layers affected. Inferred:
 *
 * - Sensitivity is the share of a layer's weights that unstructured pruning by
 *   the same scores, at the density wanted, would keep. For SynFlow, SNIP and
 *   GraSP it is known that only these shares matter, not which weights of a
 *   layer they are (Frankle et al., Pruning neural networks at initialization,
 *   ICLR 2021), so they tell what a layer needs.
 * - A layer whose inputs and outputs both keep a share a has a^2 of its weights.
 *   So a prune group keeps min(1, f sqrt(s)) of its units, s being the share of
 *   weights kept in all the layers that write or read it, and f the one factor
 *   that leaves as many weights as the unstructured counterpart has. The least
 *   sensitive convolutions thus lose channels, the most sensitive none.
 * - A group's units are ranked by the sum of the scores of the weights that
 *   write or read them.
 * - A layer that lost inputs is drawn again, with the variance of its new fan-in. */
#ifndef ESPALIER_PAI_H
#define ESPALIER_PAI_H

#include "common/err.h"
#include "common/model.h"
#include "train/network.h"

#include <stdint.h>

/* What pruning did to a layer with weights. */
struct pai_layer {
    int layer;
    double share;          /* of its weights that the unstructured counterpart keeps */
    int outputs, channels; /* before, after */
};

struct pai_result {
    struct model *small;
    int nlayers;
    struct pai_layer *layers;
};
void pai_result_free(struct pai_result *result);

/* Unstructured: zeroes all of the network's weights but that share, by scores. */
void pai_sparse(struct network *network, const float *scores, double density);
/* Structured: `model` holds the initial weights that the scores are about. The
 * network's values are overwritten. */
enum status pai_structured(struct network *network, const struct model *model, const float *scores, double density,
                           uint64_t seed, struct pai_result *result, struct err *err) MUST_CHECK;

#endif
