/* Model surgery: smaller model files from a model, for whoever wants those
 * instead of levels. Both results convert to what Darknet runs. */
#ifndef ESPALIER_SURGERY_H
#define ESPALIER_SURGERY_H

#include "common/err.h"
#include "common/model.h"

/* Blocks [first_block, last_block] as a model of their own: layers renumbered
 * from 0, level table, batch-norm rows and accuracy model cut to fit, so that
 * under any plan it computes what the blocks compute in the whole model (its
 * plan's link[0] is the level of what arrives). Where a layer of the slice adds or joins
 * the tensor that enters, layer 0 is one more, which hands it on unchanged (a
 * 1x1 maximum): a cfg cannot name the network's input. `first_layer` tells the
 * original index of the slice's layer 0 in either case.
 *
 * Channels that are missing from what link[0] promises arrive as zeroes. That
 * is what missing channels count for everywhere except in a grouped
 * convolution or [batchnorm] that comes first in the slice: in the whole model
 * it computes nothing for them, here it sees zeroes.
 *
 * The slice borrows the weights of `model`, which must outlive it. */
enum status surgery_slice(const struct model *model, int first_block, int last_block, struct model **slice,
                          struct err *err) MUST_CHECK;

/* A dense model of what `model` computes under a plan: weights truncated to
 * the channels that are read, one level, one batch-norm row. What a producer
 * emits beyond what a consumer reads meets zero weights there.
 *
 * STATUS_LIMIT where the format cannot express the plan, naming the layer: a
 * sum whose two sides were cut differently ahead of it (that takes a grouped
 * convolution or pooling between them), or sums of concatenations of unequal parts. */
enum status surgery_prune(const struct model *model, const struct plan *plan, struct model **small,
                          struct err *err) MUST_CHECK;

#endif
