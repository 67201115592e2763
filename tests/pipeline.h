/* For tests: a pipeline of real processes on loopback. A tiny model and frames
 * for it in a folder that goes away, workers, a runner, and what must hold of
 * its results. Functions fail the running cmocka test. */
#ifndef ESPALIER_TESTS_PIPELINE_H
#define ESPALIER_TESTS_PIPELINE_H

#include "tests/processes.h"

#include <stdint.h>

enum { PIPELINE_WORKERS = 3, PIPELINE_MOST = 6, PIPELINE_FRAMES = 120, PIPELINE_SIDE = 16 };
static const double PIPELINE_PATIENCE_S = 60; /* far more than anything takes, sanitizers included */
/* How long a run waits for workers of which one is dead: the others have answered by then. */
#ifdef __SANITIZE_THREAD__
#define PIPELINE_CONNECT "--connect-timeout 8"
#else
#define PIPELINE_CONNECT "--connect-timeout 1"
#endif

extern struct pipeline {
    char folder[64], model[96], frames[96], cluster[96], results[96];
    int nworkers; /* PIPELINE_WORKERS unless the test sets it */
    struct process worker[PIPELINE_MOST], runner;
    char address[PIPELINE_MOST][256];
    const char *more[PIPELINE_MOST]; /* lines of the worker's section in the cluster cfg, or NULL */
    const char *isa[PIPELINE_MOST];  /* its --cpu-mask, or NULL */
    const char *policy;              /* of the runner, static unless the test sets it */
} pipeline;

int pipeline_group_setup(void **unused);
int pipeline_group_teardown(void **unused);
/* After each test: kills what runs, removes what it left. */
int pipeline_teardown(void **unused);

/* A path in the folder; one of 8 static buffers. */
const char *pipeline_path(const char *format, ...);
/* The encoded image of frame `index`, in a buffer of 2048 bytes. */
size_t pipeline_frame(int index, uint8_t *out);

void pipeline_start_worker(int index, const char *address, const char *keys);
/* All of them, and the cluster cfg. */
void pipeline_start_workers(const char *keys);
/* Kills it, and waits until it is gone. */
void pipeline_kill_worker(int index);
/* `extra`: lines of its [source]. */
void pipeline_write_cluster(const char *extra);
/* Options after the usual ones, separated by blanks. */
void pipeline_start_runner(const char *source, const char *options);
void pipeline_expect_exit(int status);
void pipeline_expect_said(const char *text);
/* Within the time, while it runs. */
void pipeline_wait_said(const char *text);
void pipeline_wait_results(int count);

/* The first value of the results database's answer. */
double pipeline_query(const char *sql);
void pipeline_remove_results(void);
/* Every frame has one result, and it is what one device would have said. */
void pipeline_expect_all_results(void);

#endif
