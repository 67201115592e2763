/* Trained tensors: one contiguous block, listed. */
#include "common/random.h"
#include "train/network_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, MAX_PARAMS = 3 }; /* elements; tensors of a layer */

static void param_add(struct network *network, int layer, enum network_role role, const char *name, int ndims,
                      const int64_t *shape) {
    struct network_param *p = &network->params[network->view.nparams++];
    *p = (struct network_param){ .layer = layer, .role = role, .ndims = ndims, .offset = network->view.size, .size = 1 };
    snprintf(p->name, sizeof p->name, "layers.%d.%s", layer, name);
    for (int i = 0; i < ndims; i++) {
        p->shape[i] = shape[i];
        p->size *= (size_t)shape[i];
    }
    network->view.size += (p->size + ALIGN - 1) / ALIGN * ALIGN;
}

static void list_layer(struct network *network, int i) {
    const struct net_layer *l = &network->model->net->layers[i];
    const struct model_layer *m = &network->model->layers[i];
    if (l->kind == NET_CONVOLUTIONAL)
        param_add(network, i, NETWORK_WEIGHT, "weight", 4,
                  (int64_t[]){ l->filters, l->in.c / l->groups, l->size, l->size });
    if (l->kind == NET_CONNECTED)
        param_add(network, i, NETWORK_WEIGHT, "weight", 2, (int64_t[]){ l->filters, (int64_t)net_shape_size(l->in) });
    int outputs = net_has_weights(l) ? model_outputs(network->model, i) : 0;
    if (m->bias) param_add(network, i, NETWORK_BIAS, "bias", 1, (int64_t[]){ outputs });
    if (m->gamma) param_add(network, i, NETWORK_GAMMA, "bn.gamma", 2, (int64_t[]){ m->gamma_rows, outputs });
    if (m->beta) param_add(network, i, NETWORK_BETA, "bn.beta", 2, (int64_t[]){ m->gamma_rows, outputs });
}

enum status network_params_create(struct network *network, struct err *err) {
    int nlayers = network->model->net->nlayers;
    network->params = calloc((size_t)nlayers * MAX_PARAMS, sizeof *network->params);
    if (!network->params) return err_memory(err, "parameters");
    for (int i = 0; i < nlayers; i++) list_layer(network, i);
    enum status status = ops_alloc(network->ops, network->view.size, &network->values, "parameters", err);
    if (!status) status = ops_alloc(network->ops, network->view.size, &network->grads, "gradients", err);
    if (status) return status;
    network->view.params = network->params;
    network->view.values = network->values;
    network->view.grads = network->grads;
    network_load(network, network->model);
    return STATUS_OK;
}

struct layer_params network_params_of(const struct network *network, int layer) {
    struct layer_params p = { 0 };
    for (int i = 0; i < network->view.nparams; i++) {
        const struct network_param *param = &network->params[i];
        if (param->layer != layer) continue;
        float *value = network->values + param->offset, *grad = network->grads + param->offset;
        switch (param->role) {
        case NETWORK_WEIGHT: p.weight = value, p.dweight = grad; break;
        case NETWORK_BIAS: p.bias = value, p.dbias = grad; break;
        case NETWORK_GAMMA: p.gamma = value, p.dgamma = grad; break;
        case NETWORK_BETA: p.beta = value, p.dbeta = grad; break;
        }
    }
    return p;
}

/* ---- to and from the model ---- */

static float *in_model(const struct model *model, const struct network_param *p) {
    const struct model_layer *m = &model->layers[p->layer];
    switch (p->role) {
    case NETWORK_WEIGHT: return m->weight;
    case NETWORK_BIAS: return m->bias;
    case NETWORK_GAMMA: return m->gamma;
    case NETWORK_BETA: return m->beta;
    }
    return NULL;
}

void network_store(const struct network *network, struct model *model) {
    for (int i = 0; i < network->view.nparams; i++) {
        const struct network_param *p = &network->params[i];
        memcpy(in_model(model, p), network->values + p->offset, p->size * sizeof(float));
    }
}

void network_load(struct network *network, const struct model *model) {
    for (int i = 0; i < network->view.nparams; i++) {
        const struct network_param *p = &network->params[i];
        memcpy(network->values + p->offset, in_model(model, p), p->size * sizeof(float));
    }
}

/* ---- initial values ---- */

/* Uniform with the variance of He et al., Delving deep into rectifiers, 2015:
 * 2 / fan_in, so the bound is sqrt(6 / fan_in). */
static void init_weight(float *values, const struct network_param *p, uint64_t seed) {
    size_t fan_in = p->size / (size_t)p->shape[0];
    double bound = sqrt(6.0 / (double)fan_in);
    struct random random = random_stream(seed, (uint64_t)p->layer, 0);
    for (size_t i = 0; i < p->size; i++) values[i] = (float)random_between(&random, -bound, bound);
}

void network_init(struct network *network, uint64_t seed) {
    for (int i = 0; i < network->view.nparams; i++) {
        const struct network_param *p = &network->params[i];
        float *values = network->values + p->offset, fill = p->role == NETWORK_GAMMA ? 1 : 0;
        if (p->role == NETWORK_WEIGHT) init_weight(values, p, seed);
        else
            for (size_t k = 0; k < p->size; k++) values[k] = fill;
    }
}
