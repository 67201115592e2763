/* Learning rate and optimizer options of a run, read from [net].
 *
 * Policies and option names are Darknet's: constant; step (`step`, `scale`);
 * steps (`steps`, `scales`); exp (`gamma`); poly (`power`, `max_batches`); sig
 * (`gamma`, `step`). Added: cosine, from learning_rate to 0 along half a cosine
 * over max_batches (Loshchilov, Hutter: SGDR, 2017), and onecycle, up from 1/25
 * during the share `warmup` of max_batches and down to 1/250000 (Smith, Topin:
 * Super-convergence, 2018). During the first `burn_in` batches every policy
 * grows as (batch / burn_in)^power instead. */
#ifndef ESPALIER_SCHEDULE_H
#define ESPALIER_SCHEDULE_H

#include "common/cfg.h"
#include "common/err.h"

#include <stdbool.h>

enum schedule_policy {
    SCHEDULE_CONSTANT,
    SCHEDULE_STEP,
    SCHEDULE_STEPS,
    SCHEDULE_EXP,
    SCHEDULE_POLY,
    SCHEDULE_SIG,
    SCHEDULE_COSINE,
    SCHEDULE_ONECYCLE,
    SCHEDULE_COUNT
};

struct schedule {
    enum schedule_policy policy;
    float learning_rate, momentum, decay;
    float power, gamma, scale, warmup;
    int step, burn_in;
    int nsteps;
    int *steps;    /* [nsteps] rising; owned */
    float *scales; /* [nsteps]; owned */
    int max_batches; /* 0: not given */
    int epochs;      /* 0: not given; goes before max_batches */
    bool nesterov;
    float label_smoothing;
};

/* As in the cfg ("onecycle"). */
const char *schedule_policy_name(enum schedule_policy policy);

/* Reads [net]; options not given have Darknet's defaults (learning_rate .001,
 * momentum .9, decay .0001, constant, power 4), label_smoothing 0, no Nesterov,
 * warmup .3. */
enum status schedule_init(struct schedule *schedule, const struct cfg *cfg, struct err *err) MUST_CHECK;
void schedule_fini(struct schedule *schedule);

/* The learning rate of a batch, counted from 1 as Darknet does. Poly, cosine
 * and onecycle need max_batches > 0. */
float schedule_rate(const struct schedule *schedule, int batch);

#endif
