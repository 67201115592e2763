/* Which units of the prune groups a layer's weights connect. */
#ifndef ESPALIER_UNITS_H
#define ESPALIER_UNITS_H

#include "common/err.h"
#include "common/model.h"
#include "common/shrink.h"

/* Of all groups together, as in shrink_units: units->first[group] + unit. */
typedef void units_visit(void *context, int written, int read, size_t first, size_t taps);

/* Calls for every pair of an output and an input channel of a convolutional or
 * connected layer: the unit that is written, the one that is read, and where
 * the pair's weights lie in the layer's. */
enum status units_each(const struct model *model, const struct shrink_units *units, int layer, units_visit *visit,
                       void *context, struct err *err) MUST_CHECK;

#endif
