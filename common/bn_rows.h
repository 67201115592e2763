/* Batch-norm rows in a model file.
 *
 * Row 0 is what any network has, and is stored as it is. Of the others
 * (common/bn.h) a file has how they differ from it, in steps so small that
 * no accuracy changes measurably:
 *
 *   row of a level    (mean - mean[0]) / sigma and ln(sigma / sigma[0])   in steps of 1/64
 *   correction        dmean and dscale                                    in steps of O/2048, 1/256 to 1/32
 *
 * since the errors of many channels even out in the layers behind.
 *
 * Tensor `bn.rows` [bytes] U8, a zlib stream: for every layer with batch norm, in
 * order, rows 1 to R - 1 of the first number, then of the second, each [O], as
 * (n << 1) ^ (n >> 15) of the 16-bit number n of steps; the low bytes of all of
 * them, then the high bytes. Most are near zero: some percent of a small
 * network's size as floats become one. */
#ifndef ESPALIER_BN_ROWS_H
#define ESPALIER_BN_ROWS_H

#include "common/err.h"
#include "common/model.h"

#define BN_ROWS_TENSOR "bn.rows"

/* Rounds rows 1 to R - 1 to what a file keeps: a model so rounded comes back from its file bit for bit. */
void bn_rows_round(struct model *model);
/* *bytes: malloc'ed. */
enum status bn_rows_pack(const struct model *model, uint8_t **bytes, size_t *length, struct err *err) MUST_CHECK;
/* Rows 1 to R - 1 of the model, whose mean and var have room for them and hold row 0. `name`: of the file. */
enum status bn_rows_unpack(struct model *model, const uint8_t *bytes, size_t length, const char *name,
                           struct err *err) MUST_CHECK;

#endif
