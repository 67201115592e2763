/* A worker: waits for a runner, fetches the slice that it is given, and is one
 * stage of the pipeline until the run ends. Then it waits for the next one.
 *
 * One run at a time: another runner is told that the worker is busy, unless
 * the present one has been silent for a while, or it is the same run resumed. */
#ifndef ESPALIER_WORKER_H
#define ESPALIER_WORKER_H

#include "common/err.h"
#include "deploy/keys.h"

struct worker_config {
    const char *listen;       /* ZeroMQ address; "*" as the port: a free one */
    const struct keys *keys;  /* or NULL */
    const char *cache;        /* folder, or NULL: see store.h */
    const char *address_file; /* gets the address listened on, or NULL */
    int threads;              /* 0: all cores */
};

/* Returns STATUS_OK after SIGINT or SIGTERM. */
enum status worker_run(const struct worker_config *config, struct err *err) MUST_CHECK;

#endif
