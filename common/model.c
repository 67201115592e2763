#include "common/model.h"

#include "common/bn.h"
#include "common/bn_rows.h"
#include "common/model_meta.h"

#include <assert.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_FLOATS = 16 }; /* 64 bytes */

/* ---- the tensors of a model, in file order ---- */

struct slot {
    float **data; /* in model->layers */
    char name[32];
    int ndims;
    int64_t shape[4];
};

static size_t slot_size(const struct slot *slot) {
    size_t n = 1;
    for (int i = 0; i < slot->ndims; i++) n *= (size_t)slot->shape[i];
    return n;
}

int model_outputs(const struct model *model, int layer) {
    const struct net_layer *l = &model->net->layers[layer];
    return l->kind == NET_BATCHNORM ? l->in.c : l->filters;
}

static void add_slot(struct slot *slots, int *n, int layer, const char *what, float **data, int ndims,
                     const int64_t *shape) {
    struct slot *slot = &slots[(*n)++];
    *slot = (struct slot){.data = data, .ndims = ndims};
    snprintf(slot->name, sizeof slot->name, "layers.%d.%s", layer, what);
    memcpy(slot->shape, shape, (size_t)ndims * sizeof *shape);
}

/* All f32 tensors of the model; room for 5 a layer. Uses nrows and gamma_rows. `bn_rows`: of mean and var. */
static int list_slots(const struct model *model, int bn_rows, struct slot *slots) {
    int n = 0;
    for (int i = 0; i < model->net->nlayers; i++) {
        const struct net_layer *l = &model->net->layers[i];
        struct model_layer *m = &model->layers[i];
        if (!net_has_weights(l)) continue;
        int64_t outputs = model_outputs(model, i);
        if (l->kind == NET_CONVOLUTIONAL)
            add_slot(slots, &n, i, "weight", &m->weight, 4,
                     (int64_t[]){outputs, l->in.c / l->groups, l->size, l->size});
        if (l->kind == NET_CONNECTED)
            add_slot(slots, &n, i, "weight", &m->weight, 2, (int64_t[]){outputs, (int64_t)net_shape_size(l->in)});
        if (!l->batch_normalize && l->kind != NET_BATCHNORM) {
            add_slot(slots, &n, i, "bias", &m->bias, 1, &outputs);
            continue;
        }
        int64_t gammas[2] = {m->gamma_rows, outputs}, rows[2] = {bn_rows, outputs};
        add_slot(slots, &n, i, "bn.gamma", &m->gamma, 2, gammas);
        if (l->kind != NET_BATCHNORM) add_slot(slots, &n, i, "bn.beta", &m->beta, 2, gammas);
        add_slot(slots, &n, i, "bn.mean", &m->mean, 2, rows);
        add_slot(slots, &n, i, "bn.var", &m->var, 2, rows);
    }
    return n;
}

static enum status new_slots(const struct model *model, int bn_rows, struct slot **slots, int *nslots, struct err *err) {
    *slots = malloc((size_t)model->net->nlayers * 5 * sizeof **slots);
    if (!*slots) return err_memory(err, "model");
    *nslots = list_slots(model, bn_rows, *slots);
    return STATUS_OK;
}

/* ---- making ---- */

static struct image_preproc default_preproc(struct net_shape input) {
    return (struct image_preproc){.c = input.c, .h = input.h, .w = input.w, .fit = IMAGE_LETTERBOX,
                                  .decode = IMAGE_EXACT, .std = {1, 1, 1, 1}};
}

/* What follows from the cfg and, in a slice, from its ends. */
static enum status build_graph(struct model *model, const struct safetensors *file, struct err *err) {
    enum status status;
    if ((status = net_create(&model->net, model->cfg, err)) ||
        (status = blocks_create(&model->blocks, model->net, model->cfg, err)))
        return status;
    if (model->blocks->nblocks > PLAN_MAX_BLOCKS)
        return err_set(err, STATUS_LIMIT, "%s: has %d blocks; up to %d are possible", model->cfg->name,
                       model->blocks->nblocks, PLAN_MAX_BLOCKS);
    if (file && (status = model_meta_slice(file, model, err))) return status;
    if ((status = groups_create(&model->groups, model->net, &model->ends, err))) {
        err_prefix(err, "%s", model->cfg->name);
        return status;
    }
    model->layers = calloc((size_t)model->net->nlayers, sizeof *model->layers);
    if (!model->layers) return err_memory(err, model->cfg->name);
    for (int i = 0; i < model->net->nlayers; i++) model->layers[i].gamma_rows = 1;
    model->preproc = default_preproc(model->net->input);
    model->darknet.minor = 2;
    return STATUS_OK;
}

/* One zeroed block for all tensors; gamma and var 1. */
static enum status allocate_weights(struct model *model, int nrows, struct err *err) {
    struct slot *slots;
    int n = 0;
    model->nrows = nrows ? nrows : bn_rows(model->levels->nlevels);
    enum status status = new_slots(model, model->nrows, &slots, &n, err);
    if (status) return status;
    size_t total = 0;
    for (int i = 0; i < n; i++) total += (slot_size(&slots[i]) + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
    if (total > MODEL_MAX_FLOATS) {
        free(slots);
        return err_set(err, STATUS_LIMIT, "%s: has %zu weights and batch-norm values; up to %d are possible",
                       model->cfg->name, total, MODEL_MAX_FLOATS);
    }
    total = total ? total : ALIGN_FLOATS;
    model->storage = aligned_alloc(ALIGN_FLOATS * sizeof(float), total * sizeof(float));
    if (!model->storage) {
        free(slots);
        return err_memory(err, "weights");
    }
    memset(model->storage, 0, total * sizeof(float));
    float *next = model->storage;
    for (int i = 0; i < n; i++) {
        *slots[i].data = next;
        next += (slot_size(&slots[i]) + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
    }
    free(slots);
    for (int i = 0; i < model->net->nlayers; i++) {
        struct model_layer *m = &model->layers[i];
        size_t outputs = net_has_weights(&model->net->layers[i]) ? (size_t)model_outputs(model, i) : 0;
        for (size_t k = 0; m->gamma && k < (size_t)m->gamma_rows * outputs; k++) m->gamma[k] = 1;
        for (size_t k = 0; m->var && k < (size_t)bn_level_rows(model) * outputs; k++) m->var[k] = 1;
    }
    return STATUS_OK;
}

static enum status copy_ends(struct groups_ends *copy, const struct groups_ends *ends, struct err *err) {
    if (!ends) return STATUS_OK;
    if (ends->nincoming) {
        size_t size = (size_t)ends->nincoming * sizeof *ends->incoming;
        copy->incoming = malloc(size);
        if (!copy->incoming) return err_memory(err, "model");
        memcpy(copy->incoming, ends->incoming, size);
    }
    copy->nincoming = ends->nincoming;
    copy->outgoing = ends->outgoing;
    return STATUS_OK;
}

enum status model_create_slice(struct model **out, struct cfg *cfg, int nrows, const struct groups_ends *ends,
                               struct err *err) {
    assert(nrows >= 0);
    struct model *model = calloc(1, sizeof *model);
    if (!model) return err_memory(err, cfg->name);
    enum status status;
    model->cfg = cfg;
    model->bn_form = MODEL_BN_TORCH;
    model->bn_eps = 1e-5f;
    if ((status = copy_ends(&model->ends, ends, err)) || (status = build_graph(model, NULL, err)) ||
        (status = levels_create(&model->levels, cfg, model->net, model->groups, err)) ||
        (status = allocate_weights(model, nrows, err))) {
        model->cfg = NULL; /* still the caller's */
        model_destroy(&model);
        return status;
    }
    *out = model;
    return STATUS_OK;
}

enum status model_create(struct model **model, struct cfg *cfg, int nrows, struct err *err) {
    return model_create_slice(model, cfg, nrows, NULL, err);
}

/* ---- loading ---- */

/* How many rows gamma and beta have: the file says, 1 or nrows. */
static void read_gamma_rows(struct model *model, const struct safetensors *file) {
    for (int i = 0; i < model->net->nlayers; i++) {
        char name[32];
        snprintf(name, sizeof name, "layers.%d.bn.gamma", i);
        const struct safetensors_tensor *gamma = safetensors_find(file, name);
        if (gamma && gamma->ndims == 2 && gamma->shape[0] == model->nrows) model->layers[i].gamma_rows = model->nrows;
    }
}

/* Mean and var, of which the file has row 0, become the model's own, with all rows. */
static enum status unpack_rows(struct model *model, const struct safetensors *file, const struct safetensors_tensor *packed,
                               struct err *err) {
    size_t channels = 0;
    if (strcmp(packed->dtype, "U8") != 0 || model->nrows == 1)
        return err_set(err, STATUS_FORMAT, "%s: tensor '" BN_ROWS_TENSOR "' is %s, for %d rows of batch norm; it is U8, of several",
                       file->name, packed->dtype, model->nrows);
    for (int i = 0; i < model->net->nlayers; i++)
        if (model->layers[i].mean) channels += (size_t)model_outputs(model, i);
    if (channels > MODEL_MAX_FLOATS / 2 / (size_t)model->nrows)
        return err_set(err, STATUS_LIMIT, "%s: has more than %d batch-norm values", file->name, MODEL_MAX_FLOATS);
    model->storage = calloc(2 * channels * (size_t)model->nrows + 1, sizeof *model->storage);
    if (!model->storage) return err_memory(err, "batch-norm rows");
    float *next = model->storage;
    for (int i = 0; i < model->net->nlayers; i++) {
        struct model_layer *m = &model->layers[i];
        if (!m->mean) continue;
        const size_t outputs = (size_t)model_outputs(model, i), all = outputs * (size_t)model->nrows;
        memcpy(next, m->mean, outputs * sizeof *next);
        memcpy(next + all, m->var, outputs * sizeof *next);
        m->mean = next;
        m->var = next + all;
        next += 2 * all;
    }
    return bn_rows_unpack(model, packed->data, packed->size, file->name, err);
}

/* In files of version 1 all rows are floats in mean and var. */
static enum status map_weights(struct model *model, const struct safetensors *file, struct err *err) {
    read_gamma_rows(model, file);
    const struct safetensors_tensor *packed = safetensors_find(file, BN_ROWS_TENSOR);
    struct slot *slots;
    int n = 0;
    enum status status = new_slots(model, packed ? 1 : model->nrows, &slots, &n, err);
    if (status) return status;
    for (int i = 0; !status && i < n; i++) {
        const float *data;
        status = safetensors_f32(file, slots[i].name, slots[i].ndims, slots[i].shape, &data, err);
        if (!status) *slots[i].data = (float *)data; /* read-only: model.h */
    }
    for (int t = 0; !status && n + (packed != NULL) != file->ntensors && t < file->ntensors; t++) {
        bool known = &file->tensors[t] == packed;
        for (int i = 0; i < n && !known; i++) known = strcmp(slots[i].name, file->tensors[t].name) == 0;
        if (!known)
            status = err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' belongs to no layer of its cfg", file->name,
                             file->tensors[t].name);
    }
    free(slots);
    return status || !packed ? status : unpack_rows(model, file, packed, err);
}

static enum status from_safetensors(struct model **out, struct safetensors *file, unsigned how, struct err *err) {
    enum status status;
    if ((status = model_meta_check(file, err)) ||
        (!(how & MODEL_UNVERIFIED) && (status = model_meta_verify(file, how & MODEL_LOW_MEMORY, err))))
        return status;
    struct model *model = calloc(1, sizeof *model);
    if (!model) return err_memory(err, file->name);
    if ((status = model_meta_cfg(file, &model->cfg, err)) || (status = build_graph(model, file, err)) ||
        (status = model_meta_levels(file, model, err)) || (status = model_meta_rows(file, model, err)) ||
        (status = model_meta_rest(file, model, err)) || (status = map_weights(model, file, err))) {
        model_destroy(&model);
        return status;
    }
    model->file = file;
    model->unverified = how & MODEL_UNVERIFIED;
    *out = model;
    return STATUS_OK;
}

enum status model_from_safetensors(struct model **model, struct safetensors *file, struct err *err) {
    return from_safetensors(model, file, 0, err);
}

enum status model_load_part(struct model **model, const char *path, size_t offset, size_t length, unsigned how,
                            struct err *err) {
    struct safetensors *file;
    enum status status = safetensors_open_part(&file, path, offset, length, err);
    if (status) return status;
    status = from_safetensors(model, file, how, err);
    if (status) safetensors_close(&file);
    return status;
}

enum status model_load_how(struct model **model, const char *path, unsigned how, struct err *err) {
    return model_load_part(model, path, 0, 0, how, err);
}

enum status model_load(struct model **model, const char *path, struct err *err) {
    return model_load_how(model, path, 0, err);
}

enum status model_verify(const struct model *model, struct err *err) {
    return model->unverified ? model_meta_verify(model->file, false, err) : STATUS_OK;
}

void model_release(const struct model *model, const float *weights, size_t n) {
    if (model->file) safetensors_release(model->file, weights, n * sizeof *weights);
}

void model_destroy(struct model **model_pointer) {
    struct model *model = *model_pointer;
    if (!model) return;
    for (int i = 0; i < model->nlabels; i++) free(model->labels[i]);
    free(model->labels);
    free(model->training);
    free(model->ends.incoming);
    free(model->layers);
    free(model->storage);
    accuracy_destroy(&model->accuracy);
    levels_destroy(&model->levels);
    groups_destroy(&model->groups);
    blocks_destroy(&model->blocks);
    net_destroy(&model->net);
    cfg_destroy(&model->cfg);
    safetensors_close(&model->file);
    free(model);
    *model_pointer = NULL;
}

/* ---- saving ---- */

/* A model's tensors and metadata, ready to be written. */
struct parts {
    struct slot *slots; /* hold the names */
    struct safetensors_tensor *tensors;
    uint8_t *rows; /* the last tensor's, if there are several rows of batch norm */
    int n;
    struct model_meta meta;
};

static void free_parts(struct parts *parts) {
    free(parts->slots);
    free(parts->tensors);
    free(parts->rows);
    model_meta_free(&parts->meta);
}

static enum status make_parts(const struct model *model, struct parts *parts, struct err *err) {
    *parts = (struct parts){0};
    enum status status = new_slots(model, 1, &parts->slots, &parts->n, err);
    if (status) return status;
    size_t length = 0;
    parts->tensors = calloc((size_t)parts->n + 1, sizeof *parts->tensors);
    status = parts->tensors ? model_meta_make(&parts->meta, model, err) : err_memory(err, "model");
    if (!status && model->nrows > 1) status = bn_rows_pack(model, &parts->rows, &length, err);
    if (status) {
        free_parts(parts);
        return status;
    }
    for (int i = 0; i < parts->n; i++) {
        const struct slot *slot = &parts->slots[i];
        struct safetensors_tensor *tensor = &parts->tensors[i];
        *tensor = (struct safetensors_tensor){.name = slot->name, .dtype = "F32", .ndims = slot->ndims,
                                              .data = *slot->data, .size = slot_size(slot) * sizeof(float)};
        memcpy(tensor->shape, slot->shape, sizeof slot->shape);
    }
    if (parts->rows)
        parts->tensors[parts->n++] = (struct safetensors_tensor){.name = BN_ROWS_TENSOR, .dtype = "U8", .ndims = 1,
                                                                 .shape = {(int64_t)length}, .data = parts->rows, .size = length};
    status = model_meta_seal(&parts->meta, parts->tensors, parts->n, err);
    if (status) free_parts(parts);
    return status;
}

enum status model_save(const struct model *model, const char *path, struct err *err) {
    struct parts parts;
    enum status status = make_parts(model, &parts, err);
    if (status) return status;
    status = safetensors_write(path, parts.tensors, parts.n, parts.meta.pairs, parts.meta.npairs, err);
    free_parts(&parts);
    return status;
}

enum status model_serialize(const struct model *model, uint8_t **bytes, size_t *length, struct err *err) {
    struct parts parts;
    enum status status = make_parts(model, &parts, err);
    if (status) return status;
    status = safetensors_serialize(parts.tensors, parts.n, parts.meta.pairs, parts.meta.npairs, bytes, length, err);
    free_parts(&parts);
    return status;
}

/* ---- contents ---- */

void model_hash(const void *bytes, size_t length, char hex[65]) {
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(digest, bytes, length);
    for (int i = 0; i < (int)sizeof digest; i++) snprintf(hex + (ptrdiff_t)2 * i, 3, "%02x", digest[i]);
}
