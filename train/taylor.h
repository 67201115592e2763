/* Importance of channels by the first-order Taylor expansion of the loss.
 *
 * Switching a channel off changes the loss by about g = gamma * dL/dgamma +
 * beta * dL/dbeta behind batch norm, or, without it, by the sum of w * dL/dw
 * over the channel's weights and bias; its importance is g squared, averaged
 * over batches.
 *
 * Source: Molchanov et al., Importance estimation for neural network pruning,
 * 2019, equation 8, with gates behind batch norm. */
#ifndef ESPALIER_TAYLOR_H
#define ESPALIER_TAYLOR_H

#include "common/err.h"
#include "common/model.h"
#include "train/loader.h"
#include "train/network.h"

/* Importance of every output channel of every layer with weights:
 * importance[layer][channel], NULL for other layers. */
struct taylor {
    int nlayers;
    double **importance;
};

/* From `batches` full-width passes over the next images of an endless loader.
 * Leaves the network's values as they are, and its gradients at zero. */
enum status taylor_create(struct taylor **taylor, struct network *network, const struct model *model,
                          struct loader *images, int batches, struct err *err) MUST_CHECK;
void taylor_destroy(struct taylor **taylor);

#endif
