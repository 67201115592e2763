#include "train/magnitude.h"

#include "train/sparsity.h"
#include "train/units.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static const double LEAST_OF_LAYER = .001;

struct pruning {
    const struct model *model;
    struct network_view view;
    struct shrink_units *units;
    float *values;       /* of the layer that is visited */
    double *sum, *count; /* [units of all groups]: of squares, of weights */
};

/* ---- whole channels ---- */

static void add_squares(void *context, int written, int read, size_t first, size_t taps) {
    const struct pruning *p = context;
    double sum = 0;
    for (size_t t = 0; t < taps; t++) sum += (double)p->values[first + t] * (double)p->values[first + t];
    p->sum[written] += sum;
    p->sum[read] += sum;
    p->count[written] += (double)taps;
    p->count[read] += (double)taps;
}

static void zero(void *context, int written, int read, size_t first, size_t taps) {
    const struct pruning *p = context;
    if (p->units->kept[written] && p->units->kept[read]) return;
    for (size_t t = 0; t < taps; t++) p->values[first + t] = 0;
}

static enum status each_layer(struct pruning *p, units_visit *visit, struct err *err) {
    enum status status = STATUS_OK;
    for (int i = 0; !status && i < p->view.nparams; i++) {
        p->values = p->view.values + p->view.params[i].offset;
        if (p->view.params[i].role == NETWORK_WEIGHT)
            status = units_each(p->model, p->units, p->view.params[i].layer, visit, p, err);
    }
    return status;
}

static double share_left(const struct pruning *p, int tensor) {
    int n;
    double left = 0, all = 0;
    const struct segment *s = groups_segments(p->model->groups, tensor, &n);
    for (int i = 0; i < n; i++) {
        left += (double)shrink_units_count(p->units, s[i].group) * s[i].unit;
        all += s[i].channels;
    }
    return left / all;
}

/* Weights between units that are kept. */
static double weights_left(const struct pruning *p) {
    const struct net *net = p->model->net;
    double sum = 0;
    for (int i = 0; i <= net_logits_layer(net); i++) {
        const struct net_layer *l = &net->layers[i];
        if (!net_weight_count(l)) continue;
        double inputs = l->kind == NET_CONVOLUTIONAL && l->groups > 1 ? 1 : share_left(p, l->inputs[0]);
        sum += (double)net_weight_count(l) * share_left(p, i) * inputs;
    }
    return sum;
}

struct ranked {
    double strength;
    int group, unit;
};

static int compare(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->strength != y->strength) return x->strength < y->strength ? -1 : 1;
    return x->group != y->group ? (x->group > y->group) - (x->group < y->group) : (x->unit > y->unit) - (x->unit < y->unit);
}

/* A unit that is tied in several groups is as strong as all of them together. */
static double strength(const struct pruning *p, const struct tier *tier, int unit) {
    double sum = 0, count = 0;
    for (int i = 0; i < tier->ngroups; i++) {
        int at = p->units->first[tier->groups[i]] + unit;
        sum += p->sum[at];
        count += p->count[at];
    }
    return count > 0 ? sqrt(sum / count) : 0;
}

static enum status empty_channels(struct pruning *p, double weights, struct err *err) {
    const struct groups *groups = p->model->groups;
    int n = 0;
    struct ranked *list = malloc(((size_t)p->units->first[groups->ngroups] + 1) * sizeof *list);
    if (!list) return err_memory(err, "channels");
    enum status status = each_layer(p, add_squares, err);
    for (int t = 0; t < groups->ntiers; t++)
        for (int u = groups->tiers[t].first; !groups->tiers[t].fixed && u < groups->tiers[t].last; u++)
            list[n++] = (struct ranked){ strength(p, &groups->tiers[t], u), groups->tiers[t].groups[0], u };
    qsort(list, (size_t)n, sizeof *list, compare);
    for (int i = 0; !status && i < n && weights_left(p) > weights; i++)
        shrink_units_take(p->units, list[i].group, list[i].unit);
    free(list);
    return status ? status : each_layer(p, zero, err);
}

/* ---- single weights ---- */

/* The best of a layer's weights get the highest score that there is. */
static enum status protect(const struct network_param *p, float *scores, struct err *err) {
    float *kept = malloc(p->size * sizeof *kept);
    if (!kept) return err_memory(err, "scores");
    for (size_t i = 0; i < p->size; i++) kept[i] = 1;
    struct network_param alone = { .role = NETWORK_WEIGHT, .size = p->size };
    struct network_view view = { .nparams = 1, .params = &alone, .values = kept, .size = p->size };
    size_t least = (size_t)((double)p->size * LEAST_OF_LAYER);
    sparsity_keep(&view, scores, least > 0 ? least : 1);
    for (size_t i = 0; i < p->size; i++)
        if (kept[i] != 0 && scores[i] > 0) scores[i] = FLT_MAX;
    free(kept);
    return STATUS_OK;
}

static enum status zero_weights(struct pruning *p, size_t keep, struct err *err) {
    float *scores = malloc((p->view.size + 1) * sizeof *scores);
    enum status status = scores ? STATUS_OK : err_memory(err, "scores");
    for (size_t i = 0; !status && i < p->view.size; i++) scores[i] = fabsf(p->view.values[i]);
    for (int i = 0; !status && i < p->view.nparams; i++)
        if (p->view.params[i].role == NETWORK_WEIGHT)
            status = protect(&p->view.params[i], scores + p->view.params[i].offset, err);
    if (!status) sparsity_keep(&p->view, scores, keep);
    free(scores);
    return status;
}

enum status magnitude_prune(struct network *network, const struct model *model, double sparsity, double share,
                            struct err *err) {
    struct pruning p = { .model = model, .view = network_view(network) };
    enum status status = shrink_units_create(&p.units, model->groups, err);
    if (status) return status;
    size_t units = (size_t)p.units->first[model->groups->ngroups] + 1;
    double all = (double)sparsity_weights(&p.view);
    p.sum = calloc(2 * units, sizeof *p.sum);
    p.count = p.sum + units;
    if (!p.sum) status = err_memory(err, "channels");
    if (!status) status = empty_channels(&p, all * pow(1 - sparsity, share), err);
    if (!status) status = zero_weights(&p, (size_t)(all * (1 - sparsity) + .5), err);
    free(p.sum);
    shrink_units_destroy(&p.units);
    return status;
}
