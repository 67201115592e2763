/* Latency of a model on this device, held against the device's limits. */
#ifndef ESPALIER_BENCH_H
#define ESPALIER_BENCH_H

#include "common/json.h"
#include "deploy/device.h"

#include <stdbool.h>
#include <stdio.h>

struct bench_time {
    double median_ms, min_ms;
    int runs;
    double multiply_adds;
};

struct bench_layer {
    int layer;
    const char *kernel;
    double median_ms, min_ms, multiply_adds, bytes;
};

struct bench_switches {
    int n;
    double median_us, p99_us, max_us;
};

/* From a file's bytes to the network's input. */
struct bench_decode {
    const char *path; /* NULL: not asked for */
    size_t bytes;
    int w, h, to_w, to_h;
    double fast_ms, exact_ms; /* medians */
};

struct bench {
    const char *isa;
    int threads;
    bool random; /* weights from a seed, no trained model */
    double peak_gflops, read_gbs;
    size_t weight_bytes; /* of the model */
    size_t engine_bytes;
    size_t resident_max; /* of the process, so far: getrusage's; 0: not known */
    double create_ms; /* packing the weights and all else before the first run */
    bool one_plan;    /* times holds that plan only; otherwise one entry per level */
    int ntimes;
    struct bench_time *times;
    int nlayers; /* at level 0, or the plan; 0: not asked for */
    struct bench_layer *layers;
    struct bench_switches switches; /* n 0: not asked for */
    struct bench_decode decode;
};

struct bench_options {
    bool one_plan; /* the device's; otherwise every uniform level */
    bool layers;
    int switches;
    const char *decode; /* an image to time the decoders with, or NULL */
    int repeats; /* at least this many runs, and at least `seconds` long */
    double seconds;
};

enum status bench_run(struct bench **bench, const struct device *device, const struct bench_options *options,
                      struct err *err) MUST_CHECK;
enum status bench_decode(struct bench_decode *out, const struct image_preproc *preproc, const char *path, int repeats,
                         struct err *err) MUST_CHECK;
void bench_destroy(struct bench **bench);
void bench_print(const struct bench *bench, const struct model *model, FILE *out);
/* One object; NULL without memory. */
cJSON *bench_json(const struct bench *bench, const struct model *model);

#endif
