/* Directly: R lines x S columns of one vector of channels at a time, their sums in
 * registers. A line is cut into equal tiles; the last one moves left to fit and
 * recomputes what it overlaps. 3x3 has all loops unrolled: an input is loaded once
 * and serves all the taps of the tile that it meets. */
#include "deploy/kernels/depthwise.h"
#include "deploy/kernels/vec_activation.h"

/* The largest tile, for as many registers as there are. 7, 14, 28, 56 and 112
 * columns are cut into 7 or 8. */
#if defined(ISA_avx512) || defined(ISA_neon)
enum { DEPTHWISE_S = 8, DEPTHWISE_R = 2 };
#define COLUMNS(M, ...) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(4, __VA_ARGS__) M(5, __VA_ARGS__) \
    M(6, __VA_ARGS__) M(7, __VA_ARGS__) M(8, __VA_ARGS__)
#else
enum { DEPTHWISE_S = 4, DEPTHWISE_R = 1 };
#define COLUMNS(M, ...) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(4, __VA_ARGS__)
#endif

/* A tile's place: its first input, weights, first output, and their channel. */
struct place {
    const float *x, *w;
    float *y;
    int c, last;
};

VEC_INLINE void end_tile(const int R, const int S, const struct depthwise_args *a,
                         const struct vec_activation *shared, const struct place *p, vec sum[2][8]) {
    const struct vec_activation activation = *shared; /* a copy that stores cannot change */
    const vec scale = vec_load(a->scale + p->c), shift = vec_load(a->shift + p->c);
    if (activation.simple) {
        _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
            _Pragma("GCC unroll 8") for (int s = 0; s < S; s++)
                vec_activation_store_simple(&activation, p->y + r * a->y_line + s * PANEL, vec_fma(sum[r][s], scale, shift));
        return;
    }
    float values[2 * 8 * VEC_LANES] __attribute__((aligned(64)));
    _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
        _Pragma("GCC unroll 8") for (int s = 0; s < S; s++)
            vec_store(values + (r * S + s) * VEC_LANES, vec_fma(sum[r][s], scale, shift));
    for (int r = 0; r < R; r++)
        for (int s = 0; s < S; s++)
            vec_activation_store(&activation, p->y + r * a->y_line + s * PANEL,
                                 vec_load(values + (r * S + s) * VEC_LANES), p->last - p->c);
}

VEC_INLINE void tile_3(const int R, const int S, const int stride, const struct depthwise_args *a,
                       const struct vec_activation *activation, const struct place *p) {
    vec sum[2][8], w[3][3];
    _Pragma("GCC unroll 3") for (int ky = 0; ky < 3; ky++)
        _Pragma("GCC unroll 3") for (int kx = 0; kx < 3; kx++) w[ky][kx] = vec_load(p->w + (ky * 3 + kx) * PANEL);
    _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
        _Pragma("GCC unroll 8") for (int s = 0; s < S; s++) sum[r][s] = vec_zero();
    _Pragma("GCC unroll 5") for (int i = 0; i < (R - 1) * stride + 3; i++)
        _Pragma("GCC unroll 17") for (int j = 0; j < (S - 1) * stride + 3; j++) {
            const vec x = vec_load(p->x + i * a->x_line + j * PANEL);
            _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
                _Pragma("GCC unroll 8") for (int s = 0; s < S; s++) {
                    const int ky = i - r * stride, kx = j - s * stride;
                    if (ky >= 0 && ky < 3 && kx >= 0 && kx < 3) sum[r][s] = vec_fma(x, w[ky][kx], sum[r][s]);
                }
        }
    end_tile(R, S, a, activation, p, sum);
}

/* Any size and stride, a line. */
VEC_INLINE void tile_any(const int S, const struct depthwise_args *a, const struct vec_activation *activation,
                         const struct place *p) {
    vec sum[2][8];
    _Pragma("GCC unroll 8") for (int s = 0; s < S; s++) sum[0][s] = vec_zero();
    for (int ky = 0; ky < a->size; ky++)
        for (int kx = 0; kx < a->size; kx++) {
            const vec w = vec_load(p->w + (ky * a->size + kx) * PANEL);
            _Pragma("GCC unroll 8") for (int s = 0; s < S; s++)
                sum[0][s] = vec_fma(vec_load(p->x + ky * a->x_line + (s * a->stride + kx) * PANEL), w, sum[0][s]);
        }
    end_tile(1, S, a, activation, p, sum);
}

/* R lines of a width whose tiles have S columns; size and stride 0: any. */
VEC_INLINE void lines(const int R, const int S, const int size, const int stride, const struct depthwise_args *a,
                      const struct vec_activation *activation, const struct place *first) {
    for (int j = 0; j < a->width; j += S) {
        if (j + S > a->width) j = a->width - S;
        const struct place p = {first->x + j * a->stride * PANEL, first->w, first->y + j * PANEL, first->c, first->last};
        if (size == 3) tile_3(R, S, stride, a, activation, &p);
        else tile_any(S, a, activation, &p);
    }
}

typedef void lines_fn(const struct depthwise_args *a, const struct vec_activation *activation, const struct place *first);
#define DEFINE_LINES(S, R, NAME, SIZE, STRIDE)                                                                    \
    static void lines_##R##_##S##_##NAME(const struct depthwise_args *a, const struct vec_activation *activation, \
                                         const struct place *first) {                                             \
        lines(R, S, SIZE, STRIDE, a, activation, first);                                                          \
    }
#define LINES_ENTRY(S, R, NAME) [S] = lines_##R##_##S##_##NAME,
COLUMNS(DEFINE_LINES, 1, 3_1, 3, 1)
COLUMNS(DEFINE_LINES, 2, 3_1, 3, 1)
COLUMNS(DEFINE_LINES, 1, 3_2, 3, 2)
COLUMNS(DEFINE_LINES, 2, 3_2, 3, 2)
COLUMNS(DEFINE_LINES, 1, any, 0, 0)

/* [3x3 of stride 1, of stride 2, any][R - 1][S] */
static lines_fn *const tiles[][2][DEPTHWISE_S + 1] = {
    {{COLUMNS(LINES_ENTRY, 1, 3_1)}, {COLUMNS(LINES_ENTRY, 2, 3_1)}},
    {{COLUMNS(LINES_ENTRY, 1, 3_2)}, {COLUMNS(LINES_ENTRY, 2, 3_2)}},
    {{COLUMNS(LINES_ENTRY, 1, any)}},
};

void VEC_NAME(depthwise)(const struct depthwise_args *a, int first, int last, int top, int bottom) {
    const struct vec_activation activation = vec_activation(a->activation);
    const int pieces = (a->width + DEPTHWISE_S - 1) / DEPTHWISE_S, S = (a->width + pieces - 1) / pieces;
    const int kind = a->size == 3 && a->stride <= 2 ? a->stride - 1 : 2, most = kind < 2 ? DEPTHWISE_R : 1;
    struct place p = {.last = last};
    for (p.c = first; p.c < last; p.c += VEC_LANES) {
        p.w = a->w + p.c / PANEL * (a->size * a->size * PANEL) + p.c % PANEL;
        for (int i = top, R; i < bottom; i += R) {
            R = bottom - i < most ? 1 : most;
            p.x = a->x + p.c / PANEL * a->x_panel + p.c % PANEL + i * a->stride * a->x_line;
            p.y = a->y + p.c / PANEL * a->y_panel + p.c % PANEL + i * a->y_line;
            tiles[kind][R - 1][S](a, &activation, &p);
        }
    }
}
