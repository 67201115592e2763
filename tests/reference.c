#include "common/bn.h"
#include "tests/reference.h"

#include "deploy/selftest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct pass {
    const struct reference *r;
    const struct plan *plan;
    int layer;
    const struct net_layer *l;
    const float **in; /* inputs as the layer sees them */
    float *out;
};

void reference_destroy(struct reference **reference) {
    struct reference *r = *reference;
    if (!r) return;
    for (int i = 0; r->values && i <= r->model->net->nlayers; i++) free(r->values[i]);
    free(r->values);
    counts_destroy(&r->counts);
    free(r);
    *reference = NULL;
}

enum status reference_create(struct reference **out, const struct model *model, struct err *err) {
    struct reference *r = calloc(1, sizeof *r);
    if (!r) return err_memory(err, "reference");
    r->model = model;
    r->values = calloc((size_t)model->net->nlayers + 1, sizeof *r->values);
    bool room = r->values != NULL;
    for (int i = -1; room && i < model->net->nlayers; i++)
        room = (r->values[i + 1] = calloc(net_shape_size(net_shape_of(model->net, i)), sizeof(float))) != NULL;
    enum status status = room ? counts_create(&r->counts, model->groups, err) : err_memory(err, "reference");
    if (status) reference_destroy(&r);
    else *out = r;
    return status;
}

/* Zeroes the channels of each segment from limits[segment] on. */
static void mask(const struct model *m, int tensor, const int *limits, float *values) {
    int n;
    const struct segment *segments = groups_segments(m->groups, tensor, &n);
    const struct net_shape shape = net_shape_of(m->net, tensor);
    const size_t map = (size_t)shape.h * (size_t)shape.w;
    for (int s = 0; s < n; s++)
        for (int c = limits[s]; c < segments[s].channels; c++)
            memset(values + (size_t)(segments[s].first + c) * map, 0, map * sizeof *values);
}

/* Input k of the layer with what it does not read set to zero; malloc'ed. */
static float *see(const struct pass *p, int k) {
    const struct model *m = p->r->model;
    const int tensor = p->l->inputs[k];
    const size_t size = net_shape_size(net_shape_of(m->net, tensor));
    float *copy = malloc(size * sizeof *copy);
    int n;
    groups_segments(m->groups, tensor, &n);
    int *limits = malloc((size_t)n * sizeof *limits);
    if (!copy || !limits) abort();
    memcpy(copy, p->r->values[tensor + 1], size * sizeof *copy);
    for (int s = 0; s < n; s++)
        limits[s] = counts_read(p->r->counts, m->net, m->blocks, m->groups, m->levels, p->plan, p->layer, k, s);
    mask(m, tensor, limits, copy);
    free(limits);
    return copy;
}

/* Blocks before a block; those from before a slice come first. */
static int before(const struct pass *p, int block) { return p->plan->before.n + block; }

struct share {
    bool joined;               /* it is part of what arrives */
    int level, arriving, back; /* back: 0 for the block just before */
    double slot_size;          /* blocks in its slot, or outside the chain */
};

static struct share share_of(const struct pass *p, int block, int k) {
    const int n = before(p, block), first = p->r->model->blocks->chain[block], given = p->plan->before.n;
    const int joined = first < 0 ? p->plan->before.nchain + block : block - first;
    struct share s = {.back = n - 1 - k, .joined = n - 1 - k < joined};
    int b = k - given; /* in this network */
    s.level = b < 0 ? p->plan->before.share[k].level : p->plan->level[b];
    s.arriving = b < 0 ? p->plan->before.share[k].arriving : s.level;
    if (b < 0 && p->plan->link[0] > s.arriving) s.arriving = p->plan->link[0];
    for (b = b < 0 ? 0 : b + 1; b <= block; b++) {
        if (b > 0 && p->plan->link[b] > s.arriving) s.arriving = p->plan->link[b];
        if (b < block && p->plan->level[b] > s.arriving) s.arriving = p->plan->level[b];
    }
    if (!s.joined) s.slot_size = n - joined;
    else s.slot_size = s.back < BN_SLOTS - 1 ? 1 : joined - (BN_SLOTS - 1);
    return s;
}

static void correct(const struct model_layer *w, int at, double weight, double deviation, double *mean, double *factor) {
    *mean += weight * deviation * (double)w->mean[at];
    *factor += weight * (double)w->var[at];
}

/* Bias or batch norm of output channel o. */
static double normalise(const struct pass *p, int o, double x) {
    const struct model *m = p->r->model;
    const struct model_layer *w = &m->layers[p->layer];
    if (!w->mean) return x + (w->bias ? (double)w->bias[o] : 0);
    const int block = m->blocks->of_layer[p->layer];
    const int outputs = model_outputs(m, p->layer), own = p->plan->level[block];
    const int at = (m->nrows > 1 ? own : 0) * outputs + o, gamma = w->gamma_rows > 1 ? at : o;
    const double var = (double)w->var[at], eps = (double)m->bn_eps;
    const double deviation = m->bn_form == MODEL_BN_TORCH ? sqrt(var + eps) : sqrt(var) + eps;
    double mean = (double)w->mean[at], factor = 1;
    for (int t = 0; m->nrows > 1 && t < before(p, block); t++) {
        /* Of the rows of corrections: which, and how much of it, sooner or later. */
        const struct share s = share_of(p, block, t);
        const int n = m->levels->nlevels, slot = s.back < BN_SLOTS ? s.back : BN_SLOTS - 1;
        const double steps = n - 1, part = s.slot_size;
        if (!s.joined) {
            const int row = n * (1 + BN_SLOTS) + (s.level > own);
            correct(w, row * outputs + o, fabs((double)(s.level - own)) / steps / part, deviation, &mean, &factor);
            continue;
        }
        if (s.level < own) correct(w, (n * (2 + slot) - 1) * outputs + o, (own - s.level) / steps / part, deviation, &mean, &factor);
        if (s.arriving <= own) continue;
        correct(w, (n * (1 + slot) + s.arriving - 1) * outputs + o, 1 / part, deviation, &mean, &factor);
        if (own > 0) correct(w, (n * (1 + slot) + own - 1) * outputs + o, -1 / part, deviation, &mean, &factor);
    }
    if (factor < .1) factor = .1;
    return (x - mean) / deviation * factor * (double)w->gamma[gamma] + (w->beta ? (double)w->beta[gamma] : 0);
}

static void convolutional(const struct pass *p) {
    const struct net_layer *l = p->l;
    const float *weight = p->r->model->layers[p->layer].weight;
    const int k = l->size, per_group = l->in.c / l->groups;
    for (int o = 0; o < l->out.c; o++) {
        const int first = o / (l->filters / l->groups) * per_group;
        for (int i = 0; i < l->out.h; i++)
            for (int j = 0; j < l->out.w; j++) {
                double sum = 0;
                for (int c = 0; c < per_group; c++)
                    for (int ky = 0; ky < k; ky++)
                        for (int kx = 0; kx < k; kx++) {
                            const int y = i * l->stride + ky - l->pad, x = j * l->stride + kx - l->pad;
                            if (y < 0 || y >= l->in.h || x < 0 || x >= l->in.w) continue;
                            sum += (double)weight[((o * per_group + c) * k + ky) * k + kx] *
                                   (double)p->in[0][((first + c) * l->in.h + y) * l->in.w + x];
                        }
                p->out[(o * l->out.h + i) * l->out.w + j] =
                    activation_apply(l->activation, (float)normalise(p, o, sum));
            }
    }
}

static void connected(const struct pass *p) {
    const size_t n = net_shape_size(p->l->in);
    for (int o = 0; o < p->l->filters; o++) {
        const float *weight = p->r->model->layers[p->layer].weight + (size_t)o * n;
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)weight[i] * (double)p->in[0][i];
        p->out[o] = activation_apply(p->l->activation, (float)normalise(p, o, sum));
    }
}

static void maxpool(const struct pass *p) {
    const struct net_layer *l = p->l;
    for (int c = 0; c < l->out.c; c++)
        for (int i = 0; i < l->out.h; i++)
            for (int j = 0; j < l->out.w; j++) {
                float best = -INFINITY;
                for (int y = i * l->stride - l->pad / 2; y < i * l->stride - l->pad / 2 + l->size; y++)
                    for (int x = j * l->stride - l->pad / 2; x < j * l->stride - l->pad / 2 + l->size; x++)
                        if (y >= 0 && y < l->in.h && x >= 0 && x < l->in.w)
                            best = fmaxf(best, p->in[0][(c * l->in.h + y) * l->in.w + x]);
                p->out[(c * l->out.h + i) * l->out.w + j] = best;
            }
}

static void avgpool(const struct pass *p) {
    const int map = p->l->in.h * p->l->in.w;
    for (int c = 0; c < p->l->out.c; c++) {
        double sum = 0;
        for (int i = 0; i < map; i++) sum += (double)p->in[0][c * map + i];
        p->out[c] = (float)(sum / map);
    }
}

static void batchnorm(const struct pass *p) {
    const int map = p->l->in.h * p->l->in.w;
    for (int i = 0; i < p->l->out.c * map; i++) p->out[i] = (float)normalise(p, i / map, (double)p->in[0][i]);
}

static void shortcut(const struct pass *p) {
    const struct net_layer *l = p->l;
    const struct net_shape from = net_shape_of(p->r->model->net, l->inputs[1]);
    const int step = from.w > l->out.w ? from.w / l->out.w : 1, every = l->out.w > from.w ? l->out.w / from.w : 1;
    for (int c = 0; c < l->out.c; c++)
        for (int i = 0; i < l->out.h; i++)
            for (int j = 0; j < l->out.w; j++) {
                const int at = (c * l->out.h + i) * l->out.w + j, y = i / every * step, x = j / every * step;
                double sum = (double)l->alpha * (double)p->in[0][at];
                if (c < from.c && i % every == 0 && j % every == 0 && y < from.h && x < from.w)
                    sum += (double)l->beta * (double)p->in[1][(c * from.h + y) * from.w + x];
                p->out[at] = activation_apply(l->activation, (float)sum);
            }
}

static void softmax(const struct pass *p) {
    const size_t each = net_shape_size(p->l->in) / (size_t)p->l->softmax_groups;
    for (int g = 0; g < p->l->softmax_groups; g++) {
        const float *x = p->in[0] + (size_t)g * each;
        double largest = -INFINITY, sum = 0;
        for (size_t i = 0; i < each; i++) largest = fmax(largest, (double)x[i]);
        for (size_t i = 0; i < each; i++) sum += exp(((double)x[i] - largest) / (double)p->l->temperature);
        for (size_t i = 0; i < each; i++)
            p->out[(size_t)g * each + i] = (float)(exp(((double)x[i] - largest) / (double)p->l->temperature) / sum);
    }
}

static void crop(const struct pass *p) {
    const struct net_layer *l = p->l;
    const int top = (l->in.h - l->out.h) / 2, left = (l->in.w - l->out.w) / 2;
    for (int c = 0; c < l->out.c; c++)
        for (int i = 0; i < l->out.h; i++)
            for (int j = 0; j < l->out.w; j++) {
                const float x = p->in[0][(c * l->in.h + i + top) * l->in.w + j + left];
                p->out[(c * l->out.h + i) * l->out.w + j] = l->noadjust ? x : 2 * x - 1;
            }
}

/* Inputs one behind the other: a route, and the layers that change nothing. */
static void join(const struct pass *p) {
    float *out = p->out;
    for (int k = 0; k < p->l->ninputs; k++) {
        const size_t n = net_shape_size(net_shape_of(p->r->model->net, p->l->inputs[k]));
        memcpy(out, p->in[k], n * sizeof *out);
        out += n;
    }
}

void reference_run(struct reference *r, const struct plan *plan, const float *input) {
    static void (*const layers[])(const struct pass *) = {
        [NET_CONVOLUTIONAL] = convolutional, [NET_CONNECTED] = connected, [NET_BATCHNORM] = batchnorm,
        [NET_MAXPOOL] = maxpool, [NET_AVGPOOL] = avgpool, [NET_DROPOUT] = join, [NET_SHORTCUT] = shortcut,
        [NET_ROUTE] = join, [NET_SOFTMAX] = softmax, [NET_COST] = join, [NET_CROP] = crop};
    const struct model *m = r->model;
    counts_set(r->counts, m->net, m->blocks, m->groups, m->levels, plan);
    memcpy(r->values[0], input, net_shape_size(m->net->input) * sizeof *input);
    mask(m, -1, r->counts->out, r->values[0]);
    for (int i = 0; i < m->net->nlayers; i++) {
        const struct net_layer *l = &m->net->layers[i];
        float **in = malloc((size_t)l->ninputs * sizeof *in);
        if (!in) abort();
        struct pass p = {r, plan, i, l, (const float **)in, r->values[i + 1]};
        for (int k = 0; k < l->ninputs; k++) in[k] = see(&p, k);
        layers[l->kind](&p);
        for (int k = 0; k < l->ninputs; k++) free(in[k]);
        free(in);
        mask(m, i, r->counts->out + m->groups->first_segment[i + 1], p.out);
    }
}

size_t reference_compact(const struct reference *r, int layer, float *out) {
    const struct model *m = r->model;
    int n;
    const struct segment *segments = groups_segments(m->groups, layer, &n);
    const struct net_shape shape = net_shape_of(m->net, layer);
    const size_t map = (size_t)shape.h * (size_t)shape.w;
    size_t total = 0;
    for (int s = 0; s < n; s++) {
        const size_t count = (size_t)r->counts->out[m->groups->first_segment[layer + 1] + s] * map;
        memcpy(out + total, r->values[layer + 1] + (size_t)segments[s].first * map, count * sizeof *out);
        total += count;
    }
    return total;
}

/* ---- models and plans ---- */

static enum status from_cfg(struct model **out, struct cfg *cfg, uint64_t seed, struct err *err) {
    struct model *m = NULL;
    enum status status = model_create(&m, cfg, 0, err);
    if (status) {
        cfg_destroy(&cfg);
        return status;
    }
    selftest_fill(m, seed);
    *out = m;
    return STATUS_OK;
}

enum status reference_model(struct model **model, const char *cfg_text, uint64_t seed, struct err *err) {
    struct cfg *cfg;
    enum status status = cfg_parse(&cfg, "test.cfg", cfg_text, strlen(cfg_text), err);
    return status ? status : from_cfg(model, cfg, seed, err);
}

enum status reference_model_file(struct model **model, const char *cfg_path, uint64_t seed, struct err *err) {
    struct cfg *cfg;
    enum status status = cfg_load(&cfg, cfg_path, err);
    return status ? status : from_cfg(model, cfg, seed, err);
}

void reference_random_plan(struct plan *plan, const struct model *model, struct random *random) {
    for (int b = 0; b < plan->nblocks; b++) {
        const bool cut = b > 0 && random_below(random, 3) == 0;
        plan->level[b] = b == 0 || cut ? random_below(random, model->levels->nlevels) : plan->level[b - 1];
        plan->link[b] = cut ? random_below(random, model->levels->nlevels) : 0;
    }
}

bool reference_agrees(const float *got, const float *expected, size_t n, double *worst) {
    double largest = 0, error = 0;
    size_t top_got = 0, top_expected = 0;
    bool numbers = n > 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i]) || !isfinite(expected[i])) numbers = false;
        largest = fmax(largest, fabs((double)expected[i]));
        error = fmax(error, fabs((double)got[i] - (double)expected[i]));
        if (got[i] > got[top_got]) top_got = i;
        if (expected[i] > expected[top_expected]) top_expected = i;
    }
    if (worst) *worst = largest > 0 ? error / largest : error;
    /* Values that differ by less than the tolerance may change places. */
    const bool same_top = n > 0 && (double)expected[top_expected] - (double)expected[top_got] <= 1e-6 * largest;
    return numbers && error <= 1e-4 * largest && same_top;
}
