/* Passes: every layer in order, each on the kept part of its tensors.
 *
 * A layer that cannot read views gets its input narrowed to what it reads; the
 * copy is made again for backward instead of being kept. */
#include "train/network_private.h"

#include "common/log.h"
#include "common/quantize.h"
#include "common/random.h"

#include <stdlib.h>
#include <string.h>

/* ---- creation ---- */

static enum status create_node(struct network *network, int index, struct err *err) {
    struct node *node = &network->nodes[index];
    const struct model *m = network->model;
    struct net_shape shape = net_shape_of(m->net, index - 1);
    int nsegments, total = 0;
    groups_segments(m->groups, index - 1, &nsegments);
    node->out = (struct layer_tensor){ .c = shape.c, .h = shape.h, .w = shape.w };
    node->slot = -1;
    node->out_ranges = calloc((size_t)nsegments, sizeof *node->out_ranges);
    if (!node->out_ranges) return err_memory(err, "network");
    node->out.ranges = node->out_ranges;
    if (index > 0) {
        const struct net_layer *l = &m->net->layers[index - 1];
        node->ninputs = l->ninputs;
        node->inputs = calloc((size_t)l->ninputs, sizeof *node->inputs);
        node->in = calloc((size_t)l->ninputs, sizeof *node->in);
        node->in_first = calloc((size_t)l->ninputs, sizeof *node->in_first);
        if (!node->inputs || !node->in || !node->in_first) return err_memory(err, "network");
        for (int k = 0; k < l->ninputs; k++) {
            node->inputs[k] = l->inputs[k] + 1;
            network->nodes[node->inputs[k]].nreaders++;
            network->nodes[node->inputs[k]].reader = index;
            node->in_first[k] = total;
            groups_segments(m->groups, l->inputs[k], &nsegments);
            total += nsegments;
        }
        node->in_ranges = calloc((size_t)total, sizeof *node->in_ranges);
        if (!node->in_ranges) return err_memory(err, "network");
        for (int k = 0; k < l->ninputs; k++) {
            struct net_shape in = net_shape_of(m->net, l->inputs[k]);
            node->in[k] = (struct layer_tensor){ .c = in.c, .h = in.h, .w = in.w,
                                                 .ranges = node->in_ranges + node->in_first[k] };
        }
    }
    return STATUS_OK;
}

static enum status create_layer(struct network *network, int index, struct err *err) {
    struct node *node = &network->nodes[index];
    const struct net_layer *l = &network->model->net->layers[index - 1];
    node->kind = layer_kind_of(l->kind);
    if (!node->kind)
        return cfg_error(network->model->cfg, l->line, err, "a [%s] in front of the logits cannot be trained",
                         net_kind_name(l->kind));
    struct layer_context context = { network->ops, network->model, index - 1, network->batch,
                                     network_params_of(network, index - 1) };
    return node->kind->create(&node->layer, &context, err);
}

enum status network_create(struct network **out, struct model *model, int batch, int threads, struct err *err) {
    struct network *network = calloc(1, sizeof *network);
    if (!network) return err_memory(err, "network");
    network->model = model;
    network->levels = model->levels;
    network->batch = batch;
    network->nnodes = net_logits_layer(model->net) + 2;
    network->nodes = calloc((size_t)network->nnodes, sizeof *network->nodes);
    enum status status = network->nodes ? STATUS_OK : err_memory(err, "network");
    if (!status && batch < 1) status = err_set(err, STATUS_USAGE, "a batch of %d images is none", batch);
    if (!status) status = ops_create(&network->ops, threads, err);
    if (!status) status = counts_create(&network->counts, model->groups, err);
    if (!status) status = network_params_create(network, err);
    for (int i = 0; i < network->nnodes && !status; i++) {
        status = create_node(network, i, err);
        if (!status && i > 0) status = create_layer(network, i, err);
    }
    if (!status) status = network_slots_create(network, err);
    if (status) network_destroy(&network);
    else *out = network;
    return status;
}

void network_set_precision(struct network *network, enum ops_precision precision) { network->precision = precision; }

void network_set_levels(struct network *network, const struct levels *levels) {
    network->levels = levels ? levels : network->model->levels;
}

static void destroy_node(struct network *network, struct node *node) {
    if (node->layer) node->kind->destroy(node->layer);
    if (network->ops) ops_free(network->ops, &node->buffer);
    free(node->out_ranges);
    free(node->inputs);
    free(node->in);
    free(node->in_ranges);
    free(node->in_first);
}

void network_destroy(struct network **out) {
    struct network *network = *out;
    if (!network) return;
    for (int i = 0; network->nodes && i < network->nnodes; i++) destroy_node(network, &network->nodes[i]);
    free(network->nodes);
    for (int s = 0; s < network->nslots; s++) ops_free(network->ops, &network->slots[s].values);
    free(network->slots);
    ops_free(network->ops, &network->input_grad);
    ops_free(network->ops, &network->values);
    ops_free(network->ops, &network->grads);
    free(network->params);
    counts_destroy(&network->counts);
    ops_destroy(&network->ops);
    free(network);
    *out = NULL;
}

struct network_view network_view(struct network *network) { return network->view; }

/* ---- what both directions share ---- */

/* Copies between a tensor and a narrowed copy of it; `back` adds. */
void network_copy_narrow(const struct network *network, const struct node *node, int k, float *whole, float *narrow,
                         bool back) {
    const struct layer_tensor *in = &node->in[k], *source = &network->nodes[node->inputs[k]].out;
    size_t rows = (size_t)network->n * (size_t)in->h * (size_t)in->w;
    for (int i = 0, at = 0; i < source->nranges; at += source->ranges[i++].count)
        for (int j = 0; j < in->nranges; j++) {
            struct layer_range s = source->ranges[i], r = in->ranges[j];
            if (r.first < s.first || r.first >= s.first + s.count) continue;
            int offset = s.offset + r.first - s.first;
            if (back) ops_copy_channels(network->ops, narrow, in->c, r.offset, whole, source->c, offset, r.count, rows, true);
            else ops_copy_channels(network->ops, whole, source->c, offset, narrow, in->c, r.offset, r.count, rows, false);
        }
}

enum status network_set_inputs(struct network *network, int index, struct err *err) {
    struct node *node = &network->nodes[index];
    for (int k = 0; k < node->ninputs; k++) {
        struct layer_tensor *in = &node->in[k];
        float *whole = network->nodes[node->inputs[k]].out.data;
        in->data = whole;
        in->lazy = network->nodes[node->inputs[k]].out.lazy;
        if (node->kind->views || !network_narrows(network, node, k)) continue;
        size_t values = (size_t)network->n * (size_t)in->h * (size_t)in->w * (size_t)in->c;
        enum status status = ops_scratch(network->ops, OPS_SCRATCH_INPUT, values, &in->data, err);
        if (status) return status;
        network_copy_narrow(network, node, k, whole, in->data, false);
    }
    return STATUS_OK;
}

enum status network_in_layer(enum status status, const struct network *network, int index, struct err *err) {
    if (status)
        err_prefix(err, "layer %d [%s]", index - 1, net_kind_name(network->model->net->layers[index - 1].kind));
    return status;
}

/* ---- forward ---- */

/* What crosses the cut behind the node, as it arrives there: coded and decoded. */
static void cross(const struct network *network, const struct plan *plan, int index) {
    const struct blocks *blocks = network->model->blocks;
    const struct layer_tensor *t = &network->nodes[index].out;
    int next = blocks->of_layer[index - 1] + 1;
    if (next == blocks->nblocks || blocks->block[next].source != index - 1) return;
    int positions = t->h * t->w;
    size_t size = (size_t)positions * (size_t)t->c;
    for (int n = 0; n < network->n; n++) quantize_round(plan->codec[next], t->data + (size_t)n * size, positions, t->c);
}

static enum status check_pass(const struct network *network, const struct plan *plan, int n, struct err *err) {
    if (n < 1 || n > network->batch)
        return err_set(err, STATUS_USAGE, "a pass of %d images in a network made for 1 to %d", n, network->batch);
    if (plan->nblocks != network->model->blocks->nblocks)
        return err_set(err, STATUS_USAGE, "a plan of %d blocks for a network of %d", plan->nblocks,
                       network->model->blocks->nblocks);
    for (int b = 0; b < plan->nblocks; b++)
        if (plan->level[b] < 0 || plan->level[b] >= network->model->levels->nlevels || plan->link[b] < 0 ||
            plan->link[b] >= network->model->levels->nlevels)
            return err_set(err, STATUS_USAGE, "the plan gives block %d a level that the model has not", b);
    return STATUS_OK;
}

/* The kept channels of a planar [n, C, H, W] tensor, as node `index` holds them. */
static void read_planar(struct network *network, const float *x) {
    const struct layer_tensor *t = &network->nodes[0].out;
    struct net_shape shape = network->model->net->input;
    if (t->c == shape.c) {
        ops_from_planar(network->ops, x, network->n, t->c, t->h, t->w, t->data);
        return;
    }
    size_t positions = (size_t)t->h * (size_t)t->w;
    for (int n = 0; n < network->n; n++)
        for (int i = 0; i < t->nranges; i++)
            for (int c = 0; c < t->ranges[i].count; c++)
                for (size_t p = 0; p < positions; p++)
                    t->data[((size_t)n * positions + p) * (size_t)t->c + (size_t)(t->ranges[i].offset + c)] =
                        x[((size_t)n * (size_t)shape.c + (size_t)(t->ranges[i].first + c)) * positions + p];
}

/* Where a node's output goes: nowhere, if it stays lazy; in place of what is in
 * front of batch norm, if that is not kept; otherwise to a buffer of its own. */
static enum status set_output_data(struct network *network, struct node *node, struct err *err) {
    bool front = node->layer && node->layer->norm && node->layer->front;
    size_t full = (size_t)network->batch * net_shape_size(net_shape_of(network->model->net, (int)(node - network->nodes) - 1));
    node->out.data = NULL;
    if (node->out.lazy) return STATUS_OK;
    if (front && network->mode != NETWORK_TRAIN) {
        node->out.data = node->layer->front;
        return STATUS_OK;
    }
    if (!node->buffer) {
        enum status status = ops_alloc(network->ops, full, &node->buffer, "activations", err);
        if (status) return status;
    }
    node->out.data = node->buffer;
    return STATUS_OK;
}

enum status network_forward(struct network *network, const struct plan *plan, enum network_mode mode,
                            const float *input, int n, uint64_t dropout_seed, float *logits, struct err *err) {
    enum status status = check_pass(network, plan, n, err);
    if (status) return status;
    network->mode = mode;
    network->n = n;
    network->seed = dropout_seed;
    network->trained = false;
    ops_begin(network->ops);
    network_set_plan(network, plan);
    status = set_output_data(network, &network->nodes[0], err);
    if (status) return status;
    read_planar(network, input);
    for (int i = 1; i < network->nnodes; i++) {
        struct node *node = &network->nodes[i];
        double began = network->forward_s ? log_now_s() : 0;
        status = set_output_data(network, node, err);
        if (!status) status = network_set_inputs(network, i, err);
        struct layer_pass pass = network_pass(network, i);
        if (!status) status = node->kind->forward(node->layer, &pass, err);
        if (status) return network_in_layer(status, network, i, err);
        if (mode == NETWORK_INFERENCE) cross(network, plan, i);
        if (network->forward_s) network->forward_s[i - 1] += log_now_s() - began;
    }
    const struct layer_tensor *last = &network->nodes[network->nnodes - 1].out;
    if (last->c * last->h * last->w != network->model->net->classes)
        return err_set(err, STATUS_LIMIT, "the plan prunes the classes themselves");
    ops_to_planar(network->ops, last->data, n, last->c, last->h, last->w, logits);
    network->trained = mode == NETWORK_TRAIN;
    return STATUS_OK;
}

enum status network_backward_input(struct network *network, const float *dlogits, float *dinput, struct err *err) {
    if (!network->trained) return err_set(err, STATUS_USAGE, "a backward pass needs a training pass in front of it");
    return network_run_backward(network, dlogits, dinput, err);
}

enum status network_backward(struct network *network, const float *dlogits, struct err *err) {
    return network_backward_input(network, dlogits, NULL, err);
}

/* ---- looking in ---- */

void network_set_times(struct network *network, double *forward_s, double *backward_s) {
    network->forward_s = forward_s;
    network->backward_s = backward_s;
}

static enum status find_node(const struct network *network, int layer, struct node **node, struct err *err) {
    if (layer < 0 || layer + 1 >= network->nnodes)
        return err_set(err, STATUS_USAGE, "layer %d is not one of the %d that are trained", layer, network->nnodes - 1);
    *node = &network->nodes[layer + 1];
    return STATUS_OK;
}

enum status network_batch_stats(const struct network *network, int layer, const float **mean, const float **var,
                                int *channels, struct err *err) {
    struct node *node = NULL;
    enum status status = find_node(network, layer, &node, err);
    if (status) return status;
    if (!node->layer->norm) return err_set(err, STATUS_USAGE, "layer %d has no batch norm", layer);
    if (network->n == 0 || network->mode == NETWORK_INFERENCE)
        return err_set(err, STATUS_USAGE, "batch statistics need a training or statistics pass in front of them");
    norm_batch_stats(node->layer->norm, mean, var, channels);
    return STATUS_OK;
}

enum status network_activation(struct network *network, int layer, float *out, int *channels, struct err *err) {
    struct node *node = NULL;
    enum status status = find_node(network, layer, &node, err);
    if (status) return status;
    const struct layer_tensor *t = &node->out;
    const float *values;
    struct ops_part all = { 0, network->n, 0 };
    ops_begin(network->ops);
    status = layer_read(network->ops, t, &all, OPS_SCRATCH_INPUT, &values, err);
    if (status) return status;
    ops_to_planar(network->ops, values, network->n, t->c, t->h, t->w, out);
    *channels = t->c;
    return STATUS_OK;
}
