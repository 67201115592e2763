/* Directly: S columns of one vector of channels at a time, their sums in
 * registers. 3x3 has its loops unrolled, so that a loaded input serves all
 * the taps that it meets in its line. */
#include "deploy/kernels/depthwise.h"
#include "deploy/kernels/vec_activation.h"

#if defined(ISA_avx512) || defined(ISA_neon)
enum { DEPTHWISE_S = 8 };
#else
enum { DEPTHWISE_S = 4 };
#endif

VEC_INLINE void tile(const int S, const int K, const int stride, const struct depthwise_args *a,
                     const struct vec_activation *activation, const float *x, const float *w, float *y, int c,
                     int last) {
    vec acc[8];
    _Pragma("GCC unroll 8") for (int s = 0; s < S; s++) acc[s] = vec_zero();
    _Pragma("GCC unroll 3") for (int ky = 0; ky < K; ky++)
        _Pragma("GCC unroll 3") for (int kx = 0; kx < K; kx++) {
            const vec wv = vec_load(w + (ky * K + kx) * PANEL);
            _Pragma("GCC unroll 8") for (int s = 0; s < S; s++)
                acc[s] = vec_fma(vec_load(x + ky * a->x_line + (s * stride + kx) * PANEL), wv, acc[s]);
        }
    const vec scale = vec_load(a->scale + c), shift = vec_load(a->shift + c);
    _Pragma("GCC unroll 8") for (int s = 0; s < S; s++)
        vec_activation_store(activation, y + s * PANEL, vec_fma(acc[s], scale, shift), last - c);
}

VEC_INLINE void line(const int K, const int stride, const struct depthwise_args *a,
                     const struct vec_activation *activation, const float *x, const float *w, float *y, int c,
                     int last) {
    int j = 0;
    for (; j + DEPTHWISE_S <= a->width; j += DEPTHWISE_S)
        tile(DEPTHWISE_S, K, stride, a, activation, x + j * stride * PANEL, w, y + j * PANEL, c, last);
    if (j < a->width && a->width >= DEPTHWISE_S) {
        j = a->width - DEPTHWISE_S;
        tile(DEPTHWISE_S, K, stride, a, activation, x + j * stride * PANEL, w, y + j * PANEL, c, last);
        return;
    }
    for (; j < a->width; j++) tile(1, K, stride, a, activation, x + j * stride * PANEL, w, y + j * PANEL, c, last);
}

void VEC_NAME(depthwise)(const struct depthwise_args *a, int first, int last, int top, int bottom) {
    const struct vec_activation activation = vec_activation(a->activation);
    for (int c = first; c < last; c += VEC_LANES) {
        const float *w = a->w + c / PANEL * (a->size * a->size * PANEL) + c % PANEL;
        for (int i = top; i < bottom; i++) {
            const float *x = a->x + c / PANEL * a->x_panel + c % PANEL + i * a->stride * a->x_line;
            float *y = a->y + c / PANEL * a->y_panel + c % PANEL + i * a->y_line;
            if (a->size == 3 && a->stride == 1) line(3, 1, a, &activation, x, w, y, c, last);
            else if (a->size == 3 && a->stride == 2) line(3, 2, a, &activation, x, w, y, c, last);
            else line(a->size, a->stride, a, &activation, x, w, y, c, last);
        }
    }
}
