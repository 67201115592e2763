#include "train/plot.h"

#include "common/json.h"
#include "common/model.h"
#include "train/report.h"

#include <stdlib.h>
#include <string.h>

static double latency_ms(const struct profile *profile, const struct plan *plan) {
    double sum = 0;
    for (int b = 0; profile && b < plan->nblocks; b++)
        sum += profile_ms(profile, b, plan->level[b], plan_incoming(plan, b));
    return sum;
}

static enum status set_plan(struct plot_plan *out, const struct model *model, const struct plan *plan, double accuracy,
                            const struct profile *profile, struct err *err) {
    out->accuracy = accuracy;
    out->ms = latency_ms(profile, plan);
    return report_cost(model, plan, &out->cost, err);
}

static enum status read_uniform(struct plot_model *out, const struct model *model, const cJSON *list, struct plan *plan,
                                const struct profile *profile, struct err *err) {
    double accuracy[PLAN_MAX_LEVELS];
    int nlevels = model->levels->nlevels;
    if (!json_doubles(list, nlevels, 0, 1, accuracy)) {
        err_set(err, STATUS_FORMAT, "%s holds no accuracy of its levels", out->name);
        err_hint(err, "train it with images held out (--hold-out)");
        return STATUS_FORMAT;
    }
    out->uniform = calloc((size_t)nlevels, sizeof *out->uniform);
    if (!out->uniform) return err_memory(err, out->name);
    enum status status = STATUS_OK;
    for (int level = 0; !status && level < nlevels; level++) {
        for (int b = 0; b < plan->nblocks; b++) plan->level[b] = level;
        status = set_plan(&out->uniform[out->nuniform++], model, plan, accuracy[level], profile, err);
    }
    return status;
}

/* `list`: NULL if the file has none. */
static enum status read_random(struct plot_model *out, const struct model *model, const cJSON *list, struct plan *plan,
                               const struct profile *profile, struct err *err) {
    enum status status = STATUS_OK;
    const cJSON *item;
    int n = cJSON_GetArraySize(list), nblocks = plan->nblocks, highest = model->levels->nlevels - 1;
    out->random = calloc((size_t)n + 1, sizeof *out->random);
    if (!out->random) return err_memory(err, out->name);
    cJSON_ArrayForEach(item, list) {
        double accuracy;
        if (!json_ints(cJSON_GetObjectItemCaseSensitive(item, "level"), nblocks, 0, highest, plan->level) ||
            !json_ints(cJSON_GetObjectItemCaseSensitive(item, "link"), nblocks, 0, highest, plan->link) ||
            !json_double(cJSON_GetObjectItemCaseSensitive(item, "accuracy"), 0, 1, &accuracy))
            return err_set(err, STATUS_FORMAT, "%s: plan %d of its training record is not one", out->name, out->nrandom);
        status = set_plan(&out->random[out->nrandom++], model, plan, accuracy, profile, err);
        if (status) return status;
    }
    return STATUS_OK;
}

static enum status read(struct plot_model *out, const struct model *model, const struct profile *profile, struct err *err) {
    cJSON *root = NULL;
    struct plan *plan = NULL;
    int nblocks = model->blocks->nblocks, nlevels = model->levels->nlevels;
    if (profile && (profile->nblocks != nblocks || profile->nlevels != nlevels))
        return err_set(err, STATUS_FORMAT, "the profile is of %d blocks and %d levels; %s has %d and %d", profile->nblocks,
                       profile->nlevels, out->name, nblocks, nlevels);
    enum status status = json_parse(&root, out->name, model->training ? model->training : "{}", err);
    if (!status) status = plan_create(&plan, nblocks, 0, err);
    if (!status)
        status = read_uniform(out, model, cJSON_GetObjectItemCaseSensitive(root, "uniform"), plan, profile, err);
    if (!status)
        status = read_random(out, model, cJSON_GetObjectItemCaseSensitive(root, "random_plans"), plan, profile, err);
    plan_destroy(&plan);
    cJSON_Delete(root);
    return status;
}

enum status plot_read_model(struct plot_model *out, const char *path, const struct profile *profile, struct err *err) {
    struct model *model;
    enum status status = model_load(&model, path, err);
    if (status) return status;
    *out = (struct plot_model){ .name = strdup(path) };
    status = out->name ? read(out, model, profile, err) : err_memory(err, path);
    model_destroy(&model);
    if (!status) return STATUS_OK;
    free(out->name);
    free(out->uniform);
    free(out->random);
    *out = (struct plot_model){ 0 };
    return status;
}
