#include "train/report.h"

#include "common/file.h"
#include "common/json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LOG = 1 << 30 };

/* Bytes of a log's text up to the first line that a run resumed behind `step`
 * is going to write again. */
static size_t lines_to_keep(const char *text, int step) {
    const char *line = text, *end;
    for (; (end = strchr(line, '\n')); line = end + 1) {
        cJSON *root = cJSON_ParseWithLength(line, (size_t)(end - line));
        const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "kind"));
        const cJSON *at = cJSON_GetObjectItemCaseSensitive(root, "step");
        bool keep = kind && strcmp(kind, "done") != 0 && (!at || at->valuedouble <= step);
        cJSON_Delete(root);
        if (!keep) break;
    }
    return (size_t)(line - text);
}

static enum status cut_log(const char *path, int step, struct err *err) {
    uint8_t *text;
    size_t length;
    if (access(path, F_OK) != 0) return STATUS_OK;
    enum status status = file_read(path, MAX_LOG, &text, &length, err);
    if (status) return status;
    size_t keep = lines_to_keep((const char *)text, step);
    free(text);
    if (keep == length || truncate(path, (off_t)keep) == 0) return STATUS_OK;
    return err_errno(err, "cannot write the log %s", path);
}

enum status report_open(struct report *report, const char *path, int step, int steps_per_epoch, const char *settings,
                        struct err *err) {
    *report = (struct report){ .path = path };
    if (!path) return STATUS_OK;
    enum status status = step < 0 ? STATUS_OK : cut_log(path, step, err);
    if (status) return status;
    report->file = fopen(path, step < 0 ? "w" : "a");
    if (!report->file) return err_errno(err, "cannot write the log %s", path);
    if (step < 0 || (fseek(report->file, 0, SEEK_END) == 0 && ftell(report->file) == 0)) {
        fprintf(report->file, "{\"kind\":\"begin\",\"steps_per_epoch\":%d,%s\n", steps_per_epoch, settings + 1);
        fflush(report->file);
    }
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
    fprintf(report->file, "{\"kind\":\"epoch\",\"epoch\":%d,\"step\":%d,\"loss\":%.6g,\"accuracy\":%.6g,\"seconds\":%.4g,\"held_out\":{",
            e->epoch, e->step, e->loss, e->accuracy, e->seconds);
    for (int i = 0; i < e->nlevels; i++)
        fprintf(report->file, "%s\"%d\":%.6g", i ? "," : "", e->levels[i], e->held_out[i]);
    fprintf(report->file, "}}\n");
    fflush(report->file);
}

void report_mask(struct report *report, int step, double temperature, int entered) {
    if (!report->file) return;
    fprintf(report->file, "{\"kind\":\"mask\",\"step\":%d,\"temperature\":%.4g,\"entered_narrowest\":%d}\n", step,
            temperature, entered);
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

/* ---- what a plan takes ----------------------------------------------------- */

static void measure_size(const struct model *m, struct counts *counts, const struct plan *plan, struct report_size *size) {
    *size = (struct report_size){ 0 };
    counts_set(counts, m->net, m->blocks, m->groups, m->levels, plan);
    for (int i = 0; i < m->net->nlayers; i++) {
        const struct net_layer *layer = &m->net->layers[i];
        if (!net_has_weights(layer)) continue;
        const struct model_layer *tensors = &m->layers[i];
        double work = counts_multiply_adds(counts, m->net, m->blocks, m->groups, m->levels, plan, i, i);
        int outputs = counts_total(counts, m->groups, i), vectors = !!tensors->bias + !!tensors->gamma + !!tensors->beta;
        size->multiply_adds += work;
        /* a weight is used once for every position of the output */
        if (tensors->weight) size->parameters += work / ((double)layer->out.h * layer->out.w);
        size->parameters += (double)vectors * outputs;
    }
}

enum status report_size(const struct model *model, const struct plan *plan, struct report_size *size, struct err *err) {
    struct counts *counts = NULL;
    enum status status = counts_create(&counts, model->groups, err);
    if (!status) measure_size(model, counts, plan, size);
    counts_destroy(&counts);
    return status;
}

enum status report_cost(const struct model *model, const struct plan *plan, double *share, struct err *err) {
    struct plan *full = NULL;
    struct report_size whole, part;
    enum status status = plan_create(&full, model->blocks->nblocks, 0, err);
    if (!status) status = report_size(model, full, &whole, err);
    if (!status) status = report_size(model, plan, &part, err);
    if (!status) *share = part.multiply_adds / whole.multiply_adds;
    plan_destroy(&full);
    return status;
}

enum status report_levels(const struct model *model, const double *accuracy, bool json, FILE *out, struct err *err) {
    struct report_size full, size;
    struct plan *plan;
    enum status status = plan_create(&plan, model->blocks->nblocks, 0, err);
    if (!status) status = report_size(model, plan, &full, err);
    if (!status && !json) fprintf(out, "level  channels        multiply-adds           parameters  accuracy\n");
    for (int level = 0; !status && level < model->levels->nlevels; level++) {
        for (int b = 0; b < plan->nblocks; b++) plan->level[b] = level;
        if ((status = report_size(model, plan, &size, err))) break;
        double ratio = (double)model->levels->ratio[level], work = size.multiply_adds / full.multiply_adds;
        if (json)
            fprintf(out, "{\"level\":%d,\"channels\":%.4g,\"multiply_adds\":%.4g,\"parameters\":%.0f,\"accuracy\":%.6g}\n",
                    level, ratio, work, size.parameters, accuracy[level]);
        else
            fprintf(out, "%5d  %7.1f%%  %9.2f M %6.1f%%  %9.2f k %6.1f%%  %7.2f%%\n", level, 100 * ratio,
                    size.multiply_adds / 1e6, 100 * work, size.parameters / 1e3, 100 * size.parameters / full.parameters,
                    100 * accuracy[level]);
    }
    plan_destroy(&plan);
    return status;
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
