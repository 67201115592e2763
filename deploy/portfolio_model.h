/* A portfolio as the pipeline sees it: one model whose levels are the variants.
 *
 * Every stage has its slice of every variant, cut at the same layers, and a
 * frame goes through the slices of one: its level at each stage is that variant.
 * Runner, controller and results so deal with a portfolio as with a model that is always at
 * one level throughout. */
#ifndef ESPALIER_PORTFOLIO_MODEL_H
#define ESPALIER_PORTFOLIO_MODEL_H

#include "common/err.h"
#include "common/model.h"
#include "common/portfolio.h"

struct portfolio_model {
    struct portfolio portfolio;
    struct model *variants[PORTFOLIO_MAX_VARIANTS];
    /* The first variant, with the variants as its levels: shares of channels that stand for their work, and what each
     * costs of accuracy (NULL where the portfolio does not say). For plans only: its weights are
     * not pruned so. */
    struct model *model;
    char hash[65]; /* of all variants */
};

/* STATUS_USAGE if the variants cannot be cut alike, or are more than there are levels. */
enum status portfolio_model_open(struct portfolio_model **portfolio, const char *path, struct err *err) MUST_CHECK;
void portfolio_model_close(struct portfolio_model **portfolio);

#endif
