/* Whether the runtime computes right on this device: kernels against plain C,
 * a small network against golden outputs, and how long a level switch takes. */
#ifndef ESPALIER_SELFTEST_H
#define ESPALIER_SELFTEST_H

#include "common/err.h"
#include "common/model.h"
#include "common/pool.h"

#include <stdbool.h>
#include <stdio.h>

enum { SELFTEST_PLANS = 6, SELFTEST_CLASSES = 10 };

/* The golden network: every layer kind and tie, weights from a seed. */
enum status selftest_model(struct model **model, struct err *err) MUST_CHECK;
/* Its input, [c, h, w]. */
void selftest_input(const struct model *model, float *input);
/* Plan number `index` of SELFTEST_PLANS: uniform levels first, then mixed
 * ones. `plan` as plan_create made it. */
void selftest_plan(const struct model *model, int index, struct plan *plan);
/* The values before the softmax, by plan; tests/golden/test_selftest.c says
 * how they were made. */
extern const float selftest_golden[SELFTEST_PLANS][SELFTEST_CLASSES];

/* Fills weights, biases and batch norm with random numbers that keep
 * magnitudes about the same from layer to layer, and that a file keeps exactly. */
void selftest_fill(struct model *model, uint64_t seed);

struct selftest {
    char processor[64]; /* the instruction sets that it has */
    int checks, failures;
    double switch_us; /* median */
};
/* Prints a line for each check to `out`. A check that fails is no error here. */
enum status selftest_run(struct selftest *result, struct pool *pool, FILE *out, struct err *err) MUST_CHECK;

#endif
