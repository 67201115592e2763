/* Activations on vectors, for the ends of kernels. Included by *_simd.c only. */
#ifndef ESPALIER_KERNELS_VEC_ACTIVATION_H
#define ESPALIER_KERNELS_VEC_ACTIVATION_H

#include "common/activation.h"
#include "deploy/kernels/vec.h"

/* What most activations are: min(top, max(bottom, x, slope * x)). */
struct vec_activation {
    enum activation activation;
    int simple; /* that form does it; otherwise value by value */
    int sloped; /* ... and the slope is not 1 */
    vec slope, bottom, top;
};

static inline struct vec_activation vec_activation(enum activation activation) {
    const float unbounded = __builtin_inff();
    struct vec_activation a = {activation, 1, 0, vec_set1(1), vec_set1(-unbounded), vec_set1(unbounded)};
    switch (activation) {
    case ACTIVATION_LINEAR: break;
    case ACTIVATION_RELU: a.bottom = vec_zero(); break;
    case ACTIVATION_RELU6: a.bottom = vec_zero(), a.top = vec_set1(6); break;
    case ACTIVATION_LEAKY: a.slope = vec_set1(0.1f), a.sloped = 1; break;
    case ACTIVATION_RELIE: a.slope = vec_set1(0.01f), a.sloped = 1; break;
    default: a.simple = 0;
    }
    return a;
}

VEC_INLINE void vec_activation_store_simple(const struct vec_activation *a, float *p, vec v) {
    if (a->sloped) v = vec_max(vec_mul(a->slope, v), v);
    vec_store(p, vec_min(a->top, vec_max(a->bottom, v)));
}

/* Stores the activation of v's first n lanes at p; the other lanes of p get
 * unspecified values. */
VEC_INLINE void vec_activation_store(const struct vec_activation *a, float *p, vec v, int n) {
    if (a->simple) {
        vec_activation_store_simple(a, p, v);
        return;
    }
    vec_store(p, v);
    for (int i = 0; i < n && i < VEC_LANES; i++) p[i] = activation_apply(a->activation, p[i]);
}

#endif
