/* What a portfolio costs on this device: frames, switches, memory. */
#ifndef ESPALIER_BENCH_VARIANTS_H
#define ESPALIER_BENCH_VARIANTS_H

#include "common/err.h"
#include "deploy/device.h"

#include <stdbool.h>

struct bench_variants_options {
    int switches, repeats;
    bool json;
};

/* Of every variant: median time of a frame; of the first frame behind a switch to it; of the switch
 * itself; what the process holds of memory while it is at work, beyond what it holds without the
 * portfolio (the program's own pages, which a run brings in, not counted); and, for comparison, of loading its model from the page cache in the ordinary way
 * (mapped, checked, packed). Printed on stdout. */
enum status bench_variants(const struct device_options *device, const struct bench_variants_options *options,
                           struct err *err) MUST_CHECK;

#endif
