#include "deploy/planner_bounds.h"

#include <float.h>
#include <string.h>

bool planner_next_node(const struct planner_problem *p, int s, int level, int *link, int *codec) {
    if (*link < 0) {
        *link = 0;
        *codec = -1;
    }
    for (;;) {
        while (++*codec < CODEC_COUNT)
            if (p->codecs[s] >> *codec & 1) return true;
        /* caps at or below the level change nothing; the source has none */
        do
            if (++*link >= p->nlevels || s == 0) return false;
        while (*link <= level || !(p->links[s] >> *link & 1));
        *codec = -1;
    }
}

void planner_loads(const struct planner_problem *p, const struct planner_choice *choice, int64_t *stage,
                   int64_t *link) {
    int arriving = 0;
    stage[0] = 0;
    for (int s = 0; s < p->nslices; s++) {
        const struct planner_choice *c = &choice[s];
        if (s > 0) arriving = choice[s - 1].level > c->link ? choice[s - 1].level : c->link;
        stage[s] += planner_row(p, p->encode, s, arriving)[c->codec];
        link[s] = planner_row(p, p->wire, s, arriving)[c->codec];
        stage[s + 1] =
            planner_row(p, p->decode, s, arriving)[c->codec] + planner_compute(p, s, c->level, arriving);
    }
}

/* From behind slice s-1, done at `level`, over the nodes in front of s. */
static double cross_least(const struct planner_bound *b, const struct planner_problem *p, int64_t bottleneck_max,
                          const struct planner_weights *w, int s, int level, int *node) {
    double least = DBL_MAX;
    int link = -1, codec = 0;
    while (planner_next_node(p, s, level, &link, &codec)) {
        int arriving = link > level ? link : level;
        int64_t encode = planner_row(p, p->encode, s, arriving)[codec];
        int64_t wire = planner_row(p, p->wire, s, arriving)[codec];
        double rest = b->from_node[s][planner_node(arriving, codec)];
        if (encode > bottleneck_max || wire > bottleneck_max || rest == DBL_MAX) continue;
        double time = w->stage[s] * (double)encode + w->link[s] * (double)wire + (double)p->latency[s];
        int64_t cost =
            p->codec_cost[s * CODEC_COUNT + codec] + (link ? p->link_cost[s * p->nlevels + link] : 0);
        double sum = b->weight_cost * (double)cost + b->weight_time * time + rest;
        if (sum < least) {
            least = sum;
            *node = planner_node(arriving, codec);
        }
    }
    return least;
}

/* From in front of slice s, over its levels. */
static double run_least(const struct planner_bound *b, const struct planner_problem *p, int64_t bottleneck_max,
                        const struct planner_weights *w, int s, int arriving, int codec, int *level) {
    double least = DBL_MAX;
    int64_t decode = planner_row(p, p->decode, s, arriving)[codec];
    for (int l = 0; l < p->nlevels; l++) {
        if (!(p->levels[s] >> l & 1) || b->behind[s][l] == DBL_MAX) continue;
        int64_t time = decode + planner_compute(p, s, l, arriving);
        if (time > bottleneck_max) continue;
        double sum = b->weight_cost * (double)p->slice_cost[s * p->nlevels + l] +
                     b->weight_time * w->stage[s + 1] * (double)time + b->behind[s][l];
        if (sum < least) {
            least = sum;
            *level = l;
        }
    }
    return least;
}

/* Follows the best steps, and sums up what they take. */
static void read_plan(struct planner_bound *b, const struct planner_problem *p, const struct planner_weights *w,
                      int first) {
    int node = first, before = 0;
    for (int s = 0; s < p->nslices; s++) {
        int arriving = node / CODEC_COUNT;
        b->choice[s].link = arriving > before ? arriving : 0;
        b->choice[s].codec = (enum codec)(node % CODEC_COUNT);
        before = b->choice[s].level = b->level[s][node];
        if (s + 1 < p->nslices) node = b->node[s][before];
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
    int node = 0;
    b->weight_cost = weight_cost;
    b->weight_time = weight_time;
    for (int s = p->nslices - 1; s >= 0; s--) {
        for (int l = 0; l < p->nlevels; l++) {
            b->behind[s][l] =
                s + 1 == p->nslices ? 0 : cross_least(b, p, bottleneck_max, weights, s + 1, l, &node);
            b->node[s][l] = (uint8_t)node;
        }
        for (int a = 0; a < (s > 0 ? p->nlevels : 1); a++)
            for (int c = 0; c < CODEC_COUNT; c++) {
                int level = 0;
                if (!(p->codecs[s] >> c & 1)) continue;
                b->from_node[s][planner_node(a, c)] = run_least(b, p, bottleneck_max, weights, s, a, c, &level);
                b->level[s][planner_node(a, c)] = (uint8_t)level;
            }
    }
    b->total = cross_least(b, p, bottleneck_max, weights, 0, 0, &node);
    if (b->total < DBL_MAX) read_plan(b, p, weights, node);
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t cross_minimax(const struct planner_minimax *m, const struct planner_problem *p, int s, int level) {
    int64_t least = INT64_MAX;
    int link = -1, codec = 0;
    while (planner_next_node(p, s, level, &link, &codec)) {
        int arriving = link > level ? link : level;
        int64_t load = max64(planner_row(p, p->wire, s, arriving)[codec], planner_row(p, p->encode, s, arriving)[codec]);
        load = max64(load, m->from_node[s][planner_node(arriving, codec)]);
        if (load < least) least = load;
    }
    return least;
}

void planner_minimax_fill(struct planner_minimax *m, const struct planner_problem *p) {
    for (int s = p->nslices - 1; s >= 0; s--) {
        for (int l = 0; l < p->nlevels; l++)
            m->behind[s][l] = s + 1 == p->nslices ? 0 : cross_minimax(m, p, s + 1, l);
        for (int a = 0; a < (s > 0 ? p->nlevels : 1); a++)
            for (int c = 0; c < CODEC_COUNT; c++) {
                if (!(p->codecs[s] >> c & 1)) continue;
                int64_t least = INT64_MAX, decode = planner_row(p, p->decode, s, a)[c];
                for (int l = 0; l < p->nlevels; l++) {
                    int64_t load = max64(decode + planner_compute(p, s, l, a), m->behind[s][l]);
                    if ((p->levels[s] >> l & 1) && load < least) least = load;
                }
                m->from_node[s][planner_node(a, c)] = least;
            }
    }
    m->total = cross_minimax(m, p, 0, 0);
}
