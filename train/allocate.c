#include "train/allocate.h"

#include "common/log.h"
#include "train/loss.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCHES = 8,     /* for a measurement */
    STEPS = 16,      /* of a group from full width to none, at most */
    LEAST_SHARE = 8, /* a group keeps at least one channel in so many */
    TRIAL = 1        /* the row of the level table that trials use */
};

struct batch {
    int n;
    float *input;
    int *labels;
};

/* The next narrowing of a group. */
struct candidate {
    int count;     /* units it would keep; 0: the group stays as it is */
    double price;  /* loss per share of multiply-adds saved */
    bool measured; /* against the present counts */
};

struct allocation {
    struct network *network;
    const struct model *model;
    struct levels *levels; /* row TRIAL: the present counts */
    struct plan *plan;     /* row TRIAL throughout */
    struct counts *counts;
    struct batch batches[BATCHES];
    int nbatches;
    float *logits, *dlogits;
    struct candidate *candidates; /* [ngroups] */
    double loss, work;            /* of the present counts */
};

static void allocation_free(struct allocation *a) {
    levels_destroy(&a->levels);
    plan_destroy(&a->plan);
    counts_destroy(&a->counts);
    for (int b = 0; b < a->nbatches; b++) {
        free(a->batches[b].input);
        free(a->batches[b].labels);
    }
    free(a->logits);
    free(a->dlogits);
    free(a->candidates);
}

static enum status keep_batch(struct allocation *a, const struct loader_batch *from, struct err *err) {
    size_t pixels = (size_t)from->n * net_shape_size(a->model->net->input), labels = (size_t)from->n;
    struct batch *batch = &a->batches[a->nbatches++];
    *batch = (struct batch){ from->n, malloc(pixels * sizeof *batch->input), malloc(labels * sizeof *batch->labels) };
    if (!batch->input || !batch->labels) return err_memory(err, "allocation of channels");
    memcpy(batch->input, from->input, pixels * sizeof *batch->input);
    memcpy(batch->labels, from->labels, labels * sizeof *batch->labels);
    return STATUS_OK;
}

/* Batches spread evenly over the images, which may be in the order of classes. */
static enum status keep_images(struct allocation *a, struct loader *images, struct err *err) {
    int total = loader_batches(images), largest = 0, taken = total < BATCHES ? total : BATCHES;
    enum status status = loader_seek(images, 0, 0, err);
    for (int b = 0; !status && b < total; b++) {
        struct loader_batch batch;
        status = loader_next(images, &batch, err);
        if (status || batch.n == 0) break;
        if (b * taken / total == (b + 1) * taken / total) continue;
        status = keep_batch(a, &batch, err);
        if (batch.n > largest) largest = batch.n;
    }
    size_t logits = (size_t)largest * (size_t)a->model->net->classes;
    a->logits = malloc((logits + 1) * sizeof *a->logits);
    a->dlogits = malloc((logits + 1) * sizeof *a->dlogits);
    if (!status && (!a->logits || !a->dlogits)) status = err_memory(err, "allocation of channels");
    return status;
}

static enum status measure(struct allocation *a, double *loss, struct err *err) {
    double sum = 0;
    int images = 0, correct;
    enum status status = STATUS_OK;
    network_set_levels(a->network, a->levels);
    for (int b = 0; !status && b < a->nbatches; b++) {
        const struct batch *batch = &a->batches[b];
        status = network_forward(a->network, a->plan, NETWORK_STATS, batch->input, batch->n, 0, a->logits, err);
        if (status) break;
        sum += batch->n * loss_labels(a->logits, batch->labels, batch->n, a->model->net->classes, 0, 1, a->dlogits,
                                      &correct);
        images += batch->n;
    }
    network_set_levels(a->network, NULL);
    *loss = sum / (images ? images : 1);
    return status;
}

/* Multiply-adds of a level of that table. */
static double work_of(const struct allocation *a, const struct levels *levels, int level) {
    const struct model *m = a->model;
    for (int b = 0; b < a->plan->nblocks; b++) a->plan->level[b] = level;
    counts_set(a->counts, m->net, m->blocks, m->groups, levels, a->plan);
    double work = counts_multiply_adds(a->counts, m->net, m->blocks, m->groups, levels, a->plan, 0, m->net->nlayers - 1);
    for (int b = 0; b < a->plan->nblocks; b++) a->plan->level[b] = TRIAL;
    return work;
}

static int *count_of(struct allocation *a, int group) { return &a->levels->keep[TRIAL * a->levels->ngroups + group]; }

/* What the group's next narrowing is; not measured yet. */
static enum status next_candidate(struct allocation *a, int group, struct err *err) {
    const struct model *m = a->model;
    int units = m->groups->group[group].units, now = *count_of(a, group), step = 1;
    enum status status = levels_step(m->cfg, m->groups, group, &step, err);
    if (status) return status;
    int chunk = step * ((units + STEPS * step - 1) / (STEPS * step)), least = (units + LEAST_SHARE - 1) / LEAST_SHARE;
    bool pruned = levels_keep(m->levels, m->levels->nlevels - 1, group) < units;
    int count = (now - 1) / chunk * chunk;
    a->candidates[group].count = pruned && count >= least && count >= step ? count : 0;
    return STATUS_OK;
}

static enum status measure_candidate(struct allocation *a, int group, struct err *err) {
    struct candidate *c = &a->candidates[group];
    int now = *count_of(a, group);
    double loss;
    *count_of(a, group) = c->count;
    double saved = a->work - work_of(a, a->levels, TRIAL);
    enum status status = measure(a, &loss, err);
    *count_of(a, group) = now;
    if (status) return status;
    c->price = saved > 0 ? (loss - a->loss) / saved : INFINITY;
    c->measured = true;
    return STATUS_OK;
}

/* Narrows the best group by a step; false if none is left. */
static enum status narrow(struct allocation *a, bool *narrowed, struct err *err) {
    for (;;) {
        int best = -1;
        for (int g = 0; g < a->levels->ngroups; g++)
            if (a->candidates[g].count > 0 && (best < 0 || a->candidates[g].price < a->candidates[best].price)) best = g;
        *narrowed = best >= 0;
        if (best < 0) return STATUS_OK;
        struct candidate *c = &a->candidates[best];
        enum status status;
        if (!c->measured) {
            if ((status = measure_candidate(a, best, err))) return status;
            continue;
        }
        double saved = a->work;
        *count_of(a, best) = c->count;
        a->work = work_of(a, a->levels, TRIAL);
        a->loss += c->price * (saved - a->work);
        for (int g = 0; g < a->levels->ngroups; g++) a->candidates[g].measured = false;
        return next_candidate(a, best, err);
    }
}

static enum status open_allocation(struct allocation *a, struct loader *images, struct err *err) {
    const struct model *m = a->model;
    enum status status = levels_copy(&a->levels, m->levels, err);
    if (!status) status = plan_create(&a->plan, m->blocks->nblocks, TRIAL, err);
    if (!status) status = counts_create(&a->counts, m->groups, err);
    a->candidates = calloc((size_t)m->groups->ngroups, sizeof *a->candidates);
    if (!status && !a->candidates) status = err_memory(err, "allocation of channels");
    if (!status) status = keep_images(a, images, err);
    for (int g = 0; !status && g < m->groups->ngroups; g++) {
        *count_of(a, g) = m->groups->group[g].units;
        status = next_candidate(a, g, err);
    }
    if (status) return status;
    a->work = work_of(a, a->levels, TRIAL);
    return measure(a, &a->loss, err);
}

enum status allocate_by_sensitivity(struct network *network, struct model *model, struct loader *images,
                                    struct err *err) {
    struct allocation a = { .network = network, .model = model };
    struct levels *chosen = NULL;
    struct log_progress progress;
    int nlevels = model->levels->nlevels, ngroups = model->levels->ngroups;
    if (nlevels < 2) return STATUS_OK;
    log_progress_start(&progress, "allocate", 1);
    enum status status = levels_copy(&chosen, model->levels, err);
    if (!status) status = open_allocation(&a, images, err);
    double full = a.work, least = status ? 0 : work_of(&a, model->levels, nlevels - 1);
    for (int level = 1; !status && level < nlevels; level++) {
        double target = work_of(&a, model->levels, level);
        bool narrowed = true;
        while (!status && narrowed && a.work > target) {
            status = narrow(&a, &narrowed, err);
            log_progress_update(&progress, fmin((full - a.work) / (full - least), 1), NULL);
        }
        for (int g = 0; !status && g < ngroups; g++) chosen->keep[level * ngroups + g] = *count_of(&a, g);
    }
    if (status) log_progress_abandon(&progress);
    else {
        log_progress_end(&progress, NULL);
        memcpy(model->levels->keep, chosen->keep, (size_t)nlevels * (size_t)ngroups * sizeof *chosen->keep);
    }
    levels_destroy(&chosen);
    allocation_free(&a);
    return status;
}
