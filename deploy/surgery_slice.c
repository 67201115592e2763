#include "deploy/surgery.h"

#include "common/cfg_writer.h"
#include "common/shrink.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cut {
    const struct model *model;
    int first_block, last_block;
    int first, last; /* layers of the model */
    int source;      /* whose output enters */
    int shift;       /* 1 if a layer hands it on, else 0 */
};

/* The slice's index of a layer of the model; the source is its input, or the layer that hands it on. */
static int slice_index(const struct cut *cut, int layer) {
    if (layer == cut->source) return cut->shift - 1;
    return layer - cut->first + cut->shift;
}

static enum status make_cut(struct cut *cut, const struct model *model, int first_block, int last_block,
                            struct err *err) {
    const struct blocks *blocks = model->blocks;
    assert(first_block >= 0 && first_block <= last_block && last_block < blocks->nblocks);
    *cut = (struct cut){.model = model, .first_block = first_block, .last_block = last_block,
                        .first = blocks->block[first_block].first, .last = blocks->block[last_block].last,
                        .source = blocks->block[first_block].source};
    int exit = last_block + 1 < blocks->nblocks ? blocks->block[last_block + 1].source : cut->last;
    if (cut->source != cut->first - 1 || exit != cut->last)
        return err_set(err, STATUS_LIMIT, "%s: layer %d is read by none; take it out of the cfg before slicing",
                       model->cfg->name, exit != cut->last ? cut->last : cut->first - 1);
    for (int i = cut->first; i <= cut->last; i++) {
        const struct net_layer *l = &model->net->layers[i];
        for (int k = l->kind == NET_ROUTE ? 0 : 1; k < l->ninputs; k++)
            if (first_block > 0 && l->inputs[k] == cut->source) cut->shift = 1;
    }
    return STATUS_OK;
}

/* ---- cfg ---- */

static void write_net(const struct cut *cut, struct cfg_writer *w) {
    static const char *const shape[] = {"width", "height", "channels", "inputs", NULL};
    const struct cfg_section *section = &cut->model->cfg->sections[0];
    if (cut->first_block == 0) {
        cfg_writer_copy(w, section, NULL);
        return;
    }
    struct net_shape in = net_shape_of(cut->model->net, cut->source);
    cfg_writer_copy(w, section, shape);
    cfg_writer_option(w, "width", "%d", in.w);
    cfg_writer_option(w, "height", "%d", in.h);
    cfg_writer_option(w, "channels", "%d", in.c);
}

/* [prune], its `whole` with the layers of the slice only. */
static enum status write_prune(const struct cut *cut, struct cfg_writer *w, struct err *err) {
    static const char *const whole[] = {"whole", NULL};
    const struct cfg *cfg = cut->model->cfg;
    const struct cfg_section *section = cfg_find(cfg, "prune");
    if (!section) return STATUS_OK;
    int *list = NULL, n = 0, kept = 0;
    enum status status = cfg_ints(cfg, section, "whole", &list, &n, err);
    if (status) return status;
    cfg_writer_copy(w, section, whole);
    char text[16], *all = calloc((size_t)n + 1, sizeof text);
    for (int i = 0; all && i < n; i++) {
        if (list[i] < cut->first || list[i] > cut->last) continue;
        snprintf(text, sizeof text, "%s%d", kept++ ? "," : "", slice_index(cut, list[i]));
        strcat(all, text);
    }
    if (kept) cfg_writer_option(w, "whole", "%s", all);
    w->failed |= !all;
    free(all);
    free(list);
    return STATUS_OK;
}

static enum status make_cfg(const struct cut *cut, struct cfg **out, struct err *err) {
    const struct cfg *cfg = cut->model->cfg;
    const struct net *net = cut->model->net;
    struct cfg_writer w = {0};
    int *new_index = malloc(((size_t)net->nlayers + 1) * sizeof *new_index);
    if (!new_index) return err_memory(err, cfg->name);
    for (int i = -1; i < net->nlayers; i++) new_index[i + 1] = slice_index(cut, i);
    write_net(cut, &w);
    enum status status = write_prune(cut, &w, err);
    if (cut->shift) {
        cfg_writer_section(&w, "maxpool");
        cfg_writer_option(&w, "size", "1");
        cfg_writer_option(&w, "stride", "1");
    }
    for (int s = 0, layer = 0; s < cfg->nsections; s++) {
        const struct cfg_section *section = &cfg->sections[s];
        if (section == net_section(cfg, layer)) {
            if (layer >= cut->first && layer <= cut->last)
                cfg_writer_layer(&w, section, &net->layers[layer], new_index, slice_index(cut, layer), NULL);
            layer++;
        } else if (strcmp(section->name, "slice") == 0 && layer > cut->first && layer <= cut->last) {
            cfg_writer_copy(&w, section, NULL);
        }
    }
    free(new_index);
    char name[200];
    snprintf(name, sizeof name, "%.150s, blocks %d to %d", cfg->name, cut->first_block, cut->last_block);
    if (!status) return cfg_writer_finish(&w, name, out, err);
    cfg_writer_free(&w);
    return status;
}

/* ---- levels ---- */

/* Keeps of the slice's groups from those of the tensor that it has in the model. */
static bool take_levels(struct model *slice, const struct model *model, int slice_layer, int layer) {
    int n, m, levels = model->levels->nlevels;
    const struct segment *to = groups_segments(slice->groups, slice_layer, &n);
    const struct segment *from = groups_segments(model->groups, layer, &m);
    if (n != m) return false;
    for (int s = 0; s < n; s++)
        for (int l = 0; l < levels; l++) {
            int channels = levels_keep(model->levels, l, from[s].group) * from[s].unit;
            int *keep = &slice->levels->keep[l * slice->levels->ngroups + to[s].group];
            if (channels % to[s].unit || (*keep && *keep != channels / to[s].unit)) return false;
            *keep = channels / to[s].unit;
        }
    return true;
}

static enum status copy_levels(const struct cut *cut, struct model *slice, struct err *err) {
    const struct model *model = cut->model;
    size_t n = (size_t)model->levels->nlevels, groups = (size_t)slice->groups->ngroups;
    struct levels *levels = slice->levels;
    float *ratio = malloc(n * sizeof *ratio);
    int *keep = calloc(n * groups, sizeof *keep);
    if (!ratio || !keep) {
        free(ratio);
        free(keep);
        return err_memory(err, "levels");
    }
    memcpy(ratio, model->levels->ratio, n * sizeof *ratio);
    free(levels->ratio);
    free(levels->keep);
    slice->nrows = model->nrows;
    *levels = (struct levels){.nlevels = (int)n, .ngroups = (int)groups, .ratio = ratio, .keep = keep};
    bool good = take_levels(slice, model, -1, cut->source) && (!cut->shift || take_levels(slice, model, 0, cut->source));
    for (int i = cut->first; good && i <= cut->last; i++) good = take_levels(slice, model, slice_index(cut, i), i);
    if (good) return STATUS_OK;
    return err_set(err, STATUS_LIMIT, "%s: its prune groups do not keep their counts in a slice", slice->cfg->name);
}

/* ---- the rest ---- */

/* The hash of the file that `model` is, or would be. */
static enum status hash_model(const struct model *model, char hex[65], struct err *err) {
    if (model->file) {
        model_hash(model->file->bytes, model->file->length, hex);
        return STATUS_OK;
    }
    uint8_t *bytes;
    size_t length;
    enum status status = model_serialize(model, &bytes, &length, err);
    if (status) return status;
    model_hash(bytes, length, hex);
    free(bytes);
    return STATUS_OK;
}

static void borrow_weights(const struct cut *cut, struct model *slice) {
    free(slice->storage);
    slice->storage = NULL;
    for (int i = cut->first; i <= cut->last; i++) slice->layers[slice_index(cut, i)] = cut->model->layers[i];
}

/* What enters: the model's own ends, or the segments that cross the cut. */
static enum status make_slice(const struct cut *cut, struct cfg *cfg, struct model **slice, struct err *err) {
    const struct model *model = cut->model;
    struct groups_ends ends = {.outgoing = model->ends.outgoing || cut->last_block + 1 < model->blocks->nblocks};
    if (cut->first_block == 0) {
        ends.nincoming = model->ends.nincoming;
        ends.incoming = model->ends.incoming;
        return model_create_slice(slice, cfg, 1, &ends, err);
    }
    const struct segment *segments = groups_segments(model->groups, cut->source, &ends.nincoming);
    ends.incoming = malloc((size_t)ends.nincoming * sizeof *ends.incoming);
    if (!ends.incoming) return err_memory(err, cfg->name);
    for (int s = 0; s < ends.nincoming; s++)
        ends.incoming[s] = (struct groups_incoming){segments[s].channels, segments[s].unit};
    enum status status = model_create_slice(slice, cfg, 1, &ends, err);
    free(ends.incoming);
    return status;
}

enum status surgery_slice(const struct model *model, int first_block, int last_block, struct model **out,
                          struct err *err) {
    struct cut cut;
    struct cfg *cfg;
    struct model *slice = NULL;
    enum status status = make_cut(&cut, model, first_block, last_block, err);
    if (!status) status = make_cfg(&cut, &cfg, err);
    if (status) return status;
    status = make_slice(&cut, cfg, &slice, err);
    if (status) {
        cfg_destroy(&cfg);
        return status;
    }
    int nblocks = last_block - first_block + 1;
    if (slice->blocks->nblocks != nblocks) {
        status = err_set(err, STATUS_LIMIT, "%s: falls into %d blocks on its own, not %d", slice->cfg->name,
                         slice->blocks->nblocks, nblocks);
        goto fail;
    }
    if ((status = copy_levels(&cut, slice, err)) || (status = shrink_facts(model, slice, err)) ||
        (status = hash_model(model, slice->parent, err)))
        goto fail;
    if (model->accuracy && (status = accuracy_slice(&slice->accuracy, model->accuracy, first_block, nblocks, err)))
        goto fail;
    borrow_weights(&cut, slice);
    slice->first_layer = model->first_layer + cut.first - cut.shift;
    slice->first_block = model->first_block + first_block;
    *out = slice;
    return STATUS_OK;
fail:
    model_destroy(&slice);
    return status;
}
