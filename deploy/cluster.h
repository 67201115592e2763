/* The cluster cfg: who does the work, and what the links are.
 *
 *   [source]                  # where frames come from: the machine of `run`
 *   slo_ms=150                # options of `run` that the command line overrides
 *   fps=10
 *   credits=5                 # frames in flight; default: workers + 2
 *   [link]                    # optional: the hop into the worker that follows
 *   codec=q8z                 # starting codec (f32 unless said)
 *   level=1                   # starting cap on the channels that cross
 *   rate_kb_s=1000            # hints until it has been measured
 *   delay_ms=2
 *   [worker]                  # in the order of the pipeline
 *   name=pi1
 *   address=tcp://192.168.1.11:7700
 *   key=<64 hex digits>       # its public key; default: NAME.pub of --keys
 *   [worker]
 *   name=pi1b
 *   address=tcp://192.168.1.12:7700
 *   replica_of=pi1            # serves the same stage as pi1
 *   [worker]
 *   name=pi9
 *   address=tcp://192.168.1.19:7700
 *   spare=1                   # has no stage, takes over that of a worker that is gone
 */
#ifndef ESPALIER_CLUSTER_H
#define ESPALIER_CLUSTER_H

#include "common/err.h"
#include "common/plan.h"

#include <stdbool.h>

enum { CLUSTER_MAX_WORKERS = 64, CLUSTER_NAME = 64, CLUSTER_ADDRESS = 256, CLUSTER_KEY = 65,
       CLUSTER_MAX_REPLICAS = 8 /* workers of one stage */ };

/* The hop into a worker; zero where not stated. */
struct cluster_link {
    enum codec codec;
    int level;
    float rate_kb_s; /* 1000 bytes per second */
    float delay_ms;
};

struct cluster_worker {
    char name[CLUSTER_NAME];
    char address[CLUSTER_ADDRESS]; /* of ZeroMQ */
    char key[CLUSTER_KEY];         /* hex, or "" */
    struct cluster_link link;      /* from the worker before it, or from the source */
    int stage;                     /* that it serves; -1: a spare */
    bool primary;                  /* neither replica nor spare */
};

struct cluster {
    float slo_ms; /* 0: not stated, as below */
    float fps;
    int credits;
    int nworkers; /* stages; at least 1. worker[i] serves stage i */
    int nall;     /* with the replicas and spares behind them */
    struct cluster_worker worker[CLUSTER_MAX_WORKERS];
};

/* Errors name file and line. */
enum status cluster_load(struct cluster **cluster, const char *path, struct err *err) MUST_CHECK;
enum status cluster_parse(struct cluster **cluster, const char *name, const char *text, size_t length,
                          struct err *err) MUST_CHECK;
void cluster_destroy(struct cluster **cluster);
/* The host part of an address ("192.168.1.11"), into `host`. */
void cluster_host(const char *address, char host[CLUSTER_ADDRESS]);

#endif
