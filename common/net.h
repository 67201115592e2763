/* The network graph of a cfg, with shapes.
 *
 * Layer i reads the outputs of `inputs`; index -1 is the network's own input.
 * Shapes are of one image: [c, h, w]; a connected layer's output is [n, 1, 1]. */
#ifndef ESPALIER_NET_H
#define ESPALIER_NET_H

#include "common/activation.h"
#include "common/cfg.h"
#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>

enum net_kind {
    NET_CONVOLUTIONAL,
    NET_CONNECTED,
    NET_BATCHNORM,
    NET_MAXPOOL,
    NET_AVGPOOL, /* global: [c,h,w] -> [c,1,1] */
    NET_DROPOUT,
    NET_SHORTCUT,
    NET_ROUTE,
    NET_SOFTMAX,
    NET_COST,
    NET_CROP,
};

struct net_shape {
    int c, h, w;
};

struct net_layer {
    enum net_kind kind;
    int line; /* in the cfg */
    int ninputs;
    int *inputs;               /* shortcut: [0] its own branch (the layer before), [1] `from`; route: its list */
    struct net_shape in, out; /* in: of inputs[0]; of a route: as out */

    enum activation activation; /* convolutional, connected, shortcut */
    /* convolutional: [filters, in.c/groups, size, size]; connected: [filters, in.c*in.h*in.w] */
    int filters, size, stride, pad, groups; /* maxpool: size, stride, pad = Darknet's total padding */
    bool batch_normalize;
    float alpha, beta;  /* shortcut: out = act(alpha * own + beta * from), Darknet's options */
    float probability;  /* dropout: share of values dropped in training */
    int softmax_groups; /* softmax */
    float temperature;
    /* crop, in training: random position, flip and photometric changes (Darknet's [crop]) */
    bool flip, noadjust;
    float angle, saturation, exposure;
};

struct net {
    struct net_shape input;
    int nlayers;
    struct net_layer *layers;
    int classes; /* values of the last layer that is not [cost] */
};

/* Slice boundaries wished for by [slice] sections and the [prune] section are
 * read by blocks.h and plan.h from the same cfg. Errors name file and line. */
enum status net_create(struct net **net, const struct cfg *cfg, struct err *err) MUST_CHECK;
void net_destroy(struct net **net);

/* The layer's cfg section name ("convolutional"). */
const char *net_kind_name(enum net_kind kind);
/* Shape of the tensor that layer `index` puts out; -1: the input. */
struct net_shape net_shape_of(const struct net *net, int index);
/* Elements of a shape; shapes are checked at creation to fit an int. */
size_t net_shape_size(struct net_shape shape);
/* Whether it has weights of its own (convolutional, connected, batchnorm). */
bool net_has_weights(const struct net_layer *layer);
/* Elements of its weight tensor; 0 for batchnorm and layers without weights. */
size_t net_weight_count(const struct net_layer *layer);
/* Multiply-adds of one image through the layer at full width. */
double net_multiply_adds(const struct net_layer *layer);
/* The layer whose output are the logits: what feeds the softmax, or the last
 * layer that is neither softmax nor cost. */
int net_logits_layer(const struct net *net);
/* cfg sections that are layers, in order: layer i's section. */
const struct cfg_section *net_section(const struct cfg *cfg, int layer);
/* The schemas of a network cfg: every section and option known. */
extern const struct cfg_schema net_schemas[];

#endif
