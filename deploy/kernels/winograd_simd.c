/* One-dimensional transforms from the points 0, infinity and pairs +-p: with
 * P(x) = prod (x^2 - p^2) over the pairs, the input's transform has the rows
 * P, x*P, and for each p the even and odd halves of x (x +- p) P/(x^2 - p^2);
 * the weights' has the powers of the points, the output's the powers over the
 * products of differences (there are fewer outputs to divide than weights).
 * Two-dimensional ones apply them along columns, then along lines. The points are
 * those of small rounding error among the few-digit ones (after Barabasz et al.,
 * Error Analysis and Improving the Accuracy of Winograd Convolution, ACM TOMS 2020).
 *
 * Channels are computed in blocks of WINOGRAD_OUT panels: their weights are
 * transformed winograd_in chunks at a time, into scratch about as large as the second
 * cache, and the products of all tiles with them are added up. Those come from
 * memory, which is idle while products are computed: each product asks for some lines
 * of the next block. Where a map has a few tiles only, weights are transformed in
 * registers instead. Transforms read and write runs too short for a processor to
 * foresee, and ask for those of the next tiles. */
#include "deploy/kernels/winograd.h"
#include "deploy/kernels/conv_tile.h"

#include <stdbool.h>

VEC_INLINE float point(const int m, const int pair) {
    return m == 4 ? (pair == 0 ? .75f : 1.5f) : pair == 0 ? 1 : pair == 1 ? .5f : 2;
}

/* Coefficients of P (without the leading 1), from the lowest. */
VEC_INLINE void whole(const int m, float *c) {
    const float a = point(m, 0) * point(m, 0), b = point(m, 1) * point(m, 1);
    if (m == 4) {
        c[0] = a * b, c[1] = -(a + b);
    } else {
        const float d = point(m, 2) * point(m, 2);
        c[0] = -a * b * d, c[1] = a * b + a * d + b * d, c[2] = -(a + b + d);
    }
}

/* ... and of P/(x^2 - p^2). */
VEC_INLINE void without(const int m, const int pair, float *c) {
    if (m == 4) {
        const float b = point(m, 1 - pair);
        c[0] = -b * b;
    } else {
        const float a = point(m, pair == 0), b = point(m, pair == 2 ? 1 : 2);
        c[0] = a * a * b * b, c[1] = -(a * a + b * b);
    }
}

/* d[0], d[2], ... : c[0] d[0] + c[1] d[2] + ... + d[2n] */
VEC_INLINE vec polynomial(const int n, const float *c, const vec *d) {
    vec sum = d[2 * n];
    _Pragma("GCC unroll 4") for (int i = n - 1; i >= 0; i--) sum = vec_fma(vec_set1(c[i]), d[2 * i], sum);
    return sum;
}

/* d[m + 2] in place. */
VEC_INLINE void input_line(const int m, vec *d) {
    const int pairs = m / 2;
    float c[3];
    vec out[WINOGRAD_MAX];
    whole(m, c);
    out[0] = polynomial(pairs, c, d);
    out[m + 1] = polynomial(pairs, c, d + 1);
    _Pragma("GCC unroll 4") for (int p = 0; p < pairs; p++) {
        without(m, p, c);
        const vec even = polynomial(pairs - 1, c, d + 2), odd = polynomial(pairs - 1, c, d + 1);
        out[1 + 2 * p] = vec_fma(vec_set1(point(m, p)), odd, even);
        out[2 + 2 * p] = vec_fma(vec_set1(-point(m, p)), odd, even);
    }
    _Pragma("GCC unroll 8") for (int i = 0; i < m + 2; i++) d[i] = out[i];
}

/* Three weights g to point `line` of m + 2, without what output_line divides by. */
VEC_INLINE vec weight_point(const int m, const int line, const vec *g) {
    if (line == 0) return g[0];
    if (line == m + 1) return g[2];
    const float p = point(m, (line - 1) / 2), x = line % 2 ? p : -p;
    return vec_fma(g[1], vec_set1(x), vec_fma(g[2], vec_set1(x * x), g[0]));
}

/* ... to all of them. */
VEC_INLINE void weight_line(const int m, const vec *g, vec *out) {
    _Pragma("GCC unroll 8") for (int line = 0; line < m + 2; line++) out[line] = weight_point(m, line, g);
}

/* One over the product of a point's differences to all others: of 0, and of a pair +-p, where it is 2 x^2 P/(x^2 - p^2). */
VEC_INLINE float scale_of_zero(const int m) {
    float c[3];
    whole(m, c);
    return 1 / c[0];
}
VEC_INLINE float scale_of(const int m, const int pair) {
    const float xx = point(m, pair) * point(m, pair);
    float c[3];
    without(m, pair, c);
    return 1 / (2 * xx * (m == 4 ? c[0] + xx : c[0] + c[1] * xx + xx * xx));
}

/* m + 2 products to m outputs. */
VEC_INLINE void output_line(const int m, const vec *d, vec *out) {
    const int pairs = m / 2;
    vec sum[3], difference[3];
    _Pragma("GCC unroll 3") for (int p = 0; p < pairs; p++) {
        sum[p] = vec_add(d[1 + 2 * p], d[2 + 2 * p]);
        difference[p] = vec_sub(d[1 + 2 * p], d[2 + 2 * p]);
    }
    float power[3];
    _Pragma("GCC unroll 3") for (int p = 0; p < pairs; p++) power[p] = scale_of(m, p);
    _Pragma("GCC unroll 6") for (int i = 0; i < m; i++) {
        const vec *term = i % 2 ? difference : sum;
        vec total = vec_mul(term[0], vec_set1(power[0]));
        if (i == 0) total = vec_fma(d[0], vec_set1(scale_of_zero(m)), total);
        _Pragma("GCC unroll 3") for (int p = 1; p < pairs; p++) total = vec_fma(term[p], vec_set1(power[p]), total);
        out[i] = i == m - 1 ? vec_add(total, d[m + 1]) : total;
        _Pragma("GCC unroll 3") for (int p = 0; p < pairs; p++) power[p] *= point(m, p);
    }
}

/* ---- input ---- */

/* Asks for m columns of some lines. Inlined, as the compiler takes a function that only asks for one without effect. */
VEC_INLINE void ask_ahead(const int m, const int lines, const float *next, ptrdiff_t line, const int write) {
    for (int i = 0; i < lines; i++)
        _Pragma("GCC unroll 8") for (int j = 0; j < m; j++) vec_ask(next + i * line + j * PANEL, write);
}

VEC_INLINE void input_tile(const int m, const float *x, ptrdiff_t line, float *v, ptrdiff_t v_point) {
    enum { A = WINOGRAD_MAX };
    const int a = m + 2;
    vec t[A][A], d[A];
    _Pragma("GCC unroll 8") for (int j = 0; j < a; j++) {
        _Pragma("GCC unroll 8") for (int i = 0; i < a; i++) d[i] = vec_load(x + i * line + j * PANEL);
        input_line(m, d);
        _Pragma("GCC unroll 8") for (int i = 0; i < a; i++) t[i][j] = d[i];
    }
    for (int i = 0; i < a; i++) {
        _Pragma("GCC unroll 8") for (int j = 0; j < a; j++) d[j] = t[i][j];
        input_line(m, d);
        _Pragma("GCC unroll 8") for (int j = 0; j < a; j++) vec_store(v + (i * a + j) * v_point, d[j]);
    }
}

/* A tile that reaches over the edge of the input: what is there, and zeros. */
static void copy_patch(const float *x, ptrdiff_t line, int h, int w, int a, float *patch) {
    for (int i = 0; i < a; i++)
        for (int j = 0; j < a; j++)
            for (int k = 0; k < PANEL; k += VEC_LANES)
                vec_store(patch + (i * WINOGRAD_MAX + j) * PANEL + k,
                          i < h && j < w ? vec_load(x + i * line + j * PANEL + k) : vec_zero());
}

/* n things dealt out evenly: the first `more` places get one more than `each`. */
struct deal {
    int each, more;
};
static struct deal deal(int n, int places) { return (struct deal){n / places, n % places}; }
static int deal_begin(const struct deal *d, int place) { return place * d->each + (place < d->more ? place : d->more); }

/* The tiles of v one after the other: where each lies in its group, and on the map. */
struct walk {
    struct deal groups;
    int group, in_group, line, column;
};
static struct walk walk_from(const struct winograd_args *a, int tile) {
    const int columns = winograd_columns(a), n = a->end - a->first;
    struct walk w = {deal(n, winograd_groups(n)), 0, tile - a->first, tile / columns * a->m, tile % columns * a->m};
    while (w.in_group >= w.groups.each + (w.group < w.groups.more)) w.in_group -= w.groups.each + (w.group++ < w.groups.more);
    return w;
}
static void walk_on(const struct winograd_args *a, struct walk *w) {
    if (++w->in_group == w->groups.each + (w->group < w->groups.more)) w->group++, w->in_group = 0;
    if ((w->column += a->m) >= a->conv->width) w->column = 0, w->line += a->m;
}

VEC_INLINE void input_tiles(const int m, const struct winograd_args *args, int first, int last, int top, int bottom,
                            float *v) {
    const struct conv_args *conv = args->conv;
    const int a = m + 2;
    const bool few = winograd_few(args);
    const ptrdiff_t v_point = few ? WINOGRAD_FEW * PANEL : winograd_v_point(conv->nchunks), v_group = a * a * v_point;
    const ptrdiff_t v_chunk = few ? a * a * v_point : WINOGRAD_GROUP * PANEL;
    float patch[WINOGRAD_MAX * WINOGRAD_MAX * PANEL] __attribute__((aligned(64)));
    const struct walk begin = walk_from(args, top);
    for (int k = first; k < last; k++) {
        struct walk at = begin;
        for (int t = top; t < bottom; t++, walk_on(args, &at)) {
            const int h = args->height + 2 - at.line, w = conv->width + 2 - at.column;
            const float *x = conv->chunks[k].x + at.line * conv->x_line + at.column * PANEL;
            ptrdiff_t line = conv->x_line;
            ask_ahead(m, a, x + (a + m) * PANEL, line, 0);
            if (h < a || w < a) {
                copy_patch(x, line, h, w, a, patch);
                x = patch;
                line = WINOGRAD_MAX * PANEL;
            }
            float *to = v + at.group * v_group + k * v_chunk + at.in_group * PANEL;
            for (int c = 0; c < conv->chunks[k].rows; c += VEC_LANES) input_tile(m, x + c, line, to + c, v_point);
        }
    }
}

void VEC_NAME(winograd_input)(const struct winograd_args *args, int first, int last, int top, int bottom, float *v) {
    if (args->m == 4) input_tiles(4, args, first, last, top, bottom, v);
    else input_tiles(6, args, first, last, top, bottom, v);
}

/* ---- weights ---- */

/* A vector of outputs by one input channel: nine weights, `tap` floats apart,
 * to (m+2)^2, `point` floats apart. */
VEC_INLINE void weight_row(const int m, const float *w, ptrdiff_t tap, float *u, ptrdiff_t u_point) {
    enum { A = WINOGRAD_MAX };
    const int a = m + 2;
    vec t[A][3], g[3], out[A];
    _Pragma("GCC unroll 3") for (int j = 0; j < 3; j++) {
        _Pragma("GCC unroll 3") for (int i = 0; i < 3; i++) g[i] = vec_load(w + (i * 3 + j) * tap);
        weight_line(m, g, out);
        _Pragma("GCC unroll 8") for (int i = 0; i < a; i++) t[i][j] = out[i];
    }
    _Pragma("GCC unroll 8") for (int i = 0; i < a; i++) {
        weight_line(m, t[i], out);
        _Pragma("GCC unroll 8") for (int j = 0; j < a; j++) vec_store(u + (i * a + j) * u_point, out[j]);
    }
}

/* A block of weights: for channels [first, last) of the output chunks [k0, k1) of the input. */
struct block {
    int first, last, k0, k1;
};

static int in_block(const struct winograd_args *a) { return winograd_in(a->end - a->first, a->conv->nchunks); }

VEC_INLINE void weight_block_of(const int m, const int in, const struct conv_args *conv, const struct block *b, float *u) {
    const ptrdiff_t u_point = winograd_u_point(in); /* known to the compiler */
    for (int c = b->first; c < b->last; c += VEC_LANES)
        for (int k = b->k0; k < b->k1; k++) {
            const struct conv_chunk *chunk = &conv->chunks[k];
            const float *w = chunk->w + c / PANEL * conv->w_panel + c % PANEL;
            float *to = u + ((k - b->k0) * WINOGRAD_OUT + (c - b->first) / PANEL) * (PANEL * PANEL) + c % PANEL;
            for (int r = 0; r < chunk->rows; r++) weight_row(m, w + r * PANEL, chunk->w_tap, to + r * PANEL, u_point);
        }
}

static void weight_block(int m, int in, const struct conv_args *conv, const struct block *b, float *u) {
    if (m == 4 && in == WINOGRAD_IN) weight_block_of(4, WINOGRAD_IN, conv, b, u);
    else if (m == 4) weight_block_of(4, WINOGRAD_IN / 2, conv, b, u);
    else if (in == WINOGRAD_IN) weight_block_of(6, WINOGRAD_IN, conv, b, u);
    else weight_block_of(6, WINOGRAD_IN / 2, conv, b, u);
}

/* ---- products and outputs ---- */

/* Vectors of channels that a register tile computes together. */
enum { UNIT = CONV_N * VEC_LANES, SUMS_UNIT = WINOGRAD_GROUP * UNIT };

/* The vectors of a unit that holds `left` channels: 2^log_n. */
static int log_vectors(int left) { return left > UNIT / 2 ? CONV_N / 2 : left > UNIT / 4 ? CONV_N / 4 : 0; }

/* ... with the block's weights; meanwhile those of the next are asked for. */
static void multiply(const struct winograd_args *args, const struct block *b, const struct block *next, const float *v,
                     const float *u, float *sums) {
    const int first = b->first, last = b->last, k0 = b->k0, k1 = b->k1;
    const int points = (args->m + 2) * (args->m + 2), tiles = args->end - args->first, ngroups = winograd_groups(tiles);
    const struct deal groups = deal(tiles, ngroups);
    const ptrdiff_t v_point = winograd_v_point(args->conv->nchunks), u_point = winograd_u_point(in_block(args));
    int lines = 0; /* that a tile asks for */
    struct conv_chunk chunks[WINOGRAD_IN];
    const struct conv_args product = {.chunks = chunks, .nchunks = k1 - k0, .kh = 1, .kw = 1, .w_panel = PANEL * PANEL};
    for (int k = k0; k < k1; k++) {
        lines += args->conv->chunks[k].rows / 4 * CONV_FAR;
        chunks[k - k0] = (struct conv_chunk){v + k * WINOGRAD_GROUP * PANEL, u + (k - k0) * WINOGRAD_OUT * PANEL * PANEL, 0,
                                             args->conv->chunks[k].rows};
    }
    for (int point = 0, line = 0; point < points; point++) {
        const float *far = conv_weight_line(args->conv, next->k0, next->k1, next->first / PANEL,
                                            (next->last - next->first + PANEL - 1) / PANEL, line);
        for (int c = first; c < last; c += UNIT) {
            const int log_n = log_vectors(last - c), o = c - first;
            const ptrdiff_t w = point * u_point + o / PANEL * (PANEL * PANEL) + o % PANEL;
            for (int group = 0; group < ngroups; group++) {
                const int n = groups.each + (group < groups.more), pieces = (n + CONV_S - 1) / CONV_S;
                const struct deal columns = pieces == 1 ? (struct deal){n, 0} : deal(n, pieces);
                const ptrdiff_t x = (group * points + point) * v_point;
                const ptrdiff_t then = group + 1 < ngroups ? x + points * v_point : (point + 1) * v_point;
                float *to = sums + (group * points + point) * WINOGRAD_SUMS + o / UNIT * SUMS_UNIT;
                for (int piece = 0; piece < pieces; piece++) {
                    const int from = deal_begin(&columns, piece), end = deal_begin(&columns, piece + 1);
                    VEC_NAME(conv_tile)(log_n, end - from)(&product, x + from * PANEL, w, to + from * (VEC_LANES << log_n),
                                                           k0 > 0,
                                                           (struct conv_ahead){then - x - from * PANEL, 0, far}, NULL);
                    if (far) far += lines * PANEL;
                    line += lines;
                }
            }
        }
    }
}

/* A tile's outputs from its products. whole: all m x m of them, with a simple activation, and a
 * residual for all channels or none; then nothing is asked value by value. */
VEC_INLINE void output_tile_of(const int m, const int whole, const struct conv_args *conv,
                               const struct vec_activation *shared, const float *sums, ptrdiff_t point_, int c, int last,
                               int line, int column, int h, int w) {
    enum { A = WINOGRAD_MAX };
    const int a = m + 2;
    const struct vec_activation activation = *shared; /* a copy that stores cannot change */
    vec t[A][A], d[A], out[A];
    for (int j = 0; j < a; j++) {
        _Pragma("GCC unroll 8") for (int i = 0; i < a; i++) d[i] = vec_load(sums + (i * a + j) * point_);
        output_line(m, d, out);
        _Pragma("GCC unroll 8") for (int i = 0; i < m; i++) t[i][j] = out[i];
    }
    const vec scale = vec_load(conv->scale + c), shift = vec_load(conv->shift + c);
    const int add = conv->residual ? conv->residual_channels - c : 0;
    float *y = conv->y + c / PANEL * conv->y_panel + c % PANEL + line * conv->y_line + column * PANEL;
    const float *residual = add > 0 ? conv->residual + c / PANEL * conv->residual_panel + c % PANEL +
                                          line * conv->residual_line + column * PANEL
                                    : NULL;
    if (c % PANEL == 0) ask_ahead(m, m, y + m * PANEL, conv->y_line, 1);
    for (int i = 0; i < m && (whole || i < h); i++, y += conv->y_line) {
        _Pragma("GCC unroll 8") for (int j = 0; j < a; j++) d[j] = t[i][j];
        output_line(m, d, out);
        _Pragma("GCC unroll 8") for (int j = 0; j < m; j++) out[j] = vec_fma(out[j], scale, shift);
        if (residual) {
            _Pragma("GCC unroll 8") for (int j = 0; j < m; j++) {
                if (!whole && j >= w) break;
                const float *at = residual + i * conv->residual_line + j * PANEL;
                out[j] = vec_add(out[j], whole || add >= VEC_LANES ? vec_load(at) : vec_load_n(at, add));
            }
        }
        _Pragma("GCC unroll 8") for (int j = 0; j < m; j++) {
            if (!whole && j >= w) break;
            if (whole) vec_activation_store_simple(&activation, y + j * PANEL, out[j]);
            else vec_activation_store(&activation, y + j * PANEL, out[j], last - c);
        }
    }
}

VEC_INLINE void output_tile(const int m, const struct conv_args *conv, const struct vec_activation *activation,
                            const float *sums, ptrdiff_t point_, int c, int last, int line, int column, int h, int w) {
    const int add = conv->residual ? conv->residual_channels - c : 0;
    if (activation->simple && h >= m && w >= m && (add <= 0 || add >= VEC_LANES))
        output_tile_of(m, 1, conv, activation, sums, point_, c, last, line, column, h, w);
    else output_tile_of(m, 0, conv, activation, sums, point_, c, last, line, column, h, w);
}

VEC_INLINE void output_tiles(const int m, const struct winograd_args *args, int first, int last, const float *sums) {
    const struct conv_args *conv = args->conv;
    const struct vec_activation activation = vec_activation(conv->activation);
    const int points = (m + 2) * (m + 2), tiles = args->end - args->first;
    const struct walk begin = walk_from(args, args->first);
    for (int c = first; c < last; c += VEC_LANES) {
        struct walk at = begin;
        const int unit = (c - first) / UNIT, in_unit = (c - first) % UNIT;
        const ptrdiff_t each = (ptrdiff_t)VEC_LANES << log_vectors(last - c + in_unit);
        for (int t = 0; t < tiles; t++, walk_on(args, &at))
            output_tile(m, conv, &activation,
                        sums + at.group * points * WINOGRAD_SUMS + unit * SUMS_UNIT + at.in_group * each + in_unit,
                        WINOGRAD_SUMS, c, last, at.line, at.column, args->height - at.line, conv->width - at.column);
    }
}

static struct block block_at(const struct winograd_args *args, int first, int last, int k) {
    const struct conv_args *conv = args->conv;
    const int end = first + WINOGRAD_OUT * PANEL, k_end = k + in_block(args);
    return (struct block){first, end < last ? end : last, k, k_end < conv->nchunks ? k_end : conv->nchunks};
}

/* ---- a few tiles ---- */

/* With few tiles a transformed weight is used too seldom to be worth a place in
 * memory: it is made in registers, a line of points at a time, and multiplied with N
 * tiles there. v and w begin at the chunk's first row; ask: what is wanted next from memory. */
VEC_INLINE void few_line(const int m, const int line, const int N, const struct conv_chunk *chunk, const float *v,
                         const float *w, const float *ask, float *sums, bool add) {
    enum { A = WINOGRAD_MAX, V_POINT = WINOGRAD_FEW * PANEL };
    const int a = m + 2;
    vec sum[A][4];
    sums += line * a * WINOGRAD_SUMS;
    v += line * a * V_POINT;
    _Pragma("GCC unroll 8") for (int p = 0; p < a; p++)
        _Pragma("GCC unroll 4") for (int t = 0; t < N; t++)
            sum[p][t] = add ? vec_load(sums + p * WINOGRAD_SUMS + t * VEC_LANES) : vec_zero();
    for (int r = 0; r < chunk->rows; r++, w += PANEL, v++, ask += 2 * PANEL) {
        vec column[3], g[3];
        vec_ask(ask, 0);
        vec_ask(ask + PANEL, 0);
        _Pragma("GCC unroll 3") for (int j = 0; j < 3; j++) {
            _Pragma("GCC unroll 3") for (int i = 0; i < 3; i++) column[i] = vec_load(w + (i * 3 + j) * chunk->w_tap);
            g[j] = weight_point(m, line, column);
        }
        _Pragma("GCC unroll 8") for (int p = 0; p < a; p++) {
            const vec u = weight_point(m, p, g);
            _Pragma("GCC unroll 4") for (int t = 0; t < N; t++)
                sum[p][t] = vec_fma(u, vec_set1(v[p * V_POINT + t * PANEL]), sum[p][t]);
        }
    }
    _Pragma("GCC unroll 8") for (int p = 0; p < a; p++)
        _Pragma("GCC unroll 4") for (int t = 0; t < N; t++) vec_store(sums + p * WINOGRAD_SUMS + t * VEC_LANES, sum[p][t]);
}

/* All lines of points of F(4, 3). */
VEC_INLINE void few_lines(const int N, const struct conv_chunk *chunk, const float *v, const float *w, float *sums, bool add) {
    const float *ask = w + 9 * chunk->w_tap; /* the next chunk */
    _Pragma("GCC unroll 6") for (int line = 0; line < 6; line++)
        few_line(4, line, N, chunk, v, w, ask + line * chunk->rows * 2 * PANEL, sums, add);
}

static void few_4(const struct conv_chunk *chunk, const float *v, const float *w, float *sums, bool add) {
    few_lines(4, chunk, v, w, sums, add);
}
static void few_2(const struct conv_chunk *chunk, const float *v, const float *w, float *sums, bool add) {
    few_lines(2, chunk, v, w, sums, add);
}
static void few_1(const struct conv_chunk *chunk, const float *v, const float *w, float *sums, bool add) {
    few_lines(1, chunk, v, w, sums, add);
}

static void few_output(const struct winograd_args *args, int first, int last, const float *v, float *sums) {
    const struct conv_args *conv = args->conv;
    const struct vec_activation activation = vec_activation(conv->activation);
    const int tiles = args->end - args->first;
    for (int c = first; c < last; c += VEC_LANES) {
        for (int k = 0; k < conv->nchunks; k++) {
            const struct conv_chunk *chunk = &conv->chunks[k];
            const float *w = chunk->w + c / PANEL * conv->w_panel + c % PANEL;
            for (int t = 0, n; t < tiles; t += n) {
                const float *x = v + (k * 36 * WINOGRAD_FEW + t) * PANEL;
                n = CONV_REGISTERS == 32 && tiles - t >= 4 ? 4 : tiles - t >= 2 ? 2 : 1;
                (n == 4 ? few_4 : n == 2 ? few_2 : few_1)(chunk, x, w, sums + t * VEC_LANES, k > 0);
            }
        }
        struct walk at = walk_from(args, args->first);
        for (int t = 0; t < tiles; t++, walk_on(args, &at))
            output_tile(4, conv, &activation, sums + t * VEC_LANES, WINOGRAD_SUMS, c, last, at.line, at.column,
                        args->height - at.line, conv->width - at.column);
    }
}

void VEC_NAME(winograd_output)(const struct winograd_args *args, int first, int last, const float *v, float *scratch) {
    const int in = in_block(args);
    float *u = scratch, *sums = scratch + (args->m + 2) * (args->m + 2) * winograd_u_point(in);
    const struct conv_args *conv = args->conv;
    if (winograd_few(args)) {
        few_output(args, first, last, v, scratch);
        return;
    }
    struct block b = block_at(args, first, last, 0);
    while (b.first < last) {
        const bool ends = b.k1 == conv->nchunks;
        const struct block next = ends ? block_at(args, b.last, last, 0) : block_at(args, b.first, last, b.k1);
        weight_block(args->m, in, conv, &b, u);
        multiply(args, &b, &next, v, u, sums);
        if (ends && args->m == 4) output_tiles(4, args, b.first, b.last, sums);
        else if (ends) output_tiles(6, args, b.first, b.last, sums);
        b = next;
    }
}
