/* Accuracy of plans on labelled images, and the accuracy model that is fitted
 * to it. */
#ifndef ESPALIER_MEASURE_H
#define ESPALIER_MEASURE_H

#include "common/err.h"
#include "common/model.h"
#include "train/loader.h"
#include "train/network.h"

#include <stdint.h>

/* Top-1 accuracy (0 to 1) of each plan on the images of an evaluating loader:
 * on every `stride`-th batch (1: all), *measured images in all. The model's batch-norm rows are used. `label`: of
 * the progress bar, NULL for none. */
enum status measure_plans(struct network *network, const struct model *model, struct loader *images,
                          struct plan *const *plans, int nplans, int stride, const char *label, double *accuracy,
                          int *measured, struct err *err) MUST_CHECK;

/* Plans that one call owns. */
struct measure_set {
    int n, capacity;
    struct plan **plans;
};
void measure_set_free(struct measure_set *plans);
/* Takes the plan over on success. */
enum status measure_set_add(struct measure_set *plans, struct plan *plan, struct err *err) MUST_CHECK;
/* Every level throughout, in order. */
enum status measure_set_uniform(struct measure_set *plans, const struct model *model, struct err *err) MUST_CHECK;
/* Random plans with a level per slice, and some links capped. */
enum status measure_set_random(struct measure_set *plans, const struct model *model, int n, uint64_t seed,
                               struct err *err) MUST_CHECK;

/* The random plans that an accuracy model was tested on, and what was measured. */
struct measure_test {
    struct measure_set plans;
    double *accuracy; /* [plans.n] */
};
void measure_test_free(struct measure_test *test);

/* Measures every uniform plan, every plan with one block pruned or one link
 * capped at every level, or one link of 8 or 4 bits, and twice `held_out` random plans, and fits the
 * accuracy model to them; tests it on `held_out` other random plans. With
 * `held_out` 0 only the uniform plans are measured, and nothing is fitted.
 * Replaces model->accuracy; `uniform` [nlevels] receives what was measured at
 * every level throughout, `test` (zeroed by the caller) the plans of the test. */
enum status measure_model(struct network *network, struct model *model, struct loader *images,
                          int held_out, uint64_t seed, double *uniform, struct measure_test *test,
                          struct err *err) MUST_CHECK;

#endif
