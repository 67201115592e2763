/* The slices of a model that the stages of a pipeline run: where the cuts are,
 * and each slice as the bytes of a model file. */
#ifndef ESPALIER_SLICES_H
#define ESPALIER_SLICES_H

#include "common/err.h"
#include "common/model.h"
#include "deploy/portfolio_model.h"
#include "deploy/wire.h"

struct slices {
    const struct model *model; /* borrowed */
    const struct portfolio_model *portfolio; /* borrowed; else NULL: each slice is a portfolio of the variants' */
    int count;
    int first[WIRE_MAX_STAGES + 1]; /* blocks; first[count] = the model's nblocks */
    size_t size[WIRE_MAX_STAGES];
    char hash[WIRE_MAX_STAGES][65];
    uint8_t *bytes[WIRE_MAX_STAGES]; /* NULL until asked for */
};

/* `count` slices at the layers that `cuts` names ("9,15": behind layers 9 and
 * 15); if it is NULL, at the model's own [slice] sections if they make that
 * many; else so that the largest number of multiply-adds of a slice is as
 * small as it can be. */
enum status slices_create(struct slices **slices, const struct model *model, int count, const char *cuts,
                          struct err *err) MUST_CHECK;
/* Of a portfolio: where its model is cut. */
enum status slices_create_portfolio(struct slices **slices, const struct portfolio_model *portfolio, int count,
                                    const char *cuts, struct err *err) MUST_CHECK;
void slices_destroy(struct slices **slices);
/* Bytes of a slice's file, kept until slices_release. */
enum status slices_bytes(struct slices *slices, int index, const uint8_t **bytes, struct err *err) MUST_CHECK;
void slices_release(struct slices *slices, int index);
/* The cuts as in `cuts`, "" for one slice. */
void slices_text(const struct slices *slices, char *text, size_t size);

#endif
