#include "deploy/planner_bounds.h"

#include <float.h>
#include <string.h>

bool planner_next_step(const struct planner_problem *p, int s, int before, struct planner_step *step) {
    for (;;) {
        if (step->codec >= 0) /* more levels of the slice, behind this link */
            while (++step->level < p->nlevels)
                if (p->levels[s] >> step->level & 1) {
                    step->arriving = step->link > before ? step->link : before;
                    step->crossing = step->level > step->arriving ? step->level : step->arriving;
                    return true;
                }
        step->level = -1;
        while (++step->codec < CODEC_COUNT)
            if (p->codecs[s] >> step->codec & 1) break;
        if (step->codec < CODEC_COUNT) continue;
        step->codec = -1;
        /* caps at or below the level before change nothing; the source has none */
        do
            if (++step->link >= p->nlevels || s == 0) return false;
        while (step->link <= before || !(p->links[s] >> step->link & 1));
    }
}

void planner_loads(const struct planner_problem *p, const struct planner_choice *choice, int64_t *stage,
                   int64_t *link) {
    int arriving = 0;
    stage[0] = 0;
    for (int s = 0; s < p->nslices; s++) {
        const struct planner_choice *c = &choice[s];
        if (s > 0) arriving = choice[s - 1].level > c->link ? choice[s - 1].level : c->link;
        int crossing = c->level > arriving ? c->level : arriving;
        stage[s] += planner_row(p, p->encode, s, crossing)[c->codec];
        link[s] = planner_row(p, p->wire, s, crossing)[c->codec];
        stage[s + 1] = planner_run(p, s, c->level, arriving, c->codec);
    }
}

/* Onto the link into slice s, with `arriving` on it: least over codecs and the
 * slice's levels. */
static double enter_least(const struct planner_bound *b, const struct planner_problem *p, int64_t bottleneck_max,
                          const struct planner_weights *w, int s, int arriving, int *node) {
    double least = DBL_MAX;
    const double *from_node = b->from_node + (size_t)s * planner_nodes(p);
    for (int l = 0; l < p->nlevels; l++) {
        if (!(p->levels[s] >> l & 1)) continue;
        int crossing = l > arriving ? l : arriving;
        const int64_t *encode = planner_row(p, p->encode, s, crossing), *wire = planner_row(p, p->wire, s, crossing);
        for (int c = 0; c < CODEC_COUNT; c++) {
            if (!(p->codecs[s] >> c & 1) || planner_busy(p, s - 1, encode[c]) > bottleneck_max ||
                planner_busy(p, s, wire[c]) > bottleneck_max) continue;
            int to = planner_node(p, l, arriving, c);
            if (from_node[to] == DBL_MAX) continue;
            double time = w->stage[s] * (double)encode[c] + w->link[s] * (double)wire[c] + (double)p->latency[s];
            double sum = b->weight_cost * (double)p->codec_cost[s * CODEC_COUNT + c] + b->weight_time * time +
                         from_node[to];
            if (sum < least) {
                least = sum;
                *node = to;
            }
        }
    }
    return least;
}

/* From behind each level of slice s-1 (the source: level 0 only) into slice s. */
static void cross_least(const struct planner_bound *b, const struct planner_problem *p, int64_t bottleneck_max,
                        const struct planner_weights *w, int s, double *least, int *node) {
    int levels = s > 0 ? p->nlevels : 1;
    double enter[PLAN_MAX_LEVELS];
    int entered[PLAN_MAX_LEVELS] = {0};
    for (int a = 0; a < levels; a++) enter[a] = enter_least(b, p, bottleneck_max, w, s, a, &entered[a]);
    for (int l = 0; l < levels; l++) {
        least[l] = enter[l];
        node[l] = entered[l];
        for (int m = l + 1; m < levels; m++) {
            if (!(p->links[s] >> m & 1)) continue;
            if (enter[m] >= least[l]) continue;
            least[l] = enter[m];
            node[l] = entered[m];
        }
    }
}

/* Follows the best steps, and sums up what they take. */
static void read_plan(struct planner_bound *b, const struct planner_problem *p, const struct planner_weights *w,
                      int first) {
    int node = first, before = 0;
    for (int s = 0; s < p->nslices; s++) {
        int arriving = node / CODEC_COUNT % p->nlevels;
        b->choice[s].link = arriving > before ? arriving : 0;
        b->choice[s].codec = (enum codec)(node % CODEC_COUNT);
        before = b->choice[s].level = node / CODEC_COUNT / p->nlevels;
        node = b->next[s][before];
    }
    int64_t stage[PLANNER_MAX_SLICES + 1], link[PLANNER_MAX_SLICES];
    planner_loads(p, b->choice, stage, link);
    b->time = 0;
    for (int s = 0; s <= p->nslices; s++) b->time += w->stage[s] * (double)stage[s];
    for (int s = 0; s < p->nslices; s++) b->time += w->link[s] * (double)link[s] + (double)p->latency[s];
    b->cost = (double)planner_evaluate(p, b->choice, 0).cost;
}

void planner_bound_fill(struct planner_bound *b, const struct planner_problem *p, int64_t bottleneck_max,
                        double weight_cost, double weight_time, const struct planner_weights *weights) {
    double rest[PLAN_MAX_LEVELS] = {0};
    int next[PLAN_MAX_LEVELS] = {0};
    b->weight_cost = weight_cost;
    b->weight_time = weight_time;
    for (int s = p->nslices - 1; s >= 0; s--) {
        double *from_node = b->from_node + (size_t)s * planner_nodes(p);
        for (int l = 0; l < p->nlevels; l++) {
            if (!(p->levels[s] >> l & 1)) continue;
            b->behind[s][l] = rest[l];
            b->next[s][l] = (uint16_t)next[l];
            for (int a = 0; a < (s > 0 ? p->nlevels : 1); a++) {
                double cost = weight_cost * (double)planner_slice_cost(p, s, l, a);
                for (int c = 0; c < CODEC_COUNT; c++) {
                    if (!(p->codecs[s] >> c & 1)) continue;
                    int64_t time = planner_run(p, s, l, a, c);
                    bool closed = planner_busy(p, s, time) > bottleneck_max || rest[l] == DBL_MAX;
                    from_node[planner_node(p, l, a, c)] =
                        closed ? DBL_MAX : cost + weight_time * weights->stage[s + 1] * (double)time + rest[l];
                }
            }
        }
        cross_least(b, p, bottleneck_max, weights, s, rest, next);
    }
    b->total = rest[0];
    if (b->total < DBL_MAX) read_plan(b, p, weights, next[0]);
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t cross_minimax(const struct planner_minimax *m, const struct planner_problem *p, int s, int before) {
    int64_t least = INT64_MAX;
    const int64_t *from_node = m->from_node + (size_t)s * planner_nodes(p);
    for (struct planner_step step = planner_first_step(); planner_next_step(p, s, before, &step);) {
        int64_t load = max64(planner_busy(p, s, planner_row(p, p->wire, s, step.crossing)[step.codec]),
                             planner_busy(p, s - 1, planner_row(p, p->encode, s, step.crossing)[step.codec]));
        load = max64(load, from_node[planner_node(p, step.level, step.arriving, step.codec)]);
        if (load < least) least = load;
    }
    return least;
}

void planner_minimax_fill(struct planner_minimax *m, const struct planner_problem *p) {
    for (int s = p->nslices - 1; s >= 0; s--) {
        int64_t *from_node = m->from_node + (size_t)s * planner_nodes(p);
        for (int l = 0; l < p->nlevels; l++) {
            if (!(p->levels[s] >> l & 1)) continue;
            m->behind[s][l] = s + 1 == p->nslices ? 0 : cross_minimax(m, p, s + 1, l);
            for (int a = 0; a < (s > 0 ? p->nlevels : 1); a++)
                for (int c = 0; c < CODEC_COUNT; c++)
                    if (p->codecs[s] >> c & 1)
                        from_node[planner_node(p, l, a, c)] = max64(planner_busy(p, s, planner_run(p, s, l, a, c)), m->behind[s][l]);
        }
    }
    m->total = cross_minimax(m, p, 0, 0);
}
