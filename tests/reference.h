/* For tests: a network evaluated by naive loops, straight from the definition
 * of a plan (common/plan.h): every tensor at full width, with zeros where the
 * plan computes nothing, and layers that read what counts_read lets them see.
 * Shares no code with the engine and the trainer but the random weights. */
#ifndef ESPALIER_TESTS_REFERENCE_H
#define ESPALIER_TESTS_REFERENCE_H

#include "common/model.h"
#include "common/random.h"

struct reference {
    const struct model *model;
    struct counts *counts;
    float **values; /* [nlayers + 1]: planar [c, h, w] at full width; index 0 the input */
};

enum status reference_create(struct reference **reference, const struct model *model, struct err *err) MUST_CHECK;
void reference_destroy(struct reference **reference);
/* input: [c, h, w] of the net at full width. */
void reference_run(struct reference *reference, const struct plan *plan, const float *input);
/* The output of `layer` (-1: the input) without the channels that the plan
 * does not compute; returns how many floats. `out` has room for full width. */
size_t reference_compact(const struct reference *reference, int layer, float *out);

/* A model of the cfg text with random weights, biases and batch-norm rows, the
 * latter for every pair of levels. */
enum status reference_model(struct model **model, const char *cfg_text, uint64_t seed, struct err *err) MUST_CHECK;
enum status reference_model_file(struct model **model, const char *cfg_path, uint64_t seed, struct err *err) MUST_CHECK;
/* Random levels, and cuts with random link caps. `plan` as plan_create made it. */
void reference_random_plan(struct plan *plan, const struct model *model, struct random *random);

/* DESIGN's agreement: differences of at most 1e-4 of the largest magnitude of
 * `expected`, and the same largest value. NaN never agrees. *worst: the largest
 * difference as a share of that magnitude; may be NULL. */
bool reference_agrees(const float *got, const float *expected, size_t n, double *worst);

#endif
