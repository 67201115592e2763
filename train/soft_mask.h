/* A soft mask: one importance value per channel, learnt along with the weights.
 *
 * Every level (ratio of channels kept) has a threshold theta in each tier of each
 * prune group, and a channel of importance s passes through with weight
 *
 *   m = 1 / (1 + exp(-(s - theta) / temperature)),  theta such that sum m = channels kept,
 *
 * so the ratio holds exactly, and the threshold is differentiable: with m' = m (1 - m) / temperature,
 *
 *   dtheta/ds_u = m'_u / sum m',  dL/ds_u = m'_u (dL/dm_u - sum_v m'_v dL/dm_v / sum m').
 *
 * While it is soft, a pass at a level multiplies what every layer with weights puts out by
 * the level's mask (its batch norm's scale and shift, or, without batch norm, weights and
 * bias), and learns from how the loss changes with it. The temperature falls, masks become
 * steps, and the channels are put in the order of their importance: from there on a level
 * is a prefix like any other, and all that is stored is one set of weights.
 *
 * After Gong et al., All-in-One: a highly representative DNN pruning framework for edge
 * devices with dynamic power management, 2022 (arXiv 2212.05122): one set of weights, one
 * soft mask and little else stand for all ratios. Its text could not be had beyond the
 * abstract. Inferred are: whole channels; the form of mask and threshold; uniform levels while
 * it is soft; the temperature's course; that batch norm per ratio means statistics per ratio
 * (scale and shift are shared); that passes learn together, as in the sandwich rule. */
#ifndef ESPALIER_SOFT_MASK_H
#define ESPALIER_SOFT_MASK_H

#include "common/err.h"
#include "common/model.h"
#include "train/network.h"
#include "train/order.h"

#include <stdbool.h>

struct soft_mask {
    const struct model *model; /* borrowed */
    int begin, end;            /* steps [begin, end): it is soft */
    double temperature;        /* of the step that soft_mask_step was last asked for */
    int nunits;                /* of all tiers that may be permuted, together */
    int *first;                /* [ntiers] where a tier's units begin; -1: fixed */
    float *importance, *velocity; /* [nunits] */
    struct soft_mask_pass *pass;  /* private: the masks of a pass, and what they replaced */
};

/* Importance begins as the rank in the present order: from nearly 1 down to nearly 0 in each tier.
 * `view`: of the network that is trained. STATUS_USAGE if there is a layer behind whose
 * activation a channel masked away would not be zero. */
enum status soft_mask_create(struct soft_mask **mask, const struct model *model, const struct network_view *view,
                             struct err *err) MUST_CHECK;
void soft_mask_destroy(struct soft_mask **mask);

/* Whether it is soft in step `index`; sets the temperature. */
bool soft_mask_step(struct soft_mask *mask, int index);
/* Makes the masks of a level; returns the narrowest level whose prefixes hold every
 * channel of any weight: a pass may leave the others out. */
int soft_mask_set(struct soft_mask *mask, int level);
/* Around a forward and backward pass of the level set: multiplies the values of `view` by the
 * mask; puts them back, turns the gradients added meanwhile into those of the values, and adds
 * those of the importance. */
void soft_mask_apply(struct soft_mask *mask, const struct network_view *view);
void soft_mask_collect(struct soft_mask *mask, const struct network_view *view);
/* Gradient of the importance [nunits], as collected so far. */
const float *soft_mask_gradient(const struct soft_mask *mask);
/* Stochastic gradient descent with momentum; zeroes the gradient. */
void soft_mask_update(struct soft_mask *mask, float rate, float momentum);

/* The order by importance, which becomes the mask's own: importance and velocity are
 * permuted. Weights are the caller's (order_apply_values). `entered`: how many channels have
 * come into the narrowest level's prefixes. */
enum status soft_mask_order(struct soft_mask *mask, struct order **order, int *entered, struct err *err) MUST_CHECK;

#endif
