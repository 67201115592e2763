/* oneDNN (version 2's C API): its own choice of layouts and algorithm. */
#include <dnnl.h>
#include <omp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine.h"

enum { SRC, WEIGHTS, DST, TENSORS };

struct state {
    struct layer layer;
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[TENSORS];
    dnnl_memory_t plain; /* [filters, out_h, out_w], for output() */
    float *values;
    int read;
};

static dnnl_engine_t cpu;
static dnnl_stream_t stream;

static void need(dnnl_status_t status) { engine_need(status == dnnl_success, "oneDNN does not take this layer"); }

static void open_(int threads) {
    omp_set_num_threads(threads);
    need(dnnl_engine_create(&cpu, dnnl_cpu, 0));
    need(dnnl_stream_create(&stream, cpu, dnnl_stream_default_flags));
}

static void reorder(dnnl_memory_t from, dnnl_memory_t to) {
    const dnnl_memory_desc_t *a, *b;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    need(dnnl_memory_get_memory_desc(from, &a));
    need(dnnl_memory_get_memory_desc(to, &b));
    need(dnnl_reorder_primitive_desc_create(&desc, a, cpu, b, cpu, NULL));
    need(dnnl_primitive_create(&primitive, desc));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    need(dnnl_primitive_execute(primitive, stream, 2, args));
    need(dnnl_stream_wait(stream));
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(desc);
}

static void *create(const struct layer *l, const float *input, const float *weights) {
    struct state *s = calloc(1, sizeof *s);
    engine_need(s != NULL, "out of memory");
    s->layer = *l;
    const int grouped = l->groups > 1;
    const dnnl_dims_t src = {1, l->c, l->h, l->w}, dst = {1, l->filters, l->out_h, l->out_w};
    const dnnl_dims_t dense = {l->filters, l->c, l->size, l->size};
    const dnnl_dims_t groups = {l->groups, l->filters / l->groups, l->c / l->groups, l->size, l->size};
    const dnnl_dims_t strides = {l->stride, l->stride}, pad = {l->pad, l->pad};
    const dnnl_dim_t *dims[TENSORS] = {src, grouped ? groups : dense, dst};
    const int ndims[TENSORS] = {4, 4 + grouped, 4};
    const dnnl_format_tag_t tags[TENSORS] = {dnnl_nchw, grouped ? dnnl_goihw : dnnl_oihw, dnnl_nchw};
    dnnl_memory_desc_t any[TENSORS], plain[TENSORS];
    for (int i = 0; i < TENSORS; i++) {
        need(dnnl_memory_desc_init_by_tag(&any[i], ndims[i], dims[i], dnnl_f32, dnnl_format_tag_any));
        need(dnnl_memory_desc_init_by_tag(&plain[i], ndims[i], dims[i], dnnl_f32, tags[i]));
    }
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t relu;
    need(dnnl_primitive_attr_create(&attr));
    need(dnnl_post_ops_create(&relu));
    need(dnnl_post_ops_append_eltwise(relu, 1, dnnl_eltwise_relu, 0, 0));
    need(dnnl_primitive_attr_set_post_ops(attr, relu));
    dnnl_primitive_desc_t desc;
    if (l->connected) {
        dnnl_inner_product_desc_t op;
        need(dnnl_memory_desc_init_by_tag(&plain[DST], 2, dst, dnnl_f32, dnnl_nc));
        any[DST] = plain[DST];
        need(dnnl_inner_product_forward_desc_init(&op, dnnl_forward_inference, &any[SRC], &any[WEIGHTS], NULL, &any[DST]));
        need(dnnl_primitive_desc_create(&desc, &op, attr, cpu, NULL));
    } else {
        dnnl_convolution_desc_t op;
        need(dnnl_convolution_forward_desc_init(&op, dnnl_forward_inference, dnnl_convolution_auto, &any[SRC],
                                                &any[WEIGHTS], NULL, &any[DST], strides, pad, pad));
        need(dnnl_primitive_desc_create(&desc, &op, attr, cpu, NULL));
    }
    need(dnnl_primitive_create(&s->primitive, desc));
    const dnnl_query_t query[TENSORS] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md};
    const float *values[TENSORS] = {input, weights, NULL};
    for (int i = 0; i < TENSORS; i++) {
        need(dnnl_memory_create(&s->memory[i], dnnl_primitive_desc_query_md(desc, query[i], 0), cpu, DNNL_MEMORY_ALLOCATE));
        if (!values[i]) continue;
        dnnl_memory_t from;
        need(dnnl_memory_create(&from, &plain[i], cpu, (void *)(uintptr_t)values[i]));
        reorder(from, s->memory[i]);
        dnnl_memory_destroy(from);
    }
    s->values = engine_floats((size_t)l->filters * (size_t)l->out_h * (size_t)l->out_w);
    need(dnnl_memory_create(&s->plain, &plain[DST], cpu, s->values));
    dnnl_post_ops_destroy(relu);
    dnnl_primitive_attr_destroy(attr);
    dnnl_primitive_desc_destroy(desc);
    return s;
}

static void run(void *state) {
    struct state *s = state;
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, s->memory[SRC]}, {DNNL_ARG_WEIGHTS, s->memory[WEIGHTS]}, {DNNL_ARG_DST, s->memory[DST]}};
    need(dnnl_primitive_execute(s->primitive, stream, 3, args));
    need(dnnl_stream_wait(stream));
}

static float output(void *state, int filter, int y, int x) {
    struct state *s = state;
    if (!s->read) reorder(s->memory[DST], s->plain);
    s->read = 1;
    return s->values[((ptrdiff_t)filter * s->layer.out_h + y) * s->layer.out_w + x];
}

const struct engine engine = {open_, create, run, output};
