/* How much each weight of a network that is not trained yet matters.
 *
 * - magnitude: |w|.
 * - random: a draw.
 * - snip: |w dL/dw| (Lee et al., SNIP, ICLR 2019, equation 6), batch norm as in
 *   training.
 * - grasp: w (H g), g = dL/dw, with the logits divided by 200, the highest kept
 *   (Wang, Zhang, Grosse, Picking winning tickets, ICLR 2020, equation 8; the
 *   temperature is that of the published code). There is no second derivative
 *   here: H g is the central difference of two gradients, at w + hg and
 *   w - hg with |hg| a hundredth of |w|.
 * - synflow: w dR/dw with R the sum of the logits of the network of the weights'
 *   magnitudes for an image of ones, without biases, batch norm and rectifiers
 *   (Tanaka et al., Pruning neural networks without any data, NeurIPS 2020). It
 *   is found in rounds, each of which keeps a share of the weights so that the
 *   shares fall in equal ratios to the density wanted. */
#ifndef ESPALIER_SALIENCY_H
#define ESPALIER_SALIENCY_H

#include "common/err.h"
#include "common/model.h"
#include "train/loader.h"
#include "train/network.h"

#include <stdint.h>

enum saliency {
    SALIENCY_SYNFLOW,
    SALIENCY_SNIP,
    SALIENCY_GRASP,
    SALIENCY_MAGNITUDE,
    SALIENCY_RANDOM,
    SALIENCY_COUNT
};
const char *saliency_name(enum saliency method);
/* SALIENCY_COUNT if there is none of that name. */
enum saliency saliency_parse(const char *name);

struct saliency_config {
    enum saliency method;
    double density;  /* that will be left: of synflow's last round */
    int rounds;      /* synflow */
    int batches;     /* of `images`: snip, grasp */
    int threads;
    uint64_t seed;   /* random */
};

/* `model`'s weights are the network's values. scores: [network_view(network).size]; only those of weights are set. Leaves values as
 * they are and gradients at zero. Weights that synflow's rounds took out score 0.
 * `images`: an endless loader of batches that fit the network; not used by the
 * other methods, which may have NULL. STATUS_LIMIT if a score is not a number. */
enum status saliency_scores(struct network *network, const struct model *model, struct loader *images,
                            const struct saliency_config *config, float *scores, struct err *err) MUST_CHECK;

/* saliency_synflow.c. */
enum status saliency_synflow(struct network *network, const struct model *model, const struct saliency_config *config,
                             float *scores, struct err *err) MUST_CHECK;

#endif
