#include "train/removable.h"

#include "common/constants.h"
#include "train/measure.h"
#include "train/network.h"
#include "train/units.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 128, SHARES = 50 /* of the units, to which their number is found */ };

struct removal {
    const struct model *model;
    struct loader *images;
    int threads;
    struct plan *plan;
    struct shrink_units *units; /* for the numbers of units */
    int *first;                 /* [nlayers + 1] where the channels of layer i begin */
    double *mean, *variance;    /* of each channel */
    double *importance;         /* [units of all groups] */
    int *ranking;               /* units, weakest first */
    int nranked;
};

/* ---- statistics ---- */

static void add_channels(const float *x, int n, int c, size_t map, double *sum, double *square) {
    for (int i = 0; i < n * c; i++)
        for (size_t k = 0; k < map; k++) {
            double v = (double)x[(size_t)i * map + k];
            sum[i % c] += v;
            square[i % c] += v * v;
        }
}

/* Mean and variance of every channel of every layer up to the logits, over all positions. */
static enum status measure_channels(struct removal *r, struct network *network, struct err *err) {
    const struct net *net = r->model->net;
    size_t most = 1;
    int last = net_logits_layer(net), images = 0;
    for (int i = 0; i <= last; i++)
        if (net_shape_size(net->layers[i].out) > most) most = net_shape_size(net->layers[i].out);
    float *out = malloc(BATCH * most * sizeof *out), *logits = malloc(BATCH * (size_t)net->classes * sizeof *logits);
    enum status status = out && logits ? loader_seek(r->images, 0, 0, err) : err_memory(err, "statistics");
    while (!status) {
        struct loader_batch batch;
        if ((status = loader_next(r->images, &batch, err)) || batch.n == 0) break;
        status = network_forward(network, r->plan, NETWORK_INFERENCE, batch.input, batch.n, 0, logits, err);
        for (int i = 0; !status && i <= last; i++) {
            int c;
            struct net_shape shape = net->layers[i].out;
            status = network_activation(network, i, out, &c, err);
            if (!status)
                add_channels(out, batch.n, c, (size_t)shape.h * (size_t)shape.w, r->mean + r->first[i],
                             r->variance + r->first[i]);
        }
        images += batch.n;
    }
    for (int i = 0; !status && i <= last; i++)
        for (int c = 0; c < net->layers[i].out.c; c++) {
            double n = (double)images * net->layers[i].out.h * net->layers[i].out.w;
            double *mean = &r->mean[r->first[i] + c], *variance = &r->variance[r->first[i] + c];
            *mean /= n;
            *variance = fmax(0, *variance / n - *mean * *mean);
        }
    free(out);
    free(logits);
    return status;
}

/* ---- importance ---- */

/* Adds the shares in each output of a layer to the units of its input. */
static enum status weigh_layer(const struct removal *r, int layer, struct err *err) {
    const struct net_layer *l = &r->model->net->layers[layer];
    int source = l->inputs[0], n, grouped = l->kind == NET_CONVOLUTIONAL ? l->groups : 1;
    int inputs = l->in.c / grouped;
    size_t taps = net_weight_count(l) / (size_t)l->filters / (size_t)inputs;
    if (source < 0) return STATUS_OK;
    const struct segment *segments = groups_segments(r->model->groups, source, &n);
    double *part = malloc((size_t)inputs * sizeof *part);
    if (!part) return err_memory(err, "importance");
    const float *w = r->model->layers[layer].weight;
    for (int o = 0; o < l->filters; o++) {
        double sum = 0;
        int from = o / (l->filters / grouped) * inputs;
        for (int c = 0; c < inputs; c++, w += taps) {
            part[c] = 0;
            for (size_t t = 0; t < taps; t++) part[c] += (double)w[t] * (double)w[t];
            sum += part[c] *= r->variance[r->first[source] + from + c];
        }
        for (int c = 0, s = 0; sum > 0 && c < inputs; c++) {
            while (from + c >= segments[s].first + segments[s].channels) s++;
            int unit = (from + c - segments[s].first) / segments[s].unit;
            r->importance[r->units->first[segments[s].group] + unit] += part[c] / sum;
        }
    }
    free(part);
    return STATUS_OK;
}

static enum status weigh(const struct removal *r, struct err *err) {
    enum status status = STATUS_OK;
    for (int i = 0; !status && i < r->model->net->nlayers; i++)
        if (net_weight_count(&r->model->net->layers[i])) status = weigh_layer(r, i, err);
    return status;
}

struct ranked {
    double importance;
    int unit;
};

static int compare(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->importance != y->importance) return x->importance < y->importance ? -1 : 1;
    return (x->unit > y->unit) - (x->unit < y->unit);
}

static enum status rank(struct removal *r, struct err *err) {
    const struct groups *groups = r->model->groups;
    int total = r->units->first[groups->ngroups], n = 0;
    struct ranked *list = malloc(((size_t)total + 1) * sizeof *list);
    r->ranking = malloc(((size_t)total + 1) * sizeof *r->ranking);
    if (!list || !r->ranking) {
        free(list);
        return err_memory(err, "importance");
    }
    for (int g = 0; g < groups->ngroups; g++)
        for (int u = 0; !groups->group[g].whole && u < groups->group[g].units; u++)
            list[n++] = (struct ranked){ r->importance[r->units->first[g] + u], r->units->first[g] + u };
    qsort(list, (size_t)n, sizeof *list, compare);
    for (int i = 0; i < n; i++) r->ranking[i] = list[i].unit;
    r->nranked = n;
    free(list);
    return STATUS_OK;
}

/* ---- cutting ---- */

/* A unit counts as constant in every tensor that holds it. */
static void replace(const struct removal *r, struct constants *constants, int unit) {
    int g = 0, n;
    while (unit >= r->units->first[g + 1]) g++;
    unit -= r->units->first[g];
    for (int i = 0; i < r->model->net->nlayers; i++) {
        const struct segment *s = groups_segments(r->model->groups, i, &n);
        for (int k = 0; k < n; k++)
            for (int c = 0; s[k].group == g && c < s[k].unit; c++) {
                int channel = s[k].first + unit * s[k].unit + c;
                constants_replace(constants, i, channel, (float)r->mean[r->first[i] + channel]);
            }
    }
}

/* Without the `count` weakest units, and without all that carries nothing. */
static enum status cut(const struct removal *r, int count, struct model **small, struct err *err) {
    struct constants *constants;
    enum status status = constants_find(&constants, r->model, err);
    if (status) return status;
    for (int i = 0; i < count; i++) replace(r, constants, r->ranking[i]);
    status = constants_shrink_found(constants, small, err);
    constants_destroy(&constants);
    return status;
}

static enum status accuracy_of(const struct removal *r, struct model *model, double *accuracy, struct err *err) {
    struct network *network;
    struct plan *plan = NULL;
    int measured;
    enum status status = network_create(&network, model, BATCH, r->threads, err);
    if (status) return status;
    status = plan_create(&plan, model->blocks->nblocks, 0, err);
    if (!status) status = measure_plans(network, model, r->images, &plan, 1, 1, NULL, accuracy, &measured, err);
    plan_destroy(&plan);
    network_destroy(&network);
    return status;
}

/* The most units, by halving, that accuracy does not need. */
static enum status search(const struct removal *r, double least, struct model **small, struct err *err) {
    int low = 0, high = r->nranked + 1;
    enum status status = cut(r, 0, small, err);
    while (!status && high - low > 1 + r->nranked / SHARES) {
        int middle = (low + high) / 2;
        double accuracy;
        struct model *trial;
        if ((status = cut(r, middle, &trial, err))) break;
        status = accuracy_of(r, trial, &accuracy, err);
        if (!status && accuracy >= least) {
            struct model *worse = *small;
            *small = trial;
            trial = worse;
            low = middle;
        } else {
            high = middle;
        }
        model_destroy(&trial);
    }
    if (status) model_destroy(small);
    return status;
}

static enum status open_removal(struct removal *r, struct err *err) {
    const struct net *net = r->model->net;
    r->first = malloc(((size_t)net->nlayers + 1) * sizeof *r->first);
    enum status status = r->first ? shrink_units_create(&r->units, r->model->groups, err) : err_memory(err, "statistics");
    if (!status) status = plan_create(&r->plan, r->model->blocks->nblocks, 0, err);
    if (status) return status;
    r->first[0] = 0;
    for (int i = 0; i < net->nlayers; i++) r->first[i + 1] = r->first[i] + net->layers[i].out.c;
    r->mean = calloc((size_t)r->first[net->nlayers] + 1, sizeof *r->mean);
    r->variance = calloc((size_t)r->first[net->nlayers] + 1, sizeof *r->variance);
    r->importance = calloc((size_t)r->units->first[r->model->groups->ngroups] + 1, sizeof *r->importance);
    return r->mean && r->variance && r->importance ? STATUS_OK : err_memory(err, "statistics");
}

static void close_removal(struct removal *r) {
    plan_destroy(&r->plan);
    shrink_units_destroy(&r->units);
    free(r->first);
    free(r->mean);
    free(r->variance);
    free(r->importance);
    free(r->ranking);
}

enum status removable_cut(const struct model *model, struct loader *images, const struct removable_config *config,
                          struct model **out, struct err *err) {
    struct model *exact, *small = NULL;
    struct network *network = NULL;
    enum status status = constants_shrink(model, &exact, err);
    if (status) return status;
    if (config->tolerance < 0) {
        *out = exact;
        return STATUS_OK;
    }
    struct removal r = { .model = exact, .images = images, .threads = config->threads };
    double whole;
    status = open_removal(&r, err);
    if (!status) status = network_create(&network, exact, BATCH, config->threads, err);
    if (!status) status = measure_channels(&r, network, err);
    network_destroy(&network);
    if (!status) status = weigh(&r, err);
    if (!status) status = rank(&r, err);
    if (!status) status = accuracy_of(&r, exact, &whole, err);
    if (!status) status = search(&r, whole - config->tolerance, &small, err);
    close_removal(&r);
    model_destroy(&exact);
    if (!status) *out = small;
    return status;
}
