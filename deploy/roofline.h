/* Devices of known speed, for plans and simulations of hosts that are not at
 * hand: a roofline (Williams, Waterman, Patterson, CACM 2009) per kind of
 * layer.
 *
 *   ms(layer) = max(multiply-adds / rate(kind), bytes / bandwidth) + overhead
 *
 * with the bytes of weights, input and output. Rates are fitted to published
 * latencies of whole networks; roofline.c names them. What such a profile says
 * of single layers and of pruned widths follows from the form, not from
 * measurements: measure with `espalier-deploy profile` where a device is at
 * hand. */
#ifndef ESPALIER_ROOFLINE_H
#define ESPALIER_ROOFLINE_H

#include "common/err.h"
#include "common/model.h"
#include "common/profile.h"

struct roofline {
    const char *name, *source; /* "pi4b"; where its figures come from */
    int threads;
    double dense, winograd, pointwise, depthwise; /* 1e9 multiply-adds/s; winograd: of 3x3 at stride 1, as if direct */
    double bandwidth;                             /* GB/s */
    double layer_us;                              /* of each layer, whatever it does */
    double coding; /* times that coding takes as long as on the machine that codec_ns was measured on */
};

/* NULL if there is none of that name; `names` (may be NULL) becomes a list for messages. */
const struct roofline *roofline_find(const char *name, const char **names);
/* The model's profile on the device; the pairs of levels that cannot be told
 * apart by counts are equal. */
enum status roofline_profile(const struct roofline *device, const struct model *model, struct profile **profile,
                             struct err *err) MUST_CHECK;

#endif
