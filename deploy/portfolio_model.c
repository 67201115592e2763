#include "deploy/portfolio_model.h"

#include "common/accuracy.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Whether both have the same layers, of whatever width: then they have the same blocks. */
static bool cut_alike(const struct model *a, const struct model *b) {
    if (a->net->nlayers != b->net->nlayers || a->blocks->nblocks != b->blocks->nblocks) return false;
    for (int i = 0; i < a->net->nlayers; i++)
        if (a->net->layers[i].kind != b->net->layers[i].kind) return false;
    for (int i = 0; i < a->blocks->nblocks; i++)
        if (a->blocks->block[i].first != b->blocks->block[i].first) return false;
    return true;
}

static enum status load_variants(struct portfolio_model *p, const char *path, struct err *err) {
    const int n = p->portfolio.nvariants;
    if (n > PLAN_MAX_LEVELS)
        return err_set(err, STATUS_USAGE, "%s: a pipeline serves at most %d variants, and it has %d", path, PLAN_MAX_LEVELS, n);
    char hashes[PLAN_MAX_LEVELS * 64 + 1] = "";
    for (int i = 0; i < n; i++) {
        const struct portfolio_variant *v = &p->portfolio.variants[i];
        enum status status = model_load_part(&p->variants[i], path, v->offset, v->bytes, 0, err);
        if (status) return status;
        if (!cut_alike(p->variants[0], p->variants[i]))
            return err_set(err, STATUS_USAGE, "%s: variant %s has other layers than %s; they cannot be cut alike", path, v->name,
                           p->portfolio.variants[0].name);
        char hash[65];
        model_hash(p->variants[i]->file->bytes, p->variants[i]->file->length, hash);
        memcpy(hashes + 64 * i, hash, 65);
    }
    model_hash(hashes, strlen(hashes), p->hash);
    return STATUS_OK;
}

static enum status make_levels(const struct portfolio_model *p, struct levels **out, struct err *err) {
    const struct groups *groups = p->model->groups;
    const int n = p->portfolio.nvariants;
    struct levels *levels = calloc(1, sizeof *levels);
    if (!levels) return err_memory(err, "levels");
    levels->nlevels = n;
    levels->ngroups = groups->ngroups;
    levels->ratio = calloc((size_t)n, sizeof *levels->ratio);
    levels->keep = calloc((size_t)n * (size_t)groups->ngroups + 1, sizeof *levels->keep);
    if (!levels->ratio || !levels->keep) {
        levels_destroy(&levels);
        return err_memory(err, "levels");
    }
    for (int v = 0; v < n; v++) {
        double share = sqrt(p->portfolio.variants[v].multiply_adds / fmax(p->portfolio.variants[0].multiply_adds, 1));
        levels->ratio[v] = v ? fminf((float)share, levels->ratio[v - 1]) : 1;
        for (int g = 0; g < groups->ngroups; g++) {
            int units = groups->group[g].units, keep = (int)ceilf((float)units * levels->ratio[v]);
            levels->keep[v * groups->ngroups + g] = groups->group[g].whole ? units : keep < 1 ? 1 : keep;
        }
    }
    *out = levels;
    return STATUS_OK;
}

/* The first block's costs are the variants'. A smaller variant that does better costs nothing. */
static enum status make_accuracy(const struct portfolio_model *p, struct accuracy **out, struct err *err) {
    const int n = p->portfolio.nvariants;
    struct accuracy *a = NULL;
    for (int v = 0; v < n; v++)
        if (p->portfolio.variants[v].accuracy < 0) return STATUS_OK;
    enum status status = accuracy_create(&a, p->model->blocks->nblocks, n, err);
    if (status) return status;
    a->base = p->portfolio.variants[0].accuracy;
    for (int v = 1; v < n; v++) a->block[v] = fmax(a->base - p->portfolio.variants[v].accuracy, a->block[v - 1]);
    *out = a;
    return STATUS_OK;
}

static enum status make_model(struct portfolio_model *p, const char *path, struct err *err) {
    struct levels *levels = NULL;
    struct accuracy *accuracy = NULL;
    enum status status = portfolio_load(&p->model, path, NULL, 0, err);
    if (!status) status = make_levels(p, &levels, err);
    if (!status) status = make_accuracy(p, &accuracy, err);
    if (status) {
        levels_destroy(&levels);
        return status;
    }
    levels_destroy(&p->model->levels);
    accuracy_destroy(&p->model->accuracy);
    p->model->levels = levels;
    p->model->accuracy = accuracy;
    return STATUS_OK;
}

enum status portfolio_model_open(struct portfolio_model **out, const char *path, struct err *err) {
    struct portfolio_model *p = calloc(1, sizeof *p);
    if (!p) return err_memory(err, "portfolio");
    enum status status = portfolio_read(&p->portfolio, path, err);
    if (!status) status = load_variants(p, path, err);
    if (!status) status = make_model(p, path, err);
    if (status) portfolio_model_close(&p);
    else *out = p;
    return status;
}

void portfolio_model_close(struct portfolio_model **portfolio) {
    struct portfolio_model *p = *portfolio;
    if (!p) return;
    for (int i = 0; i < PORTFOLIO_MAX_VARIANTS; i++) model_destroy(&p->variants[i]);
    model_destroy(&p->model);
    free(p);
    *portfolio = NULL;
}
