/* For tests: a network with its blocks, groups and levels from cfg text. */
#ifndef ESPALIER_TESTS_GRAPH_H
#define ESPALIER_TESTS_GRAPH_H

#include "common/blocks.h"
#include "common/groups.h"
#include "common/net.h"
#include "common/plan.h"

struct graph {
    struct cfg *cfg;
    struct net *net;
    struct blocks *blocks;
    struct groups *groups;
    struct levels *levels;
};

static inline enum status graph_parse(struct graph *g, const char *text, size_t length, struct err *err) {
    enum status status;
    *g = (struct graph){0};
    if ((status = cfg_parse(&g->cfg, "t.cfg", text, length, err)) || (status = net_create(&g->net, g->cfg, err)) ||
        (status = blocks_create(&g->blocks, g->net, g->cfg, err)) ||
        (status = groups_create(&g->groups, g->net, NULL, err)))
        return status;
    return levels_create(&g->levels, g->cfg, g->net, g->groups, err);
}

static inline void graph_free(struct graph *g) {
    levels_destroy(&g->levels);
    groups_destroy(&g->groups);
    blocks_destroy(&g->blocks);
    net_destroy(&g->net);
    cfg_destroy(&g->cfg);
}

#endif
