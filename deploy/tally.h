/* What a run has counted since it started, for whoever looks at it meanwhile:
 * results by outcome, a histogram of latencies, and how the latest ones fared. */
#ifndef ESPALIER_TALLY_H
#define ESPALIER_TALLY_H

#include <stdbool.h>
#include <stdint.h>

enum { TALLY_BUCKETS = 15, TALLY_RECENT = 256 };

enum tally_outcome { TALLY_DONE, TALLY_FAILED, TALLY_DROPPED, TALLY_REFUSED, TALLY_OUTCOMES };
/* "done", "failed", "dropped", "refused" */
const char *tally_outcome_name(enum tally_outcome outcome);
/* Upper ends of the buckets, in seconds; the last is infinite. */
extern const double tally_bucket_s[TALLY_BUCKETS];

struct tally {
    int64_t results[TALLY_OUTCOMES];
    int64_t in_time;               /* done within the deadline; without one, all that are done */
    int64_t bucket[TALLY_BUCKETS]; /* of those done; each counts those of the buckets before it, too */
    double latency_sum_s;
    struct {
        double latency_s; /* -1: it was not done */
        bool in_time;
    } recent[TALLY_RECENT]; /* a ring */
    int64_t nrecent;        /* ever */
};

int64_t tally_results(const struct tally *tally);
/* `deadline_s`: 0: none. */
void tally_add(struct tally *tally, enum tally_outcome outcome, double latency_s, double deadline_s);
/* Of the latest TALLY_RECENT results: the share in time (1 without results),
 * and the latency that `share` of those done do not exceed (0 without any). */
double tally_attainment(const struct tally *tally);
double tally_quantile(const struct tally *tally, double share);

#endif
