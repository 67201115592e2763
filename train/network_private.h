/* The network's insides, shared by network*.c. */
#ifndef ESPALIER_TRAIN_NETWORK_PRIVATE_H
#define ESPALIER_TRAIN_NETWORK_PRIVATE_H

#include "common/bn.h"
#include "train/layers/layer.h"
#include "train/layers/norm.h"

struct node { /* a layer in the network; also, without a layer, the network's input */
    struct layer *layer;
    const struct layer_kind *kind;
    int ninputs;
    int *inputs;              /* nodes */
    struct layer_tensor out;  /* of the last pass */
    float *buffer;            /* out.data's own, made when first needed; full width */
    int nreaders, reader;     /* how many inputs it is, and of which node last */
    struct layer_range *out_ranges;
    struct layer_tensor *in;  /* what the layer reads of its inputs */
    struct layer_range *in_ranges; /* of all inputs: input k's begin at in_first[k] */
    int *in_first;
    struct bn_terms norm;     /* batch norm of the last pass's plan */
    int slot;                 /* its gradient's buffer */
    bool in_place;            /* shares it with inputs[0], whose only reader it is */
    bool started;             /* the gradient holds something */
    bool wanted;              /* the gradient is of use to somebody */
};

struct network {
    struct ops *ops;
    struct model *model; /* borrowed */
    const struct levels *levels; /* of the next pass; borrowed */
    struct counts *counts;
    int batch;
    int nnodes; /* node 0 is the input, node i + 1 layer i; up to the logits */
    struct node *nodes;
    struct network_view view;
    struct network_param *params;
    float *values, *grads;
    int nslots;
    struct {
        float *values;
        size_t size; /* per image */
    } *slots;
    float *input_grad;
    enum ops_precision precision; /* of training passes */
    /* of the last pass */
    enum network_mode mode;
    int n;
    uint64_t seed;
    double *forward_s, *backward_s; /* NULL: not wanted */
    bool trained; /* it was a training pass, and its activations are still there */
};

/* network_params.c: the list of trained tensors, and where they lie. */
enum status network_params_create(struct network *network, struct err *err) MUST_CHECK;
struct layer_params network_params_of(const struct network *network, int layer);

/* network_plan.c: gradient buffers, and the shapes of a pass. */
enum status network_slots_create(struct network *network, struct err *err) MUST_CHECK;
/* Sets every node's tensors to what the plan keeps; decides which stay lazy. */
void network_set_plan(struct network *network, const struct plan *plan);
/* Whether a layer reads fewer channels of input k than there are, and needs a copy. */
bool network_narrows(const struct network *network, const struct node *node, int k);
struct layer_pass network_pass(const struct network *network, int index);

/* network_backward.c. */
enum status network_run_backward(struct network *network, const float *dlogits, float *dinput, struct err *err) MUST_CHECK;
/* network.c: data of the inputs; narrowed copies. */
enum status network_set_inputs(struct network *network, int index, struct err *err) MUST_CHECK;
void network_copy_narrow(const struct network *network, const struct node *node, int k, float *whole, float *narrow,
                         bool back);
enum status network_in_layer(enum status status, const struct network *network, int index, struct err *err) MUST_CHECK;

#endif
