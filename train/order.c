#include "train/order.h"

#include "common/random.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[ORDER_COUNT] = { "none", "l1", "l2", "bn-gamma", "taylor", "random" };

const char *order_name(enum order_criterion criterion) { return names[criterion]; }

enum order_criterion order_parse(const char *name) {
    int i = 0;
    while (i < ORDER_COUNT && strcmp(name, names[i]) != 0) i++;
    return (enum order_criterion)i;
}

/* ---- importance ------------------------------------------------------------ */

/* Adds the importance of a group's units, as this layer sees it, to score[units]. */
static void score_layer(const struct model *model, int layer, const struct segment *segment, int units,
                        enum order_criterion criterion, double *score, double *scratch) {
    const struct model_layer *tensors = &model->layers[layer];
    bool gamma = criterion == ORDER_BN_GAMMA && tensors->gamma;
    if (!gamma && !tensors->weight) return;
    size_t row = tensors->weight ? net_weight_count(&model->net->layers[layer]) / (size_t)model_outputs(model, layer)
                                 : 0;
    double sum = 0;
    for (int u = 0; u < units; u++) {
        double s = 0;
        for (int c = segment->first + u * segment->unit; c < segment->first + (u + 1) * segment->unit; c++) {
            if (gamma) {
                s += fabs((double)tensors->gamma[c]);
                continue;
            }
            const float *w = tensors->weight + (size_t)c * row;
            for (size_t i = 0; i < row; i++) s += criterion == ORDER_L2 ? (double)w[i] * w[i] : fabs((double)w[i]);
        }
        if (criterion == ORDER_L2) s = sqrt(s);
        scratch[u] = s;
        sum += s;
    }
    if (!(sum > 0) || !isfinite(sum)) return;
    for (int u = 0; u < units; u++) score[u] += scratch[u] * units / sum;
}

static void score_taylor(const struct taylor *taylor, int layer, const struct segment *segment, int units,
                         double *score) {
    if (!taylor->importance[layer]) return;
    for (int u = 0; u < units; u++)
        for (int c = 0; c < segment->unit; c++)
            score[u] += taylor->importance[layer][segment->first + u * segment->unit + c];
}

static void score_group(const struct model *model, int group, enum order_criterion criterion,
                        const struct taylor *taylor, struct random *random, double *score, double *scratch) {
    const struct group *g = &model->groups->group[group];
    for (int u = 0; u < g->units; u++) score[u] = 0;
    if (criterion == ORDER_RANDOM) {
        for (int u = 0; u < g->units; u++) score[u] = random_uniform(random);
        return;
    }
    for (int m = 0; m < g->nmembers; m++) {
        if (g->members[m] < 0) continue;
        int nsegments;
        const struct segment *segments = groups_segments(model->groups, g->members[m], &nsegments);
        for (int s = 0; s < nsegments; s++) {
            if (segments[s].group != group) continue;
            if (criterion == ORDER_TAYLOR) score_taylor(taylor, g->members[m], &segments[s], g->units, score);
            else score_layer(model, g->members[m], &segments[s], g->units, criterion, score, scratch);
        }
    }
}

/* ---- the permutation ------------------------------------------------------- */

struct ranked {
    double score;
    int unit;
};

/* Highest score first, in the old order among equals. */
static int compare(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->unit > y->unit) - (x->unit < y->unit);
}

/* Room for the order, with every unit in its place; *most: units of the largest group. */
static enum status create_unmoved(struct order **out, const struct model *model, int *total, int *most, struct err *err) {
    const struct groups *groups = model->groups;
    struct order *order = calloc(1, sizeof *order);
    if (!order) return err_memory(err, "channel order");
    *total = 0;
    *most = 1;
    order->model = model;
    order->first = malloc((size_t)(groups->ngroups + 1) * sizeof *order->first);
    for (int g = 0; order->first && g < groups->ngroups; g++) {
        order->first[g] = *total;
        *total += groups->group[g].units;
        if (groups->group[g].units > *most) *most = groups->group[g].units;
    }
    order->from = malloc((size_t)(*total ? *total : 1) * sizeof *order->from);
    if (!order->first || !order->from) {
        order_destroy(&order);
        return err_memory(err, "channel order");
    }
    for (int g = 0; g < groups->ngroups; g++)
        for (int u = 0; u < groups->group[g].units; u++) order->from[order->first[g] + u] = u;
    *out = order;
    return STATUS_OK;
}

/* ranked: the tier's units, with their scores. */
static void rank_tier(struct order *order, const struct tier *tier, struct ranked *ranked) {
    int n = tier->last - tier->first;
    qsort(ranked, (size_t)n, sizeof *ranked, compare);
    for (int g = 0; g < tier->ngroups; g++)
        for (int i = 0; i < n; i++) order->from[order->first[tier->groups[g]] + tier->first + i] = ranked[i].unit;
}

enum status order_create(struct order **out, const struct model *model, enum order_criterion criterion,
                         uint64_t seed, const struct taylor *taylor, struct err *err) {
    if (criterion == ORDER_TAYLOR && !taylor)
        return err_set(err, STATUS_USAGE, "an order by Taylor's importance needs gradients");
    const struct groups *groups = model->groups;
    struct order *order;
    struct random random = random_stream(seed, 0, 0);
    int total, most;
    enum status status = create_unmoved(&order, model, &total, &most, err);
    if (status) return status;
    double *scores = malloc((size_t)(total + most) * sizeof *scores);
    struct ranked *ranked = malloc((size_t)most * sizeof *ranked);
    if (!scores || !ranked) {
        free(scores);
        free(ranked);
        order_destroy(&order);
        return err_memory(err, "channel order");
    }
    for (int g = 0; g < groups->ngroups && criterion != ORDER_NONE; g++)
        score_group(model, g, criterion, taylor, &random, scores + order->first[g], scores + total);
    for (int t = 0; t < groups->ntiers && criterion != ORDER_NONE; t++) {
        const struct tier *tier = &groups->tiers[t];
        if (tier->fixed) continue;
        for (int i = 0; i < tier->last - tier->first; i++) {
            ranked[i] = (struct ranked){ 0, tier->first + i };
            for (int g = 0; g < tier->ngroups; g++)
                ranked[i].score += scores[order->first[tier->groups[g]] + tier->first + i];
        }
        rank_tier(order, tier, ranked);
    }
    free(scores);
    free(ranked);
    *out = order;
    return STATUS_OK;
}

enum status order_by_importance(struct order **out, const struct model *model, const float *importance,
                                const int *first, struct err *err) {
    struct order *order;
    int total, most;
    enum status status = create_unmoved(&order, model, &total, &most, err);
    if (status) return status;
    struct ranked *ranked = malloc((size_t)most * sizeof *ranked);
    if (!ranked) {
        order_destroy(&order);
        return err_memory(err, "channel order");
    }
    for (int t = 0; t < model->groups->ntiers; t++) {
        const struct tier *tier = &model->groups->tiers[t];
        if (first[t] < 0) continue;
        for (int i = 0; i < tier->last - tier->first; i++)
            ranked[i] = (struct ranked){ (double)importance[first[t] + i], tier->first + i };
        rank_tier(order, tier, ranked);
    }
    free(ranked);
    *out = order;
    return STATUS_OK;
}

void order_destroy(struct order **order) {
    if (!*order) return;
    free((*order)->first);
    free((*order)->from);
    free(*order);
    *order = NULL;
}

enum status order_invert(struct order *order, struct err *err) {
    const struct groups *groups = order->model->groups;
    int total = 0;
    for (int g = 0; g < groups->ngroups; g++) total += groups->group[g].units;
    int *back = malloc((size_t)(total ? total : 1) * sizeof *back);
    if (!back) return err_memory(err, "channel order");
    for (int g = 0; g < groups->ngroups; g++)
        for (int u = 0; u < groups->group[g].units; u++)
            back[order->first[g] + order->from[order->first[g] + u]] = u;
    free(order->from);
    order->from = back;
    return STATUS_OK;
}

/* ---- applying it ----------------------------------------------------------- */

/* from[c]: the channel whose place channel c of this tensor takes; false if all stay. */
static bool channels_from(const struct order *order, int layer, int *from) {
    int nsegments;
    bool moved = false;
    const struct segment *segments = groups_segments(order->model->groups, layer, &nsegments);
    for (int s = 0; s < nsegments; s++) {
        const struct segment *g = &segments[s];
        const int *unit_from = order->from + order->first[g->group];
        for (int c = 0; c < g->channels; c++) {
            from[g->first + c] = g->first + unit_from[c / g->unit] * g->unit + c % g->unit;
            moved |= from[g->first + c] != g->first + c;
        }
    }
    return moved;
}

/* data: [outer, n, inner]; index j of the middle takes what was at from[j]. */
static void permute(float *data, size_t outer, int n, size_t inner, const int *from, float *scratch) {
    size_t block = (size_t)n * inner;
    for (size_t i = 0; i < outer; i++) {
        float *part = data + i * block;
        memcpy(scratch, part, block * sizeof *part);
        for (int j = 0; j < n; j++)
            memcpy(part + (size_t)j * inner, scratch + (size_t)from[j] * inner, inner * sizeof *part);
    }
}

/* Room for one layer after the other. */
struct room {
    int *out_from, *in_from;
    float *scratch; /* as large as the largest tensor */
    bool out_moved, in_moved;
};

static void room_free(struct room *room) {
    free(room->out_from);
    free(room->in_from);
    free(room->scratch);
}

static enum status room_create(struct room *room, const struct model *model, struct err *err) {
    size_t elements = 1, channels = 1;
    for (int i = -1; i < model->net->nlayers; i++) {
        size_t c = (size_t)net_shape_of(model->net, i).c;
        if (c > channels) channels = c;
        size_t n = i < 0 ? 0 : net_weight_count(&model->net->layers[i]);
        if (n > elements) elements = n;
    }
    if (channels > elements) elements = channels;
    *room = (struct room){ malloc(channels * sizeof(int)), malloc(channels * sizeof(int)),
                           malloc(elements * sizeof(float)), false, false };
    if (room->out_from && room->in_from && room->scratch) return STATUS_OK;
    room_free(room);
    return err_memory(err, "channel order");
}

static void room_set(struct room *room, const struct order *order, int layer) {
    room->out_moved = channels_from(order, layer, room->out_from);
    room->in_moved = channels_from(order, order->model->net->layers[layer].inputs[0], room->in_from);
}

/* weight: of `layer`. A grouped convolution's columns stay: its units are whole
 * convolution groups. */
static void permute_weight(struct room *room, const struct order *order, int layer, float *weight) {
    const struct net_layer *l = &order->model->net->layers[layer];
    size_t count = net_weight_count(l);
    int outputs = model_outputs(order->model, layer), inputs = l->in.c;
    if (room->out_moved) permute(weight, 1, outputs, count / (size_t)outputs, room->out_from, room->scratch);
    bool grouped = l->kind == NET_CONVOLUTIONAL && l->groups > 1;
    if (room->in_moved && !grouped)
        permute(weight, (size_t)outputs, inputs, count / (size_t)outputs / (size_t)inputs, room->in_from,
                room->scratch);
}

enum status order_apply_model(const struct order *order, struct model *model, struct err *err) {
    struct room room;
    enum status status = room_create(&room, model, err);
    if (status) return status;
    for (int i = 0; i < model->net->nlayers; i++) {
        if (!net_has_weights(&model->net->layers[i])) continue;
        struct model_layer *l = &model->layers[i];
        int outputs = model_outputs(model, i);
        const struct {
            float *data;
            int rows;
        } vectors[] = { { l->bias, 1 },
                        { l->gamma, l->gamma_rows },
                        { l->beta, l->gamma_rows },
                        { l->mean, model->nrows },
                        { l->var, model->nrows } };
        room_set(&room, order, i);
        if (l->weight) permute_weight(&room, order, i, l->weight);
        for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++)
            if (vectors[v].data && room.out_moved)
                permute(vectors[v].data, (size_t)vectors[v].rows, outputs, 1, room.out_from, room.scratch);
    }
    room_free(&room);
    return STATUS_OK;
}

enum status order_apply_values(const struct order *order, const struct network_view *view, float *values,
                               struct err *err) {
    struct room room;
    enum status status = room_create(&room, order->model, err);
    if (status) return status;
    for (int i = 0; i < view->nparams; i++) {
        const struct network_param *p = &view->params[i];
        room_set(&room, order, p->layer);
        if (p->role == NETWORK_WEIGHT) permute_weight(&room, order, p->layer, values + p->offset);
        else if (room.out_moved) {
            int outputs = model_outputs(order->model, p->layer);
            permute(values + p->offset, p->size / (size_t)outputs, outputs, 1, room.out_from, room.scratch);
        }
    }
    room_free(&room);
    return STATUS_OK;
}
