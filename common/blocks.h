/* Cut points and blocks of a network.
 *
 * A cut point lies between layers i and i+1 where a single tensor crosses.
 * A cut in front of a layer without weights of its own (pooling, dropout,
 * avgpool, softmax, ...) is never better than the one behind it, so it does
 * not count as one. A block is the run of layers between two consecutive cut
 * points: the smallest thing that can be placed on a device. A slice is a run
 * of consecutive blocks. */
#ifndef ESPALIER_BLOCKS_H
#define ESPALIER_BLOCKS_H

#include "common/err.h"
#include "common/net.h"

struct block {
    int first, last; /* layers, inclusive */
    int source;      /* the layer whose output enters (-1: the network's input) */
};

struct blocks {
    int nblocks;
    struct block *block;
    int *of_layer; /* [nlayers] the block of each layer */
    /* [nblocks + 1] Of what enters each block (the last: of what leaves the
     * network), the first block whose output is still part of it, joined by
     * shortcuts and routes all the way: along a residual stage, the one before
     * the stage's first shortcut. -1: what enters the network is part of it. */
    int *chain;
    /* Slices wished for by [slice] sections: first blocks, slices[0] = 0. */
    int nslices;
    int *slice_first;
};

/* A [slice] that is not at a cut point is an error that names the nearest. */
enum status blocks_create(struct blocks **blocks, const struct net *net, const struct cfg *cfg,
                          struct err *err) MUST_CHECK;
void blocks_destroy(struct blocks **blocks);
/* The block that begins right behind `layer`, i.e. the cut after that layer;
 * STATUS_USAGE naming the nearest cut points if there is none. */
enum status blocks_cut_after(const struct blocks *blocks, int layer, int *block, struct err *err) MUST_CHECK;
/* --cuts: layers behind which slices end, rising, with commas between them
 * ("8,15"; NULL: as the [slice] sections wish). slice_first: room for nblocks. */
enum status blocks_parse_cuts(const struct blocks *blocks, const char *text, int *slice_first, int *nslices,
                              struct err *err) MUST_CHECK;

#endif
