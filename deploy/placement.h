/* Where to cut: the blocks of a model onto hosts in the order of the pipeline,
 * every host one run of blocks, at least one each. Exact over all cut positions.
 *
 *   stage(h) = decode[h][first] + compute[h][first..last] + encode[h+1][last+1]
 *   load(h)  = link[h][first], delay(h): latency of the link, loads nothing
 *
 * THROUGHPUT minimises the largest stage or load (then the sum of everything);
 * LATENCY the sum. */
#ifndef ESPALIER_PLACEMENT_H
#define ESPALIER_PLACEMENT_H

#include "common/err.h"

enum placement_objective { PLACEMENT_THROUGHPUT, PLACEMENT_LATENCY };

/* Milliseconds, [nhosts][nblocks]: of host h, if its first block is b (link and
 * coding: of what enters there; encode: at the host before it). All owned. */
struct placement {
    int nhosts, nblocks;
    double *compute; /* of block b alone */
    double *link, *encode, *decode;
    double *delay; /* [nhosts] */
};

struct placement_value {
    double largest_ms, sum_ms;
};

/* All times 0. STATUS_USAGE if there are fewer blocks than hosts. */
enum status placement_create(struct placement **placement, int nhosts, int nblocks, struct err *err) MUST_CHECK;
void placement_destroy(struct placement **placement);
/* first: [nhosts + 1], the first block of each host, first[nhosts] = nblocks.
 * Among equals the one that cuts earliest. STATUS_USAGE if a time is negative
 * or no number. */
enum status placement_solve(const struct placement *placement, enum placement_objective objective, int *first,
                            struct placement_value *value, struct err *err) MUST_CHECK;
struct placement_value placement_evaluate(const struct placement *placement, const int *first);
/* A host's stage with blocks [first, last]; its link's load. */
double placement_stage_ms(const struct placement *placement, int host, int first, int last);
double placement_load_ms(const struct placement *placement, int host, int first);

#endif
