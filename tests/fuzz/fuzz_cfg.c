/* A cfg: as a network (graph, blocks, groups, levels, what a plan computes), as
 * a cluster and as a scenario. Neither allocates weights, so any size that is accepted is cheap. */
#include "tests/fuzz/fuzz.h"

#include "common/cfg.h"
#include "common/plan.h"
#include "deploy/cluster.h"
#include "deploy/scenario.h"

#include <stdlib.h>

const int fuzz_mutations = 40000;

static void use_levels(const struct net *net, const struct blocks *blocks, const struct groups *groups,
                       const struct levels *levels) {
    struct plan *plan = NULL;
    struct counts *counts = NULL;
    if (!plan_create(&plan, blocks->nblocks, 0, NULL) && !counts_create(&counts, groups, NULL))
        for (int level = 0; level < levels->nlevels; level++) {
            for (int b = 0; b < blocks->nblocks; b++) plan->level[b] = b % 2 ? level : 0;
            counts_set(counts, net, blocks, groups, levels, plan);
            for (int i = -1; i < net->nlayers; i++)
                FUZZ_REQUIRE(counts_total(counts, groups, i) > 0 &&
                             counts_total(counts, groups, i) <= net_shape_of(net, i).c);
            const double work = counts_multiply_adds(counts, net, blocks, groups, levels, plan, 0, net->nlayers - 1);
            FUZZ_REQUIRE(work >= 0 && work < 1e18);
        }
    counts_destroy(&counts);
    plan_destroy(&plan);
}

static void use_network(const struct cfg *cfg) {
    struct net *net = NULL;
    struct blocks *blocks = NULL;
    struct groups *groups = NULL;
    struct levels *levels = NULL;
    const struct groups_ends whole = {0};
    struct err err;
    /* Long ones are only slow. */
    if (cfg->nsections < 200 && !net_create(&net, cfg, &err) && !blocks_create(&blocks, net, cfg, &err) &&
        blocks->nblocks <= PLAN_MAX_BLOCKS && !groups_create(&groups, net, &whole, &err) &&
        !levels_create(&levels, cfg, net, groups, &err))
        use_levels(net, blocks, groups, levels);
    levels_destroy(&levels);
    groups_destroy(&groups);
    blocks_destroy(&blocks);
    net_destroy(&net);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cfg *cfg = NULL;
    struct cluster *cluster = NULL;
    struct err err;
    if (!cfg_parse(&cfg, "fuzz", (const char *)data, size, &err)) use_network(cfg);
    cfg_destroy(&cfg);
    if (!cluster_parse(&cluster, "fuzz", (const char *)data, size, &err)) {
        FUZZ_REQUIRE(cluster->nworkers > 0 && cluster->nworkers <= cluster->nall && cluster->nall <= CLUSTER_MAX_WORKERS);
        char host[CLUSTER_ADDRESS];
        for (int i = 0; i < cluster->nall; i++) cluster_host(cluster->worker[i].address, host);
    }
    cluster_destroy(&cluster);
    struct scenario *scenario = NULL;
    if (!scenario_parse(&scenario, "fuzz", (const char *)data, size, &err)) {
        double *due_s = NULL;
        int n;
        FUZZ_REQUIRE(scenario->nhosts > 0 && scenario->nhosts <= CLUSTER_MAX_WORKERS);
        if (!scenario_due(scenario, 1 + 1000 / scenario->seconds, 0, &due_s, &n, &err)) {
            FUZZ_REQUIRE(n > 0);
            char *text = scenario_json(scenario, due_s, n);
            FUZZ_REQUIRE(text);
            free(text);
        }
        free(due_s);
    }
    scenario_destroy(&scenario);
    return 0;
}
