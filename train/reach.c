#include "train/reach.h"

#include <stdlib.h>
#include <string.h>

static int max(int a, int b) { return a > b ? a : b; }

/* Whether the columns of a layer's weights are the channels that it reads. */
static bool reads_columns(const struct net_layer *layer) {
    return (layer->kind == NET_CONVOLUTIONAL && layer->groups == 1) || layer->kind == NET_CONNECTED;
}

enum status reach_create(struct reach **out, const struct model *model, struct err *err) {
    int nlayers = model->net->nlayers;
    struct reach *reach = calloc(1, sizeof *reach);
    if (!reach) return err_memory(err, "reach");
    reach->model = model;
    reach->out = calloc((size_t)max(model->groups->nsegments, 1), sizeof *reach->out);
    reach->read_first = calloc((size_t)max(nlayers, 1), sizeof *reach->read_first);
    enum status status = counts_create(&reach->counts, model->groups, err);
    if (status == STATUS_OK && (!reach->out || !reach->read_first)) status = err_memory(err, "reach");
    if (status == STATUS_OK) {
        for (int i = 0; i < nlayers; i++) {
            const struct net_layer *layer = &model->net->layers[i];
            int nsegments = 0;
            if (reads_columns(layer)) groups_segments(model->groups, layer->inputs[0], &nsegments);
            reach->read_first[i] = reach->nreads;
            reach->nreads += nsegments;
        }
        reach->read = calloc((size_t)max(reach->nreads, 1), sizeof *reach->read);
        if (!reach->read) status = err_memory(err, "reach");
    }
    if (status) {
        reach_destroy(&reach);
        return status;
    }
    *out = reach;
    return STATUS_OK;
}

void reach_destroy(struct reach **reach) {
    if (!*reach) return;
    counts_destroy(&(*reach)->counts);
    free((*reach)->out);
    free((*reach)->read);
    free((*reach)->read_first);
    free(*reach);
    *reach = NULL;
}

void reach_clear(struct reach *reach) {
    memset(reach->out, 0, (size_t)reach->model->groups->nsegments * sizeof *reach->out);
    memset(reach->read, 0, (size_t)reach->nreads * sizeof *reach->read);
}

void reach_add(struct reach *reach, const struct levels *levels, const struct plan *plan) {
    const struct model *m = reach->model;
    counts_set(reach->counts, m->net, m->blocks, m->groups, levels, plan);
    for (int s = 0; s < m->groups->nsegments; s++) reach->out[s] = max(reach->out[s], reach->counts->out[s]);
    for (int i = 0; i < m->net->nlayers; i++) {
        const struct net_layer *layer = &m->net->layers[i];
        if (!reads_columns(layer)) continue;
        int nsegments;
        int *read = reach->read + reach->read_first[i];
        groups_segments(m->groups, layer->inputs[0], &nsegments);
        for (int s = 0; s < nsegments; s++) {
            int n = counts_read(reach->counts, m->net, m->blocks, m->groups, levels, plan, i, 0, s);
            read[s] = max(read[s], n);
        }
    }
}

/* Runs of one row of weights that begins at `first`. */
static void each_column(const struct reach *reach, int layer, size_t first, size_t per_channel, reach_run *run,
                        void *context) {
    int nsegments;
    const struct segment *segments =
        groups_segments(reach->model->groups, reach->model->net->layers[layer].inputs[0], &nsegments);
    const int *read = reach->read + reach->read_first[layer];
    size_t begin = 0, end = 0; /* of the run that is being gathered */
    for (int s = 0; s < nsegments; s++) {
        size_t from = (size_t)segments[s].first * per_channel, to = from + (size_t)read[s] * per_channel;
        if (from > end) {
            if (end > begin) run(context, first + begin, end - begin);
            begin = from;
        }
        end = to;
    }
    if (end > begin) run(context, first + begin, end - begin);
}

/* A vector, [rows, outputs]. */
static void each_vector(const struct reach *reach, const struct network_param *param, reach_run *run, void *context) {
    const struct groups *groups = reach->model->groups;
    size_t outputs = (size_t)model_outputs(reach->model, param->layer);
    const int *out = reach->out + groups->first_segment[param->layer + 1];
    int nsegments;
    const struct segment *segments = groups_segments(groups, param->layer, &nsegments);
    for (size_t row = param->offset; row < param->offset + param->size; row += outputs)
        for (int s = 0; s < nsegments; s++)
            if (out[s] > 0) run(context, row + (size_t)segments[s].first, (size_t)out[s]);
}

void reach_each(const struct reach *reach, const struct network_param *param, reach_run *run, void *context) {
    if (param->role != NETWORK_WEIGHT) {
        each_vector(reach, param, run, context);
        return;
    }
    /* A layer with a weight tensor puts out one segment. */
    const struct net_layer *layer = &reach->model->net->layers[param->layer];
    size_t row = param->size / (size_t)param->shape[0];
    size_t computed = (size_t)reach->out[reach->model->groups->first_segment[param->layer + 1]];
    if (!reads_columns(layer)) {
        if (computed > 0) run(context, param->offset, computed * row);
        return;
    }
    size_t per_channel = row / (size_t)net_shape_of(reach->model->net, layer->inputs[0]).c;
    for (size_t o = 0; o < computed; o++)
        each_column(reach, param->layer, param->offset + o * row, per_channel, run, context);
}
