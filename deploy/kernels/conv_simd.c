/* Implicit GEMM in register tiles.
 *
 * A tile is R lines x S columns of outputs by N vectors of channels, all in
 * registers: per input channel and tap it loads N vectors of weights and
 * broadcasts R*S inputs. It ends by scaling, shifting, adding the residual and
 * activating, in registers; where the residual ends within a tile, or the activation
 * is not a simple one, sums go through a small buffer to `finish`.
 *
 * The widest tile (CONV_S columns, two vectors) is set by the number of
 * vector registers. A line is cut into equal tiles; the last one moves left to
 * fit and recomputes what it overlaps. Lines of at most CONV_S/2 columns are
 * taken in pairs. */
#include "deploy/kernels/conv_tile.h"

#include <stdbool.h>

enum { SECOND_CACHE = 256 << 10 }; /* floats */

#if defined(ISA_avx512)
#define COLUMNS(M, ...) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(4, __VA_ARGS__) M(5, __VA_ARGS__) \
    M(6, __VA_ARGS__) M(7, __VA_ARGS__) M(8, __VA_ARGS__) M(9, __VA_ARGS__) M(10, __VA_ARGS__) M(11, __VA_ARGS__) \
    M(12, __VA_ARGS__) M(13, __VA_ARGS__) M(14, __VA_ARGS__)
#define PAIR_COLUMNS(M, ...) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(4, __VA_ARGS__) \
    M(5, __VA_ARGS__) M(6, __VA_ARGS__) M(7, __VA_ARGS__)
#elif defined(ISA_neon)
#define COLUMNS(M, ...) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(4, __VA_ARGS__) M(5, __VA_ARGS__)
#define PAIR_COLUMNS(M, ...) M(1, __VA_ARGS__) M(2, __VA_ARGS__)
#else
#define COLUMNS(M, ...) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(4, __VA_ARGS__) M(5, __VA_ARGS__) \
    M(6, __VA_ARGS__)
#define PAIR_COLUMNS(M, ...) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__)
#endif

/* One input channel (row L of four): N vectors of weights by R*S inputs. */
#define TILE_ROW(L)                                                                               \
    do {                                                                                          \
        vec wv[4];                                                                                \
        _Pragma("GCC unroll 4") for (int n = 0; n < N; n++)                                       \
            wv[n] = vec_load(w + (L) * PANEL + n / PANEL_VECS * w_panel + n % PANEL_VECS * VEC_LANES); \
        _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)                                       \
            _Pragma("GCC unroll 16") for (int s = 0; s < S; s++)                                  \
                _Pragma("GCC unroll 4") for (int n = 0; n < N; n++)                               \
                    acc[U > 1 ? (L) % U : 0][r][s][n] =                                           \
                        vec_fma_lane(acc[U > 1 ? (L) % U : 0][r][s][n], wv[n], xq[r][s], L);      \
    } while (0)

/* Rows between a weight that is used once and the one that is asked for. */
enum { WEIGHTS_AHEAD = 64 };

VEC_INLINE void end_tile(const int N, const int R, const int S, const struct conv_args *a, vec acc[2][16][4],
                         const struct conv_end *end) {
    const struct vec_activation activation = *end->activation; /* a copy that stores cannot change */
    _Pragma("GCC unroll 4") for (int n = 0; n < N; n++) {
        const int in_panel = n % PANEL_VECS * VEC_LANES;
        const vec scale = vec_load(end->scale + n * VEC_LANES), shift = vec_load(end->shift + n * VEC_LANES);
        float *y = end->y + n / PANEL_VECS * a->y_panel + in_panel;
        _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
            _Pragma("GCC unroll 16") for (int s = 0; s < S; s++)
                acc[r][s][n] = vec_fma(acc[r][s][n], scale, shift);
        if (end->residual) {
            const float *residual = end->residual + n / PANEL_VECS * a->residual_panel + in_panel;
            _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
                _Pragma("GCC unroll 16") for (int s = 0; s < S; s++)
                    acc[r][s][n] = vec_add(acc[r][s][n], vec_load(residual + r * a->residual_line + s * PANEL));
        }
        _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
            _Pragma("GCC unroll 16") for (int s = 0; s < S; s++)
                vec_activation_store_simple(&activation, y + r * a->y_line + s * PANEL, acc[r][s][n]);
    }
}

/* U: separate sums for every U-th row, where a tile is too small to hide the
 * latency of a multiply-add. */
VEC_INLINE void tile(const int N, const int R, const int S, const int U, const ptrdiff_t column,
                     const struct conv_args *a, ptrdiff_t x_offset, ptrdiff_t w_offset, float *sums, int add,
                     struct conv_ahead ahead, const struct conv_end *end) {
    vec acc[4][2][16][4];
    const ptrdiff_t w_panel = a->w_panel, x_line = a->x_line, far_step = ahead.far ? PANEL : 0;
    const float *far = ahead.far ? ahead.far : a->chunks[0].w;
    _Pragma("GCC unroll 4") for (int u = 0; u < U; u++)
        _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
            _Pragma("GCC unroll 16") for (int s = 0; s < S; s++)
                _Pragma("GCC unroll 4") for (int n = 0; n < N; n++) acc[u][r][s][n] = vec_zero();
    for (int k = 0; k < a->nchunks; k++) {
        const struct conv_chunk *chunk = &a->chunks[k];
        const int rows = chunk->rows;
        const float *w_tap = chunk->w + w_offset, *x_tap_line = chunk->x + x_offset;
        for (int ky = 0; ky < a->kh; ky++, x_tap_line += a->x_tap_line) {
            const float *x_tap = x_tap_line;
            for (int kx = 0; kx < a->kw; kx++, x_tap += a->x_tap, w_tap += chunk->w_tap) {
                const float *x = x_tap, *w = w_tap, *next = (ahead.weights ? w_tap : x_tap) + ahead.floats;
                int i = 0;
                for (; i + 4 <= rows; i += 4, x += 4, w += 4 * PANEL) {
                    vec_quad xq[2][16];
                    _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
                        _Pragma("GCC unroll 16") for (int s = 0; s < S; s++)
                            xq[r][s] = vec_quad_load(x + r * x_line + s * column);
                    if (R * S > 1) {
                        _Pragma("GCC unroll 4") for (int line = 0; line < 4; line++, next += PANEL) __builtin_prefetch(next);
                        _Pragma("GCC unroll 2") for (int line = 0; line < CONV_FAR; line++, far += far_step)
                            __builtin_prefetch(far, 0, 2);
                    } else { /* weights come from memory as fast as they can: nothing else may ask for lines */
                        _Pragma("GCC unroll 4") for (int n = 0; n < N; n++)
                            _Pragma("GCC unroll 4") for (int line = 0; line < 4; line++)
                                __builtin_prefetch(w + n / PANEL_VECS * w_panel + (WEIGHTS_AHEAD + line) * PANEL);
                    }
                    TILE_ROW(0);
                    TILE_ROW(1);
                    TILE_ROW(2);
                    TILE_ROW(3);
                }
                for (; i < rows; i++, x++, w += PANEL) {
                    vec wv[4];
                    _Pragma("GCC unroll 4") for (int n = 0; n < N; n++)
                        wv[n] = vec_load(w + n / PANEL_VECS * w_panel + n % PANEL_VECS * VEC_LANES);
                    _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
                        _Pragma("GCC unroll 16") for (int s = 0; s < S; s++)
                            _Pragma("GCC unroll 4") for (int n = 0; n < N; n++)
                                acc[0][r][s][n] = vec_fma(wv[n], vec_set1(x[r * x_line + s * column]), acc[0][r][s][n]);
                }
            }
        }
    }
    _Pragma("GCC unroll 2") for (int apart = U / 2; apart > 0; apart /= 2)
        _Pragma("GCC unroll 2") for (int u = 0; u < apart; u++)
            _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
                _Pragma("GCC unroll 16") for (int s = 0; s < S; s++)
                    _Pragma("GCC unroll 4") for (int n = 0; n < N; n++)
                        acc[u][r][s][n] = vec_add(acc[u][r][s][n], acc[u + apart][r][s][n]);
    if (end) {
        end_tile(N, R, S, a, acc[0], end);
        return;
    }
    _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
        _Pragma("GCC unroll 16") for (int s = 0; s < S; s++)
            _Pragma("GCC unroll 4") for (int n = 0; n < N; n++) {
                float *sum = sums + ((r * S + s) * N + n) * VEC_LANES;
                vec_store(sum, add ? vec_add(acc[0][r][s][n], vec_load(sum)) : acc[0][r][s][n]);
            }
}

/* Columns PANEL or 2*PANEL floats apart (stride 1 and 2) are worth tiles of
 * their own, with constant addresses; `any` takes the distance from args. */
#define DEFINE_TILE(S, N, R, NAME, COLUMN)                                                              \
    static void tile_##N##_##R##_##S##_##NAME(const struct conv_args *a, ptrdiff_t x, ptrdiff_t w, float *sums, int add, \
                                              struct conv_ahead ahead, const struct conv_end *end) {   \
        tile(N, R, S, (N) * (R) * (S) <= 2 ? 4 : 1, COLUMN, a, x, w, sums, add, ahead, end);            \
    }
#define TILE_ENTRY(S, N, R, NAME) [S] = tile_##N##_##R##_##S##_##NAME,
#define DEFINE_TILES(N)                                \
    COLUMNS(DEFINE_TILE, N, 1, one, PANEL)             \
    PAIR_COLUMNS(DEFINE_TILE, N, 2, one, PANEL)        \
    COLUMNS(DEFINE_TILE, N, 1, two, 2 * PANEL)         \
    PAIR_COLUMNS(DEFINE_TILE, N, 2, two, 2 * PANEL)    \
    COLUMNS(DEFINE_TILE, N, 1, any, a->x_column)       \
    PAIR_COLUMNS(DEFINE_TILE, N, 2, any, a->x_column)
#define TILE_ROWS(N)                                                                       \
    {                                                                                      \
        {{COLUMNS(TILE_ENTRY, N, 1, one)}, {PAIR_COLUMNS(TILE_ENTRY, N, 2, one)}},         \
        {{COLUMNS(TILE_ENTRY, N, 1, two)}, {PAIR_COLUMNS(TILE_ENTRY, N, 2, two)}},         \
        {{COLUMNS(TILE_ENTRY, N, 1, any)}, {PAIR_COLUMNS(TILE_ENTRY, N, 2, any)}},         \
    }

DEFINE_TILES(1)
DEFINE_TILES(2)
#if defined(ISA_neon)
DEFINE_TILES(4)
#endif

/* [log2 N][distance of columns][R - 1][S] */
static conv_tile_fn *const tiles[][3][2][CONV_S + 1] = {
    TILE_ROWS(1),
    TILE_ROWS(2),
#if defined(ISA_neon)
    TILE_ROWS(4),
#endif
};

conv_tile_fn *VEC_NAME(conv_tile)(int log_n, int columns) { return tiles[log_n][0][0][columns]; }

/* Ends R lines x S columns, from (line, column) on, of the n vectors of
 * channels from `first` on. */
static void finish(const struct conv_args *a, const struct vec_activation *shared, const float *sums, int first,
                   int last, int n, int line, int column, int R, int S) {
    const struct vec_activation activation = *shared; /* a copy that stores cannot change */
    for (int v = 0; v < n; v++) {
        const int c = first + v * VEC_LANES;
        const vec scale = vec_load(a->scale + c), shift = vec_load(a->shift + c);
        const int add = a->residual ? a->residual_channels - c : 0;
        for (int r = 0; r < R; r++) {
            float *y = a->y + c / PANEL * a->y_panel + c % PANEL + (line + r) * a->y_line + column * PANEL;
            const float *sum = sums + (r * S * n + v) * VEC_LANES;
            const float *residual =
                add > 0 ? a->residual + c / PANEL * a->residual_panel + c % PANEL + (line + r) * a->residual_line +
                              column * PANEL
                        : NULL;
            for (int s = 0; s < S; s++, sum += n * VEC_LANES, y += PANEL) {
                vec value = vec_fma(vec_load(sum), scale, shift);
                if (add >= VEC_LANES) value = vec_add(value, vec_load(residual + s * PANEL));
                else if (add > 0) value = vec_add(value, vec_load_n(residual + s * PANEL, add));
                vec_activation_store(&activation, y, value, last - c);
            }
        }
    }
}

/* A register tile of the convolution, from its sums to its outputs: the
 * vectors of channels from c on, R lines x S columns from (i, j) on. */
struct place {
    int c, log_n, i, R, j, S;
};

/* Asks for the lines that a tile is about to write, or its residual. */
VEC_INLINE void ask(const float *at, ptrdiff_t panel, ptrdiff_t line, const struct place *p, const int write) {
    for (int c = 0; c < VEC_LANES << p->log_n; c += PANEL)
        for (int r = 0; r < p->R; r++)
            for (int s = 0; s < p->S; s++) vec_ask(at + c / PANEL * panel + r * line + s * PANEL, write);
}

static void run(const struct conv_args *a, const struct vec_activation *activation, const struct place *p, int last,
                struct conv_ahead ahead) {
    const int distance = a->x_column == PANEL ? 0 : a->x_column == 2 * PANEL ? 1 : 2;
    conv_tile_fn *const compute = tiles[p->log_n][distance][p->R - 1][p->S];
    const ptrdiff_t x = p->i * a->x_line + p->j * a->x_column, w = p->c / PANEL * a->w_panel + p->c % PANEL;
    const int residual = a->residual ? a->residual_channels - p->c : 0;
    struct conv_end end = {activation, a->scale + p->c, a->shift + p->c,
                           a->y + p->c / PANEL * a->y_panel + p->c % PANEL + p->i * a->y_line + p->j * PANEL, NULL};
    ask(end.y, a->y_panel, a->y_line, p, 1);
    if (residual > 0) {
        end.residual = a->residual + p->c / PANEL * a->residual_panel + p->c % PANEL + p->i * a->residual_line + p->j * PANEL;
        ask(end.residual, a->residual_panel, a->residual_line, p, 0);
    }
    if (activation->simple && (residual <= 0 || residual >= VEC_LANES << p->log_n)) {
        compute(a, x, w, NULL, 0, ahead, &end);
        return;
    }
    float sums[2 * CONV_S * CONV_N * VEC_LANES] __attribute__((aligned(64)));
    compute(a, x, w, sums, 0, ahead, NULL);
    finish(a, activation, sums, p->c, last, 1 << p->log_n, p->i, p->j, p->R, p->S);
}

static int log_vectors(int c, int last) {
    const int left = (last - c + VEC_LANES - 1) / VEC_LANES;
    const int log_n = CONV_N > 2 && left >= 4 && c % PANEL == 0 ? 2 : left >= 2 ? 1 : 0;
    return c % PANEL + (VEC_LANES << log_n) > PANEL && (int)VEC_LANES < (int)PANEL ? 0 : log_n;
}

/* Of weights, for each output. */
static ptrdiff_t rows_of(const struct conv_args *a) {
    ptrdiff_t rows = 0;
    for (int k = 0; k < a->nchunks; k++) rows += a->chunks[k].rows;
    return rows * a->kh * a->kw;
}

/* Whether the weights for all channels stay in the second cache while the
 * input passes by once; otherwise the input passes by for each tile of channels. */
static bool weights_stay(const struct conv_args *a, ptrdiff_t rows, int channels, int lines) {
    const ptrdiff_t weights = rows * channels, input = rows / (a->kh * a->kw) * a->x_column / PANEL * a->width * lines;
    return weights <= SECOND_CACHE / 2 && input > weights;
}

/* The tile's input in the next chunk, if it is too much to stay in the first cache until the next tile comes. */
static ptrdiff_t next_input(const struct conv_args *a, ptrdiff_t rows, ptrdiff_t next_tile) {
    enum { MANY_ROWS = 256 };
    return rows > MANY_ROWS && a->nchunks > 1 ? a->chunks[1].x - a->chunks[0].x : next_tile;
}

void VEC_NAME(conv)(const struct conv_args *a, int first, int last, int top, int bottom) {
    enum { UNIT_PANELS = CONV_N * VEC_LANES > PANEL ? CONV_N * VEC_LANES / PANEL : 1, FEW = 4 * UNIT_PANELS / CONV_FAR };
    const struct vec_activation activation = vec_activation(a->activation);
    const int pieces = (a->width + CONV_S - 1) / CONV_S;
    const ptrdiff_t rows = rows_of(a);
    const bool stay = weights_stay(a, rows, last - first, bottom - top);
    struct place p = {.S = (a->width + pieces - 1) / pieces};
    const int most_lines = 2 * p.S <= CONV_S ? 2 : 1;
    /* Tiles that read the same weights one after the other. A single output asks for its own. */
    const int sharing = stay || a->width * (bottom - top) == 1 ? 0 : pieces * ((bottom - top + most_lines - 1) / most_lines);
    const bool few = sharing > 0 && sharing < FEW;
    for (int outer = first; outer < last;) {
        const int panel = outer / PANEL + UNIT_PANELS, panels_left = (last + PANEL - 1) / PANEL - panel;
        const int panels = sharing == 0 ? 0 : panels_left < UNIT_PANELS ? panels_left : UNIT_PANELS;
        int call = 0, line = 0;
        for (p.i = top; p.i < bottom; p.i += p.R) {
            p.R = bottom - p.i >= most_lines ? most_lines : 1;
            for (int piece = 0; piece < pieces; piece++, call++) {
                p.j = piece * p.S + p.S <= a->width ? piece * p.S : a->width - p.S;
                const ptrdiff_t tile = piece + 1 < pieces ? p.S * a->x_column : p.R * a->x_line - p.j * a->x_column;
                struct conv_ahead ahead = {next_input(a, rows, tile), 0,
                                           conv_weight_line(a, 0, a->nchunks, panel, panels, line)};
                /* Few tiles have no time to ask for all the weights of the next channels. */
                if (few) ahead = (struct conv_ahead){(UNIT_PANELS + call % UNIT_PANELS) * a->w_panel, 1, NULL};
                line += (int)rows / 4 * CONV_FAR;
                p.c = outer;
                do {
                    p.log_n = log_vectors(p.c, last);
                    run(a, &activation, &p, last, ahead);
                    p.c += VEC_LANES << p.log_n;
                } while (stay && p.c < last);
            }
        }
        outer = p.c;
    }
}
