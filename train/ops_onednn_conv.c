/* Convolutions and connected layers by oneDNN.
 *
 * Activations stay [N, H, W, C]; for the weights each primitive chooses its own
 * layout. The kept part of a plain tensor is a strided view of it (the first
 * outputs and, of each, the first inputs), so one reorder per step gathers and
 * lays out at once; only behind a concatenation, where the kept inputs are
 * several ranges, they are gathered first. Weight gradients go back the same
 * way, added by the reorder itself. */
#include "train/ops_onednn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct ops_conv {
    struct ops_conv_shape shape; /* the key: comes first */
    struct ops *ops;
    struct onednn_primitive forward, backward_data, backward_weights;
    struct onednn_primitive pack_forward, pack_data; /* plain weights to a primitive's layout */
    struct onednn_primitive unpack;                  /* weight gradient, added to the plain one */
};

/* Descriptors of the arguments; `any` where the primitive chooses. */
struct conv_descs {
    dnnl_memory_desc_t x, y, bias, weights, plain;
};

static int positions(const struct ops_conv_shape *s) { return s->connected ? s->ih * s->iw : s->size * s->size; }

static enum status conv_descs(const struct ops_conv_shape *s, struct conv_descs *d, struct err *err) {
    enum status status = onednn_map_desc(&d->x, s->n, s->ic, s->ih, s->iw, err);
    if (status) return status;
    int g = s->groups, kh = s->connected ? s->ih : s->size, kw = s->connected ? s->iw : s->size;
    dnnl_dim_t k = positions(s), row = s->inputs * k;
    dnnl_dims_t grouped = { g, s->oc / g, s->ic / g, kh, kw }, strides = { s->oc / g * row, row, k, kw, 1 };
    int skip = g == 1; /* of the dimensions: without groups there is none for them */
    dnnl_status_t st;
    if (s->connected)
        st = dnnl_memory_desc_init_by_tag(&d->y, 2, (dnnl_dims_t){ s->n, s->oc }, dnnl_f32, dnnl_ab);
    else
        st = dnnl_memory_desc_init_by_tag(&d->y, 4, (dnnl_dims_t){ s->n, s->oc, s->oh, s->ow }, dnnl_f32, dnnl_nhwc);
    if (!st) st = dnnl_memory_desc_init_by_tag(&d->bias, 1, (dnnl_dims_t){ s->oc }, dnnl_f32, dnnl_a);
    if (!st) st = dnnl_memory_desc_init_by_tag(&d->weights, 5 - skip, grouped + skip, dnnl_f32, dnnl_format_tag_any);
    if (!st) st = dnnl_memory_desc_init_by_strides(&d->plain, 5 - skip, grouped + skip, dnnl_f32, strides + skip);
    return onednn_status(st, "description of a convolution", err);
}

/* The rectifier as a post-operation; *attr stays NULL for a linear one. */
static dnnl_status_t rectifier_attr(struct ops_rectifier r, dnnl_primitive_attr_t *attr) {
    if (r.slope == 1 && isinf(r.cap)) return dnnl_success;
    dnnl_post_ops_t post = NULL;
    dnnl_status_t st = dnnl_post_ops_create(&post);
    if (!st)
        st = isinf(r.cap) ? dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_relu, r.slope, 0)
                          : dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_bounded_relu, r.cap, 0);
    if (!st) st = dnnl_primitive_attr_create(attr);
    if (!st) st = dnnl_primitive_attr_set_post_ops(*attr, post);
    dnnl_post_ops_destroy(post);
    return st;
}

static dnnl_status_t forward_desc(const struct ops_conv *c, const struct conv_descs *d, dnnl_primitive_desc_t *pd) {
    const struct ops_conv_shape *s = &c->shape;
    const dnnl_memory_desc_t *bias = s->bias ? &d->bias : NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t st = rectifier_attr(s->rectifier, &attr);
    dnnl_convolution_desc_t conv;
    dnnl_inner_product_desc_t inner;
    dnnl_dims_t strides = { s->stride, s->stride }, pad = { s->pad, s->pad };
    if (!st && s->connected)
        st = dnnl_inner_product_forward_desc_init(&inner, dnnl_forward_training, &d->x, &d->weights, bias, &d->y);
    else if (!st)
        st = dnnl_convolution_forward_desc_init(&conv, dnnl_forward_training, dnnl_convolution_direct, &d->x,
                                                &d->weights, bias, &d->y, strides, pad, pad);
    const void *desc = s->connected ? (const void *)&inner : (const void *)&conv;
    if (!st) st = dnnl_primitive_desc_create(pd, desc, attr, c->ops->engine, NULL);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return st;
}

static dnnl_status_t data_desc(const struct ops_conv *c, const struct conv_descs *d, const_dnnl_primitive_desc_t hint,
                               dnnl_primitive_desc_t *pd) {
    const struct ops_conv_shape *s = &c->shape;
    dnnl_convolution_desc_t conv;
    dnnl_inner_product_desc_t inner;
    dnnl_dims_t strides = { s->stride, s->stride }, pad = { s->pad, s->pad };
    dnnl_status_t st =
        s->connected ? dnnl_inner_product_backward_data_desc_init(&inner, &d->x, &d->weights, &d->y)
                     : dnnl_convolution_backward_data_desc_init(&conv, dnnl_convolution_direct, &d->x, &d->weights,
                                                                &d->y, strides, pad, pad);
    const void *desc = s->connected ? (const void *)&inner : (const void *)&conv;
    return st ? st : dnnl_primitive_desc_create(pd, desc, NULL, c->ops->engine, hint);
}

static dnnl_status_t weights_desc(const struct ops_conv *c, const struct conv_descs *d, const_dnnl_primitive_desc_t hint,
                                  dnnl_primitive_desc_t *pd) {
    const struct ops_conv_shape *s = &c->shape;
    const dnnl_memory_desc_t *bias = s->bias ? &d->bias : NULL;
    dnnl_convolution_desc_t conv;
    dnnl_inner_product_desc_t inner;
    dnnl_dims_t strides = { s->stride, s->stride }, pad = { s->pad, s->pad };
    dnnl_status_t st =
        s->connected ? dnnl_inner_product_backward_weights_desc_init(&inner, &d->x, &d->weights, bias, &d->y)
                     : dnnl_convolution_backward_weights_desc_init(&conv, dnnl_convolution_direct, &d->x, &d->weights,
                                                                   bias, &d->y, strides, pad, pad);
    const void *desc = s->connected ? (const void *)&inner : (const void *)&conv;
    return st ? st : dnnl_primitive_desc_create(pd, desc, NULL, c->ops->engine, hint);
}

/* Between the plain weights and argument `arg` of `desc`; `back`: from there, added. */
static enum status reorder_create(struct onednn_primitive *reorder, const struct ops_conv *c,
                                  const dnnl_memory_desc_t *plain, const_dnnl_primitive_desc_t desc, int arg, bool back,
                                  struct err *err) {
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(desc, dnnl_query_exec_arg_md, arg);
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    dnnl_status_t st = dnnl_success;
    if (back) {
        st = dnnl_post_ops_create(&post);
        if (!st) st = dnnl_post_ops_append_sum(post, 1);
        if (!st) st = dnnl_primitive_attr_create(&attr);
        if (!st) st = dnnl_primitive_attr_set_post_ops(attr, post);
    }
    if (!st)
        st = dnnl_reorder_primitive_desc_create(&pd, back ? packed : plain, c->ops->engine, back ? plain : packed,
                                                c->ops->engine, attr);
    if (attr) dnnl_primitive_attr_destroy(attr);
    if (post) dnnl_post_ops_destroy(post);
    enum status status = onednn_status(st, "reorder of weights", err);
    return status ? status
                  : onednn_primitive_create(reorder, c->ops, pd, 2, (int[]){ DNNL_ARG_FROM, DNNL_ARG_TO }, err);
}

static enum status in_context(enum status status, const struct ops_conv_shape *s, const char *pass, struct err *err) {
    if (status)
        err_prefix(err, "%s %s, %d images of %dx%dx%d to %dx%dx%d", s->connected ? "connected layer" : "convolution",
                   pass, s->n, s->ic, s->ih, s->iw, s->oc, s->oh, s->ow);
    return status;
}

static enum status create_forward(struct ops_conv *c, struct err *err) {
    struct conv_descs d;
    dnnl_primitive_desc_t pd = NULL;
    enum status status = conv_descs(&c->shape, &d, err);
    if (!status) status = onednn_status(forward_desc(c, &d, &pd), "forward primitive", err);
    if (status) return status;
    status = reorder_create(&c->pack_forward, c, &d.plain, pd, DNNL_ARG_WEIGHTS, false, err);
    if (status) {
        dnnl_primitive_desc_destroy(pd);
        return status;
    }
    int args[] = { DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS };
    return onednn_primitive_create(&c->forward, c->ops, pd, c->shape.bias ? 4 : 3, args, err);
}

static enum status create_backward(struct ops_conv *c, bool data, struct err *err) {
    struct conv_descs d;
    dnnl_primitive_desc_t hint = NULL, pd = NULL;
    enum status status = conv_descs(&c->shape, &d, err);
    if (!status) status = onednn_status(forward_desc(c, &d, &hint), "forward primitive", err);
    if (status) return status;
    status = onednn_status(data ? data_desc(c, &d, hint, &pd) : weights_desc(c, &d, hint, &pd), "backward primitive", err);
    dnnl_primitive_desc_destroy(hint);
    if (status) return status;
    status = data ? reorder_create(&c->pack_data, c, &d.plain, pd, DNNL_ARG_WEIGHTS, false, err)
                  : reorder_create(&c->unpack, c, &d.plain, pd, DNNL_ARG_DIFF_WEIGHTS, true, err);
    if (status) {
        dnnl_primitive_desc_destroy(pd);
        return status;
    }
    if (data) {
        int args[] = { DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC };
        return onednn_primitive_create(&c->backward_data, c->ops, pd, 3, args, err);
    }
    int args[] = { DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS };
    return onednn_primitive_create(&c->backward_weights, c->ops, pd, c->shape.bias ? 4 : 3, args, err);
}

enum status ops_conv_get(struct ops *ops, const struct ops_conv_shape *shape, struct ops_conv **out, struct err *err) {
    struct ops_conv *c = onednn_cache_find(&ops->convs, shape, sizeof *shape);
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c) return err_memory(err, "convolution");
        c->shape = *shape;
        c->ops = ops;
        enum status status = create_forward(c, err);
        if (!status) status = onednn_cache_add(&ops->convs, c, sizeof *shape, err);
        if (status) {
            onednn_conv_destroy(c);
            return in_context(status, shape, "forward", err);
        }
    }
    *out = c;
    return STATUS_OK;
}

void onednn_conv_destroy(void *conv) {
    struct ops_conv *c = conv;
    onednn_primitive_destroy(&c->forward);
    onednn_primitive_destroy(&c->backward_data);
    onednn_primitive_destroy(&c->backward_weights);
    onednn_primitive_destroy(&c->pack_forward);
    onednn_primitive_destroy(&c->pack_data);
    onednn_primitive_destroy(&c->unpack);
    free(c);
}

/* ---- several ranges of inputs: gathered, or given back ---- */

static void move_ranges(const struct ops_conv *c, const struct ops_weights *w, float *gathered, bool back) {
    const struct ops_conv_shape *s = &c->shape;
    size_t k = (size_t)positions(s), plain_row = (size_t)w->inputs * k, row = (size_t)s->ic * k;
#pragma omp parallel for schedule(static)
    for (int o = 0; o < s->oc; o++) {
        float *g = gathered + (size_t)o * row;
        for (int r = 0; r < w->nranges; r++) {
            float *p = w->values + (size_t)o * plain_row + (size_t)w->ranges[r].first * k;
            size_t count = (size_t)w->ranges[r].count * k;
            if (!back) memcpy(g, p, count * sizeof *g);
            else
                for (size_t i = 0; i < count; i++) p[i] += g[i];
            g += count;
        }
    }
}

static enum status gathered(const struct ops_conv *c, float **values, struct err *err) {
    size_t count = (size_t)c->shape.oc * (size_t)c->shape.ic * (size_t)positions(&c->shape);
    return ops_scratch(c->ops, OPS_SCRATCH_GATHERED, count, values, err);
}

/* The kept weights as a strided plain tensor of the shape's `inputs`. */
static enum status plain_weights(const struct ops_conv *c, const struct ops_weights *w, const float **plain,
                                 struct err *err) {
    if (w->nranges == 1) {
        *plain = w->values + (size_t)w->ranges[0].first * (size_t)positions(&c->shape);
        return STATUS_OK;
    }
    float *g;
    enum status status = gathered(c, &g, err);
    if (status) return status;
    move_ranges(c, w, g, false);
    *plain = g;
    return STATUS_OK;
}

/* ---- running ---- */

static enum status pack(struct ops_conv *c, struct onednn_primitive *reorder, const struct ops_weights *w,
                        float **packed, struct err *err) {
    const float *plain;
    enum status status = plain_weights(c, w, &plain, err);
    if (!status) status = ops_scratch(c->ops, OPS_SCRATCH_WEIGHTS, onednn_primitive_values(reorder, 1), packed, err);
    return status ? status : onednn_primitive_run(c->ops, reorder, (const void *[]){ plain, *packed }, err);
}

enum status ops_conv_forward(struct ops_conv *c, const float *x, const struct ops_weights *weights, const float *bias,
                             float *y, struct err *err) {
    float *packed;
    enum status status = pack(c, &c->pack_forward, weights, &packed, err);
    if (!status) status = onednn_primitive_run(c->ops, &c->forward, (const void *[]){ x, packed, y, bias }, err);
    return in_context(status, &c->shape, "forward", err);
}

enum status ops_conv_backward_data(struct ops_conv *c, const float *dy, const struct ops_weights *weights, float *dx,
                                   struct err *err) {
    float *packed;
    enum status status = c->backward_data.handle ? STATUS_OK : create_backward(c, true, err);
    if (!status) status = pack(c, &c->pack_data, weights, &packed, err);
    if (!status) status = onednn_primitive_run(c->ops, &c->backward_data, (const void *[]){ dy, packed, dx }, err);
    return in_context(status, &c->shape, "backward", err);
}

enum status ops_conv_backward_weights(struct ops_conv *c, const float *x, const float *dy,
                                      const struct ops_weights *dweights, float *dbias, struct err *err) {
    float *packed = NULL, *bias = NULL, *plain = NULL;
    enum status status = c->backward_weights.handle ? STATUS_OK : create_backward(c, false, err);
    if (!status)
        status = ops_scratch(c->ops, OPS_SCRATCH_WEIGHTS, onednn_primitive_values(&c->unpack, 0), &packed, err);
    if (!status) status = ops_scratch(c->ops, OPS_SCRATCH_BIAS, (size_t)c->shape.oc, &bias, err);
    if (!status)
        status = onednn_primitive_run(c->ops, &c->backward_weights, (const void *[]){ x, dy, packed, bias }, err);
    bool several = dweights->nranges > 1;
    if (!status && several) {
        status = gathered(c, &plain, err);
        if (!status) ops_zero(c->ops, plain, (size_t)c->shape.oc * (size_t)c->shape.ic * (size_t)positions(&c->shape));
    } else if (!status) {
        plain = dweights->values + (size_t)dweights->ranges[0].first * (size_t)positions(&c->shape);
    }
    if (!status) status = onednn_primitive_run(c->ops, &c->unpack, (const void *[]){ packed, plain }, err);
    if (status) return in_context(status, &c->shape, "backward", err);
    if (several) move_ranges(c, dweights, plain, true);
    for (int o = 0; dbias && o < c->shape.oc; o++) dbias[o] += bias[o];
    return STATUS_OK;
}
