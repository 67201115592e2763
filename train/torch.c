#include "train/torch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 200 };

struct reader {
    struct model *model;
    const struct safetensors *file;
    bool *used; /* [file->ntensors] */
    int layer;  /* being read */
};

/* The value of `key`: the module that the layer takes its weights from. */
static enum status module_of(const struct reader *r, const char *key, const char **module, struct err *err) {
    const struct cfg_section *section = net_section(r->model->cfg, r->layer);
    *module = cfg_string(section, key, NULL);
    if (*module) return STATUS_OK;
    cfg_error(r->model->cfg, section->line, err, "[%s] (layer %d) lacks '%s', the name of its module in PyTorch",
              section->name, r->layer, key);
    err_hint(err, "take a cfg made for torchvision's names, cfg/tv-*.cfg");
    return STATUS_FORMAT;
}

static bool has(const struct reader *r, const char *module, const char *what) {
    char name[MAX_NAME];
    snprintf(name, sizeof name, "%s.%s", module, what);
    return safetensors_find(r->file, name) != NULL;
}

static enum status copy(const struct reader *r, const char *module, const char *what, int ndims, const int64_t *shape,
                        float *to, struct err *err) {
    char name[MAX_NAME];
    const float *data;
    snprintf(name, sizeof name, "%s.%s", module, what);
    enum status status = safetensors_f32(r->file, name, ndims, shape, &data, err);
    if (status) {
        char hint[sizeof err->hint];
        snprintf(hint, sizeof hint, "%s", err->hint);
        err_prefix(err, "layer %d of %.150s", r->layer, r->model->cfg->name);
        if (!hint[0] && !safetensors_find(r->file, name)) err_hint(err, "is this the cfg of that network?");
        return status;
    }
    const struct safetensors_tensor *tensor = safetensors_find(r->file, name);
    r->used[tensor - r->file->tensors] = true;
    memcpy(to, data, tensor->size);
    return STATUS_OK;
}

static enum status read_weight(const struct reader *r, const char *module, struct err *err) {
    const struct net_layer *l = &r->model->net->layers[r->layer];
    float *to = r->model->layers[r->layer].weight;
    if (l->kind == NET_CONNECTED)
        return copy(r, module, "weight", 2, (int64_t[]){l->filters, (int64_t)net_shape_size(l->in)}, to, err);
    return copy(r, module, "weight", 4, (int64_t[]){l->filters, l->in.c / l->groups, l->size, l->size}, to, err);
}

/* BN(x + bias) is that of x with the bias taken off the mean. */
static enum status fold_bias(const struct reader *r, const char *module, struct err *err) {
    const int64_t outputs = model_outputs(r->model, r->layer);
    float *mean = r->model->layers[r->layer].mean, *bias = malloc((size_t)outputs * sizeof *bias);
    if (!bias) return err_memory(err, "weights");
    enum status status = copy(r, module, "bias", 1, &outputs, bias, err);
    for (int64_t i = 0; !status && i < outputs; i++) mean[i] -= bias[i];
    free(bias);
    return status;
}

static enum status read_layer(const struct reader *r, struct err *err) {
    const struct net_layer *l = &r->model->net->layers[r->layer];
    const struct model_layer *m = &r->model->layers[r->layer];
    const int64_t outputs = model_outputs(r->model, r->layer);
    const char *module, *bn;
    enum status status;
    if (l->kind == NET_BATCHNORM)
        return cfg_error(r->model->cfg, l->line, err, "[batchnorm] (layer %d) cannot hold PyTorch's", r->layer);
    if ((status = module_of(r, "torch", &module, err)) || (status = read_weight(r, module, err))) return status;
    if (!l->batch_normalize) return copy(r, module, "bias", 1, &outputs, m->bias, err);
    if ((status = module_of(r, "torch_bn", &bn, err)) ||
        (status = copy(r, bn, "weight", 1, &outputs, m->gamma, err)) ||
        (status = copy(r, bn, "bias", 1, &outputs, m->beta, err)) ||
        (status = copy(r, bn, "running_mean", 1, &outputs, m->mean, err)) ||
        (status = copy(r, bn, "running_var", 1, &outputs, m->var, err)))
        return status;
    return has(r, module, "bias") ? fold_bias(r, module, err) : STATUS_OK;
}

static bool has_suffix(const char *text, const char *suffix) {
    const size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* A network of more layers than the cfg would otherwise come in by halves. */
static enum status check_used(const struct reader *r, struct err *err) {
    for (int i = 0; i < r->file->ntensors; i++) {
        const char *name = r->file->tensors[i].name;
        if (r->used[i] || has_suffix(name, "num_batches_tracked")) continue;
        err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' belongs to no layer of %.150s", r->file->name, name,
                r->model->cfg->name);
        err_hint(err, "is this the cfg of that network?");
        return STATUS_FORMAT;
    }
    return STATUS_OK;
}

enum status torch_read(struct model *model, const struct safetensors *file, struct err *err) {
    struct reader r = {model, file, calloc((size_t)file->ntensors + 1, sizeof *r.used), 0};
    if (!r.used) return err_memory(err, file->name);
    enum status status = STATUS_OK;
    for (; !status && r.layer < model->net->nlayers; r.layer++)
        if (net_has_weights(&model->net->layers[r.layer])) status = read_layer(&r, err);
    if (!status) status = check_used(&r, err);
    model->bn_form = MODEL_BN_TORCH;
    model->bn_eps = 1e-5f;
    free(r.used);
    return status;
}
