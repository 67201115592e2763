/* The order of channels: most important first, applied to the weights.
 *
 * Importance is scored per unit of a prune group from the weights of the layers
 * that compute it; each layer's scores are divided by their mean, so that the
 * layers of a residual group count alike (Taylor's, all in units of the loss, are
 * just added up). Units change places only inside their
 * tier, alike in all its groups; groups kept whole or frozen stay as they are.
 * The permutation covers everything that is indexed by a channel: outputs,
 * biases, batch norm, and the columns of every consumer, so the network's
 * function is unchanged.
 *
 * Sources: l1, Li et al., Pruning filters for efficient convnets, 2017;
 * bn-gamma, Liu et al., Network slimming, 2017. */
#ifndef ESPALIER_ORDER_H
#define ESPALIER_ORDER_H

#include "common/err.h"
#include "common/model.h"
#include "train/network.h"
#include "train/taylor.h"

#include <stdint.h>

enum order_criterion {
    ORDER_NONE,
    ORDER_L1,       /* sum of magnitudes of the unit's weights */
    ORDER_L2,       /* root of the sum of squares */
    ORDER_BN_GAMMA, /* magnitude of batch norm's scale; l1 where a layer has none */
    ORDER_TAYLOR,   /* what switching it off does to the loss: taylor.h */
    ORDER_RANDOM,   /* a baseline */
    ORDER_COUNT
};

/* The name as on the command line ("bn-gamma"). */
const char *order_name(enum order_criterion criterion);
/* ORDER_COUNT if there is none of that name. */
enum order_criterion order_parse(const char *name);

struct order {
    const struct model *model; /* borrowed */
    int *first;                /* [ngroups] where a group's units begin in `from` */
    int *from;                 /* the unit whose place each unit takes: new <- old */
};

/* From the weights that `model` holds (network_store first, when training).
 * `seed`: for random; `taylor`: for that criterion, else NULL. */
enum status order_create(struct order **order, const struct model *model, enum order_criterion criterion,
                         uint64_t seed, const struct taylor *taylor, struct err *err) MUST_CHECK;
/* From the importance of units: those of tier t begin at first[t], which is negative where
 * they stay as they are. */
enum status order_by_importance(struct order **order, const struct model *model, const float *importance,
                                const int *first, struct err *err) MUST_CHECK;
void order_destroy(struct order **order);
/* Turns it into the order that undoes it. */
enum status order_invert(struct order *order, struct err *err) MUST_CHECK;

/* Permutes all tensors of the model, which must be writable. */
enum status order_apply_model(const struct order *order, struct model *model, struct err *err) MUST_CHECK;
/* Permutes `values`, an array laid out as the parameters of a network of that
 * model: values, or the optimizer's state. */
enum status order_apply_values(const struct order *order, const struct network_view *view, float *values,
                               struct err *err) MUST_CHECK;

#endif
