#include "train/report.h"

#include <string.h>

enum status report_open(struct report *report, const char *path, bool append, struct err *err) {
    FILE *file = NULL;
    if (path && !(file = fopen(path, append ? "a" : "w"))) return err_errno(err, "cannot write the log %s", path);
    *report = (struct report){ file, path };
    return STATUS_OK;
}

void report_step(struct report *report, const struct report_step *s) {
    if (!report->file) return;
    fprintf(report->file,
            "{\"kind\":\"step\",\"step\":%d,\"epoch\":%d,\"loss\":%.6g,\"accuracy\":%.6g,\"rate\":%.6g,"
            "\"images_per_s\":%.6g}\n",
            s->step, s->epoch, s->loss, s->accuracy, s->rate, s->images_per_s);
    fflush(report->file);
}

void report_epoch(struct report *report, const struct report_epoch *e) {
    if (!report->file) return;
    fprintf(report->file, "{\"kind\":\"epoch\",\"epoch\":%d,\"loss\":%.6g,\"accuracy\":%.6g,\"seconds\":%.4g,\"held_out\":{",
            e->epoch, e->loss, e->accuracy, e->seconds);
    for (int i = 0; i < e->nlevels; i++)
        fprintf(report->file, "%s\"%d\":%.6g", i ? "," : "", e->levels[i], e->held_out[i]);
    fprintf(report->file, "}}\n");
    fflush(report->file);
}

void report_done(struct report *report, const char *json) {
    if (report->file && json[0] == '{') fprintf(report->file, "{\"kind\":\"done\",%s\n", json + 1);
}

enum status report_close(struct report *report, struct err *err) {
    FILE *file = report->file;
    report->file = NULL;
    if (!file) return STATUS_OK;
    int bad = ferror(file);
    if (fclose(file) != 0 || bad) return err_errno(err, "cannot write the log %s", report->path);
    return STATUS_OK;
}

static double multiply_adds(const struct model *model, struct counts *counts, const struct plan *plan) {
    counts_set(counts, model->net, model->blocks, model->groups, model->levels, plan);
    return counts_multiply_adds(counts, model->net, model->blocks, model->groups, model->levels, plan, 0,
                                model->net->nlayers - 1);
}

enum status report_cost(const struct model *model, const struct plan *plan, double *share, struct err *err) {
    struct plan *full = NULL;
    struct counts *counts = NULL;
    enum status status = plan_create(&full, model->blocks->nblocks, 0, err);
    if (!status) status = counts_create(&counts, model->groups, err);
    if (!status) *share = multiply_adds(model, counts, plan) / multiply_adds(model, counts, full);
    counts_destroy(&counts);
    plan_destroy(&full);
    return status;
}

enum status report_levels(const struct model *model, const double *accuracy, bool json, struct err *err) {
    if (!json) printf("level  channels  multiply-adds  accuracy\n");
    for (int level = 0; level < model->levels->nlevels; level++) {
        struct plan *plan;
        double cost;
        enum status status = plan_create(&plan, model->blocks->nblocks, level, err);
        if (status) return status;
        status = report_cost(model, plan, &cost, err);
        plan_destroy(&plan);
        if (status) return status;
        double ratio = (double)model->levels->ratio[level];
        if (json)
            printf("{\"level\":%d,\"channels\":%.4g,\"multiply_adds\":%.4g,\"accuracy\":%.6g}\n", level, ratio, cost,
                   accuracy[level]);
        else
            printf("%5d  %7.1f%%  %12.1f%%  %7.2f%%\n", level, 100 * ratio, 100 * cost, 100 * accuracy[level]);
    }
    return STATUS_OK;
}

/* Appends ",number" or "number". */
static void append(char *text, size_t size, int number) {
    size_t n = strlen(text);
    snprintf(text + n, size - n, "%s%d", n ? "," : "", number);
}

void report_plan(const struct model *model, const struct plan *plan, char *levels, char *cuts, char *links,
                 size_t size) {
    bool capped = false;
    levels[0] = cuts[0] = links[0] = '\0';
    for (int b = 0; b < plan->nblocks; b++) {
        if (b > 0 && plan->level[b] == plan->level[b - 1] && plan->link[b] == 0) continue;
        append(levels, size, plan->level[b]);
        if (b == 0) continue;
        append(cuts, size, model->blocks->block[b].first - 1);
        append(links, size, plan->link[b]);
        capped |= plan->link[b] != 0;
    }
    if (!capped) links[0] = '\0';
}
