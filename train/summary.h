/* One page about a trained model, in plain text beside it (MODEL.txt): what was
 * trained on what and how, what it costs and is worth at every level, and what
 * to do with the file. */
#ifndef ESPALIER_SUMMARY_H
#define ESPALIER_SUMMARY_H

#include "common/err.h"
#include "train/measure.h"
#include "train/trainer.h"

struct summary {
    const struct trainer_config *config;
    const struct setup *setup; /* its model as it was saved */
    int steps;
    double seconds;            /* spent, all runs together */
    double loss, accuracy;     /* on the training images, over the last epoch; loss < 0: not known */
    const double *uniform;     /* [nlevels] accuracy; NULL: no images were held out */
    const struct measure_test *test; /* of the accuracy model; no plans: there is none */
};

enum status summary_write(const struct summary *summary, struct err *err) MUST_CHECK;

#endif
