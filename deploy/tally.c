#include "deploy/tally.h"

#include <math.h>
#include <stdlib.h>

const double tally_bucket_s[TALLY_BUCKETS] = { .005, .01, .02, .03, .05, .075, .1, .15, .25, .5, 1, 2.5, 10, 60,
                                               INFINITY };

const char *tally_outcome_name(enum tally_outcome outcome) {
    static const char *const names[TALLY_OUTCOMES] = { "done", "failed", "dropped", "refused" };
    return names[outcome];
}

int64_t tally_results(const struct tally *t) {
    int64_t n = 0;
    for (int i = 0; i < TALLY_OUTCOMES; i++) n += t->results[i];
    return n;
}

void tally_add(struct tally *t, enum tally_outcome outcome, double latency_s, double deadline_s) {
    bool done = outcome == TALLY_DONE, in_time = done && (deadline_s <= 0 || latency_s <= deadline_s);
    t->results[outcome]++;
    t->in_time += in_time;
    for (int i = 0; i < TALLY_BUCKETS; i++) t->bucket[i] += done && latency_s <= tally_bucket_s[i];
    if (done) t->latency_sum_s += latency_s;
    int at = (int)(t->nrecent++ % TALLY_RECENT);
    t->recent[at].latency_s = done ? latency_s : -1;
    t->recent[at].in_time = in_time;
}

static int recent_count(const struct tally *t) {
    return t->nrecent < TALLY_RECENT ? (int)t->nrecent : TALLY_RECENT;
}

double tally_attainment(const struct tally *t) {
    int n = recent_count(t), good = 0;
    for (int i = 0; i < n; i++) good += t->recent[i].in_time;
    return n ? (double)good / n : 1;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double tally_quantile(const struct tally *t, double share) {
    double sorted[TALLY_RECENT];
    int n = 0;
    for (int i = 0; i < recent_count(t); i++)
        if (t->recent[i].latency_s >= 0) sorted[n++] = t->recent[i].latency_s;
    if (!n) return 0;
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    int at = (int)ceil(share * n) - 1;
    return sorted[at < 0 ? 0 : at];
}
