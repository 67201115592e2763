/* Batch norm, as part of a layer: y = rectifier((x - mean) * gamma / sigma + beta),
 * with sigma = sqrt(var + eps), or Darknet's sqrt(var) + eps (model.bn_form).
 *
 * Source: Ioffe, Szegedy, Batch normalization, 2015. Mean and variance are the
 * batch's in training, the model's row for the plan at inference.
 *
 * The work over a batch is done part by part: `thread` is the part's, x, y, dy
 * and dx are the part's rows, [rows, c] with c the channels of pass->out. */
#ifndef ESPALIER_TRAIN_NORM_H
#define ESPALIER_TRAIN_NORM_H

#include "train/layers/layer.h"

enum status norm_create(struct norm **norm, const struct layer_context *context, struct err *err) MUST_CHECK;
void norm_destroy(struct norm **norm);

/* Before a forward pass. */
void norm_begin(struct norm *norm);
/* Takes a part into the batch's statistics. */
enum status norm_add_moments(struct norm *norm, int thread, const float *x, size_t rows, int c, struct err *err) MUST_CHECK;
/* Behind the last part, or, at inference, instead of them: mean and variance
 * are the batch's or the model's; y can be computed. */
void norm_set(struct norm *norm, const struct layer_pass *pass);
/* The same as y = rectifier(x * scale + shift). */
void norm_affine(const struct norm *norm, const float **scale, const float **shift);
/* y may be x. */
enum status norm_apply(const struct norm *norm, const float *x, size_t rows, int c, struct ops_rectifier r, float *y,
                       struct err *err) MUST_CHECK;

/* Backward needs two sums over the batch. Whoever completes the gradient dy of
 * y adds them up; if nobody did, the layer does it itself. */
enum status norm_add_sums(struct norm *norm, int thread, const float *x, const float *dy, size_t rows, int c,
                          struct ops_rectifier r, struct err *err) MUST_CHECK;
void norm_sums_done(struct norm *norm);
bool norm_has_sums(const struct norm *norm);
/* With all sums in: adds to dgamma and dbeta; dx can be computed. */
void norm_set_gradient(struct norm *norm, const struct layer_pass *pass);
/* dx may be dy. */
enum status norm_gradient(const struct norm *norm, const float *x, const float *dy, size_t rows, int c,
                          struct ops_rectifier r, float *dx, struct err *err) MUST_CHECK;

/* Of the last batch. Behind a concatenation of pruned tensors, all channels:
 * mean 0 and variance 1 where nothing was computed. */
void norm_batch_stats(const struct norm *norm, const float **mean, const float **var, int *channels);

#endif
