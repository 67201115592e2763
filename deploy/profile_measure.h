/* Measuring a device's latency profile. */
#ifndef ESPALIER_PROFILE_MEASURE_H
#define ESPALIER_PROFILE_MEASURE_H

#include "common/err.h"
#include "common/model.h"
#include "common/pool.h"
#include "common/profile.h"

/* Median of at least `repeats` runs for every block at every own level with incoming
 * level equal, and with incoming 0 and the highest; other pairs are interpolated. */
enum status profile_measure(struct profile **profile, const struct model *model, struct pool *pool, int repeats,
                            struct err *err) MUST_CHECK;

#endif
