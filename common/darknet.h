/* Darknet's side of things: .weights files in and out, and the cfg that
 * Darknet itself runs.
 *
 * .weights: int32 major, minor, revision; `seen` as uint64 from version 0.2 on,
 * uint32 before (and where major or minor is 1000 or more; above 1000, connected weights
 * are transposed). Then, per layer in order: convolutional: biases[, scales,
 * rolling mean, rolling variance], weights; connected: biases, weights[,
 * scales, mean, variance]; batchnorm: scales, mean, variance. Little-endian
 * f32. Source: the behaviour of Darknet, as packaged in Debian (2018-09). */
#ifndef ESPALIER_DARKNET_H
#define ESPALIER_DARKNET_H

#include "common/err.h"
#include "common/model.h"

/* Fills the weights and row 0 of the batch norm of a model made by
 * model_create; the batch norm becomes Darknet's form, sqrt(var) + 1e-6. A
 * file too short or too long for the cfg is STATUS_FORMAT, stating the layer
 * and both sizes; nothing is changed then. */
enum status darknet_read(struct model *model, const char *path, struct err *err) MUST_CHECK;

/* Writes atomically, for the cfg of darknet_cfg. Only one row of batch norm can
 * be kept, that of level 0; the header is the one the model carries (0.2.0
 * unless it came from Darknet). A batch norm of another form is converted: the
 * variance becomes v' with sqrt(v') + 1e-6 = sqrt(v + eps). What came from
 * darknet_read is written back bit for bit. */
enum status darknet_write(const struct model *model, const char *path, struct err *err) MUST_CHECK;

/* The cfg text that Darknet runs, malloc'ed: only its sections and options,
 * without [prune] and [slice]. A model that normalises its input (mean, std)
 * begins with one more layer that does so: a 1x1 convolution per channel. In a
 * model whose batch norm is not Darknet's, so that it does not come from there,
 * [batchnorm] becomes such a convolution, too: Darknet crashes on [batchnorm]
 * where it runs without CUDA. There it also forgets the stride of a 1x1
 * convolution, which therefore becomes a 1x1 [maxpool] with that stride in front of one
 * without. STATUS_FORMAT if the model needs what Darknet has not (relu6, a
 * padded 1x1 convolution, alpha where the own map of a [shortcut] is larger). */
enum status darknet_cfg(const struct model *model, char **text, struct err *err) MUST_CHECK;

#endif
