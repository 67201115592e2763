/* Darknet's .weights files: import and export, both header versions, bit-exact
 * round trip.
 *
 * Header: int32 major, minor, revision; `seen` as uint64 from version 0.2 on,
 * uint32 before. Then, per layer in order: convolutional: biases[, scales,
 * rolling mean, rolling variance], weights; connected: biases, weights[,
 * scales, mean, variance]; batchnorm: scales, mean, variance. Little-endian
 * f32. Source: Darknet's parser (behaviour, not code). */
#ifndef ESPALIER_DARKNET_H
#define ESPALIER_DARKNET_H

#include "common/err.h"
#include "common/model.h"

/* Fills the weights and row 0 of the batch norm of a model made by
 * model_create; bn_form becomes MODEL_BN_DARKNET. A file too short or too long
 * for the cfg is STATUS_FORMAT, stating the layer and both sizes. */
enum status darknet_read(struct model *model, const char *path, struct err *err) MUST_CHECK;
/* Writes atomically. Only row 0 of batch norm can be kept; the header is the
 * one the model carries (0.2.0 unless it came from Darknet). A model whose
 * batch norm has the torch form is converted: variance adjusted so that
 * sqrt(v') + 1e-6 = sqrt(v + eps). */
enum status darknet_write(const struct model *model, const char *path, struct err *err) MUST_CHECK;

#endif
