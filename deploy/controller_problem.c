#include "deploy/codec.h"
#include "deploy/controller_internal.h"

#include <math.h>
#include <stdlib.h>

enum status controller_maps(const struct model *model, const struct controller_stage *stages, int nstages,
                            struct controller_map *maps, struct err *err) {
    const struct blocks *blocks = model->blocks;
    int nlevels = model->levels->nlevels;
    struct counts *counts = NULL;
    struct plan *plan = NULL;
    enum status status = counts_create(&counts, model->groups, err);
    for (int l = 0; l < nlevels && !status; l++) {
        status = plan_create(&plan, blocks->nblocks, l, err);
        if (status) break;
        counts_set(counts, model->net, blocks, model->groups, model->levels, plan);
        for (int s = 0; s < nstages; s++) {
            int source = blocks->block[stages[s].first_block].source;
            struct net_shape shape = net_shape_of(model->net, source);
            maps[s * nlevels + l] = (struct controller_map){
                .c = s == 0 ? shape.c : counts_total(counts, model->groups, source),
                .hw = shape.h * shape.w,
            };
        }
        plan_destroy(&plan);
    }
    counts_destroy(&counts);
    return status;
}

/* ---- costs ---- */

static int64_t billionths(double share) {
    return (int64_t)llround(fmax(0, fmin(1, share)) * PLANNER_COST_ONE);
}

/* A step of level costs something, even where the measured images could not
 * tell: else a slice would stay pruned, or a link capped, for nothing. */
#define LEAST_STEP 0.0002

/* Of the change of level where slice s begins. */
static double step_cost(const struct controller *c, const struct accuracy *accuracy, int s, int own, int incoming) {
    double measured = s && accuracy ? accuracy_step(accuracy, c->slice[s].first_block, own, incoming) : 0;
    return fmax(measured, s && incoming > own ? LEAST_STEP * (incoming - own) : 0);
}

static void slice_costs(struct controller *c, struct planner_problem *p, const struct accuracy *accuracy, int s) {
    const struct controller_slice *slice = &c->slice[s];
    double before = 0;
    for (int l = 0; l < c->nlevels; l++) {
        double cost = 0;
        for (int b = slice->first_block; b < slice->first_block + slice->nblocks; b++)
            cost += accuracy ? accuracy->block[b * c->nlevels + l] : 0.01 * l / c->nblocks;
        if (l > 0) cost = fmax(cost, before + LEAST_STEP);
        before = cost;
        int64_t *by_incoming = p->slice_cost + (s * c->nlevels + l) * c->nlevels;
        for (int in = 0; in < c->nlevels; in++) by_incoming[in] = billionths(cost + step_cost(c, accuracy, s, l, in));
    }
    if (s == 0 || !accuracy) return;
    int b = slice->first_block;
    for (int k = 0; k < CODEC_COUNT; k++)
        p->codec_cost[s * CODEC_COUNT + k] =
            billionths(fmax(accuracy->codec[b * CODEC_COUNT + k], (k / 2 - CODEC_F16 / 2) * LEAST_STEP));
}

/* Codecs that the link into slice s may use. */
static unsigned allowed_codecs(const struct controller *c, const struct accuracy *accuracy, int s) {
    if (s == 0) return 0; /* the source sends frames as they come */
    unsigned set = 0;
    for (int k = 0; k < CODEC_COUNT; k++) {
        bool timed = k == CODEC_F32 || (c->slice[s - 1].encode_ns[k] > 0 && c->slice[s].decode_ns[k] > 0);
        bool known = k < CODEC_Q8 || (accuracy && accuracy->codecs);
        if (timed && known) set |= 1u << k;
    }
    return set & c->config.codecs;
}

void controller_fill_costs(struct controller *c, const struct accuracy *accuracy, const struct plan *start) {
    struct planner_problem *p = planner_problem(c->planner);
    c->base = accuracy ? accuracy->base : 1;
    double most = c->base - c->config.min_accuracy;
    c->cost_max = c->config.min_accuracy > 0 ? billionths(most) : PLANNER_UNLIMITED;
    for (int s = 0; s < c->nstages; s++) {
        int b = c->slice[s].first_block;
        slice_costs(c, p, accuracy, s);
        p->codecs[s] = allowed_codecs(c, accuracy, s) | 1u << (start ? start->codec[b] : CODEC_F32);
        p->links[s] = 0;
        if (s > 0 && c->config.link_levels && accuracy && accuracy->links) p->links[s] = (1u << c->nlevels) - 2;
        if (s > 0 && start) p->links[s] |= 1u << start->link[b];
    }
}

/* ---- times ---- */

static int64_t nanoseconds(double ns) {
    return ns < (double)PLANNER_TIME_MAX ? (ns > 0 ? (int64_t)(ns + 0.5) : 0) : PLANNER_TIME_MAX;
}

static void link_times(struct controller *c, struct planner_problem *p, int s) {
    const struct controller_slice *to = &c->slice[s], *from = s > 0 ? to - 1 : NULL;
    p->latency[s] = nanoseconds(to->latency_ms * 1e6);
    for (int l = 0; l < c->nlevels; l++) {
        const struct controller_map *map = &to->map[l];
        double values = (double)map->c * map->hw;
        for (int k = 0; k < CODEC_COUNT; k++) {
            size_t i = ((size_t)s * c->nlevels + l) * CODEC_COUNT + k;
            if (!from) {
                p->wire[i] = nanoseconds(to->image_bytes.value * to->ns_per_byte.value);
                p->decode[i] = nanoseconds(to->image_ms.value * 1e6);
                continue;
            }
            double bytes = (double)codec_raw_size((enum codec)k, map->c, map->hw) * to->packing[k].value;
            p->wire[i] = nanoseconds(bytes * to->ns_per_byte.value);
            p->encode[i] = nanoseconds(from->encode_ns[k] * values * from->slowdown.value);
            p->decode[i] = nanoseconds(to->decode_ns[k] * values * to->slowdown.value);
        }
    }
}

/* What the slowdown measured at level `present` says of `own`. A device that is
 * slow takes so many times as long; one whose core is shared takes its turns, and
 * a little work waits for one as long as more does. So for fuller levels it is
 * the slowdown at which the slice was relieved of one, if there was that, but no
 * less than what the present level loses. */
static double slowdown_for(const struct controller *c, const struct controller_slice *slice, int present, int own) {
    double value = slice->slowdown.value;
    if (own >= present || slice->heavy == 0) return value;
    double lost_ms = (value - 1) * slice->profile_ms[present * c->nlevels + present];
    return fmax(slice->heavy, 1 + lost_ms / fmax(slice->profile_ms[own * c->nlevels + own], 1e-6));
}

void controller_fill_times(struct controller *c) {
    struct planner_problem *p = planner_problem(c->planner);
    int n = c->nlevels;
    for (int s = 0; s < c->nstages; s++) {
        const struct controller_slice *slice = &c->slice[s];
        int present = c->choice[s].level;
        double beside_ms = fmax(0, slice->beside_ms), work_ms = slice->profile_ms[present * n + present];
        double beside = (beside_ms + (slice->slowdown.ratio.value - 1) * fmin(beside_ms, work_ms)) * 1e6;
        for (int own = 0; own < n; own++) {
            double factor = slowdown_for(c, slice, present, own) * slice->slowdown.correction[own] * 1e6;
            for (int in = 0; in < n; in++)
                p->compute[(s * n + own) * n + in] = nanoseconds(slice->profile_ms[own * n + in] * factor + beside);
        }
        link_times(c, p, s);
    }
    c->stale = false;
}
