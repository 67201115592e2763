#include "train/checkpoint.h"

#include "common/json.h"
#include "common/safetensors.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char format[] = "espalier-checkpoint";

struct tensor_name {
    char text[64];
};

static void velocity_name(const struct network_param *param, struct tensor_name *name) {
    snprintf(name->text, sizeof name->text, "velocity.%s", param->name);
}

static void print_progress(char *text, size_t size, const struct checkpoint_progress *p) {
    snprintf(text, size, "[%.17g,%.17g,%.17g,%d,%d,%d]", p->seconds, p->epoch_seconds, p->epoch_loss, p->epoch_correct,
             p->epoch_images, p->epoch_steps);
}

/* A level's counts follow those of the one before: [nlevels * ngroups]. */
static char *counts_json(const struct levels *levels) {
    cJSON *list = cJSON_CreateIntArray(levels->keep, levels->nlevels * levels->ngroups);
    char *text = list ? cJSON_PrintUnformatted(list) : NULL;
    cJSON_Delete(list);
    return text;
}

/* Counts of the same table as `levels`, into `counts`, of which none exceeds full width. */
static enum status read_counts(const char *path, const char *text, const struct levels *levels, double *counts,
                               struct err *err) {
    int n = levels->nlevels * levels->ngroups;
    cJSON *list = NULL;
    enum status status = json_parse(&list, path, text ? text : "", err);
    if (status) return status;
    bool good = json_doubles(list, n, 1, INT_MAX, counts);
    for (int i = 0; good && i < n; i++) good = counts[i] <= levels->keep[i % levels->ngroups];
    cJSON_Delete(list);
    return good ? STATUS_OK : err_set(err, STATUS_FORMAT, "%s: its level table is not of this network", path);
}

static enum status read_progress(const char *path, const char *text, struct checkpoint_progress *p, struct err *err) {
    double v[6];
    cJSON *list = NULL;
    enum status status = json_parse(&list, path, text ? text : "", err);
    if (status) return status;
    if (json_doubles(list, 6, 0, INT_MAX, v))
        *p = (struct checkpoint_progress){ v[0], v[1], v[2], (int)v[3], (int)v[4], (int)v[5] };
    else status = err_set(err, STATUS_FORMAT, "%s: its progress is not six numbers", path);
    cJSON_Delete(list);
    return status;
}

enum status checkpoint_save(const char *path, const struct network_view *view, const struct sgd *sgd,
                            const struct checkpoint *checkpoint, struct err *err) {
    int n = view->nparams;
    char step[16], progress[160];
    char *preproc = image_preproc_json(&checkpoint->preproc), *counts = counts_json(checkpoint->levels);
    struct safetensors_tensor *tensors = calloc((size_t)n * 2 + CHECKPOINT_EXTRAS, sizeof *tensors);
    struct tensor_name *names = calloc((size_t)n + 1, sizeof *names);
    enum status status = STATUS_MEMORY;
    if (!preproc || !counts || !tensors || !names) {
        err_memory(err, "checkpoint");
        goto done;
    }
    for (int i = 0; i < n; i++) {
        const struct network_param *p = &view->params[i];
        struct safetensors_tensor *value = &tensors[i], *velocity = &tensors[n + i];
        *value = (struct safetensors_tensor){ .name = p->name, .dtype = "F32", .ndims = p->ndims,
                                              .data = view->values + p->offset, .size = p->size * sizeof(float) };
        memcpy(value->shape, p->shape, (size_t)p->ndims * sizeof *p->shape);
        velocity_name(p, &names[i]);
        *velocity = *value;
        velocity->name = names[i].text;
        velocity->data = sgd->velocity + p->offset;
    }
    int ntensors = n * 2;
    for (int i = 0; i < CHECKPOINT_EXTRAS; i++) {
        const struct checkpoint_extra *extra = &checkpoint->extras[i];
        if (!extra->name) continue;
        tensors[ntensors++] = (struct safetensors_tensor){ .name = extra->name, .dtype = "F32", .ndims = 1,
                                                           .shape = { (int64_t)extra->n }, .data = extra->values,
                                                           .size = extra->n * sizeof(float) };
    }
    snprintf(step, sizeof step, "%d", checkpoint->step);
    print_progress(progress, sizeof progress, &checkpoint->progress);
    const struct safetensors_pair metadata[] = {
        { "format", format },   { "step", step },     { "progress", progress },
        { "preproc", preproc }, { "levels", counts }, { "settings", checkpoint->settings },
    };
    status = safetensors_write(path, tensors, ntensors, metadata, sizeof metadata / sizeof *metadata, err);
done:
    free(preproc);
    free(counts);
    free(tensors);
    free(names);
    return status;
}

/* The first setting that is not the same in both. */
static enum status compare_settings(const char *path, const char *saved, const char *given, struct err *err) {
    cJSON *a = NULL, *b = NULL;
    enum status status = json_parse(&a, path, saved, err);
    if (!status) status = json_parse(&b, "settings", given, err);
    for (const cJSON *item = status ? NULL : b->child; item; item = item->next) {
        const cJSON *other = cJSON_GetObjectItemCaseSensitive(a, item->string);
        if (other && cJSON_Compare(item, other, true)) continue;
        char *was = other ? cJSON_PrintUnformatted(other) : NULL, *is = cJSON_PrintUnformatted(item);
        status = err_set(err, STATUS_USAGE, "%s was begun with %s %.120s, not %.120s", path, item->string,
                         was ? was : "unset", is ? is : "?");
        err_hint(err, "resume with the options it was begun with, or begin anew without --resume");
        free(was);
        free(is);
        break;
    }
    cJSON_Delete(a);
    cJSON_Delete(b);
    return status;
}

static enum status read_step(const char *path, const char *text, int *step, struct err *err) {
    char *end;
    long value = text ? strtol(text, &end, 10) : -1;
    if (value < 0 || value > INT_MAX || *end)
        return err_set(err, STATUS_FORMAT, "%s: its number of steps is not a number", path);
    *step = (int)value;
    return STATUS_OK;
}

static enum status load_extra(const struct safetensors *file, const struct checkpoint_extra *extra, bool copy,
                              struct err *err) {
    const float *values;
    if (!extra->name) return STATUS_OK;
    enum status status = safetensors_f32(file, extra->name, 1, (const int64_t[]){ (int64_t)extra->n }, &values, err);
    if (!status && copy) memcpy(extra->values, values, extra->n * sizeof *values);
    return status;
}

static enum status load(const struct safetensors *file, const char *path, const struct network_view *view,
                        struct sgd *sgd, struct checkpoint *checkpoint, double *counts, struct err *err) {
    struct levels *levels = checkpoint->levels;
    const char *kind = safetensors_metadata(file, "format"), *settings = safetensors_metadata(file, "settings"),
               *preproc = safetensors_metadata(file, "preproc");
    if (!kind || strcmp(kind, format) != 0 || !settings || !preproc)
        return err_set(err, STATUS_FORMAT, "%s is not a checkpoint of a training run", path);
    struct image_preproc read_preproc;
    struct checkpoint_progress progress;
    int step = 0;
    enum status status = compare_settings(path, settings, checkpoint->settings, err);
    if (!status) status = read_step(path, safetensors_metadata(file, "step"), &step, err);
    if (!status) status = read_progress(path, safetensors_metadata(file, "progress"), &progress, err);
    if (!status) status = image_preproc_parse(&read_preproc, preproc, err);
    if (!status) status = read_counts(path, safetensors_metadata(file, "levels"), levels, counts, err);
    /* First check all, then copy: on failure nothing has changed. */
    for (int copy = 0; !status && copy < 2; copy++) {
        for (int i = 0; !status && i < CHECKPOINT_EXTRAS; i++)
            status = load_extra(file, &checkpoint->extras[i], copy, err);
        for (int i = 0; !status && i < view->nparams; i++) {
            const struct network_param *p = &view->params[i];
            struct tensor_name name;
            const float *value, *velocity;
            velocity_name(p, &name);
            status = safetensors_f32(file, p->name, p->ndims, p->shape, &value, err);
            if (!status) status = safetensors_f32(file, name.text, p->ndims, p->shape, &velocity, err);
            if (status || !copy) continue;
            memcpy(view->values + p->offset, value, p->size * sizeof *value);
            memcpy(sgd->velocity + p->offset, velocity, p->size * sizeof *velocity);
        }
    }
    if (status) return status;
    for (int i = 0; i < levels->nlevels * levels->ngroups; i++) levels->keep[i] = (int)counts[i];
    checkpoint->step = step;
    checkpoint->progress = progress;
    checkpoint->preproc = read_preproc;
    return STATUS_OK;
}

enum status checkpoint_load(const char *path, const struct network_view *view, struct sgd *sgd,
                            struct checkpoint *checkpoint, struct err *err) {
    struct safetensors *file;
    enum status status = safetensors_open(&file, path, err);
    if (status) return status;
    size_t n = (size_t)checkpoint->levels->nlevels * (size_t)checkpoint->levels->ngroups;
    double *counts = malloc((n + 1) * sizeof *counts);
    status = counts ? load(file, path, view, sgd, checkpoint, counts, err) : err_memory(err, "checkpoint");
    free(counts);
    safetensors_close(&file);
    return status;
}
