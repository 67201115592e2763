/* What a frame takes at several clocks of the cores. */
#ifndef ESPALIER_PROFILE_CLOCKS_H
#define ESPALIER_PROFILE_CLOCKS_H

#include "common/err.h"
#include "common/model.h"
#include "common/pool.h"
#include "common/profile.h"
#include "deploy/cpufreq.h"

/* From the command line, "600,900,1200": rising, at most PROFILE_MAX_CLOCKS. */
enum status profile_clocks_parse(const char *text, double *mhz, int *n, struct err *err) MUST_CHECK;
/* As profile_measure() at the last of the clocks mhz[n], and profile->clocks: at each
 * the median frame of `repeats`, every level throughout. The cores' limits stay at the last
 * clock; cpufreq_close gives them back. A signal (signals_take(signals); -1: none are looked for) ends it
 * with STATUS_CANCELLED. */
enum status profile_clocks_measure(struct profile **profile, const struct model *model, struct pool *pool, int repeats,
                                   struct cpufreq *cpufreq, const double *mhz, int n, int signals,
                                   struct err *err) MUST_CHECK;

#endif
