#include "train/pai.h"

#include "common/log.h"
#include "common/shrink.h"
#include "train/sparsity.h"
#include "train/units.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BISECTIONS = 60 };

void pai_result_free(struct pai_result *result) {
    model_destroy(&result->small);
    free(result->layers);
    *result = (struct pai_result){ 0 };
}

static size_t wanted(const struct network_view *view, double density) {
    size_t keep = (size_t)((double)sparsity_weights(view) * density + .5);
    return keep > 0 ? keep : 1;
}

void pai_sparse(struct network *network, const float *scores, double density) {
    struct network_view view = network_view(network);
    sparsity_keep(&view, scores, wanted(&view, density));
}

/* ---- widths ---- */

struct pruning {
    const struct model *model;
    double *kept, *size;       /* [ngroups] weights of the layers that write or read a group: left, and all */
    double *score;             /* [units of all groups] */
    int *step, *count;         /* [ngroups] */
    struct shrink_units *units;
};

/* Calls for each group that a layer writes (first) or reads. */
static void add_layer(const struct pruning *p, int layer, double kept, double size) {
    int sources[2] = { layer, p->model->net->layers[layer].inputs[0] };
    for (int k = 0; k < 2; k++) {
        int n;
        const struct segment *s = groups_segments(p->model->groups, sources[k], &n);
        for (int i = 0; i < n; i++) {
            p->kept[s[i].group] += kept;
            p->size[s[i].group] += size;
        }
    }
}

struct adding {
    double *score;       /* [units of all groups] */
    const float *scores; /* of a layer's weights */
};

static void add_pair(void *context, int written, int read, size_t first, size_t taps) {
    const struct adding *a = context;
    double sum = 0;
    for (size_t t = 0; t < taps; t++) sum += (double)a->scores[first + t];
    a->score[written] += sum;
    a->score[read] += sum;
}

/* Units of a group with factor f: in whole steps, or any number below the first step. */
static int count_at(const struct pruning *p, int group, double f) {
    const struct group *g = &p->model->groups->group[group];
    if (g->whole || p->size[group] == 0) return g->units;
    double units = g->units * fmin(1, f * sqrt(p->kept[group] / p->size[group]));
    int step = p->step[group], n = units < step ? (int)(units + .5) : (int)(units / step + .5) * step;
    return n < 1 ? 1 : n > g->units ? g->units : n;
}

static double share_left(const struct pruning *p, int tensor) {
    int n;
    double left = 0, all = 0;
    const struct segment *s = groups_segments(p->model->groups, tensor, &n);
    for (int i = 0; i < n; i++) {
        left += p->count[s[i].group] * s[i].unit;
        all += s[i].channels;
    }
    return left / all;
}

static double weights_at(const struct pruning *p, double f) {
    const struct net *net = p->model->net;
    double sum = 0;
    for (int g = 0; g < p->model->groups->ngroups; g++) p->count[g] = count_at(p, g, f);
    for (int i = 0; i < net->nlayers; i++) {
        const struct net_layer *l = &net->layers[i];
        double outputs = share_left(p, i), inputs = l->groups > 1 ? 1 : share_left(p, l->inputs[0]);
        sum += (double)net_weight_count(l) * outputs * inputs;
    }
    return sum;
}

/* The largest factor that leaves no more weights than there may be; sets count. */
static void choose_counts(const struct pruning *p, double weights) {
    double low = 0, high = 1;
    while (high < 1e6 && weights_at(p, high) <= weights) high *= 2;
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = (low + high) / 2;
        if (weights_at(p, middle) <= weights) low = middle;
        else high = middle;
    }
    double least = weights_at(p, low);
    if (least > weights)
        log_warn("%.0f weights are the least that keeps every layer, not %.0f", least, weights);
}

/* ---- units ---- */

struct ranked {
    double score;
    int unit;
};

static int compare(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return (x->unit < y->unit) - (x->unit > y->unit); /* among equals the first ones stay */
}

/* Takes the units of lowest score, group by group. Groups that share a tier lose
 * the same units of it, and none its last. */
static enum status choose_units(const struct pruning *p, struct err *err) {
    const struct groups *groups = p->model->groups;
    for (int g = 0; g < groups->ngroups; g++) {
        const struct group *group = &groups->group[g];
        struct ranked *list = malloc((size_t)group->units * sizeof *list);
        if (!list) return err_memory(err, "units");
        int n = 0, left = shrink_units_count(p->units, g);
        for (int u = 0; u < group->units; u++)
            if (*shrink_unit(p->units, g, u)) list[n++] = (struct ranked){ p->score[p->units->first[g] + u], u };
        qsort(list, (size_t)n, sizeof *list, compare);
        for (int i = 0; i < n && left > p->count[g] && !group->whole; i++) {
            if (shrink_units_take(p->units, g, list[i].unit)) left = shrink_units_count(p->units, g);
        }
        free(list);
    }
    return STATUS_OK;
}

/* ---- weights ---- */

/* Layers that lost inputs are drawn again. */
static enum status initialise(const struct model *model, struct model *small, uint64_t seed, struct err *err) {
    struct network *network;
    enum status status = network_create(&network, small, 1, 1, err);
    if (status) return status;
    network_init(network, seed);
    struct network_view view = network_view(network);
    for (int i = 0; i < view.nparams; i++) {
        const struct network_param *p = &view.params[i];
        if (p->role == NETWORK_WEIGHT && small->net->layers[p->layer].in.c < model->net->layers[p->layer].in.c)
            memcpy(small->layers[p->layer].weight, view.values + p->offset, p->size * sizeof(float));
    }
    network_destroy(&network);
    return STATUS_OK;
}

static enum status open_pruning(struct pruning *p, const struct model *model, struct err *err) {
    size_t ngroups = (size_t)model->groups->ngroups;
    p->model = model;
    enum status status = shrink_units_create(&p->units, model->groups, err);
    if (status) return status;
    p->kept = calloc(ngroups, sizeof *p->kept);
    p->size = calloc(ngroups, sizeof *p->size);
    p->score = calloc((size_t)p->units->first[ngroups] + 1, sizeof *p->score);
    p->step = calloc(ngroups, sizeof *p->step);
    p->count = calloc(ngroups, sizeof *p->count);
    if (!p->kept || !p->size || !p->score || !p->step || !p->count) return err_memory(err, "pruning");
    for (int g = 0; !status && g < (int)ngroups; g++) status = levels_step(model->cfg, model->groups, g, &p->step[g], err);
    return status;
}

static void close_pruning(struct pruning *p) {
    shrink_units_destroy(&p->units);
    free(p->kept);
    free(p->size);
    free(p->score);
    free(p->step);
    free(p->count);
}

static enum status list_layers(const struct model *model, const struct network_view *view, const struct pruning *p,
                               const float *scores, struct pai_result *result, struct err *err) {
    result->layers = calloc((size_t)view->nparams + 1, sizeof *result->layers);
    if (!result->layers) return err_memory(err, "pruning");
    for (int i = 0; i < view->nparams; i++) {
        const struct network_param *param = &view->params[i];
        if (param->role != NETWORK_WEIGHT) continue;
        double kept = 0;
        for (size_t k = 0; k < param->size; k++) kept += view->values[param->offset + k] != 0;
        add_layer(p, param->layer, kept, (double)param->size);
        struct adding adding = { p->score, scores + param->offset };
        enum status status = units_each(model, p->units, param->layer, add_pair, &adding, err);
        if (status) return status;
        result->layers[result->nlayers++] = (struct pai_layer){ param->layer, kept / (double)param->size,
                                                                model->net->layers[param->layer].out.c, 0 };
    }
    return STATUS_OK;
}

enum status pai_structured(struct network *network, const struct model *model, const float *scores, double density,
                           uint64_t seed, struct pai_result *result, struct err *err) {
    struct network_view view = network_view(network);
    struct pruning p = { 0 };
    *result = (struct pai_result){ 0 };
    enum status status = open_pruning(&p, model, err);
    if (!status) {
        network_load(network, model);
        pai_sparse(network, scores, density);
        status = list_layers(model, &view, &p, scores, result, err);
    }
    if (!status) {
        choose_counts(&p, (double)wanted(&view, density));
        status = choose_units(&p, err);
    }
    if (!status) status = shrink_model(model, p.units, SHRINK_KEEP_LEVELS, &result->small, err);
    if (!status) status = initialise(model, result->small, seed, err);
    for (int i = 0; !status && i < result->nlayers; i++)
        result->layers[i].channels = result->small->net->layers[result->layers[i].layer].out.c;
    close_pruning(&p);
    if (status) pai_result_free(result);
    return status;
}
