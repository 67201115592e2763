/* Arithmetic of the training backend: what layers are made of.
 *
 * Everything that computes on activations is behind this interface, so that
 * another backend (oneDNN 3, CUDA) is a port of the ops_*.c files alone.
 *
 * Activations are dense [N, H, W, C] f32, channels innermost: a pruned tensor
 * is as small as its channel count, without padding to a vector's width, and
 * every primitive used is vectorised in this layout. `rows` = N * H * W.
 * Weights are the plain tensors of the model file, [O, I, KH, KW]; backends
 * bring the kept part into their own layout as they need it.
 *
 * Same seed, machine and thread count: bit-identical results. One caller at a
 * time. Pointers do not alias unless said so. */
#ifndef ESPALIER_TRAIN_OPS_H
#define ESPALIER_TRAIN_OPS_H

#include "common/activation.h"
#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ops;

enum status ops_create(struct ops **ops, int threads, struct err *err) MUST_CHECK;
void ops_destroy(struct ops **ops);
/* Before the first operation of a pass: claims the threads. */
void ops_begin(struct ops *ops);

/* Zeroed, 64-byte aligned; `what` for the error. */
enum status ops_alloc(struct ops *ops, size_t count, float **values, const char *what, struct err *err) MUST_CHECK;
void ops_free(struct ops *ops, float **values);
/* Room for `count` values that lasts until the same use is asked for again;
 * inside of a part, each thread has its own. */
enum ops_scratch {
    OPS_SCRATCH_WEIGHTS, /* the backend's own */
    OPS_SCRATCH_GATHERED,
    OPS_SCRATCH_DWEIGHTS,
    OPS_SCRATCH_DWEIGHTS_PART,
    OPS_SCRATCH_PRIMITIVE,
    OPS_SCRATCH_NORM,
    OPS_SCRATCH_BF16,
    OPS_SCRATCH_BF16_2,
    OPS_SCRATCH_PATCHES,
    OPS_SCRATCH_LAYER, /* a layer's, within one call */
    OPS_SCRATCH_LAYER_2,
    OPS_SCRATCH_LAYER_3,
    OPS_SCRATCH_INPUT,    /* the network's: an input narrowed to what is read, */
    OPS_SCRATCH_GRADIENT, /* and the gradient of it */
    OPS_SCRATCH_COUNT
};
enum status ops_scratch(struct ops *ops, enum ops_scratch use, size_t count, float **values, struct err *err) MUST_CHECK;

/* ---- parts ---- */

/* A few images of a pass, small enough that what a layer does with them one
 * step after another stays in a core's cache. */
struct ops_part {
    int first, n; /* images */
    int thread;   /* of ops_threads */
};
typedef enum status ops_part_body(void *context, const struct ops_part *part, struct err *err);
/* Runs the body for all parts of n images, a thread's parts in order. With
 * more than one part, what the body calls runs on its own thread only;
 * otherwise on all of them. */
enum status ops_parts_run(struct ops *ops, int n, int images_per_part, ops_part_body *body, void *context,
                          struct err *err) MUST_CHECK;
int ops_threads(const struct ops *ops);
/* What the device can do at best, measured: operations per second of f32
 * multiply-adds (two each) on all threads. */
double ops_peak_flops(struct ops *ops);
/* Images per part for loops that touch so many values per image. */
int ops_part_images(const struct ops *ops, int n, size_t values_per_image);

/* ---- activations ---- */

/* x > 0 ? min(x, cap) : slope * x. Linear: slope 1, cap infinite. */
struct ops_rectifier {
    float slope, cap;
};
extern const struct ops_rectifier ops_linear;
/* Whether the activation is one, and which. */
bool ops_rectifier_of(enum activation activation, struct ops_rectifier *rectifier);
/* dx = dy * derivative, told from the output y. dx may be dy. */
void ops_rectify_backward(struct ops *ops, struct ops_rectifier r, const float *y, const float *dy, size_t count,
                          float *dx);
/* Any activation; y may be x. */
void ops_activate(struct ops *ops, enum activation activation, const float *x, size_t count, float *y);
/* From the input x; dx may be dy. */
void ops_activate_backward(struct ops *ops, enum activation activation, const float *x, const float *dy, size_t count,
                           float *dx);

/* ---- convolution and connected layers ---- */

/* What convolutions multiply: single precision, or both factors rounded to
 * bfloat16 and their products added up in single precision. Either way all
 * arguments are f32, as are sums over parts; connected, grouped and depthwise
 * layers, and shapes that the backend has no fast bfloat16 code for, are f32.
 * Source: Kalamkar et al., A study of bfloat16 for deep learning training, 2019. */
enum ops_precision { OPS_F32, OPS_BF16 };
/* Whether this machine multiplies bfloat16 faster. */
bool ops_has_bf16(void);

struct ops_conv_shape {
    int n, ic, ih, iw, oc, oh, ow, size, stride, pad, groups;
    int connected; /* 1: one output position; the kernel covers the input, groups 1 */
    int bias;
    int inputs; /* per output in the plain tensor: I; with several ranges, ic */
    struct ops_rectifier rectifier; /* applied to the output */
    enum ops_precision precision;
};

struct ops_range {
    int first, count; /* in channels of the whole input */
};

/* The kept part of a plain [O, I, KH, KW] tensor (connected: KH, KW = the
 * input's height and width): the first oc outputs and, of each, these inputs. */
struct ops_weights {
    float *values;
    int inputs; /* I */
    int nranges;
    const struct ops_range *ranges;
};

struct ops_conv;
/* From the cache, made at the first request; owned by `ops`. */
enum status ops_conv_get(struct ops *ops, const struct ops_conv_shape *shape, struct ops_conv **conv,
                         struct err *err) MUST_CHECK;
/* Images per part that its passes are run with. */
int ops_conv_images(const struct ops_conv *conv);

/* Outside of parts, before a pass: lays out the kept weights for it. */
enum ops_direction { OPS_FORWARD, OPS_BACKWARD };
enum status ops_conv_pack(struct ops_conv *conv, enum ops_direction direction, const struct ops_weights *weights,
                          struct err *err) MUST_CHECK;
/* In parts; x, y, dx and dy are the part's. bias [oc]: NULL without. */
enum status ops_conv_forward(struct ops_conv *conv, const struct ops_part *part, const float *x, const float *bias,
                             float *y, struct err *err) MUST_CHECK;
/* dy: behind the rectifier's derivative. dx: NULL, or overwritten. The part's share of the weights' gradient is
 * kept until it is added up: */
enum status ops_conv_backward(struct ops_conv *conv, const struct ops_part *part, const float *x, const float *dy,
                              float *dx, struct err *err) MUST_CHECK;
/* Outside of parts, behind the pass: adds to dweights and dbias (NULL without bias). */
enum status ops_conv_add_gradient(struct ops_conv *conv, const struct ops_weights *dweights, float *dbias,
                                  struct err *err) MUST_CHECK;

/* ---- pooling ---- */

/* Windows start at -pad/2 and are clipped to the map (Darknet's rule). */
struct ops_pool_shape {
    int n, c, ih, iw, oh, ow, size, stride, pad;
};
struct ops_pool;
enum status ops_pool_get(struct ops *ops, const struct ops_pool_shape *shape, struct ops_pool **pool,
                         struct err *err) MUST_CHECK;
int ops_pool_images(const struct ops_pool *pool);
/* Values of workspace per image that forward leaves for backward: where the maxima were. */
size_t ops_pool_workspace(const struct ops_pool *pool);
/* In parts; workspace is the part's too. dx is overwritten. */
enum status ops_pool_forward(struct ops_pool *pool, const struct ops_part *part, const float *x, float *y,
                             float *workspace, struct err *err) MUST_CHECK;
enum status ops_pool_backward(struct ops_pool *pool, const struct ops_part *part, const float *dy,
                              const float *workspace, float *dx, struct err *err) MUST_CHECK;
/* Mean over h * w positions: x [n, positions, c], y [n, c]. */
void ops_average(struct ops *ops, const float *x, int n, int positions, int c, float *y);
void ops_average_backward(struct ops *ops, const float *dy, int n, int positions, int c, float *dx);

/* ---- batch norm: x, y [rows, c], the rest [c] ---- */

/* Takes rows into running moments: their count, means, and sums of squared
 * differences from the mean. */
struct ops_moments {
    double count, *mean, *square;
};
enum status ops_norm_moments(struct ops *ops, const float *x, size_t rows, int c, struct ops_moments *moments,
                             struct err *err) MUST_CHECK;
/* y = rectifier(x * scale + shift); y may be x. */
enum status ops_norm_apply(struct ops *ops, const float *x, size_t rows, int c, const float *scale, const float *shift,
                           struct ops_rectifier r, float *y, struct err *err) MUST_CHECK;
/* With g = dy * the rectifier's derivative at x * scale + shift:
 * adds the sum of g to sum_g, and that of g * (x - mean) to sum_gx. */
enum status ops_norm_sums(struct ops *ops, const float *x, const float *dy, size_t rows, int c, const float *mean,
                          const float *scale, const float *shift, struct ops_rectifier r, double *sum_g, double *sum_gx,
                          struct err *err) MUST_CHECK;
/* dx = a * g + b * x + d; dx may be dy. */
enum status ops_norm_backward(struct ops *ops, const float *x, const float *dy, size_t rows, int c, const float *scale,
                              const float *shift, struct ops_rectifier r, const float *a, const float *b,
                              const float *d, float *dx, struct err *err) MUST_CHECK;

/* ---- moving values about ---- */

void ops_zero(struct ops *ops, float *values, size_t count);
void ops_copy(struct ops *ops, const float *x, size_t count, float *y);
/* y += x. */
void ops_add(struct ops *ops, const float *x, size_t count, float *y);
/* Channels [x_first, x_first + count) of x [rows, x_c] to channels [y_first,
 * ...) of y [rows, y_c]; `add` to them or overwrite them. */
void ops_copy_channels(struct ops *ops, const float *x, int x_c, int x_first, float *y, int y_c, int y_first, int count,
                       size_t rows, bool add);
/* [n, c, h, w] to [n, h, w, c] and back. */
void ops_from_planar(struct ops *ops, const float *x, int n, int c, int h, int w, float *y);
void ops_to_planar(struct ops *ops, const float *x, int n, int c, int h, int w, float *y);

/* Adds maps whose channels and sizes may differ, as Darknet's shortcut does:
 * where the positions of the smaller map fall on the larger one,
 * y = alpha * y + beta * x, run by run. */
struct ops_map {
    int c, h, w;
};
struct ops_run { /* channels [x_first, ...) of x join [y_first, ...) of y; x_first -1: zeros do */
    int x_first, y_first, count;
};
struct ops_join {
    int n;
    struct ops_map x, y;
    int nruns;
    const struct ops_run *runs;
    float alpha, beta;
};
void ops_join(struct ops *ops, const struct ops_join *join, const float *x, float *y);
/* dx = beta * dy at those positions and zero elsewhere, or added. */
void ops_join_backward(struct ops *ops, const struct ops_join *join, const float *dy, float *dx, bool add);
/* Behind it, for the other branch: dy *= alpha at those positions. */
void ops_join_scale(struct ops *ops, const struct ops_join *join, float *dy);
/* The same for equal maps with alpha and beta 1: y = rectifier(a + b), where a
 * and b may be values still to be normalised. */
struct ops_lazy {
    const float *values, *scale, *shift; /* rectifier(values * scale + shift); scale NULL: the values */
    struct ops_rectifier r;
};
enum status ops_add_lazy(struct ops *ops, const struct ops_lazy *a, const struct ops_lazy *b, size_t rows, int c,
                         struct ops_rectifier r, float *y, struct err *err) MUST_CHECK;

/* Keeps each value with probability 1 - p and scales it by 1 / (1 - p); the
 * draw depends on seed and index only, so backward is the same call. */
void ops_dropout(struct ops *ops, const float *x, size_t count, float probability, uint64_t seed, float *y);

/* Image i's window begins at [top[i], left[i]], mirrored where flip[i];
 * y = x * scale + shift. */
struct ops_crop {
    int n, c, ih, iw, oh, ow;
    const int *top, *left;
    const bool *flip;
    float scale, shift;
};
void ops_crop(struct ops *ops, const struct ops_crop *crop, const float *x, float *y);
void ops_crop_backward(struct ops *ops, const struct ops_crop *crop, const float *dy, float *dx);

#endif
