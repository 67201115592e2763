/* Max pooling by oneDNN, in parts of a few images. */
#include "train/ops_onednn.h"

#include <stdlib.h>

struct ops_pool {
    struct ops_pool_shape shape; /* the key: comes first */
    struct ops *ops;
    int images;  /* per part; the last part may have fewer */
    bool single; /* parts run on single threads */
    int nvariants;
    struct variant {
        int n;
        struct onednn_primitive forward, backward;
    } variants[2];
};

/* The border behind the map, so that exactly oh (ow) windows fit; less than
 * nothing where the last window ends before the map does. */
static dnnl_dim_t border(int in, int out, const struct ops_pool_shape *s) {
    return (out - 1) * s->stride + s->size - in - s->pad / 2;
}

static enum status describe(const struct ops_pool *p, int n, dnnl_primitive_desc_t *forward,
                            dnnl_primitive_desc_t *backward, struct err *err) {
    const struct ops_pool_shape *s = &p->shape;
    dnnl_memory_desc_t x, y;
    dnnl_pooling_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_dims_t strides = { s->stride, s->stride }, kernel = { s->size, s->size }, before = { s->pad / 2, s->pad / 2 };
    dnnl_dims_t behind = { border(s->ih, s->oh, s), border(s->iw, s->ow, s) };
    enum status status = onednn_map_desc(&x, n, s->c, s->ih, s->iw, err);
    if (!status) status = onednn_map_desc(&y, n, s->c, s->oh, s->ow, err);
    if (status) return status;
    dnnl_status_t st = onednn_attr_create(&attr);
    if (!st)
        st = dnnl_pooling_forward_desc_init(&desc, dnnl_forward_training, dnnl_pooling_max, &x, &y, strides, kernel,
                                            before, behind);
    if (!st) st = dnnl_primitive_desc_create(forward, &desc, attr, p->ops->engine, NULL);
    if (!st) st = dnnl_pooling_backward_desc_init(&desc, dnnl_pooling_max, &x, &y, strides, kernel, before, behind);
    if (!st) st = dnnl_primitive_desc_create(backward, &desc, attr, p->ops->engine, *forward);
    if (attr) dnnl_primitive_attr_destroy(attr);
    if (st && *forward) dnnl_primitive_desc_destroy(*forward);
    return onednn_status(st, "max pooling", err);
}

static enum status create(struct ops_pool *p, struct variant *v, struct err *err) {
    dnnl_primitive_desc_t forward = NULL, backward = NULL;
    enum status status = describe(p, v->n, &forward, &backward, err);
    if (status) return status;
    int forward_args[] = { DNNL_ARG_SRC, DNNL_ARG_DST, DNNL_ARG_WORKSPACE };
    int backward_args[] = { DNNL_ARG_DIFF_DST, DNNL_ARG_WORKSPACE, DNNL_ARG_DIFF_SRC };
    status = onednn_primitive_create(&v->forward, p->ops, forward, p->single, 3, forward_args, err);
    if (status) {
        dnnl_primitive_desc_destroy(backward);
        return status;
    }
    return onednn_primitive_create(&v->backward, p->ops, backward, p->single, 3, backward_args, err);
}

static void choose_parts(struct ops_pool *p) {
    const struct ops_pool_shape *s = &p->shape;
    size_t image = (size_t)s->c * ((size_t)s->ih * (size_t)s->iw + (size_t)s->oh * (size_t)s->ow);
    p->images = ops_part_images(p->ops, s->n, image);
    p->single = p->images < s->n;
    p->nvariants = s->n % p->images ? 2 : 1;
    p->variants[0].n = p->images;
    p->variants[1].n = s->n % p->images;
}

enum status ops_pool_get(struct ops *ops, const struct ops_pool_shape *shape, struct ops_pool **out, struct err *err) {
    struct ops_pool *p = onednn_cache_find(&ops->pools, shape, sizeof *shape);
    if (!p) {
        p = calloc(1, sizeof *p);
        if (!p) return err_memory(err, "max pooling");
        p->shape = *shape;
        p->ops = ops;
        choose_parts(p);
        enum status status = STATUS_OK;
        onednn_threads_set(ops, p->single);
        for (int i = 0; i < p->nvariants && !status; i++) status = create(p, &p->variants[i], err);
        onednn_threads_set(ops, false);
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
    for (int i = 0; i < p->nvariants; i++) {
        onednn_primitive_destroy(&p->variants[i].forward);
        onednn_primitive_destroy(&p->variants[i].backward);
    }
    free(p);
}

int ops_pool_images(const struct ops_pool *pool) { return pool->images; }

/* Ends on a cache line, so that parts begin on one. */
size_t ops_pool_workspace(const struct ops_pool *pool) {
    size_t images = (size_t)pool->images, each = (pool->variants[0].forward.values[2] + images - 1) / images;
    return (each + 15) / 16 * 16;
}

static struct variant *variant_of(struct ops_pool *p, const struct ops_part *part) {
    return &p->variants[part->n != p->images];
}

enum status ops_pool_forward(struct ops_pool *p, const struct ops_part *part, const float *x, float *y,
                             float *workspace, struct err *err) {
    return onednn_primitive_run(p->ops, &variant_of(p, part)->forward, (const void *[]){ x, y, workspace }, err);
}

enum status ops_pool_backward(struct ops_pool *p, const struct ops_part *part, const float *dy, const float *workspace,
                              float *dx, struct err *err) {
    return onednn_primitive_run(p->ops, &variant_of(p, part)->backward, (const void *[]){ dy, workspace, dx }, err);
}
