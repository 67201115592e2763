/* The runner: source and sink of the pipeline. Cuts the model, sets up the
 * workers, streams the frames through them, keeps the journal, and asks the
 * controller for the plan. Ends when the source has ended and every accepted
 * frame has its result on disk. */
#ifndef ESPALIER_RUNNER_H
#define ESPALIER_RUNNER_H

#include "common/err.h"
#include "deploy/controller.h"
#include "deploy/source.h"
#include "deploy/steady_clock.h"

#include <stdbool.h>

/* What becomes of frames that come faster than they can be sent. */
enum runner_overload {
    RUNNER_WAIT,        /* they wait, however long */
    RUNNER_DROP_OLDEST, /* more than `queue` wait, or the oldest is past its deadline: the oldest is dropped */
    RUNNER_REFUSE,      /* `queue` wait already: the new one is refused */
    RUNNER_OVERLOADS
};
/* "wait", "drop-oldest", "refuse" */
const char *runner_overload_name(enum runner_overload overload);

struct runner_config {
    const char *cluster, *model;
    struct source_config source;
    const char *results; /* database */
    const char *cuts;    /* layers to cut behind, or NULL */
    const char *plan, *links; /* to start with, or NULL */
    enum controller_policy policy; /* CONTROLLER_POLICIES: exact if there is a deadline, else static */
    double slo_ms;                 /* 0: none; negative: the cluster cfg's */
    double min_accuracy;
    bool portfolio; /* the model must be one */
    struct steady_options steady; /* with a profile: latency is held as this device's clock moves; all workers are here */
    enum runner_overload overload;
    int queue;                /* frames that may wait, unless the overload is to wait */
    int credits;              /* 0: workers + 2 */
    const char *keys, *name;  /* folder and whose, or NULL */
    double connect_timeout_s; /* for all workers to be ready at the start */
    double takeover_s;        /* without a worker before others take over from it; 0: never */
    double recut_s;           /* conditions must last before cuts are moved; 0: never */
    double timeout_s;         /* without any result while frames are owed; 0: no limit */
    bool json;                /* results on stdout as they land */
    const char *summary;      /* JSON file, or NULL */
    const char *metrics;      /* address to serve them on, or NULL */
};
struct runner_config runner_defaults(void);

/* STATUS_CANCELLED if a signal ended it with frames left: the same command
 * goes on from there. */
enum status runner_run(const struct runner_config *config, struct err *err) MUST_CHECK;

#endif
