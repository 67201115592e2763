/* The runner's state, shared by its files: runner.c (setting up, the loop),
 * runner_frames.c (frames from acceptance to result), runner_summary.c. */
#ifndef ESPALIER_RUNNER_INTERNAL_H
#define ESPALIER_RUNNER_INTERNAL_H

#include "common/log.h"
#include "common/model.h"
#include "deploy/cluster.h"
#include "deploy/flight.h"
#include "deploy/governor.h"
#include "deploy/journal.h"
#include "deploy/keys.h"
#include "deploy/metrics.h"
#include "deploy/peer.h"
#include "deploy/runner.h"
#include "deploy/slices.h"
#include "deploy/source.h"
#include "deploy/tally.h"
#include "deploy/transport.h"

struct runner {
    const struct runner_config *config;
    double slo_ms; /* of the command line or the cluster cfg */
    enum controller_policy policy;
    struct cluster *cluster;
    struct model *model;
    struct slices *slices;
    struct plan *start;
    struct keys *keys;
    struct transport *transport;
    struct source *source;
    struct journal *journal;
    struct governor *governor;
    struct peer peers[CLUSTER_MAX_WORKERS];
    int npeers; /* opened */
    struct metrics *metrics; /* or NULL */
    int signal_fd;

    uint64_t session;
    int credits;
    int64_t next_seq;
    bool source_ended, stopping; /* nothing more is taken; nothing more is sent, either */
    double source_next_ms;
    bool source_waits; /* it has nothing now, and there is room for more */

    struct frame_queue waiting; /* accepted, or to be sent again */
    struct frame_set sent;
    struct frame_set storing;
    uint64_t order;    /* of the latest sending */
    double typical_ms; /* in the pipeline: follows the slow ones */

    struct tally tally;
    int64_t duplicates, resent, switches;
    int64_t shed;      /* frames dropped or refused, */
    int64_t shed_told; /* of them in the log, */
    double shed_s;     /* and when they were told last */
    double progress_s; /* when the latest result was stored, or the first frame after a pause was owed */
    struct log_progress progress;
    bool shows_progress;
};

/* runner_frames.c */
bool runner_ready(const struct runner *r); /* all stages serve */
int64_t runner_owed(const struct runner *r);
/* An accepted frame of an interrupted run. */
enum status runner_readmit(struct runner *r, const struct journal_frame *frame, struct err *err) MUST_CHECK;
enum status runner_take(struct runner *r, struct err *err) MUST_CHECK;  /* from the source */
enum status runner_send(struct runner *r, struct err *err) MUST_CHECK;
enum status runner_serve(struct runner *r, struct err *err) MUST_CHECK; /* what the peers say */
enum status runner_repair(struct runner *r, struct err *err) MUST_CHECK; /* what may have been lost */
enum status runner_collect(struct runner *r, struct err *err) MUST_CHECK; /* from the journal */

/* runner_metrics.c: the page; `runner` is a struct runner. */
void runner_write_metrics(void *runner, FILE *page);

/* runner_summary.c */
enum status runner_summarise(struct runner *r, struct err *err) MUST_CHECK;

#endif
