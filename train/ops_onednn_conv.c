/* Convolutions and connected layers by oneDNN.
 *
 * Activations stay [N, H, W, C]; for the weights each primitive chooses its own
 * layout. The kept part of a plain tensor is a strided view of it (the first
 * outputs and, of each, the first inputs), so one reorder per step gathers and
 * lays out at once; only behind a concatenation, where the kept inputs are
 * several ranges, they are gathered first. Weight gradients are summed over a
 * thread's parts, then over threads in their order, and go back the same way,
 * added by the reorder itself.
 *
 * Most layers run in parts of a few images, each on one thread. Where weights
 * outweigh activations, one part takes all images and oneDNN splits the work.
 *
 * On maps of a few positions oneDNN's convolutions run at a tenth of the
 * processor's speed. There the inputs of every output position are gathered
 * (im2col), and the layer is a connected one over these patches. */
#include "train/ops_cpu.h"
#include "train/ops_onednn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The primitives for one number of images. */
struct variant {
    int n;
    struct onednn_primitive forward, backward_data, backward_weights;
};

struct ops_conv {
    struct ops_conv_shape shape; /* the key: comes first */
    struct ops_conv_shape work;  /* what primitives compute: the shape, or, by patches, a connected layer */
    bool patches;
    struct ops *ops;
    int images; /* per part; the last part may have fewer */
    bool single; /* parts run on single threads */
    bool bf16;   /* factors are rounded first */
    int nvariants;
    struct variant variants[2];
    /* Layouts that the first variant chose. */
    dnnl_memory_desc_t forward_layout, data_layout, gradient_layout;
    struct onednn_primitive pack_forward, pack_data; /* plain weights to a primitive's layout */
    struct onednn_primitive unpack;                  /* weight gradient, added to the plain one */
    bool backward;                                   /* primitives for it have been made */
    float *packed;                                   /* of the pass */
    float **sums; /* [threads] of the pass: weight gradient, then bias gradient; NULL: none yet */
};

/* Descriptors of the arguments; weights `any` where the primitive chooses. */
struct conv_descs {
    dnnl_memory_desc_t x, y, bias, weights, plain;
};

enum direction { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS };

enum { SMALL_MAP = 16, MANY_INPUTS = 32 }; /* by patches: positions at most, channels at least */
enum { SMALL = 1 << 16 }; /* weights: fewer are reordered sooner than other threads wake up */

static int positions(const struct ops_conv_shape *s) { return s->connected ? s->ih * s->iw : s->size * s->size; }

static size_t weight_count(const struct ops_conv_shape *s) {
    return (size_t)s->oc * (size_t)(s->ic / s->groups) * (size_t)positions(s);
}

/* `bf16`: the two factors are, what comes out is not. */
static enum status conv_descs(const struct ops_conv_shape *s, int n, bool bf16, enum direction direction,
                              struct conv_descs *d, struct err *err) {
    enum status status = onednn_map_desc(&d->x, n, s->ic, s->ih, s->iw, err);
    if (status) return status;
    int g = s->groups, kh = s->connected ? s->ih : s->size, kw = s->connected ? s->iw : s->size;
    dnnl_dim_t k = positions(s), row = s->inputs * k;
    dnnl_dims_t grouped = { g, s->oc / g, s->ic / g, kh, kw }, strides = { s->oc / g * row, row, k, kw, 1 };
    int skip = g == 1; /* of the dimensions: without groups there is none for them */
    dnnl_status_t st;
    if (s->connected)
        st = dnnl_memory_desc_init_by_tag(&d->y, 2, (dnnl_dims_t){ n, s->oc }, dnnl_f32, dnnl_ab);
    else
        st = dnnl_memory_desc_init_by_tag(&d->y, 4, (dnnl_dims_t){ n, s->oc, s->oh, s->ow }, dnnl_f32, dnnl_nhwc);
    if (!st) st = dnnl_memory_desc_init_by_tag(&d->bias, 1, (dnnl_dims_t){ s->oc }, dnnl_f32, dnnl_a);
    if (!st) st = dnnl_memory_desc_init_by_tag(&d->weights, 5 - skip, grouped + skip, dnnl_f32, dnnl_format_tag_any);
    if (!st) st = dnnl_memory_desc_init_by_strides(&d->plain, 5 - skip, grouped + skip, dnnl_f32, strides + skip);
    if (bf16 && direction != BACKWARD_DATA) d->x.data_type = dnnl_bf16;
    if (bf16 && direction != FORWARD) d->y.data_type = dnnl_bf16;
    if (bf16 && direction != BACKWARD_WEIGHTS) d->weights.data_type = dnnl_bf16;
    return onednn_status(st, "description of a convolution", err);
}

/* With the rectifier as a post-operation, unless it is linear. */
static dnnl_status_t rectifier_attr(struct ops_rectifier r, dnnl_primitive_attr_t *attr) {
    dnnl_status_t st = onednn_attr_create(attr);
    if (st || (r.slope == 1 && isinf(r.cap))) return st;
    dnnl_post_ops_t post = NULL;
    st = dnnl_post_ops_create(&post);
    if (!st)
        st = isinf(r.cap) ? dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_relu, r.slope, 0)
                          : dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_bounded_relu, r.cap, 0);
    if (!st) st = dnnl_primitive_attr_set_post_ops(*attr, post);
    dnnl_post_ops_destroy(post);
    return st;
}

static dnnl_status_t describe_inner(const struct conv_descs *d, const dnnl_memory_desc_t *bias, enum direction direction,
                                    dnnl_inner_product_desc_t *desc) {
    switch (direction) {
    case FORWARD:
        return dnnl_inner_product_forward_desc_init(desc, dnnl_forward_training, &d->x, &d->weights, bias, &d->y);
    case BACKWARD_DATA: return dnnl_inner_product_backward_data_desc_init(desc, &d->x, &d->weights, &d->y);
    default: return dnnl_inner_product_backward_weights_desc_init(desc, &d->x, &d->weights, bias, &d->y);
    }
}

static dnnl_status_t describe_conv(const struct ops_conv_shape *s, const struct conv_descs *d,
                                   const dnnl_memory_desc_t *bias, enum direction direction,
                                   dnnl_convolution_desc_t *desc) {
    dnnl_dims_t strides = { s->stride, s->stride }, pad = { s->pad, s->pad };
    switch (direction) {
    case FORWARD:
        return dnnl_convolution_forward_desc_init(desc, dnnl_forward_training, dnnl_convolution_direct, &d->x,
                                                  &d->weights, bias, &d->y, strides, pad, pad);
    case BACKWARD_DATA:
        return dnnl_convolution_backward_data_desc_init(desc, dnnl_convolution_direct, &d->x, &d->weights, &d->y,
                                                        strides, pad, pad);
    default:
        return dnnl_convolution_backward_weights_desc_init(desc, dnnl_convolution_direct, &d->x, &d->weights, bias,
                                                           &d->y, strides, pad, pad);
    }
}

/* oneDNN offers its blocked-matrix convolution first. It makes its matrices
 * from the rows of a map, and where these are a few positions long against many
 * channels its direct convolution is up to three times as fast. */
static bool prefers_direct(const struct ops_conv_shape *s) {
    return !s->connected && s->groups == 1 && s->size > 1 && s->ow > 1 && (s->ow < 4 || (s->ow == 4 && s->ic >= 256));
}

/* The first implementation, or the one behind a blocked-matrix one. */
static dnnl_status_t choose(const struct ops_conv *c, const void *desc, const_dnnl_primitive_attr_t attr,
                            const_dnnl_primitive_desc_t hint, bool direct, dnnl_primitive_desc_t *pd) {
    dnnl_primitive_desc_iterator_t list = NULL;
    dnnl_status_t st = dnnl_primitive_desc_iterator_create(&list, desc, attr, c->ops->engine, hint);
    if (st) return st;
    dnnl_primitive_desc_t first = dnnl_primitive_desc_iterator_fetch(list), second = NULL;
    const char *name = "";
    if (first) dnnl_primitive_desc_query(first, dnnl_query_impl_info_str, 0, &name);
    bool next = first && direct && strncmp(name, "brgconv", 7) == 0;
    if (next && dnnl_primitive_desc_iterator_next(list) == dnnl_success) {
        second = dnnl_primitive_desc_iterator_fetch(list);
        if (second) dnnl_primitive_desc_query(second, dnnl_query_impl_info_str, 0, &name);
    }
    bool take = second && strncmp(name, "jit", 3) == 0;
    if (second) dnnl_primitive_desc_destroy(take ? first : second);
    dnnl_primitive_desc_iterator_destroy(list);
    *pd = take ? second : first;
    return *pd ? dnnl_success : dnnl_out_of_memory;
}

static dnnl_status_t describe(const struct ops_conv *c, const struct conv_descs *d, enum direction direction,
                              const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *pd) {
    const struct ops_conv_shape *s = &c->work;
    const dnnl_memory_desc_t *bias = s->bias ? &d->bias : NULL;
    dnnl_convolution_desc_t conv;
    dnnl_inner_product_desc_t inner;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t st = s->connected ? describe_inner(d, bias, direction, &inner)
                                    : describe_conv(s, d, bias, direction, &conv);
    const void *desc = s->connected ? (const void *)&inner : (const void *)&conv;
    if (!st) st = direction == FORWARD ? rectifier_attr(s->rectifier, &attr) : onednn_attr_create(&attr);
    if (!st) st = choose(c, desc, attr, hint, direction == FORWARD && !c->bf16 && prefers_direct(s), pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return st;
}

/* Between the plain weights and a layout; `back`: from there, added. */
static enum status reorder_create(struct onednn_primitive *reorder, const struct ops_conv *c,
                                  const dnnl_memory_desc_t *plain, const dnnl_memory_desc_t *packed, bool back,
                                  struct err *err) {
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    dnnl_status_t st = onednn_attr_create(&attr);
    if (!st && back) {
        st = dnnl_post_ops_create(&post);
        if (!st) st = dnnl_post_ops_append_sum(post, 1);
        if (!st) st = dnnl_primitive_attr_set_post_ops(attr, post);
    }
    onednn_threads_set(c->ops, weight_count(&c->work) < SMALL);
    if (!st)
        st = dnnl_reorder_primitive_desc_create(&pd, back ? packed : plain, c->ops->engine, back ? plain : packed,
                                                c->ops->engine, attr);
    onednn_threads_set(c->ops, false);
    if (attr) dnnl_primitive_attr_destroy(attr);
    if (post) dnnl_post_ops_destroy(post);
    enum status status = onednn_status(st, "reorder of weights", err);
    return status ? status
                  : onednn_primitive_create(reorder, c->ops, pd, false, 2, (int[]){ DNNL_ARG_FROM, DNNL_ARG_TO }, err);
}

static enum status in_context(enum status status, const struct ops_conv_shape *s, const char *pass, struct err *err) {
    if (status)
        err_prefix(err, "%s %s, %d images of %dx%dx%d to %dx%dx%d", s->connected ? "connected layer" : "convolution",
                   pass, s->n, s->ic, s->ih, s->iw, s->oc, s->oh, s->ow);
    return status;
}

/* `weights`: a layout to take, or NULL for one of its own choice. */
static enum status describe_variant(const struct ops_conv *c, int n, enum direction direction,
                                    const dnnl_memory_desc_t *weights, dnnl_primitive_desc_t *pd, struct err *err) {
    struct conv_descs forward, d;
    dnnl_primitive_desc_t hint = NULL;
    enum status status = conv_descs(&c->work, n, c->bf16, direction, &d, err);
    if (!status) status = conv_descs(&c->work, n, c->bf16, FORWARD, &forward, err);
    if (status) return status;
    if (weights) d.weights = *weights;
    dnnl_status_t st = direction == FORWARD ? dnnl_success : describe(c, &forward, FORWARD, NULL, &hint);
    if (!st) st = describe(c, &d, direction, hint, pd);
    if (hint) dnnl_primitive_desc_destroy(hint);
    return onednn_status(st, direction == FORWARD ? "forward primitive" : "backward primitive", err);
}

/* Whether all three directions have code made for bfloat16. */
static bool supports_bf16(struct ops_conv *c) {
    bool fast = c->work.precision == OPS_BF16 && !c->shape.connected && c->work.groups == 1;
    c->bf16 = true;
    onednn_threads_set(c->ops, c->single);
    for (enum direction d = FORWARD; d <= BACKWARD_WEIGHTS && fast; d++) {
        dnnl_primitive_desc_t pd = NULL;
        const char *name = "";
        fast = !describe_variant(c, c->variants[0].n, d, NULL, &pd, NULL);
        if (fast) dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
        fast = fast && (strstr(name, "bf16") || (c->patches && strstr(name, "gemm")));
        if (pd) dnnl_primitive_desc_destroy(pd);
    }
    onednn_threads_set(c->ops, false);
    return fast;
}

/* One primitive of a variant. The first variant chooses the layout of weights,
 * the second has to take the same. */
static enum status create_primitive(struct ops_conv *c, struct variant *v, enum direction direction, struct err *err) {
    static const struct {
        int weights, args[4], nargs; /* the last argument, a bias, may be missing */
    } use[] = {
        [FORWARD] = { DNNL_ARG_WEIGHTS, { DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS }, 3 },
        [BACKWARD_DATA] = { DNNL_ARG_WEIGHTS, { DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC }, 3 },
        [BACKWARD_WEIGHTS] = { DNNL_ARG_DIFF_WEIGHTS,
                               { DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS }, 3 },
    };
    struct onednn_primitive *primitives[] = { &v->forward, &v->backward_data, &v->backward_weights };
    dnnl_memory_desc_t *layouts[] = { &c->forward_layout, &c->data_layout, &c->gradient_layout };
    dnnl_primitive_desc_t pd = NULL;
    enum status status = describe_variant(c, v->n, direction, v == c->variants ? NULL : layouts[direction], &pd, err);
    if (status) return status;
    *layouts[direction] = *dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, use[direction].weights);
    bool bias = c->shape.bias && direction != BACKWARD_DATA;
    return onednn_primitive_create(primitives[direction], c->ops, pd, c->single, use[direction].nargs + bias,
                                   use[direction].args, err);
}

static enum status create_forward(struct ops_conv *c, struct err *err) {
    struct conv_descs d;
    enum status status = conv_descs(&c->work, 1, false, FORWARD, &d, err);
    onednn_threads_set(c->ops, c->single);
    for (int i = 0; i < c->nvariants && !status; i++) status = create_primitive(c, &c->variants[i], FORWARD, err);
    onednn_threads_set(c->ops, false);
    return status ? status : reorder_create(&c->pack_forward, c, &d.plain, &c->forward_layout, false, err);
}

static enum status create_backward(struct ops_conv *c, struct err *err) {
    struct conv_descs d;
    enum status status = conv_descs(&c->work, 1, false, FORWARD, &d, err);
    onednn_threads_set(c->ops, c->single);
    for (int i = 0; i < c->nvariants && !status; i++) {
        status = create_primitive(c, &c->variants[i], BACKWARD_DATA, err);
        if (!status) status = create_primitive(c, &c->variants[i], BACKWARD_WEIGHTS, err);
    }
    onednn_threads_set(c->ops, false);
    if (!status) status = reorder_create(&c->pack_data, c, &d.plain, &c->data_layout, false, err);
    if (!status) status = reorder_create(&c->unpack, c, &d.plain, &c->gradient_layout, true, err);
    c->backward = !status;
    return status;
}

static void destroy_backward(struct ops_conv *c) {
    for (int i = 0; i < c->nvariants; i++) {
        onednn_primitive_destroy(&c->variants[i].backward_data);
        onednn_primitive_destroy(&c->variants[i].backward_weights);
    }
    onednn_primitive_destroy(&c->pack_data);
    onednn_primitive_destroy(&c->unpack);
}

void onednn_conv_destroy(void *conv) {
    struct ops_conv *c = conv;
    destroy_backward(c);
    for (int i = 0; i < c->nvariants; i++) onednn_primitive_destroy(&c->variants[i].forward);
    onednn_primitive_destroy(&c->pack_forward);
    free(c->sums);
    free(c);
}

/* A connected layer whose images are the patches, [n * oh * ow, size, size, ic]. */
static void choose_work(struct ops_conv *c) {
    const struct ops_conv_shape *s = &c->shape;
    c->work = *s;
    c->patches = !s->connected && s->groups == 1 && s->size > 1 && s->oh * s->ow <= SMALL_MAP && s->ic >= MANY_INPUTS;
    if (!c->patches) return;
    c->work.connected = 1;
    c->work.n = s->n * s->oh * s->ow;
    c->work.ih = c->work.iw = s->size;
    c->work.oh = c->work.ow = 1;
}

/* Parts fit a core's cache, but are not so small that weights, which each part
 * goes through, outweigh its images. */
static void choose_parts(struct ops_conv *c) {
    const struct ops_conv_shape *s = &c->shape;
    size_t image = (size_t)s->ic * (size_t)s->ih * (size_t)s->iw + (size_t)s->oc * (size_t)s->oh * (size_t)s->ow;
    size_t per_thread = (size_t)(s->n / c->ops->nthreads) * image;
    c->images = s->n;
    if (!c->work.connected && per_thread > weight_count(s)) {
        size_t least = weight_count(s) / image + 1;
        int images = ops_part_images(c->ops, s->n, image), balanced = ops_part_images(c->ops, s->n, 1);
        c->images = (size_t)images >= least ? images : least < (size_t)balanced ? (int)least : balanced;
    }
    c->single = c->images < s->n;
    c->nvariants = s->n % c->images ? 2 : 1;
    c->variants[0].n = c->patches ? c->work.n : c->images;
    c->variants[1].n = s->n % c->images;
}

enum status ops_conv_get(struct ops *ops, const struct ops_conv_shape *shape, struct ops_conv **out, struct err *err) {
    struct ops_conv *c = onednn_cache_find(&ops->convs, shape, sizeof *shape);
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c) return err_memory(err, "convolution");
        c->shape = *shape;
        c->ops = ops;
        c->sums = calloc((size_t)ops->nthreads, sizeof *c->sums);
        choose_work(c);
        choose_parts(c);
        c->bf16 = supports_bf16(c);
        enum status status = c->sums ? create_forward(c, err) : err_memory(err, "convolution");
        if (!status) status = onednn_cache_add(&ops->convs, c, sizeof *shape, err);
        if (status) {
            onednn_conv_destroy(c);
            return in_context(status, shape, "forward", err);
        }
    }
    *out = c;
    return STATUS_OK;
}

int ops_conv_images(const struct ops_conv *conv) { return conv->images; }

/* ---- several ranges of inputs: gathered, or given back ---- */

static void move_ranges(const struct ops_conv *c, const struct ops_weights *w, float *gathered, bool back) {
    const struct ops_conv_shape *s = &c->work;
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

static float *first_weight(const struct ops_conv *c, const struct ops_weights *w) {
    return w->values + (size_t)w->ranges[0].first * (size_t)positions(&c->work);
}

enum status ops_conv_pack(struct ops_conv *c, enum ops_direction direction, const struct ops_weights *w, struct err *err) {
    enum status status = STATUS_OK;
    if (direction == OPS_BACKWARD) {
        memset(c->sums, 0, (size_t)c->ops->nthreads * sizeof *c->sums);
        if (!c->backward) status = create_backward(c, err);
        if (!c->backward) destroy_backward(c);
    }
    struct onednn_primitive *reorder = direction == OPS_FORWARD ? &c->pack_forward : &c->pack_data;
    float *plain = first_weight(c, w);
    if (!status && w->nranges > 1) {
        status = ops_scratch(c->ops, OPS_SCRATCH_GATHERED, weight_count(&c->work), &plain, err);
        if (!status) move_ranges(c, w, plain, false);
    }
    if (!status) status = ops_scratch(c->ops, OPS_SCRATCH_WEIGHTS, reorder->values[1], &c->packed, err);
    if (!status) status = onednn_primitive_run(c->ops, reorder, (const void *[]){ plain, c->packed }, err);
    return in_context(status, &c->shape, "weights", err);
}

/* ---- running ---- */

bool ops_has_bf16(void) {
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

static struct variant *variant_of(struct ops_conv *c, const struct ops_part *part) {
    return &c->variants[part->n != c->images];
}

/* The values as the primitives take them. */
static enum status rounded(const struct ops_conv *c, const float *values, size_t count, enum ops_scratch scratch,
                           const void **out, struct err *err) {
    *out = values;
    if (!c->bf16) return STATUS_OK;
    float *room;
    enum status status = ops_scratch(c->ops, scratch, (count + 1) / 2, &room, err);
    if (!status) ops_round_bf16(c->ops, values, count, (uint16_t *)(void *)room);
    *out = room;
    return status;
}

static size_t input_count(const struct ops_conv *c, const struct ops_part *part) {
    return (size_t)part->n * (size_t)c->shape.ic * (size_t)c->shape.ih * (size_t)c->shape.iw;
}
static size_t output_count(const struct ops_conv *c, const struct ops_part *part) {
    return (size_t)part->n * (size_t)c->shape.oc * (size_t)c->shape.oh * (size_t)c->shape.ow;
}

/* Patches of a map, or, `back`, their sum into it. `values` of `size` bytes. */
struct patching {
    const struct ops_conv_shape *s;
    char *map, *patches;
    size_t size;
};

/* Calls for one image: `run` per tap of every output position, with the
 * channels' place in the map, or NULL outside of it, and in the patches. */
typedef void patch_run(char *map, char *patch, size_t bytes);
static inline void each_tap(const struct patching *p, size_t image, patch_run *run) {
    const struct ops_conv_shape *s = p->s;
    size_t row = (size_t)s->ic * p->size, taps = (size_t)(s->size * s->size);
    char *map = p->map + image * (size_t)(s->ih * s->iw) * row;
    char *patch = p->patches + image * (size_t)(s->oh * s->ow) * taps * row;
    for (int oy = 0; oy < s->oh; oy++)
        for (int ox = 0; ox < s->ow; ox++)
            for (int t = 0; t < (int)taps; t++, patch += row) {
                int y = oy * s->stride - s->pad + t / s->size, x = ox * s->stride - s->pad + t % s->size;
                bool inside = y >= 0 && y < s->ih && x >= 0 && x < s->iw;
                run(inside ? map + (size_t)(y * s->iw + x) * row : NULL, patch, row);
            }
}

static void take(char *map, char *patch, size_t bytes) {
    if (map) memcpy(patch, map, bytes);
    else memset(patch, 0, bytes);
}

static void give(char *map, char *patch, size_t bytes) {
    float *restrict to = (float *)(void *)map;
    const float *restrict from = (const float *)(const void *)patch;
    for (size_t i = 0; to && i < bytes / sizeof(float); i++) to[i] += from[i];
}

static void take_loop(const void *args, size_t first, size_t last, int thread) {
    for (size_t image = first; image < last; image++) each_tap(args, image, take);
}

static void give_loop(const void *args, size_t first, size_t last, int thread) {
    const struct patching *p = args;
    size_t bytes = (size_t)p->s->ih * (size_t)p->s->iw * (size_t)p->s->ic * p->size;
    for (size_t image = first; image < last; image++) {
        memset(p->map + image * bytes, 0, bytes);
        each_tap(p, image, give);
    }
}

static size_t patch_count(const struct ops_conv *c) {
    return (size_t)c->work.n * (size_t)c->work.ic * (size_t)positions(&c->work);
}

/* The input as the primitives take it. */
static enum status input_of(const struct ops_conv *c, const struct ops_part *part, const float *x, const void **out,
                            struct err *err) {
    enum status status = rounded(c, x, input_count(c, part), OPS_SCRATCH_BF16, out, err);
    if (status || !c->patches) return status;
    size_t count = patch_count(c), size = c->bf16 ? sizeof(uint16_t) : sizeof(float);
    float *room;
    status = ops_scratch(c->ops, OPS_SCRATCH_PATCHES, (count * size + sizeof(float) - 1) / sizeof(float), &room, err);
    if (status) return status;
    struct patching p = { &c->shape, (char *)(uintptr_t)*out, (char *)room, size };
    ops_parallel(c->ops, (size_t)part->n, 1, count / (size_t)part->n, take_loop, &p);
    *out = room;
    return STATUS_OK;
}

enum status ops_conv_forward(struct ops_conv *c, const struct ops_part *part, const float *x, const float *bias,
                             float *y, struct err *err) {
    const void *args[] = { NULL, c->packed, y, bias };
    enum status status = input_of(c, part, x, &args[0], err);
    if (!status) status = onednn_primitive_run(c->ops, &variant_of(c, part)->forward, args, err);
    return in_context(status, &c->shape, "forward", err);
}

/* Values of a sum: the weights' part ends on a cache line, the bias follows. */
static size_t bias_offset(const struct ops_conv *c) { return (c->unpack.values[0] + 15) / 16 * 16; }
static size_t sum_count(const struct ops_conv *c) { return bias_offset(c) + (size_t)(c->shape.bias ? c->shape.oc : 0); }

static enum status input_gradient(struct ops_conv *c, const struct ops_part *part, const void *dy, float *dx,
                                  struct err *err) {
    float *patches = dx;
    enum status status = STATUS_OK;
    if (c->patches) status = ops_scratch(c->ops, OPS_SCRATCH_PATCHES, patch_count(c), &patches, err);
    if (!status)
        status = onednn_primitive_run(c->ops, &variant_of(c, part)->backward_data,
                                      (const void *[]){ dy, c->packed, patches }, err);
    if (status || !c->patches) return status;
    struct patching p = { &c->shape, (char *)dx, (char *)patches, sizeof(float) };
    ops_parallel(c->ops, (size_t)part->n, 1, patch_count(c) / (size_t)part->n, give_loop, &p);
    return STATUS_OK;
}

enum status ops_conv_backward(struct ops_conv *c, const struct ops_part *part, const float *x, const float *dy,
                              float *dx, struct err *err) {
    float **sum = &c->sums[part->thread], *values = NULL;
    const void *xr, *dyr;
    enum status status =
        ops_scratch(c->ops, *sum ? OPS_SCRATCH_DWEIGHTS_PART : OPS_SCRATCH_DWEIGHTS, sum_count(c), &values, err);
    if (!status) status = input_of(c, part, x, &xr, err);
    if (!status) status = rounded(c, dy, output_count(c, part), OPS_SCRATCH_BF16_2, &dyr, err);
    if (!status)
        status = onednn_primitive_run(c->ops, &variant_of(c, part)->backward_weights,
                                      (const void *[]){ xr, dyr, values, values + bias_offset(c) }, err);
    if (!status && *sum) ops_add(c->ops, values, sum_count(c), *sum);
    else if (!status) *sum = values;
    if (!status && dx) status = input_gradient(c, part, dyr, dx, err);
    return in_context(status, &c->shape, "backward", err);
}

enum status ops_conv_add_gradient(struct ops_conv *c, const struct ops_weights *dweights, float *dbias, struct err *err) {
    float *sum = NULL, *plain = first_weight(c, dweights);
    bool several = dweights->nranges > 1;
    enum status status = STATUS_OK;
    for (int t = 0; t < c->ops->nthreads; t++) {
        if (sum && c->sums[t]) ops_add(c->ops, c->sums[t], sum_count(c), sum);
        else if (c->sums[t]) sum = c->sums[t];
    }
    if (several) {
        status = ops_scratch(c->ops, OPS_SCRATCH_GATHERED, weight_count(&c->work), &plain, err);
        if (!status) ops_zero(c->ops, plain, weight_count(&c->work));
    }
    if (!status) status = onednn_primitive_run(c->ops, &c->unpack, (const void *[]){ sum, plain }, err);
    if (status) return in_context(status, &c->shape, "backward", err);
    if (several) move_ranges(c, dweights, plain, true);
    const float *bias = sum + bias_offset(c);
    for (int o = 0; dbias && o < c->shape.oc; o++) dbias[o] += bias[o];
    return STATUS_OK;
}
