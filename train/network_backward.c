/* The way back: each layer's gradient in, those of its inputs out.
 *
 * A tensor's gradient is complete once its readers have been through. Layers
 * add to it where they can, otherwise what they leave in scratch is added
 * behind them; that of a narrowed input is spread over the whole tensor. */
#include "train/network_private.h"

#include "common/log.h"

#include <stdlib.h>

static bool reads_twice(const struct node *node, int k) {
    for (int i = 0; i < node->ninputs; i++)
        if (i != k && node->inputs[i] == node->inputs[k]) return true;
    return false;
}

/* Where the layer is to put the gradients of its inputs: to their place where
 * that can be, otherwise into scratch, to be added behind it. */
static enum status set_gradients(struct network *network, struct node *node, struct err *err) {
    for (int k = 0; k < node->ninputs; k++) {
        struct layer_tensor *in = &node->in[k];
        struct node *source = &network->nodes[node->inputs[k]];
        size_t values = (size_t)network->n * layer_image(in);
        bool narrow = !node->kind->views && network_narrows(network, node, k);
        in->grad = NULL;
        in->add = false;
        if (!source->wanted) continue;
        if (node->kind->adds && reads_twice(node, k) && !source->started) {
            ops_zero(network->ops, source->out.grad, values);
            source->started = true;
        }
        in->grad = source->out.grad;
        in->add = source->started;
        if (narrow || (source->started && !node->kind->adds)) {
            enum status status = ops_scratch(network->ops, OPS_SCRATCH_GRADIENT, values, &in->grad, err);
            if (status) return status;
            in->add = false;
        } else {
            source->started = true;
        }
    }
    return STATUS_OK;
}

/* Both branches of a sum have the same gradient. If the layer in front, which
 * comes next, leaves it alone, it is kept in one place for both. */
static void share_gradient(struct network *network, int index) {
    struct node *node = &network->nodes[index], *own = &network->nodes[index - 1];
    struct layer_pass pass = network_pass(network, index);
    if (!node->kind->shares_grad || !node->in_place || node->inputs[0] != index - 1) return;
    bool kept = own->layer && own->layer->norm && own->layer->front && own->layer->rectified;
    if (!kept || !node->in[1].grad || node->in[1].add || !node->kind->reads_lazy(node->layer, &pass)) return;
    node->in[0].grad = own->out.grad = node->in[1].grad;
}

/* Behind the layer: adds what it left in scratch. */
static void collect_gradients(struct network *network, struct node *node) {
    for (int k = 0; k < node->ninputs; k++) {
        struct layer_tensor *in = &node->in[k];
        struct node *source = &network->nodes[node->inputs[k]];
        if (!in->grad || in->grad == source->out.grad) continue;
        size_t whole = (size_t)network->n * layer_image(&source->out);
        if (network_narrows(network, node, k)) {
            if (!source->started) ops_zero(network->ops, source->out.grad, whole);
            network_copy_narrow(network, node, k, source->out.grad, in->grad, true);
        } else {
            ops_add(network->ops, in->grad, whole, source->out.grad);
        }
        source->started = true;
    }
}

/* The gradient of a view in place is possible only if nothing is narrowed. */
static enum status part_in_place(struct network *network, struct node *node, struct layer_pass *pass, struct err *err) {
    if (!node->in_place || !node->kind->views || network->nodes[node->inputs[0]].out.c == node->out.c) return STATUS_OK;
    size_t values = layer_values(pass, &pass->out);
    float *copy;
    enum status status = ops_scratch(network->ops, OPS_SCRATCH_GRADIENT, values, &copy, err);
    if (status) return status;
    ops_copy(network->ops, pass->out.grad, values, copy);
    pass->out.grad = copy;
    return STATUS_OK;
}

static enum status backward_node(struct network *network, int index, struct err *err) {
    struct node *node = &network->nodes[index];
    enum status status = network_set_inputs(network, index, err);
    if (!status) status = set_gradients(network, node, err);
    if (!status) share_gradient(network, index);
    struct layer_pass pass = network_pass(network, index);
    if (!status) status = part_in_place(network, node, &pass, err);
    if (!status) status = node->kind->backward(node->layer, &pass, err);
    if (status) return network_in_layer(status, network, index, err);
    collect_gradients(network, node);
    return STATUS_OK;
}

/* Which gradients anybody wants: those with weights at or before them. */
static void set_wanted(struct network *network, bool input) {
    for (int i = 0; i < network->nnodes; i++) {
        struct node *node = &network->nodes[i];
        node->started = false;
        node->wanted = i == 0 ? input : net_has_weights(&network->model->net->layers[i - 1]);
        for (int k = 0; k < node->ninputs; k++) node->wanted |= network->nodes[node->inputs[k]].wanted;
        node->out.grad = node->slot >= 0 ? network->slots[node->slot].values : NULL;
    }
    network->nodes[0].out.grad = network->input_grad;
}

enum status network_run_backward(struct network *network, const float *dlogits, float *dinput, struct err *err) {
    struct node *input = &network->nodes[0], *last = &network->nodes[network->nnodes - 1];
    enum status status = STATUS_OK;
    if (dinput && !network->input_grad)
        status = ops_alloc(network->ops, (size_t)network->batch * net_shape_size(network->model->net->input),
                           &network->input_grad, "gradient of the input", err);
    if (status) return status;
    ops_begin(network->ops);
    set_wanted(network, dinput != NULL);
    ops_from_planar(network->ops, dlogits, network->n, last->out.c, last->out.h, last->out.w, last->out.grad);
    last->started = true;
    for (int i = network->nnodes - 1; i > 0; i--) {
        if (!network->nodes[i].started) continue;
        double began = network->backward_s ? log_now_s() : 0;
        status = backward_node(network, i, err);
        if (status) return status;
        if (network->backward_s) network->backward_s[i - 1] += log_now_s() - began;
    }
    if (!dinput) return STATUS_OK;
    if (!input->started) ops_zero(network->ops, input->out.grad, (size_t)network->n * net_shape_size(network->model->net->input));
    ops_to_planar(network->ops, input->out.grad, network->n, input->out.c, input->out.h, input->out.w, dinput);
    return STATUS_OK;
}
