/* Steady latency on this device: the ladder of a profile, and the clock that
 * it goes by. What `predict --steady` and `run --steady` have in common. */
#ifndef ESPALIER_STEADY_CLOCK_H
#define ESPALIER_STEADY_CLOCK_H

#include "common/err.h"
#include "common/model.h"
#include "deploy/steady.h"

#include <stdbool.h>

/* As on the command line. */
struct steady_options {
    const char *profile; /* NULL: latency is not held */
    double target_ms;    /* 0: see steady.h */
    const char *cpufreq, *throttled; /* see cpufreq_open */
};
struct steady_options steady_options_defaults(void);

struct steady_clock {
    struct steady *steady;
    struct cpufreq *cpufreq;
    struct cpufreq_state state; /* as read last */
    bool lost;                  /* the clock could not be read, and that was said */
};

/* slice_first: [nslices], see steady.h. */
enum status steady_clock_open(struct steady_clock **clock, const struct steady_options *options,
                              const struct model *model, int nslices, const int *slice_first,
                              struct err *err) MUST_CHECK;
void steady_clock_close(struct steady_clock **clock);
/* Reads the clock; the plan for the next frame. If it cannot be read, that is
 * said once, and the plan stays as it is. */
const struct plan *steady_clock_plan(struct steady_clock *clock);

#endif
