/* The page of --metrics. Names and units as Prometheus has them: base units,
 * counters end in _total. */
#include "deploy/runner_internal.h"

#include "deploy/codec.h"

#include <math.h>

static void head(FILE *page, const char *name, const char *type, const char *help) {
    fprintf(page, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(FILE *page, const char *name, const char *type, const char *help, double value) {
    head(page, name, type, help);
    fprintf(page, "%s %.10g\n", name, value);
}

static void write_frames(const struct runner *r, FILE *page) {
    const struct tally *t = &r->tally;
    one(page, "espalier_frames_accepted_total", "counter", "Frames accepted, earlier parts of the run included.",
        (double)r->next_seq);
    head(page, "espalier_results_total", "counter", "Results stored since the start, by outcome.");
    for (int i = 0; i < TALLY_OUTCOMES; i++)
        fprintf(page, "espalier_results_total{outcome=\"%s\"} %lld\n", tally_outcome_name((enum tally_outcome)i),
                (long long)t->results[i]);
    one(page, "espalier_in_time_total", "counter", "Results within the deadline.", (double)t->in_time);
    one(page, "espalier_resent_total", "counter", "Frames sent again after a fault.", (double)r->resent);
    one(page, "espalier_duplicates_total", "counter", "Answers to frames that had their result.",
        (double)r->duplicates);
    one(page, "espalier_switches_total", "counter", "Changes of the plan.", (double)r->switches);
    head(page, "espalier_frames", "gauge", "Frames that are owed a result, by where they are.");
    fprintf(page, "espalier_frames{state=\"waiting\"} %zu\nespalier_frames{state=\"in_flight\"} %d\n"
                  "espalier_frames{state=\"storing\"} %d\n",
            r->waiting.count, r->sent.count, r->storing.count);
    one(page, "espalier_credits", "gauge", "Frames in flight, at most.", r->credits);
}

static void write_latency(const struct runner *r, FILE *page) {
    const struct tally *t = &r->tally;
    if (r->slo_ms > 0)
        one(page, "espalier_deadline_seconds", "gauge", "The deadline of a frame, from due to stored.",
            r->slo_ms / 1e3);
    one(page, "espalier_attainment", "gauge", "Share of the latest results within the deadline.",
        tally_attainment(t));
    head(page, "espalier_recent_latency_seconds", "gauge", "Latency of the latest results, from due to stored.");
    static const double shares[] = { .5, .95, .99 };
    for (int i = 0; i < 3; i++)
        fprintf(page, "espalier_recent_latency_seconds{quantile=\"%g\"} %.6f\n", shares[i],
                tally_quantile(t, shares[i]));
    head(page, "espalier_latency_seconds", "histogram", "Latency of results, from due to stored.");
    for (int i = 0; i < TALLY_BUCKETS; i++) {
        char bound[16] = "+Inf";
        if (isfinite(tally_bucket_s[i])) snprintf(bound, sizeof bound, "%g", tally_bucket_s[i]);
        fprintf(page, "espalier_latency_seconds_bucket{le=\"%s\"} %lld\n", bound, (long long)t->bucket[i]);
    }
    fprintf(page, "espalier_latency_seconds_sum %.6f\nespalier_latency_seconds_count %lld\n", t->latency_sum_s,
            (long long)t->results[TALLY_DONE]);
}

/* Its stage in the present layout, from 1; 0: none. */
static int stage_of(const struct runner *r, int peer) {
    const struct peer_post *post = peer_post(&r->peers[peer], r->layout->number);
    return post ? post->assign.stage + 1 : 0;
}

/* One value per worker; `value` of peer i, nothing if it is not a number. */
static void per_worker(const struct runner *r, FILE *page, const char *name, const char *type, const char *help,
                       double (*value)(const struct peer *)) {
    head(page, name, type, help);
    for (int i = 0; i < r->npeers; i++) {
        double v = value(&r->peers[i]);
        if (!isnan(v))
            fprintf(page, "%s{stage=\"%d\",worker=\"%s\"} %.10g\n", name, stage_of(r, i), r->peers[i].worker->name,
                    v);
    }
}

static double is_up(const struct peer *p) { return p->up; }
static double is_ready(const struct peer *p) { return peer_alive(p) && peer_ready(p); }
static double queued(const struct peer *p) { return p->known ? p->status.queued : NAN; }
static double frames(const struct peer *p) { return p->known ? (double)p->status.frames : NAN; }
static double refused(const struct peer *p) { return p->known ? (double)p->status.dropped : NAN; }
static double level(const struct peer *p) { return p->load.frames ? p->load.choice.level : NAN; }
static double link_level(const struct peer *p) { return p->load.frames ? p->load.choice.link : NAN; }
static double stage_seconds(const struct peer *p) { return p->load.frames ? p->load.stage_s : NAN; }
static double link_rate(const struct peer *p) { return p->load.bytes_per_s > 0 ? p->load.bytes_per_s : NAN; }

static void write_workers(const struct runner *r, FILE *page) {
    one(page, "espalier_layout", "gauge", "Number of the present layout: who serves which slice.", r->layout->number);
    per_worker(r, page, "espalier_worker_up", "gauge", "Whether the link to the worker is up.", is_up);
    per_worker(r, page, "espalier_worker_ready", "gauge", "Whether the worker serves its stage.", is_ready);
    per_worker(r, page, "espalier_worker_queue", "gauge", "Frames that wait for its engine.", queued);
    per_worker(r, page, "espalier_worker_frames_total", "counter", "Frames done in this session.", frames);
    per_worker(r, page, "espalier_worker_refused_total", "counter", "Messages it refused since it started.", refused);
    per_worker(r, page, "espalier_stage_level", "gauge", "Level of its latest frame.", level);
    per_worker(r, page, "espalier_link_level", "gauge", "Cap on the channels that enter it.", link_level);
    head(page, "espalier_link_codec", "gauge", "1: how the link into it is coded.");
    for (int i = 0; i < r->npeers; i++)
        if (r->peers[i].load.frames)
            fprintf(page, "espalier_link_codec{stage=\"%d\",worker=\"%s\",codec=\"%s\"} 1\n",
                    stage_of(r, i), r->peers[i].worker->name,
                    codec_name((enum codec)r->peers[i].load.choice.codec));
    per_worker(r, page, "espalier_stage_seconds", "gauge", "Decoding, computing and encoding of a frame.",
               stage_seconds);
    per_worker(r, page, "espalier_link_bytes_per_second", "gauge", "Rate of the link into it.", link_rate);
}

void runner_write_metrics(void *runner, FILE *page) {
    const struct runner *r = runner;
    write_frames(r, page);
    write_latency(r, page);
    write_workers(r, page);
}
