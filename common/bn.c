#include "common/bn.h"

#include <math.h>

/* However much is missing, a scale stays positive. */
static const float LEAST_SCALE = .1f;

int bn_rows(int nlevels) { return nlevels == 1 ? 1 : nlevels * (1 + BN_SLOTS) + 2; }

int bn_row(const struct model *model, int level) { return model->nrows > 1 ? level : 0; }

int bn_level_rows(const struct model *model) { return model->nrows > 1 ? model->levels->nlevels : 1; }

int bn_missing(const struct model *model, int slot, int level) { return model->levels->nlevels * (1 + slot) + level - 1; }

int bn_wider(const struct model *model, int slot) { return bn_missing(model, slot, model->levels->nlevels); }

int bn_outside(const struct model *model, bool narrower) {
    return model->levels->nlevels * (1 + BN_SLOTS) + (narrower ? 1 : 0);
}

struct bn_terms bn_uniform(const struct model *model, int level) {
    return (struct bn_terms){.row = bn_row(model, level)};
}

static void add_term(struct bn_terms *terms, int row, float weight) {
    if (weight != 0) terms->term[terms->n++] = (struct bn_term){row, weight};
}

static void add_slot(const struct model *model, const struct plan_before *before, int own, int slot, struct bn_terms *terms) {
    const int nlevels = model->levels->nlevels, last = slot < BN_SLOTS - 1 ? slot : before->nchain - 1;
    float weights[PLAN_MAX_LEVELS] = {0}, missing = 0, wider = 0, share = 1 / (float)(last - slot + 1);
    for (int back = slot; back <= last; back++) {
        const struct plan_share *s = &before->share[before->n - 1 - back];
        if (s->level < own) wider += share * (float)(own - s->level) / (float)(nlevels - 1);
        if (s->arriving <= own) continue;
        weights[s->arriving] += share;
        missing += share;
    }
    for (int level = own + 1; level < nlevels; level++) add_term(terms, bn_missing(model, slot, level), weights[level]);
    if (own > 0) add_term(terms, bn_missing(model, slot, own), -missing);
    add_term(terms, bn_wider(model, slot), wider);
}

struct bn_terms bn_planned(const struct model *model, const struct plan *plan, int block) {
    const int own = plan->level[block];
    struct bn_terms terms = bn_uniform(model, own);
    if (model->nrows == 1) return terms;
    struct plan_before before;
    plan_before(plan, model->blocks, block, &before);
    for (int slot = 0; slot < BN_SLOTS && slot < before.nchain; slot++) add_slot(model, &before, own, slot, &terms);
    const int outside = before.n - before.nchain;
    float wider = 0, narrower = 0, share = 1 / (float)(outside * (model->levels->nlevels - 1));
    for (int i = 0; i < outside; i++) {
        const int level = before.share[i].level;
        if (level < own) wider += share * (float)(own - level);
        else narrower += share * (float)(level - own);
    }
    add_term(&terms, bn_outside(model, false), wider);
    add_term(&terms, bn_outside(model, true), narrower);
    return terms;
}

float bn_inverse_sigma(const struct model *model, float var) {
    return model->bn_form == MODEL_BN_DARKNET ? 1 / (sqrtf(var) + model->bn_eps) : 1 / sqrtf(var + model->bn_eps);
}

/* The sum of corrections, of mean and of scale, to output o. */
static void correct(const struct model_layer *m, const struct bn_terms *terms, size_t outputs, size_t o, float *dmean,
                    float *factor) {
    float mean = 0, scale = 1;
    for (int t = 0; t < terms->n; t++) {
        const size_t at = (size_t)terms->term[t].row * outputs + o;
        mean += terms->term[t].weight * m->mean[at];
        scale += terms->term[t].weight * m->var[at];
    }
    *dmean = mean;
    *factor = scale > LEAST_SCALE ? scale : LEAST_SCALE;
}

void bn_stats(const struct model *model, int layer, const struct bn_terms *terms, float *mean, float *var) {
    const struct model_layer *m = &model->layers[layer];
    const size_t outputs = (size_t)model_outputs(model, layer), row = (size_t)terms->row * outputs;
    const float eps = model->bn_eps;
    for (size_t o = 0; o < outputs; o++) {
        float dmean, factor, sigma = 1 / bn_inverse_sigma(model, m->var[row + o]);
        correct(m, terms, outputs, o, &dmean, &factor);
        mean[o] = m->mean[row + o] + sigma * dmean;
        var[o] = m->var[row + o];
        if (terms->n == 0) continue;
        sigma /= factor;
        if (model->bn_form == MODEL_BN_TORCH) var[o] = sigma * sigma > eps ? sigma * sigma - eps : 0;
        else var[o] = sigma > eps ? (sigma - eps) * (sigma - eps) : 0;
    }
}

void bn_affine(const struct model *model, int layer, const struct bn_terms *terms, float *scale, float *shift) {
    const struct model_layer *m = &model->layers[layer];
    const size_t outputs = (size_t)model_outputs(model, layer), row = (size_t)terms->row * outputs;
    const size_t gamma_at = m->gamma_rows > 1 ? row : 0;
    for (size_t o = 0; o < outputs; o++) {
        float dmean, factor;
        correct(m, terms, outputs, o, &dmean, &factor);
        const double gamma = (double)m->gamma[gamma_at + o], var = (double)m->var[row + o], eps = (double)model->bn_eps;
        const double sigma = model->bn_form == MODEL_BN_TORCH ? sqrt(var + eps) : sqrt(var) + eps;
        const double wide = gamma / sigma * (double)factor;
        scale[o] = (float)wide;
        shift[o] = (float)((m->beta ? (double)m->beta[gamma_at + o] : 0) -
                           ((double)m->mean[row + o] + sigma * (double)dmean) * wide);
    }
}
