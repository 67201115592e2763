#include "deploy/runner_internal.h"

#include "common/file.h"
#include "common/json.h"

#include <stdio.h>

static double share(int64_t part, int64_t whole) {
    return whole ? (double)part / (double)whole : 0;
}

static double frames_per_second(const struct journal_summary *m) {
    double ms = m->last_stored_ms - m->first_due_ms;
    return ms > 0 ? (double)m->results * 1e3 / ms : 0;
}

static cJSON *summary_json(const struct runner *r, const struct journal_summary *m) {
    cJSON *o = cJSON_CreateObject();
    bool good = o && cJSON_AddStringToObject(o, "policy", controller_policy_name(r->policy)) &&
                (r->slo_ms > 0 ? cJSON_AddNumberToObject(o, "slo_ms", r->slo_ms)
                               : cJSON_AddNullToObject(o, "slo_ms")) &&
                cJSON_AddNumberToObject(o, "attainment", share(m->within, m->frames)) &&
                cJSON_AddNumberToObject(o, "p50_ms", m->p50_ms) && cJSON_AddNumberToObject(o, "p95_ms", m->p95_ms) &&
                cJSON_AddNumberToObject(o, "p99_ms", m->p99_ms) && cJSON_AddNumberToObject(o, "mean_ms", m->mean_ms) &&
                cJSON_AddNumberToObject(o, "fps", frames_per_second(m)) &&
                (m->labelled ? cJSON_AddNumberToObject(o, "accuracy", share(m->correct, m->labelled))
                             : cJSON_AddNullToObject(o, "accuracy")) &&
                cJSON_AddNumberToObject(o, "frames", (double)m->frames) &&
                cJSON_AddNumberToObject(o, "failed", (double)m->failed) &&
                cJSON_AddNumberToObject(o, "dropped", (double)m->dropped) &&
                cJSON_AddNumberToObject(o, "refused", (double)m->refused) &&
                cJSON_AddNumberToObject(o, "lost", (double)(m->frames - m->results)) &&
                cJSON_AddNumberToObject(o, "switches", (double)m->switches) &&
                cJSON_AddNumberToObject(o, "resent", (double)m->resent) &&
                cJSON_AddNumberToObject(o, "duplicates", (double)r->duplicates);
    if (good) return o;
    cJSON_Delete(o);
    return NULL;
}

static enum status write_json(const struct runner *r, const struct journal_summary *m, struct err *err) {
    cJSON *o = summary_json(r, m);
    char *text = o ? cJSON_Print(o) : NULL;
    cJSON_Delete(o);
    if (!text) return err_memory(err, "summary");
    struct file_replace file;
    enum status status = file_replace_open(&file, r->config->summary, err);
    if (!status) {
        fprintf(file.stream, "%s\n", text);
        status = file_replace_commit(&file, err);
    }
    cJSON_free(text);
    return status;
}

/* Lines on stderr, and the file if one is wanted. */
enum status runner_summarise(struct runner *r, struct err *err) {
    struct journal_summary m;
    char remarks[256];
    enum status status = journal_summarise(r->journal, r->slo_ms, &m, err);
    if (status) return status;
    source_remarks(r->source, remarks, sizeof remarks);
    if (remarks[0]) log_info("%s", remarks);
    if (r->slo_ms > 0)
        log_info("%.1f%% of %lld frames within %g ms", 100 * share(m.within, m.frames), (long long)m.frames, r->slo_ms);
    else log_info("%lld frames", (long long)m.frames);
    log_info("latency p50 %.1f ms, p95 %.1f ms, p99 %.1f ms; %.1f frames/s; %lld lost, %lld failed, %lld sent again,"
             " %lld switches",
             m.p50_ms, m.p95_ms, m.p99_ms, frames_per_second(&m), (long long)(m.frames - m.results),
             (long long)m.failed, (long long)m.resent, (long long)m.switches);
    if (m.dropped + m.refused)
        log_info("overload: %lld frames dropped, %lld refused", (long long)m.dropped, (long long)m.refused);
    if (m.labelled)
        log_info("accuracy %.2f%% of %lld labelled frames", 100 * share(m.correct, m.labelled), (long long)m.labelled);
    return r->config->summary ? write_json(r, &m, err) : STATUS_OK;
}
