/* Stochastic gradient descent with momentum over contiguous parameters.
 *
 *   g = grad + decay * w            (weights only, not biases or batch norm)
 *   v = momentum * v + g
 *   w = w - rate * v                Nesterov: w - rate * (g + momentum * v)
 *
 * Parameters that no plan of the step reached keep their value and their
 * momentum: they neither decay nor coast. A channel that is drawn in every
 * second step so learns at half the pace of the others, and its velocity is an
 * average over the steps that it took part in.
 * Source: Sutskever et al., On the importance of initialization and momentum
 * in deep learning, 2013, in the form that PyTorch uses. */
#ifndef ESPALIER_SGD_H
#define ESPALIER_SGD_H

#include "common/err.h"
#include "train/network.h"
#include "train/reach.h"

#include <stdbool.h>

struct sgd_config {
    float rate, momentum, decay;
    bool nesterov;
};

struct sgd {
    float *velocity; /* [size], laid out as the network's values */
    size_t size;
};

/* Velocity zero. */
enum status sgd_create(struct sgd **sgd, size_t size, struct err *err) MUST_CHECK;
void sgd_destroy(struct sgd **sgd);
/* Updates what was reached and zeroes all gradients. */
void sgd_step(struct sgd *sgd, const struct sgd_config *config, const struct network_view *view,
              const struct reach *reach);

#endif
