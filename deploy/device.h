/* A model on this device: what predict, bench and profile have in common. */
#ifndef ESPALIER_DEVICE_H
#define ESPALIER_DEVICE_H

#include "common/err.h"
#include "common/model.h"
#include "common/pool.h"
#include "deploy/engine.h"
#include "deploy/kernels/table.h"

#include <stdbool.h>

/* As on the command line; NULL: not given. */
struct device_options {
    const char *model;              /* path; of a portfolio, too: */
    const char *variant;            /* of it; NULL: the first */
    bool cfg;                       /* it may be a cfg, too, and is then given random weights */
    const char *plan, *link, *cuts; /* see plan_parse and blocks_parse_cuts */
    const char *cpu_mask;           /* the highest instruction set to use */
    const char *cache;              /* folder of packed weights */
    bool low_memory;                /* see engine_config */
    int threads;
};
/* Level 0, one thread for each core. */
struct device_options device_defaults(void);

struct device {
    struct model *model;
    struct plan *plan;
    struct pool *pool;
    const struct kernels *kernels;
    const char *cache;
    bool low_memory;
    bool random; /* the model is a cfg with random weights */
};

/* Its model alone: `how` as model_load_how has it; a cfg gets random weights, if the options allow one. */
enum status device_load(struct model **model, const struct device_options *options, unsigned how,
                        struct err *err) MUST_CHECK;
enum status device_open(struct device *device, const struct device_options *options, struct err *err) MUST_CHECK;
void device_close(struct device *device);
/* What an engine for the device's model begins with. */
struct engine_config device_engine(const struct device *device);

/* The machine's limits with these kernels on all threads of the pool: best of
 * several short measurements. */
double device_peak_gflops(const struct kernels *kernels, struct pool *pool);
double device_read_gbs(const struct kernels *kernels, struct pool *pool);

#endif
