/* A small fixed pool of threads that share one parallel loop at a time. */
#ifndef ESPALIER_POOL_H
#define ESPALIER_POOL_H

#include "common/err.h"

struct pool;

/* One task of a loop. `thread` is in [0, pool_threads). Must not fail; report
 * through `context`. */
typedef void pool_task(void *context, int task, int thread);

/* `threads` counts the caller, who works too: 1 starts no thread at all. */
enum status pool_create(struct pool **pool, int threads, struct err *err) MUST_CHECK;
void pool_destroy(struct pool **pool);
int pool_threads(const struct pool *pool);
/* Runs task 0..tasks-1, each once, and returns when all are done. Of callers at
 * the same time one has the pool, the others work alone. Allocates nothing. */
void pool_run(struct pool *pool, int tasks, pool_task *task, void *context);
/* The cores this process may run on. */
int pool_default_threads(void);

#endif
