/* How fast a network trains on this machine: whole steps over images drawn at
 * random and held in memory, and each layer's share of them. */
#ifndef ESPALIER_TIMING_H
#define ESPALIER_TIMING_H

#include "common/err.h"
#include "common/model.h"
#include "train/ops.h"
#include "train/robust.h"

#include <stdbool.h>
#include <stdint.h>

struct timing_config {
    const char *cfg;
    struct robust_config robust;
    enum ops_precision precision;
    int batch; /* in one part; 0: the cfg's batch and subdivisions */
    int steps; /* that are timed, at least 1; some more come first, untimed */
    int threads;
    uint64_t seed;
    bool layers; /* robust mode none only: under others a layer has many widths */
};

/* Times are medians over the steps, 0 if not asked for. Operations are those of
 * the plain definition, two per multiply-add, of a whole step's images; 0 for
 * layers without weights. */
struct timing_layer {
    double forward_s, backward_s;
    double forward_flops, backward_flops;
};

struct timing {
    struct model *model;
    int batch, subdivisions, steps, threads;
    double median_s, min_s;             /* of a step */
    double parameters, multiply_adds;   /* multiply-adds: of an image's forward pass */
    double peak_mib;                    /* most memory that the process has had resident */
    double peak_flops;                  /* of the processor, per second */
    int nlayers;                        /* up to the logits */
    struct timing_layer *layers;
};

/* Plain SGD steps with [net]'s momentum and decay, no augmentation, and a
 * learning rate so small that random labels do no harm. */
enum status timing_run(struct timing **timing, const struct timing_config *config, struct err *err) MUST_CHECK;
void timing_destroy(struct timing **timing);

#endif
