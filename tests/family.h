/* For tests of whole known networks: shipped cfgs at a smaller input, and what
 * somebody else's program put out for seeded weights, a line per network.
 *
 * A golden line: name, side of the input, number of outputs, the largest
 * output's index, the largest magnitude, and FAMILY_SAMPLES outputs at equal
 * steps from the first. Outputs are those before the softmax. */
#ifndef ESPALIER_TESTS_FAMILY_H
#define ESPALIER_TESTS_FAMILY_H

#include "common/cfg.h"
#include "common/err.h"
#include "common/model.h"

#include <stdbool.h>

enum { FAMILY_SAMPLES = 16 };

struct family_golden {
    int side, classes, top;
    float largest, sample[FAMILY_SAMPLES];
};

/* The network of a cfg; its input, if larger than 100x100, becomes 64x64 (67x67
 * for AlexNet's 227x227), and a [crop] takes 7/8 of that. `relu`: relu6, which
 * Darknet has not, becomes relu. `outputs` (or 0): of every connected layer but
 * the last. */
enum status family_cfg(struct cfg **cfg, const char *path, bool relu, int outputs, struct err *err) MUST_CHECK;
/* Prints the golden line of `n` outputs. */
void family_print(const char *name, int side, const float *outputs, int n);
/* Finds the line of `name`; false if there is none. */
bool family_find(const char *path, const char *name, struct family_golden *golden);
/* DESIGN's agreement: within 1e-4 of the largest magnitude, and the same top-1.
 * *worst: the largest difference as a share of that magnitude. */
bool family_agrees(const struct family_golden *golden, const float *outputs, int n, double *worst);
/* Engine and trainer on selftest_input against the line of `name` in `path`;
 * prints how far they are off. `whose`: the program that put the line out. */
enum status family_check(struct model *model, const char *path, const char *name, const char *whose,
                         struct err *err) MUST_CHECK;
/* Lets big networks that follow each other use the same memory instead of
 * fresh pages, which take longer to be zeroed than the networks to run. */
void family_reuse_memory(void);

#endif
