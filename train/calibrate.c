#include "train/calibrate.h"

#include "common/bn.h"
#include "common/bn_rows.h"
#include "common/log.h"
#include "common/random.h"
#include "train/robust.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* In passes: how much of them a correction must have been seen in to count for much. */
static const double RIDGE = .5;
enum { MAX_FEATURES = BN_SLOTS * PLAN_MAX_LEVELS + 2 };

struct calibrate_config calibrate_defaults(void) { return (struct calibrate_config){ .uniform = 16, .mixed = 16 }; }

/* Of one batch-norm layer. Features are what may be missing or wider: slot by slot,
 * level by level, the share of the slot's blocks whose channels between that level
 * and the next do not arrive, then how much wider they were; at the end how much
 * wider and narrower the blocks before the chain were. The weights of corrections,
 * that is, but with the steps from level to level for the levels. */
struct sums {
    int layer, block, channels;
    double *mean, *square; /* [nlevels, channels], with a level throughout */
    int *batches;
    int computed[PLAN_MAX_LEVELS]; /* channels at each level */
    int nslots, nfeatures;
    double *gram;  /* [nlevels][nfeatures][nfeatures], of the plans that compute as many channels */
    double *right; /* [channels][2][nfeatures]: features times deviations of mean and of scale */
};

struct calibration {
    struct network *network;
    struct model *model;
    struct loader *images;
    struct plan *plan;
    struct counts *counts;
    float *logits; /* of capacity images */
    int capacity;
    int nsums;
    struct sums *sums;
    int nfeatures; /* of the layer that has most */
};

static void calibration_free(struct calibration *c) {
    plan_destroy(&c->plan);
    counts_destroy(&c->counts);
    free(c->logits);
    for (int i = 0; i < c->nsums; i++) {
        free(c->sums[i].mean);
        free(c->sums[i].square);
        free(c->sums[i].batches);
        free(c->sums[i].gram);
        free(c->sums[i].right);
    }
    free(c->sums);
}

static enum status sums_init(struct sums *s, const struct model *model, const struct plan *plan, int layer, struct err *err) {
    const size_t nlevels = (size_t)model->levels->nlevels;
    *s = (struct sums){ .layer = layer, .block = model->blocks->of_layer[layer], .channels = model_outputs(model, layer) };
    struct plan_before before;
    plan_before(plan, model->blocks, s->block, &before);
    s->nslots = before.nchain < BN_SLOTS ? before.nchain : BN_SLOTS;
    s->nfeatures = nlevels == 1 ? 0 : s->nslots * (int)nlevels + (before.n > before.nchain ? 2 : 0);
    const size_t f = (size_t)s->nfeatures, n = nlevels * (size_t)s->channels;
    s->mean = calloc(n, sizeof *s->mean);
    s->square = calloc(n, sizeof *s->square);
    s->batches = calloc(n, sizeof *s->batches);
    s->gram = calloc(nlevels * f * f + 1, sizeof *s->gram);
    s->right = calloc((size_t)s->channels * 2 * f + 1, sizeof *s->right);
    return s->mean && s->square && s->batches && s->gram && s->right ? STATUS_OK : err_memory(err, "calibration");
}

static enum status calibration_init(struct calibration *c, struct network *network, struct model *model,
                                    struct loader *images, struct err *err) {
    int nlayers = model->net->nlayers, rows = bn_rows(model->levels->nlevels);
    *c = (struct calibration){ .network = network, .model = model, .images = images };
    if (model->nrows != rows)
        return err_set(err, STATUS_LIMIT, "the model has room for %d batch-norm rows, not for %d", model->nrows, rows);
    enum status status = plan_create(&c->plan, model->blocks->nblocks, 0, err);
    if (!status) status = counts_create(&c->counts, model->groups, err);
    c->sums = calloc((size_t)nlayers, sizeof *c->sums);
    if (!status && !c->sums) status = err_memory(err, "calibration");
    for (int i = 0; !status && i < nlayers; i++) {
        if (!model->layers[i].mean) continue;
        struct sums *s = &c->sums[c->nsums++];
        status = sums_init(s, model, c->plan, i, err);
        if (s->nfeatures > c->nfeatures) c->nfeatures = s->nfeatures;
    }
    if (status) calibration_free(c);
    return status;
}

/* ---- passes ---- */

static enum status make_room(struct calibration *c, int images, struct err *err) {
    if (images <= c->capacity) return STATUS_OK;
    float *logits = realloc(c->logits, (size_t)images * (size_t)c->model->net->classes * sizeof *logits);
    if (!logits) return err_memory(err, "calibration");
    c->logits = logits;
    c->capacity = images;
    return STATUS_OK;
}

/* One pass of the next batch of images under c->plan. */
static enum status pass(struct calibration *c, struct err *err) {
    const struct model *m = c->model;
    struct loader_batch batch;
    enum status status = loader_next(c->images, &batch, err);
    if (!status) status = make_room(c, batch.n, err);
    if (!status)
        status = network_forward(c->network, c->plan, NETWORK_STATS, batch.input, batch.n, 0, c->logits, err);
    if (!status) counts_set(c->counts, m->net, m->blocks, m->groups, m->levels, c->plan);
    return status;
}

/* What a pass computed of a layer, channel by channel. The statistics hold the
 * computed channels side by side; they are the first ones of each segment. */
struct walk {
    const struct segment *segments;
    const int *out;
    int nsegments, segment, i, k, computed;
    const float *mean, *var;
};

static enum status walk_start(const struct calibration *c, const struct sums *s, struct walk *w, struct err *err) {
    const struct groups *groups = c->model->groups;
    *w = (struct walk){ .out = c->counts->out + groups->first_segment[s->layer + 1] };
    w->segments = groups_segments(groups, s->layer, &w->nsegments);
    return network_batch_stats(c->network, s->layer, &w->mean, &w->var, &w->computed, err);
}

/* The next channel, whose statistics are mean[w->k - 1] and var[w->k - 1]; -1: there is none. */
static int walk_next(struct walk *w) {
    while (w->segment < w->nsegments && w->i >= w->out[w->segment]) w->segment++, w->i = 0;
    if (w->segment == w->nsegments || w->k >= w->computed) return -1;
    w->k++;
    return w->segments[w->segment].first + w->i++;
}

/* ---- a level throughout ---- */

static enum status add_uniform(struct calibration *c, struct sums *s, int level, struct err *err) {
    struct walk w;
    enum status status = walk_start(c, s, &w, err);
    if (status) return status;
    s->computed[level] = 0;
    for (int channel; (channel = walk_next(&w)) >= 0; s->computed[level]++) {
        const size_t at = (size_t)level * (size_t)s->channels + (size_t)channel;
        const double mean = (double)w.mean[w.k - 1];
        s->mean[at] += mean;
        s->square[at] += (double)w.var[w.k - 1] + mean * mean;
        s->batches[at]++;
    }
    return STATUS_OK;
}

/* Channels that the level does not compute keep their values at full width. */
static void store_uniform(struct calibration *c, const struct sums *s, int level) {
    struct model_layer *layer = &c->model->layers[s->layer];
    for (int o = 0; o < s->channels; o++) {
        size_t to = (size_t)level * (size_t)s->channels + (size_t)o, from = s->batches[to] ? to : (size_t)o;
        if (!s->batches[from]) continue;
        double mean = s->mean[from] / s->batches[from], var = s->square[from] / s->batches[from] - mean * mean;
        layer->mean[to] = (float)mean;
        layer->var[to] = (float)(var > 0 ? var : 0);
    }
}

static enum status run_uniform(struct calibration *c, int level, struct err *err) {
    for (int b = 0; b < c->plan->nblocks; b++) c->plan->level[b] = level;
    enum status status = pass(c, err);
    for (int i = 0; !status && i < c->nsums; i++) status = add_uniform(c, &c->sums[i], level, err);
    return status;
}

/* ---- mixed plans ---- */

/* Whether there are any. */
static bool features_of(const struct calibration *c, const struct sums *s, double *x) {
    const struct bn_terms terms = bn_planned(c->model, c->plan, s->block);
    const int nlevels = c->model->levels->nlevels;
    memset(x, 0, (size_t)s->nfeatures * sizeof *x);
    for (int t = 0; t < terms.n; t++) {
        const int at = terms.term[t].row - nlevels, slot = at / nlevels, level = at % nlevels + 1;
        const double weight = (double)terms.term[t].weight;
        if (slot >= BN_SLOTS) x[s->nfeatures - 2 + (at - BN_SLOTS * nlevels)] += weight;
        else if (level == nlevels) x[at] += weight;
        else /* a missing level is made of the steps up to it */
            for (int step = 0; step < level; step++) x[slot * nlevels + step] += weight;
    }
    return terms.n > 0;
}

static enum status add_mixed(struct calibration *c, struct sums *s, double *x, struct err *err) {
    const struct model_layer *layer = &c->model->layers[s->layer];
    const int f = s->nfeatures, own = c->plan->level[s->block];
    struct walk w;
    if (!features_of(c, s, x)) return STATUS_OK;
    enum status status = walk_start(c, s, &w, err);
    if (status) return status;
    int computed = 0, level = 0;
    for (int channel; (channel = walk_next(&w)) >= 0; computed++) {
        const size_t at = (size_t)own * (size_t)s->channels + (size_t)channel;
        const double rate = (double)bn_inverse_sigma(c->model, layer->var[at]);
        const double mean = ((double)w.mean[w.k - 1] - (double)layer->mean[at]) * rate;
        const double scale = (double)bn_inverse_sigma(c->model, w.var[w.k - 1]) / rate - 1;
        double *right = s->right + (size_t)channel * 2 * (size_t)f;
        for (int i = 0; i < f; i++) {
            right[i] += x[i] * mean;
            right[f + i] += x[i] * scale;
        }
    }
    while (level < c->model->levels->nlevels - 1 && s->computed[level] > computed) level++;
    double *gram = s->gram + (size_t)level * (size_t)f * (size_t)f;
    for (int i = 0; i < f; i++)
        for (int j = 0; x[i] != 0 && j < f; j++) gram[i * f + j] += x[i] * x[j];
    return STATUS_OK;
}

/* The symmetric positive a [n][n] becomes its Cholesky factor, in its lower half. */
static void factorise(double *a, int n) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (int k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
}

static void solve(const double *factor, int n, double *b) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) b[i] -= factor[i * n + k] * b[k];
        b[i] /= factor[i * n + i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) b[i] -= factor[k * n + i] * b[k];
        b[i] /= factor[i * n + i];
    }
}

static void store_correction(struct calibration *c, const struct sums *s, int row, int channel, double mean, double scale) {
    struct model_layer *layer = &c->model->layers[s->layer];
    const size_t at = (size_t)row * (size_t)s->channels + (size_t)channel;
    layer->mean[at] = (float)mean;
    layer->var[at] = (float)scale;
}

/* A missing level is worth the sum of the steps up to it. */
static void store_channel(struct calibration *c, const struct sums *s, int channel, const double *mean, const double *scale) {
    const int nlevels = c->model->levels->nlevels, outside = s->nslots * nlevels;
    for (int slot = 0; slot < s->nslots; slot++) {
        double missing = 0, missing_scale = 0;
        for (int level = 1, at = slot * nlevels; level < nlevels; level++, at++) {
            missing += mean[at];
            missing_scale += scale[at];
            store_correction(c, s, bn_missing(c->model, slot, level), channel, missing, missing_scale);
        }
        const int wider = slot * nlevels + nlevels - 1;
        store_correction(c, s, bn_wider(c->model, slot), channel, mean[wider], scale[wider]);
    }
    for (int k = 0; outside + k < s->nfeatures; k++)
        store_correction(c, s, bn_outside(c->model, k), channel, mean[outside + k], scale[outside + k]);
}

static void store_corrections(struct calibration *c, struct sums *s, double *gram) {
    const int f = s->nfeatures, nlevels = c->model->levels->nlevels;
    memset(gram, 0, (size_t)f * (size_t)f * sizeof *gram);
    for (int level = 0; level < nlevels; level++) {
        /* Plans of up to this level compute the channels that it has and the next has not. */
        for (int i = 0; i < f * f; i++) gram[i] += s->gram[(size_t)level * (size_t)f * (size_t)f + (size_t)i];
        double factor[MAX_FEATURES * MAX_FEATURES];
        memcpy(factor, gram, (size_t)f * (size_t)f * sizeof *gram);
        for (int i = 0; i < f; i++) factor[i * f + i] += RIDGE;
        factorise(factor, f);
        for (int o = 0; o < s->channels; o++) {
            const bool here = s->batches[(size_t)level * (size_t)s->channels + (size_t)o] > 0;
            const bool next = level + 1 < nlevels && s->batches[(size_t)(level + 1) * (size_t)s->channels + (size_t)o] > 0;
            if (!here || next) continue;
            double *right = s->right + (size_t)o * 2 * (size_t)f;
            solve(factor, f, right);
            solve(factor, f, right + f);
            store_channel(c, s, o, right, right + f);
        }
    }
}

static void clear_corrections(struct calibration *c, const struct sums *s) {
    struct model_layer *layer = &c->model->layers[s->layer];
    const size_t first = (size_t)bn_level_rows(c->model) * (size_t)s->channels;
    const size_t size = ((size_t)c->model->nrows * (size_t)s->channels - first) * sizeof(float);
    memset(layer->mean + first, 0, size);
    memset(layer->var + first, 0, size);
}

static enum status run_mixed(struct calibration *c, struct random *random, double *x, struct err *err) {
    const struct robust_config drawing = robust_defaults(ROBUST_DROP);
    robust_draw(&drawing, c->model, random, c->plan);
    enum status status = pass(c, err);
    for (int i = 0; !status && i < c->nsums; i++)
        if (c->sums[i].nfeatures) status = add_mixed(c, &c->sums[i], x, err);
    return status;
}

enum status calibrate_run(struct network *network, struct model *model, struct loader *images,
                          const struct calibrate_config *config, struct err *err) {
    struct calibration c;
    enum status status = calibration_init(&c, network, model, images, err);
    if (status) return status;
    struct random random = random_stream(config->seed, 0x63616c69, 0);
    struct log_progress progress;
    const int nlevels = model->levels->nlevels, uniform = nlevels * config->uniform;
    const int passes = uniform + config->mixed * c.nfeatures;
    const size_t f = (size_t)c.nfeatures;
    double *room = malloc((f * f + f + 1) * sizeof *room);
    if (!room) status = err_memory(err, "calibration");
    log_progress_start(&progress, "calibrate", passes);
    for (int p = 0; !status && p < passes; p++) {
        status = p < uniform ? run_uniform(&c, p % nlevels, err) : run_mixed(&c, &random, room + f * f, err);
        for (int i = 0; !status && p == uniform - 1 && i < c.nsums; i++) {
            for (int level = 0; level < nlevels; level++) store_uniform(&c, &c.sums[i], level);
            clear_corrections(&c, &c.sums[i]);
        }
        if (!status && p == uniform - 1) bn_rows_round(model); /* corrections make up for that, too */
        log_progress_update(&progress, p + 1, NULL);
    }
    for (int i = 0; !status && i < c.nsums; i++)
        if (c.sums[i].nfeatures) store_corrections(&c, &c.sums[i], room);
    if (!status) bn_rows_round(model);
    if (status) log_progress_abandon(&progress);
    else log_progress_end(&progress, NULL);
    free(room);
    calibration_free(&c);
    return status;
}

enum status calibrate_uniform(struct network *network, struct model *model, struct loader *images, int level,
                              int batches, struct err *err) {
    struct calibration c;
    enum status status = calibration_init(&c, network, model, images, err);
    if (status) return status;
    for (int i = 0; !status && i < batches; i++) status = run_uniform(&c, level, err);
    for (int i = 0; !status && i < c.nsums; i++) store_uniform(&c, &c.sums[i], level);
    calibration_free(&c);
    return status;
}
