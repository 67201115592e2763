/* Reach: the part of the parameters that a step's plans computed with, as a
 * box per tensor: outputs up to the largest count, and of each input segment
 * the channels up to the largest read.
 *
 * Gradients outside of it are zero because nothing was computed there, not
 * because the loss is flat: the optimizer leaves those parameters alone. */
#ifndef ESPALIER_REACH_H
#define ESPALIER_REACH_H

#include "common/err.h"
#include "common/model.h"
#include "train/network.h"

struct reach {
    const struct model *model; /* borrowed */
    struct counts *counts;     /* scratch */
    int *out;                  /* [groups->nsegments] */
    int *read;                 /* of layer i's input segments, from read_first[i] on */
    int *read_first;           /* [nlayers] */
    int nreads;
};

/* Nothing reached yet. */
enum status reach_create(struct reach **reach, const struct model *model, struct err *err) MUST_CHECK;
void reach_destroy(struct reach **reach);
void reach_clear(struct reach *reach);
/* A plan of these levels. */
void reach_add(struct reach *reach, const struct levels *levels, const struct plan *plan);

/* Calls `run` for every contiguous run of elements [first, first + count) of
 * `values` that belongs to `param` and was reached. */
typedef void reach_run(void *context, size_t first, size_t count);
void reach_each(const struct reach *reach, const struct network_param *param, reach_run *run, void *context);

#endif
