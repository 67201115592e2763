/* Max pooling by oneDNN. */
#include "train/ops_onednn.h"

#include <stdlib.h>

struct ops_pool {
    struct ops_pool_shape shape; /* the key: comes first */
    struct ops *ops;
    struct onednn_primitive forward, backward;
};

/* The border behind the map, so that exactly oh (ow) windows fit; less than
 * nothing where the last window ends before the map does. */
static dnnl_dim_t border(int in, int out, const struct ops_pool_shape *s) {
    return (out - 1) * s->stride + s->size - in - s->pad / 2;
}

static enum status create(struct ops_pool *p, struct err *err) {
    const struct ops_pool_shape *s = &p->shape;
    dnnl_memory_desc_t x, y;
    dnnl_primitive_desc_t forward = NULL, backward = NULL;
    dnnl_pooling_desc_t desc;
    dnnl_dims_t strides = { s->stride, s->stride }, kernel = { s->size, s->size }, before = { s->pad / 2, s->pad / 2 };
    dnnl_dims_t behind = { border(s->ih, s->oh, s), border(s->iw, s->ow, s) };
    enum status status = onednn_map_desc(&x, s->n, s->c, s->ih, s->iw, err);
    if (!status) status = onednn_map_desc(&y, s->n, s->c, s->oh, s->ow, err);
    if (status) return status;
    dnnl_status_t st = dnnl_pooling_forward_desc_init(&desc, dnnl_forward_training, dnnl_pooling_max, &x, &y, strides,
                                                      kernel, before, behind);
    if (!st) st = dnnl_primitive_desc_create(&forward, &desc, NULL, p->ops->engine, NULL);
    if (!st)
        st = dnnl_pooling_backward_desc_init(&desc, dnnl_pooling_max, &x, &y, strides, kernel, before, behind);
    if (!st) st = dnnl_primitive_desc_create(&backward, &desc, NULL, p->ops->engine, forward);
    if (st && forward) dnnl_primitive_desc_destroy(forward);
    status = onednn_status(st, "max pooling", err);
    if (status) return status;
    int forward_args[] = { DNNL_ARG_SRC, DNNL_ARG_DST, DNNL_ARG_WORKSPACE };
    int backward_args[] = { DNNL_ARG_DIFF_DST, DNNL_ARG_WORKSPACE, DNNL_ARG_DIFF_SRC };
    status = onednn_primitive_create(&p->forward, p->ops, forward, 3, forward_args, err);
    if (status) {
        dnnl_primitive_desc_destroy(backward);
        return status;
    }
    return onednn_primitive_create(&p->backward, p->ops, backward, 3, backward_args, err);
}

enum status ops_pool_get(struct ops *ops, const struct ops_pool_shape *shape, struct ops_pool **out, struct err *err) {
    struct ops_pool *p = onednn_cache_find(&ops->pools, shape, sizeof *shape);
    if (!p) {
        p = calloc(1, sizeof *p);
        if (!p) return err_memory(err, "max pooling");
        p->shape = *shape;
        p->ops = ops;
        enum status status = create(p, err);
        if (!status) status = onednn_cache_add(&ops->pools, p, sizeof *shape, err);
        if (status) {
            onednn_pool_destroy(p);
            err_prefix(err, "%d images of %dx%dx%d, window %d, stride %d", shape->n, shape->c, shape->ih, shape->iw,
                       shape->size, shape->stride);
            return status;
        }
    }
    *out = p;
    return STATUS_OK;
}

void onednn_pool_destroy(void *pool) {
    struct ops_pool *p = pool;
    onednn_primitive_destroy(&p->forward);
    onednn_primitive_destroy(&p->backward);
    free(p);
}

size_t ops_pool_workspace(const struct ops_pool *pool) { return onednn_primitive_values(&pool->forward, 2); }

enum status ops_pool_forward(struct ops_pool *p, const float *x, float *y, float *workspace, struct err *err) {
    return onednn_primitive_run(p->ops, &p->forward, (const void *[]){ x, y, workspace }, err);
}

enum status ops_pool_backward(struct ops_pool *p, const float *dy, const float *workspace, float *dx, struct err *err) {
    return onednn_primitive_run(p->ops, &p->backward, (const void *[]){ dy, workspace, dx }, err);
}
