/* What a training run begins with: images, network, schedule, preprocessing. */
#ifndef ESPALIER_SETUP_H
#define ESPALIER_SETUP_H

#include "common/err.h"
#include "common/model.h"
#include "train/augment.h"
#include "train/dataset.h"
#include "train/network.h"
#include "train/schedule.h"

#include <stdint.h>

struct setup_config {
    const char *data, *cfg;
    const char *from; /* what weights_load takes to start from, or NULL */
    int hold_out;     /* training images kept back; -1: a tenth, at most 1000 */
    int batch;        /* 0: the cfg's */
    bool normalize;   /* input's mean and std from the training images */
    int threads;
    uint64_t seed;
};

struct setup {
    struct dataset *train, *held_out; /* held_out NULL: none */
    struct model *model;              /* nlevels^2 batch-norm rows */
    struct model *source;             /* that `from` names, until its weights are taken over; or NULL */
    struct schedule schedule;
    struct augment augment;
    int batch, subdivisions;
};

/* Opens and checks everything; the model has labels and preprocessing. */
enum status setup_create(struct setup **setup, const struct setup_config *config, struct err *err) MUST_CHECK;
void setup_destroy(struct setup **setup);

/* Initial weights, in the network and the model: random, and where `from` was
 * given, its own for all layers of the same shape, so that a network may begin
 * from one of other classes. The others are named in a warning. */
void setup_weights(struct setup *setup, struct network *network, uint64_t seed);

/* The model's cfg read from `path`, with all pairs of levels as batch-norm rows. */
enum status setup_model(struct model **model, const char *path, struct err *err) MUST_CHECK;
/* Images of a step, `wanted` unless that is 0, and the parts of it, as [net] says. */
enum status setup_batch(const struct cfg *cfg, int wanted, int *batch, int *subdivisions, struct err *err) MUST_CHECK;
/* That the data has as many classes as the network has outputs. */
enum status setup_check_classes(const struct dataset *dataset, const struct model *model, struct err *err) MUST_CHECK;

#endif
