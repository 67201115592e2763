#include "deploy/info.h"

#include "common/json.h"

#include <stdio.h>
#include <string.h>

static double count_parameters(const struct model *m) {
    double sum = 0;
    for (int i = 0; i < m->net->nlayers; i++) {
        const struct model_layer *l = &m->layers[i];
        if (!net_has_weights(&m->net->layers[i])) continue;
        double outputs = model_outputs(m, i);
        sum += (double)net_weight_count(&m->net->layers[i]) + outputs * ((l->bias != NULL) + (l->gamma != NULL) + (l->beta != NULL));
    }
    return sum;
}

enum status info_gather(struct info *info, const char *path, const struct model *m, struct err *err) {
    *info = (struct info){.path = path, .model = m, .parameters = count_parameters(m)};
    for (int i = 0; i < m->net->nlayers; i++) info->has_bn |= m->layers[i].mean != NULL;
    struct counts *counts;
    enum status status = counts_create(&counts, m->groups, err);
    if (status) return status;
    for (int l = 0; !status && l < m->levels->nlevels; l++) {
        struct plan *plan;
        status = plan_create(&plan, m->blocks->nblocks, l, err);
        if (status) break;
        if (m->ends.nincoming) plan->link[0] = l;
        counts_set(counts, m->net, m->blocks, m->groups, m->levels, plan);
        info->work[l] = counts_multiply_adds(counts, m->net, m->blocks, m->groups, m->levels, plan, 0, m->net->nlayers - 1);
        if (m->accuracy) info->accuracy[l] = accuracy_predict(m->accuracy, plan);
        plan_destroy(&plan);
    }
    counts_destroy(&counts);
    return status;
}

void info_groups_text(const struct info *info, int layer, char *text, size_t size) {
    int n;
    const struct segment *segments = groups_segments(info->model->groups, layer, &n);
    size_t used = 0;
    for (int s = 0; s < n && used < size; s++)
        used += (size_t)snprintf(text + used, size - used, "%s%d", s ? "+" : "", segments[s].group);
    if (used >= size) memcpy(text + size - 4, "...", 4);
}

static cJSON *shape_json(struct net_shape s) { return cJSON_CreateIntArray((int[]){s.c, s.h, s.w}, 3); }

static cJSON *layer_json(const struct info *info, int i) {
    const struct net_layer *l = &info->model->net->layers[i];
    int n;
    const struct segment *segments = groups_segments(info->model->groups, i, &n);
    cJSON *o = cJSON_CreateObject();
    cJSON *groups = o ? cJSON_AddArrayToObject(o, "groups") : NULL;
    bool good = groups && json_add(o, "kind", cJSON_CreateString(net_kind_name(l->kind))) &&
                json_add(o, "in", shape_json(l->in)) && json_add(o, "out", shape_json(l->out)) &&
                json_add(o, "inputs", cJSON_CreateIntArray(l->inputs, l->ninputs)) &&
                json_add(o, "multiply_adds", cJSON_CreateNumber(net_multiply_adds(l)));
    if (l->kind == NET_CONVOLUTIONAL || l->kind == NET_CONNECTED)
        good = good && json_add(o, "batch_normalize", cJSON_CreateBool(l->batch_normalize));
    if (l->kind == NET_CONVOLUTIONAL)
        good = good && json_add(o, "size", cJSON_CreateNumber(l->size)) &&
               json_add(o, "stride", cJSON_CreateNumber(l->stride)) && json_add(o, "pad", cJSON_CreateNumber(l->pad)) &&
               json_add(o, "conv_groups", cJSON_CreateNumber(l->groups));
    for (int s = 0; good && s < n; s++) good = json_append(groups, cJSON_CreateNumber(segments[s].group));
    if (good) return o;
    cJSON_Delete(o);
    return NULL;
}

static cJSON *block_json(const struct info *info, int b) {
    const struct block *block = &info->model->blocks->block[b];
    cJSON *o = cJSON_CreateObject();
    if (o && json_add(o, "first", cJSON_CreateNumber(block->first)) && json_add(o, "last", cJSON_CreateNumber(block->last)) &&
        json_add(o, "source", cJSON_CreateNumber(block->source)) &&
        json_add(o, "enters", shape_json(net_shape_of(info->model->net, block->source))))
        return o;
    cJSON_Delete(o);
    return NULL;
}

static cJSON *group_json(const struct info *info, int g) {
    const struct group *group = &info->model->groups->group[g];
    cJSON *o = cJSON_CreateObject();
    if (o && json_add(o, "units", cJSON_CreateNumber(group->units)) && json_add(o, "whole", cJSON_CreateBool(group->whole)) &&
        json_add(o, "members", cJSON_CreateIntArray(group->members, group->nmembers)))
        return o;
    cJSON_Delete(o);
    return NULL;
}

static cJSON *level_json(const struct info *info, int l) {
    const struct model *m = info->model;
    cJSON *o = cJSON_CreateObject();
    if (o && json_add(o, "ratio", cJSON_CreateNumber((double)m->levels->ratio[l])) &&
        json_add(o, "keep", cJSON_CreateIntArray(m->levels->keep + (ptrdiff_t)l * m->levels->ngroups, m->levels->ngroups)) &&
        json_add(o, "multiply_adds", cJSON_CreateNumber(info->work[l])) &&
        (!m->accuracy || json_add(o, "accuracy", cJSON_CreateNumber(info->accuracy[l]))))
        return o;
    cJSON_Delete(o);
    return NULL;
}

static bool add_list(cJSON *root, const char *key, const struct info *info, int n,
                     cJSON *(*item)(const struct info *, int)) {
    cJSON *list = cJSON_AddArrayToObject(root, key);
    for (int i = 0; list && i < n; i++)
        if (!json_append(list, item(info, i))) return false;
    return list != NULL;
}

static cJSON *label_json(const struct info *info, int i) { return cJSON_CreateString(info->model->labels[i]); }
static cJSON *slice_json(const struct info *info, int s) {
    return cJSON_CreateNumber(info->model->blocks->slice_first[s]);
}

/* Text that is JSON already; false if it is missing. */
static bool add_raw(cJSON *root, const char *key, char *text) {
    bool good = text && json_add(root, key, cJSON_CreateRaw(text));
    cJSON_free(text);
    return good;
}

cJSON *info_json(const struct info *info) {
    const struct model *m = info->model;
    cJSON *root = cJSON_CreateObject();
    bool good = root && json_add(root, "file", cJSON_CreateString(info->path)) &&
                json_add(root, "input", shape_json(m->net->input)) &&
                json_add(root, "classes", cJSON_CreateNumber(m->net->classes)) &&
                json_add(root, "parameters", cJSON_CreateNumber(info->parameters)) &&
                add_list(root, "layers", info, m->net->nlayers, layer_json) &&
                add_list(root, "blocks", info, m->blocks->nblocks, block_json) &&
                add_list(root, "slices", info, m->blocks->nslices, slice_json) &&
                add_list(root, "groups", info, m->groups->ngroups, group_json) &&
                add_list(root, "levels", info, m->levels->nlevels, level_json) &&
                add_list(root, "labels", info, m->nlabels, label_json) &&
                json_add(root, "bn_rows", cJSON_CreateNumber(info->has_bn ? m->nrows : 0)) &&
                json_add(root, "bn_form", cJSON_CreateString(m->bn_form == MODEL_BN_TORCH ? "torch" : "darknet")) &&
                json_add(root, "bn_eps", cJSON_CreateNumber((double)m->bn_eps)) &&
                add_raw(root, "preproc", image_preproc_json(&m->preproc)) &&
                (!m->accuracy || add_raw(root, "accuracy", accuracy_json(m->accuracy))) &&
                (!m->training || json_add(root, "training", cJSON_CreateRaw(m->training)));
    if (good && m->parent[0])
        good = json_add(root, "parent", cJSON_CreateString(m->parent)) &&
               json_add(root, "first_layer", cJSON_CreateNumber(m->first_layer)) &&
               json_add(root, "first_block", cJSON_CreateNumber(m->first_block));
    if (good) return root;
    cJSON_Delete(root);
    return NULL;
}
