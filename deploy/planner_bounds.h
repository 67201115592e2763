/* Bounds for the planner's search, computed backwards over the links once per
 * solve. Private to the planner.
 *
 * A node is a slice at a level with a link in front of it: (level, arriving
 * level, codec). All that the rest of the pipeline depends on is in the node. */
#ifndef ESPALIER_PLANNER_BOUNDS_H
#define ESPALIER_PLANNER_BOUNDS_H

#include "deploy/planner.h"

#include <math.h>

/* Nodes of a slice: [level][arriving][CODEC_COUNT]. */
static inline int planner_nodes(const struct planner_problem *p) {
    return p->nlevels * p->nlevels * CODEC_COUNT;
}
static inline int planner_node(const struct planner_problem *p, int level, int arriving, int codec) {
    return (level * p->nlevels + arriving) * CODEC_COUNT + codec;
}

/* A row of encode, wire or decode: [CODEC_COUNT] times of a link at a level. */
static inline const int64_t *planner_row(const struct planner_problem *p, const int64_t *table, int s, int level) {
    return table + ((size_t)s * p->nlevels + level) * CODEC_COUNT;
}

static inline int64_t planner_compute(const struct planner_problem *p, int s, int own, int incoming) {
    return p->compute[((size_t)s * p->nlevels + own) * p->nlevels + incoming];
}

static inline int64_t planner_slice_cost(const struct planner_problem *p, int s, int own, int incoming) {
    return p->slice_cost[((size_t)s * p->nlevels + own) * p->nlevels + incoming];
}

/* What slice s itself takes at a level, coding of what it sends left out. */
static inline int64_t planner_run(const struct planner_problem *p, int s, int level, int arriving, int codec) {
    return planner_row(p, p->decode, s, level > arriving ? level : arriving)[codec] +
           planner_compute(p, s, level, arriving);
}

/* The part of a stage's or link's time that a frame keeps each server busy; slice -1 is the source. */
static inline int64_t planner_busy(const struct planner_problem *p, int s, int64_t time) {
    return s < 0 || p->servers[s] == 1 ? time : (int64_t)ceil((double)time / p->servers[s]);
}

/* Steps through the nodes of slice s that can follow a slice that ran at
 * level `before` (the source: 0). */
struct planner_step {
    int level, link, codec;
    int arriving, crossing;
};
static inline struct planner_step planner_first_step(void) {
    return (struct planner_step){.level = -1, .codec = -1};
}
/* False after the last. */
bool planner_next_step(const struct planner_problem *problem, int s, int before, struct planner_step *step);

/* What each stage and link counts in a weighted sum of times. */
struct planner_weights {
    double stage[PLANNER_MAX_SLICES + 1]; /* [0]: the source, which encodes only; [s + 1]: slice s */
    double link[PLANNER_MAX_SLICES];
};

/* Least weighted sum of cost and time to the end, and the plan that has it. */
struct planner_bound {
    double weight_cost, weight_time;
    double *from_node; /* [nslices][nodes]: standing in front of the node's slice; DBL_MAX: no way */
    double behind[PLANNER_MAX_SLICES][PLAN_MAX_LEVELS]; /* slice s done, at a level, but for coding */
    uint16_t next[PLANNER_MAX_SLICES][PLAN_MAX_LEVELS]; /* the best node behind it */
    double total;                                       /* from the source */
    struct planner_choice choice[PLANNER_MAX_SLICES];   /* valid if total < DBL_MAX */
    double time, cost;                                  /* of that plan; time by the weights */
};

/* Minimises weight_cost * cost + weight_time * (weighted time) over plans
 * whose stages and links take at most bottleneck_max, or nearly so: coding may
 * be looked at apart from computing, so the bound may lie below. */
void planner_bound_fill(struct planner_bound *bound, const struct planner_problem *problem, int64_t bottleneck_max,
                        double weight_cost, double weight_time, const struct planner_weights *weights);

/* Least bottleneck to the end, a lower bound in the same sense. */
struct planner_minimax {
    int64_t *from_node; /* [nslices][nodes] */
    int64_t behind[PLANNER_MAX_SLICES][PLAN_MAX_LEVELS];
    int64_t total;
};
void planner_minimax_fill(struct planner_minimax *minimax, const struct planner_problem *problem);

/* Times of a plan's stages (index as in planner_weights) and links. */
void planner_loads(const struct planner_problem *problem, const struct planner_choice *choice, int64_t *stage,
                   int64_t *link);

#endif
