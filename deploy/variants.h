/* A portfolio in the runtime: every variant ready, one at work.
 *
 * All variants have their engine, so that another one is at work with the next
 * frame: switching sets an index. With a cache of packed weights (deploy/packed.h) only
 * the weights at work are in the process's memory: those of the others are
 * mapped files, whose pages leave when their variant is put to rest and come
 * back, from the system's page cache, when it runs again. Without a cache all
 * packed weights stay in memory. Variants share the threads. */
#ifndef ESPALIER_VARIANTS_H
#define ESPALIER_VARIANTS_H

#include "common/err.h"
#include "common/pool.h"
#include "common/portfolio.h"
#include "deploy/engine.h"

struct variants_config {
    const char *path;
    const char *cache; /* folder of packed weights, or NULL */
    struct pool *pool; /* borrowed; NULL: one thread */
    const struct kernels *kernels; /* NULL: the best */
};

struct variants {
    struct portfolio portfolio;
    struct model *models[PORTFOLIO_MAX_VARIANTS];
    struct engine *engines[PORTFOLIO_MAX_VARIANTS];
    int at_work;
    int to_rest; /* the one that was at work before and still holds memory; -1: none */
};

/* The first variant is at work. */
enum status variants_open(struct variants **variants, const struct variants_config *config, struct err *err) MUST_CHECK;
void variants_close(struct variants **variants);
/* Between frames: from now on variants_engine() is that of `index`. */
void variants_use(struct variants *variants, int index);
struct engine *variants_engine(const struct variants *variants);
/* When there is time, behind a frame: gives back the memory of the variant that was at work before. */
void variants_settle(struct variants *variants);

#endif
