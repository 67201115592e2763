/* The runner's state, shared by its files: runner.c (setting up, the loop),
 * runner_layout.c (who serves which slice), runner_recut.c, runner_governor.c,
 * runner_frames.c (frames on their way), runner_results.c, runner_metrics.c,
 * runner_summary.c. */
#ifndef ESPALIER_RUNNER_INTERNAL_H
#define ESPALIER_RUNNER_INTERNAL_H

#include "common/log.h"
#include "common/model.h"
#include "deploy/cluster.h"
#include "deploy/flight.h"
#include "deploy/governor.h"
#include "deploy/journal.h"
#include "deploy/layout.h"
#include "deploy/keys.h"
#include "deploy/metrics.h"
#include "deploy/peer.h"
#include "deploy/recut.h"
#include "deploy/reorder.h"
#include "deploy/runner.h"
#include "deploy/slices.h"
#include "deploy/source.h"
#include "deploy/tally.h"
#include "deploy/transport.h"

#include <pthread.h>
#include <stdatomic.h>

struct layout {
    uint32_t number;
    struct layout_places places;
    char cuts[512]; /* that were asked for, "" if none */
    struct slices *slices;
    struct governor *governor;
};

struct cutting; /* runner_layout.c */

struct runner {
    const struct runner_config *config;
    double slo_ms; /* of the command line or the cluster cfg */
    enum controller_policy policy;
    struct cluster *cluster;
    struct portfolio_model *portfolio; /* NULL: one model */
    struct model *model;               /* of the portfolio, or owned */
    struct plan *start; /* for the first layout */
    struct keys *keys;
    struct transport *transport;
    struct source *source;
    struct journal *journal;
    struct peer peers[CLUSTER_MAX_WORKERS];
    int npeers; /* opened: [cluster->nall] in the end */
    int measured_first[CLUSTER_MAX_WORKERS]; /* the first block of the slice that a peer's profile is of */

    struct layout *layout; /* the present one: frames are sent through it */
    struct layout *old;    /* the one before, while frames are on their way through it, or NULL */
    struct layout *next;   /* being set up, or NULL */
    struct cutting *cutting; /* likewise, before it has its slices */
    uint32_t nlayouts;     /* made so far */
    char cuts[512];        /* of a layout with all stages, "": where they fall */
    struct recut *recut;   /* of the present layout, or NULL: they stay */
    struct layout_places wanted; /* and since when */
    double wanted_s;
    bool there[CLUSTER_MAX_WORKERS]; /* workers that layouts may use */
    double changed_s[CLUSTER_MAX_WORKERS]; /* when they last were as `there` says */
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
    struct reorder results; /* of --json: printed in the order of the frames */
    uint64_t order;    /* of the latest sending */
    bool informed;     /* the governor has heard something since then */
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

/* runner_layout.c. A layout is not assigned when it is created. */
enum status runner_layout_create(struct layout **layout, const struct runner *r, const struct layout_places *places,
                                 const char *cuts, struct err *err) MUST_CHECK;
void runner_layout_destroy(struct layout **layout);
void runner_layout_assign(struct runner *r, struct layout *layout);
struct layout *runner_layout_find(const struct runner *r, uint32_t number); /* NULL: over */
bool runner_layout_ready(const struct runner *r, const struct layout *layout); /* a frame can get through it */
bool runner_layout_whole(const struct runner *r, const struct layout *layout); /* all its workers serve */
/* Chooses the workers that the frame goes through. The layout must be ready. */
void runner_route(const struct runner *r, const struct layout *layout, struct frame *frame);
/* Goes over to another layout when it is time. */
enum status runner_relayout(struct runner *r, double now_s, struct err *err) MUST_CHECK;
void runner_layout_close(struct runner *r);

/* runner_governor.c */
enum status runner_profile(const struct runner *r, int worker, int first, int nblocks, struct profile **profile,
                           struct err *err) MUST_CHECK;
enum status runner_start_governor(struct runner *r, struct layout *layout, struct err *err) MUST_CHECK;

/* runner_frames.c */
bool runner_ready(const struct runner *r); /* a frame can get through */
/* Frames on their way through a layout are to be sent again. */
enum status runner_requeue_layout(struct runner *r, uint32_t layout, struct err *err) MUST_CHECK;
int64_t runner_owed(const struct runner *r);
/* An accepted frame of an interrupted run. */
enum status runner_readmit(struct runner *r, const struct journal_frame *frame, struct err *err) MUST_CHECK;
enum status runner_take(struct runner *r, struct err *err) MUST_CHECK;  /* from the source */
enum status runner_send(struct runner *r, struct err *err) MUST_CHECK;
enum status runner_serve(struct runner *r, struct err *err) MUST_CHECK; /* what the peers say */
enum status runner_repair(struct runner *r, struct err *err) MUST_CHECK; /* what may have been lost */

/* runner_results.c. All take the frame over. */
/* Hands its result to the journal. */
enum status runner_store(struct runner *r, struct frame *frame, const struct wire_frame *result,
                         struct err *err) MUST_CHECK;
enum status runner_fail(struct runner *r, struct frame *frame, const char *reason, struct err *err) MUST_CHECK;
/* Dropped or refused. */
enum status runner_give_up(struct runner *r, struct frame *frame, const char *reason, struct err *err) MUST_CHECK;
enum status runner_collect(struct runner *r, struct err *err) MUST_CHECK; /* from the journal */

/* runner_recut.c */
enum status runner_recut_begin(struct runner *r, struct layout *layout, struct err *err) MUST_CHECK;
void runner_recut_report(struct runner *r, const struct frame *frame, const struct wire_frame *result);
void runner_recut(struct runner *r, double now_s); /* sets r->cuts when it is time */

/* runner_metrics.c: the page; `runner` is a struct runner. */
void runner_write_metrics(void *runner, FILE *page);

/* runner_summary.c */
enum status runner_summarise(struct runner *r, struct err *err) MUST_CHECK;

#endif
