/* Unstructured sparsity: which weights of a network are zero.
 *
 * Arrays of scores and masks are laid out as the network's parameters; only
 * weights of convolutions and connected layers take part, over all layers together. */
#ifndef ESPALIER_SPARSITY_H
#define ESPALIER_SPARSITY_H

#include "common/err.h"
#include "train/network.h"

#include <stdbool.h>
#include <stddef.h>

/* Weights that take part, and those of them that are not zero. */
size_t sparsity_weights(const struct network_view *view);
size_t sparsity_left(const struct network_view *view);

/* Zeroes all weights but the `keep` with the highest scores (any numbers but
 * NaN); among equals the first ones stay. scores: [view->size]. */
void sparsity_keep(const struct network_view *view, const float *scores, size_t keep);

/* The weights that are zero now, to be held at zero while the others train. */
struct sparsity_mask {
    size_t n, zeros;
    unsigned char *kept; /* [n], 0 or 1 */
};
enum status sparsity_mask_create(struct sparsity_mask **mask, const struct network_view *view,
                                 struct err *err) MUST_CHECK;
void sparsity_mask_destroy(struct sparsity_mask **mask);
/* Sets them to zero again. */
void sparsity_mask_apply(const struct sparsity_mask *mask, float *values);

#endif
