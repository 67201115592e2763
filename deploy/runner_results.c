/* A frame's result: to the journal, and from there to whoever reads along. */
#include "deploy/runner_internal.h"

#include "common/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLLECT = 64 };

static void plan_text(const struct frame *f, int nstages, char *levels, char *links, size_t size) {
    size_t a = 0, b = 0;
    for (int i = 0; i < nstages && a < size && b < size; i++) {
        const struct wire_choice *c = &f->choice[i];
        a += (size_t)snprintf(levels + a, size - a, "%s%d", i ? "," : "", c->level);
        b += (size_t)snprintf(links + b, size - b, "%s%d:%s", i ? "," : "", c->link, codec_name((enum codec)c->codec));
    }
}

static void stages_text(const struct wire_frame *result, char *text, size_t size) {
    size_t n = (size_t)snprintf(text, size, "[");
    for (int i = 0; result && i < result->nstages && n < size; i++) {
        const struct wire_time *t = &result->time[i];
        n += (size_t)snprintf(text + n, size - n,
                              "%s{\"queue_ms\":%.3f,\"decode_ms\":%.3f,\"compute_ms\":%.3f,\"encode_ms\":%.3f,"
                              "\"bytes\":%u}",
                              i ? "," : "", t->queue_us / 1e3, t->decode_us / 1e3, t->compute_us / 1e3,
                              t->encode_us / 1e3, t->bytes);
    }
    if (n < size) snprintf(text + n, size - n, "]");
}

static const char *label_name(const struct model *m, int label, char text[32]) {
    if (label >= 0 && label < m->nlabels) return m->labels[label];
    snprintf(text, 32, "%d", label);
    return text;
}

enum status runner_store(struct runner *r, struct frame *f, const struct wire_frame *result, struct err *err) {
    char levels[WIRE_MAX_STAGES * 4], links[WIRE_MAX_STAGES * 12], stages[WIRE_MAX_STAGES * 128], name[32];
    levels[0] = links[0] = '\0';
    if (f->attempt) plan_text(f, f->nstages, levels, links, sizeof levels);
    stages_text(result, stages, sizeof stages);
    struct journal_result row = {
        .seq = f->seq, .label = f->label, .name = f->label >= 0 ? label_name(r->model, f->label, name) : NULL,
        .prob = f->prob, .due_ms = f->due_ms, .sent_ms = f->sent_ms, .levels = levels[0] ? levels : NULL,
        .links = links[0] ? links : NULL, .stages = stages, .attempts = (int)f->attempt, .error = f->error,
    };
    enum status status = journal_store(r->journal, &row, err);
    if (!status) status = frame_set_add(&r->storing, f, err);
    if (status) {
        frame_free(&f);
        return status;
    }
    free(f->bytes);
    f->bytes = NULL;
    return STATUS_OK;
}

static enum status store_error(struct runner *r, struct frame *f, const char *reason, struct err *err) {
    f->label = -1;
    f->error = strdup(reason);
    if (!f->error) {
        frame_free(&f);
        return err_memory(err, "frame");
    }
    return runner_store(r, f, NULL, err);
}

enum status runner_fail(struct runner *r, struct frame *f, const char *reason, struct err *err) {
    log_warn("%s: %s", f->path, reason);
    return store_error(r, f, reason, err);
}

/* There may be many: the log counts them. */
enum status runner_give_up(struct runner *r, struct frame *f, const char *reason, struct err *err) {
    double now_s = log_now_s();
    r->shed++;
    if (now_s - r->shed_s >= 1) {
        log_warn("overloaded: %zu frames wait; %lld more %.7s", r->waiting.count, (long long)(r->shed - r->shed_told),
                 reason);
        r->shed_told = r->shed;
        r->shed_s = now_s;
    }
    return store_error(r, f, reason, err);
}

/* ---- what the journal has stored ---- */

static enum status print_json(const struct runner *r, const struct frame *f, struct err *err) {
    char levels[WIRE_MAX_STAGES * 4], links[WIRE_MAX_STAGES * 12], name[32];
    cJSON *o = cJSON_CreateObject();
    bool good = o && cJSON_AddNumberToObject(o, "seq", (double)f->seq) && cJSON_AddStringToObject(o, "file", f->path);
    if (f->error) good = good && cJSON_AddStringToObject(o, "error", f->error);
    else
        good = good && cJSON_AddStringToObject(o, "label", label_name(r->model, f->label, name)) &&
               cJSON_AddNumberToObject(o, "prob", round(f->prob * 1e6) / 1e6);
    if (f->truth >= 0) good = good && cJSON_AddStringToObject(o, "truth", r->model->labels[f->truth]);
    good = good && cJSON_AddNumberToObject(o, "latency_ms", round(f->latency_ms * 1e3) / 1e3);
    if (f->attempt) {
        plan_text(f, f->nstages, levels, links, sizeof levels);
        good = good && cJSON_AddStringToObject(o, "levels", levels) && cJSON_AddStringToObject(o, "links", links) &&
               cJSON_AddNumberToObject(o, "attempts", f->attempt);
    }
    return json_print(o, good, err);
}

static enum tally_outcome outcome_of(const struct frame *f) {
    if (!f->error) return TALLY_DONE;
    if (strcmp(f->error, JOURNAL_DROPPED) == 0) return TALLY_DROPPED;
    return strcmp(f->error, JOURNAL_REFUSED) == 0 ? TALLY_REFUSED : TALLY_FAILED;
}

static enum status print_results(struct runner *r, struct err *err) {
    bool any = false;
    enum status status = STATUS_OK;
    for (struct frame *f; !status && (f = reorder_take(&r->results)); any = true) {
        status = print_json(r, f, err);
        frame_free(&f);
    }
    return status || !any || fflush(stdout) == 0 ? status : err_errno(err, "standard output");
}

enum status runner_collect(struct runner *r, struct err *err) {
    for (;;) {
        struct journal_stored stored[COLLECT];
        int n;
        enum status status = journal_collect(r->journal, stored, COLLECT, &n, err);
        if (status) return status;
        for (int i = 0; i < n; i++) {
            struct frame *f = frame_set_find(&r->storing, stored[i].seq);
            if (!f) continue;
            frame_set_remove(&r->storing, f);
            double latency = stored[i].latency_ms;
            r->progress_s = log_now_s();
            tally_add(&r->tally, outcome_of(f), latency / 1e3, r->slo_ms / 1e3);
            if (!f->error)
                governor_result(r->layout->governor, r->progress_s, latency, f->sent_ms - f->due_ms, f->queue_ms);
            f->latency_ms = latency;
            if (!reorder_done(&r->results, f->seq, f)) frame_free(&f); /* nobody wants to see it */
        }
        status = print_results(r, err);
        if (status) return status;
        if (n < COLLECT) return STATUS_OK;
    }
}
