/* Batch norm, as part of a layer: y = rectifier((x - mean) * gamma / sigma + beta),
 * with sigma = sqrt(var + eps), or Darknet's sqrt(var) + eps (model.bn_form).
 *
 * Source: Ioffe, Szegedy, Batch normalization, 2015. Mean and variance are the
 * batch's in training, the model's row for the plan at inference. */
#ifndef ESPALIER_TRAIN_NORM_H
#define ESPALIER_TRAIN_NORM_H

#include "train/layers/layer.h"

enum status norm_create(struct norm **norm, const struct layer_context *context, struct err *err) MUST_CHECK;
void norm_destroy(struct norm **norm);

/* x, y [rows, out.c] as pass->out describes them; y may be x, except before a
 * backward. */
enum status norm_forward(struct norm *norm, const struct layer_pass *pass, const float *x, struct ops_rectifier r,
                         float *y, struct err *err) MUST_CHECK;
/* The values in front of the rectifier once more, from the same x. */
enum status norm_repeat(struct norm *norm, const struct layer_pass *pass, const float *x, float *y,
                        struct err *err) MUST_CHECK;
/* Behind a NETWORK_TRAIN forward. dx may be dy. Adds to dgamma and dbeta. */
enum status norm_backward(struct norm *norm, const struct layer_pass *pass, const float *x, const float *dy,
                          struct ops_rectifier r, float *dx, struct err *err) MUST_CHECK;
/* Of the last batch. Behind a concatenation of pruned tensors, all channels:
 * mean 0 and variance 1 where nothing was computed. */
void norm_batch_stats(const struct norm *norm, const float **mean, const float **var, int *channels);

#endif
