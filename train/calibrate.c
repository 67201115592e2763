#include "train/calibrate.h"

#include "common/log.h"
#include "common/random.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct calibrate_config calibrate_defaults(void) {
    return (struct calibrate_config){ .uniform = 16, .coverage = 2, .batches = 500 };
}

/* Running sums of one batch-norm layer, [rows, channels]. */
struct sums {
    int layer, channels;
    double *mean, *square;
    int *batches;
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
    int *met; /* [nblocks, rows] passes per pair */
    bool mixed; /* the passes' plans have several slices */
};

static void calibration_free(struct calibration *c) {
    plan_destroy(&c->plan);
    counts_destroy(&c->counts);
    free(c->logits);
    for (int i = 0; i < c->nsums; i++) {
        free(c->sums[i].mean);
        free(c->sums[i].square);
        free(c->sums[i].batches);
    }
    free(c->sums);
    free(c->met);
}

static int rows_of(const struct model *model) { return model->levels->nlevels * model->levels->nlevels; }

static enum status calibration_init(struct calibration *c, struct network *network, struct model *model,
                                    struct loader *images, struct err *err) {
    int nlayers = model->net->nlayers, rows = rows_of(model);
    *c = (struct calibration){ .network = network, .model = model, .images = images };
    if (model->nrows != rows)
        return err_set(err, STATUS_LIMIT, "the model has room for %d batch-norm rows, not for %d", model->nrows, rows);
    enum status status = plan_create(&c->plan, model->blocks->nblocks, 0, err);
    if (!status) status = counts_create(&c->counts, model->groups, err);
    if (status) goto fail;
    c->sums = calloc((size_t)nlayers, sizeof *c->sums);
    c->met = calloc((size_t)model->blocks->nblocks * (size_t)rows, sizeof *c->met);
    if (!c->sums || !c->met) goto memory;
    for (int i = 0; i < nlayers; i++) {
        if (!model->layers[i].mean) continue;
        struct sums *s = &c->sums[c->nsums++];
        *s = (struct sums){ .layer = i, .channels = model_outputs(model, i) };
        size_t n = (size_t)rows * (size_t)s->channels;
        s->mean = calloc(n, sizeof *s->mean);
        s->square = calloc(n, sizeof *s->square);
        s->batches = calloc(n, sizeof *s->batches);
        if (!s->mean || !s->square || !s->batches) goto memory;
    }
    return STATUS_OK;
memory:
    status = err_memory(err, "calibration");
fail:
    calibration_free(c);
    return status;
}

static int row_at(const struct calibration *c, int block) {
    return c->plan->level[block] * c->model->levels->nlevels + plan_incoming(c->plan, block);
}

/* The statistics of a pass hold the computed channels side by side; they
 * belong to the first ones of each segment. */
static void add_layer(struct calibration *c, struct sums *s, const float *mean, const float *var, int computed) {
    int nsegments, k = 0, block = c->model->blocks->of_layer[s->layer];
    if (c->mixed && block > 0 && c->plan->level[block] == plan_incoming(c->plan, block)) return;
    const struct groups *groups = c->model->groups;
    const struct segment *segments = groups_segments(groups, s->layer, &nsegments);
    const int *out = c->counts->out + groups->first_segment[s->layer + 1];
    size_t base = (size_t)row_at(c, block) * (size_t)s->channels;
    for (int g = 0; g < nsegments; g++)
        for (int i = 0; i < out[g] && k < computed; i++, k++) {
            size_t at = base + (size_t)(segments[g].first + i);
            s->mean[at] += mean[k];
            s->square[at] += (double)var[k] + (double)mean[k] * mean[k];
            s->batches[at]++;
        }
}

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
    if (status) return status;
    counts_set(c->counts, m->net, m->blocks, m->groups, m->levels, c->plan);
    for (int i = 0; i < c->nsums; i++) {
        const float *mean, *var;
        int computed;
        status = network_batch_stats(c->network, c->sums[i].layer, &mean, &var, &computed, err);
        if (status) return status;
        add_layer(c, &c->sums[i], mean, var, computed);
    }
    for (int b = 0; b < m->blocks->nblocks; b++) c->met[b * rows_of(m) + row_at(c, b)]++;
    return STATUS_OK;
}

static void set_uniform(struct calibration *c, int level) {
    for (int b = 0; b < c->plan->nblocks; b++) c->plan->level[b] = level;
}

/* Slices of random length; the level of each is the one that its first block
 * has met least behind the level before. */
static void draw_plan(struct calibration *c, struct random *random) {
    int nlevels = c->model->levels->nlevels, left = 0, incoming = 0, level = 0;
    for (int b = 0; b < c->plan->nblocks; b++) {
        if (left == 0) {
            const int *met = c->met + b * rows_of(c->model);
            int shift = random_below(random, nlevels), fewest = -1;
            for (int i = 0; i < nlevels; i++) {
                int l = (i + shift) % nlevels, n = met[l * nlevels + incoming];
                if (fewest < 0 || n < fewest) {
                    fewest = n;
                    level = l;
                }
            }
            left = 1 + random_below(random, 3);
        }
        c->plan->level[b] = incoming = level;
        left--;
    }
}

/* Pairs that can occur and have been met fewer than `times` times. The first
 * block is always fed at level 0. */
static int count_missed(const struct calibration *c, int times) {
    int nlevels = c->model->levels->nlevels, missed = 0;
    for (int b = 0; b < c->plan->nblocks; b++)
        for (int own = 0; own < nlevels; own++)
            for (int incoming = 0; incoming < (b ? nlevels : 1); incoming++)
                missed += c->met[b * rows_of(c->model) + own * nlevels + incoming] < times;
    return missed;
}

/* The row whose sums stand for (row, channel): its own, else (own, own)'s, else
 * full width's; -1 if none computed the channel. */
static int row_with(const struct calibration *c, const struct sums *s, int row, int channel) {
    int nlevels = c->model->levels->nlevels, own = row / nlevels;
    const int candidates[] = { row, own * nlevels + own, own * nlevels, 0 };
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if (s->batches[(size_t)candidates[i] * (size_t)s->channels + (size_t)channel] > 0) return candidates[i];
    return -1;
}

static void store_row(struct calibration *c, const struct sums *s, int row) {
    struct model_layer *layer = &c->model->layers[s->layer];
    for (int o = 0; o < s->channels; o++) {
        int from = row_with(c, s, row, o);
        if (from < 0) continue;
        size_t at = (size_t)from * (size_t)s->channels + (size_t)o, to = (size_t)row * (size_t)s->channels + (size_t)o;
        double mean = s->mean[at] / s->batches[at], var = s->square[at] / s->batches[at] - mean * mean;
        layer->mean[to] = (float)mean;
        layer->var[to] = (float)(var > 0 ? var : 0);
    }
}

enum status calibrate_run(struct network *network, struct model *model, struct loader *images,
                          const struct calibrate_config *config, int *missed, struct err *err) {
    struct calibration c;
    enum status status = calibration_init(&c, network, model, images, err);
    if (status) return status;
    struct random random = random_stream(config->seed, 0x63616c69, 0);
    struct log_progress progress;
    int nlevels = model->levels->nlevels, passes = 0;
    log_progress_start(&progress, "calibrate", config->batches);
    for (; !status && passes < config->batches; passes++) {
        c.mixed = passes >= nlevels * config->uniform;
        if (c.mixed && count_missed(&c, config->coverage) == 0) break;
        if (c.mixed) draw_plan(&c, &random);
        else set_uniform(&c, passes % nlevels);
        status = pass(&c, err);
        log_progress_update(&progress, passes + 1, NULL);
    }
    if (!status) {
        for (int i = 0; i < c.nsums; i++)
            for (int row = 0; row < rows_of(model); row++) store_row(&c, &c.sums[i], row);
        *missed = count_missed(&c, 1);
    }
    if (status) log_progress_abandon(&progress);
    else log_progress_end(&progress, NULL);
    calibration_free(&c);
    return status;
}

enum status calibrate_uniform(struct network *network, struct model *model, struct loader *images, int level,
                              int batches, struct err *err) {
    struct calibration c;
    enum status status = calibration_init(&c, network, model, images, err);
    if (status) return status;
    set_uniform(&c, level);
    for (int i = 0; !status && i < batches; i++) status = pass(&c, err);
    for (int b = 0; !status && b < c.plan->nblocks; b++)
        for (int i = 0; i < c.nsums; i++)
            if (model->blocks->of_layer[c.sums[i].layer] == b) store_row(&c, &c.sums[i], row_at(&c, b));
    calibration_free(&c);
    return status;
}
