/* The kernels of each instruction set, and the choice among them. */
#ifndef ESPALIER_KERNELS_TABLE_H
#define ESPALIER_KERNELS_TABLE_H

#include "common/err.h"
#include "deploy/kernels/conv.h"
#include "deploy/kernels/depthwise.h"
#include "deploy/kernels/peak.h"
#include "deploy/kernels/pointwise.h"
#include "deploy/kernels/pooling.h"
#include "deploy/kernels/winograd.h"

#include <stdbool.h>

struct kernels {
    const char *isa; /* "ref" (plain C), "sse2", ... */
    int lanes;       /* channels are computed in multiples of this */
    conv_fn *conv;
    winograd_input_fn *winograd_input;
    winograd_output_fn *winograd_output;
    depthwise_fn *depthwise;
    pooling_max_fn *pooling_max;
    pooling_mean_fn *pooling_mean;
    pointwise_affine_fn *pointwise_affine;
    pointwise_add_fn *pointwise_add;
    peak_fma_fn *peak_fma;
    peak_read_fn *peak_read;
};

/* Every set that this build has code for, plain C first, then ascending; NULL
 * behind the last. */
const struct kernels *kernels_at(int index);
/* Whether this processor and operating system can run it. */
bool kernels_runnable(const struct kernels *kernels);
/* The best that runs here, and is not above the limit. */
const struct kernels *kernels_best(void);
/* Limits kernels_best() of this process to the set of that name and those
 * below (--cpu-mask); to be called before other threads start. STATUS_USAGE
 * lists the names if there is none of that name. */
enum status kernels_limit(const char *mask, struct err *err) MUST_CHECK;

#endif
