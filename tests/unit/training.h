/* For tests: a model with random tensors, and a parameter list laid out as a
 * network's, without a network. */
#ifndef ESPALIER_TESTS_TRAINING_H
#define ESPALIER_TESTS_TRAINING_H

#include "common/bn.h"
#include "common/model.h"
#include "common/random.h"
#include "train/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline enum status training_model(struct model **model, const char *text, struct err *err) {
    struct cfg *cfg;
    enum status status = cfg_parse(&cfg, "t.cfg", text, strlen(text), err);
    if (status) return status;
    status = model_create(model, cfg, 0, err);
    if (status) cfg_destroy(&cfg);
    return status;
}

static inline void training_fill(float *values, size_t n, struct random *random, float low, float high) {
    for (size_t i = 0; values && i < n; i++) values[i] = (float)random_between(random, low, high);
}

/* Weights, batch norm and its rows: nothing zero, nothing alike. */
static inline void training_randomize(struct model *model, uint64_t seed) {
    struct random random = random_stream(seed, 0, 0);
    for (int i = 0; i < model->net->nlayers; i++) {
        if (!net_has_weights(&model->net->layers[i])) continue;
        struct model_layer *l = &model->layers[i];
        size_t outputs = (size_t)model_outputs(model, i), count = net_weight_count(&model->net->layers[i]);
        float bound = count ? sqrtf(6.0f * (float)outputs / (float)count) : 0;
        training_fill(l->weight, count, &random, -bound, bound);
        training_fill(l->bias, outputs, &random, -.5f, .5f);
        training_fill(l->gamma, outputs * (size_t)l->gamma_rows, &random, .5f, 1.5f);
        training_fill(l->beta, outputs * (size_t)l->gamma_rows, &random, -.5f, .5f);
        training_fill(l->mean, outputs * (size_t)model->nrows, &random, -.5f, .5f);
        size_t levels = outputs * (size_t)bn_level_rows(model);
        training_fill(l->var, levels, &random, .5f, 1.5f);
        if (l->var) training_fill(l->var + levels, outputs * (size_t)model->nrows - levels, &random, -.1f, .1f);
    }
}

/* params: room for 4 a layer; returns their number and *size. */
static inline int training_params(const struct model *model, struct network_param *params, size_t *size) {
    int n = 0;
    *size = 0;
    for (int i = 0; i < model->net->nlayers; i++) {
        const struct net_layer *layer = &model->net->layers[i];
        if (!net_has_weights(layer)) continue;
        const struct model_layer *l = &model->layers[i];
        int64_t outputs = model_outputs(model, i);
        const struct {
            const float *data;
            enum network_role role;
            const char *name;
        } tensors[] = { { l->weight, NETWORK_WEIGHT, "weight" }, { l->bias, NETWORK_BIAS, "bias" },
                        { l->gamma, NETWORK_GAMMA, "bn.gamma" }, { l->beta, NETWORK_BETA, "bn.beta" } };
        for (size_t t = 0; t < 4; t++) {
            if (!tensors[t].data) continue;
            struct network_param *p = &params[n++];
            *p = (struct network_param){ .layer = i, .role = tensors[t].role, .ndims = 1, .offset = *size };
            snprintf(p->name, sizeof p->name, "layers.%d.%s", i, tensors[t].name);
            p->shape[0] = outputs;
            p->size = (size_t)outputs;
            if (t == 0) {
                p->size = net_weight_count(layer);
                p->ndims = 2;
                p->shape[1] = (int64_t)p->size / outputs;
                if (layer->kind == NET_CONVOLUTIONAL) {
                    p->ndims = 4;
                    p->shape[2] = p->shape[3] = layer->size;
                    p->shape[1] /= (int64_t)layer->size * layer->size;
                }
            }
            if (t >= 2) { /* [rows, outputs] */
                p->ndims = 2;
                p->shape[0] = l->gamma_rows;
                p->shape[1] = outputs;
                p->size *= (size_t)l->gamma_rows;
            }
            *size += p->size;
        }
    }
    return n;
}

/* A little of everything: tiers, a depthwise convolution, a concatenation, a
 * connected layer behind a map. */
static const char training_cfg[] =
    "[net]\nwidth=8\nheight=8\nchannels=3\n"
    "[prune]\nlevels=1,.75,.5,.25\nalign=2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=linear\n"
    "[shortcut]\nfrom=-2\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
    "[convolutional]\nbatch_normalize=1\nfilters=16\ngroups=16\nsize=3\nstride=1\npad=1\nactivation=relu6\n"
    "[shortcut]\nfrom=-3\nactivation=relu\n"
    "[convolutional]\nfilters=6\nsize=1\nstride=1\nactivation=relu\n"
    "[route]\nlayers=-1,-3\n"
    "[convolutional]\nbatch_normalize=1\nfilters=12\nsize=3\nstride=1\npad=1\nactivation=relu\n"
    "[maxpool]\nsize=2\nstride=2\n"
    "[connected]\noutput=20\nactivation=relu\n"
    "[connected]\noutput=5\nactivation=linear\n"
    "[softmax]\n";

#endif
