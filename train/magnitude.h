/* Global magnitude pruning of a trained network, part of it by whole channels.
 *
 * To leave a density d of the weights, units of the prune groups are emptied
 * first, all weights that write or read them zeroed, the weakest first, until
 * d^share of the weights are left; then single weights, the smallest of all layers
 * together. A unit is as strong as the root mean square of the weights that
 * write or read it. Share 0 is plain global magnitude pruning, share 1 empties
 * channels only. Weights that were zero go first in either, so that rounds of pruning and
 * training go on from one another. */
#ifndef ESPALIER_MAGNITUDE_H
#define ESPALIER_MAGNITUDE_H

#include "common/err.h"
#include "common/model.h"
#include "train/network.h"

/* Zeroes all weights of the network but a share of 1 - sparsity of them. Every
 * layer keeps a thousandth of its own, and one at least, and every group a unit. `model` is the network's. */
enum status magnitude_prune(struct network *network, const struct model *model, double sparsity, double share,
                            struct err *err) MUST_CHECK;

#endif
