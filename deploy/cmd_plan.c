/* plan: where to cut a model for a cluster, from each host's profile and each
 * link's rate. */
#include "deploy/commands.h"

#include "common/file.h"
#include "common/log.h"
#include "common/options.h"
#include "deploy/cluster.h"
#include "deploy/codec.h"
#include "deploy/controller.h"
#include "deploy/placement.h"
#include "deploy/profile_measure.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILE_MAX_BYTES = 64 << 20, REPEATS = 9, COMBINATIONS_MAX = 5000 };

/* The best plan above the least accuracy at one cut of two hosts. */
struct partition {
    int level[2], link;
    enum codec codec;
    struct controller_optimum expected;
};

struct planning {
    const char *profiles; /* folder, or NULL */
    int level, threads;
    double min_accuracy; /* < 0: not given */
    enum placement_objective objective;

    struct cluster *cluster;
    struct model *model;
    struct profile *profile[CLUSTER_MAX_WORKERS];
    struct controller_map *maps; /* [nblocks][nlevels], of what enters each block */
    struct placement *placement;
    int first[CLUSTER_MAX_WORKERS + 1];
    struct placement_value value;
    /* with a least accuracy: the plan that goes with the cuts */
    struct plan *plan, *trial;
    struct controller_optimum expected; /* of it */
    struct partition *partition; /* [nblocks] by the second host's first block */
};

/* ---- what is known --------------------------------------------------------------- */

/* DIR/NAME.json, or else a measurement here, once for all hosts without one. */
static enum status read_profile(struct planning *p, int host, const struct profile **here, struct err *err) {
    const struct blocks *blocks = p->model->blocks;
    const char *name = p->cluster->worker[host].name;
    char path[1024];
    uint8_t *text = NULL;
    size_t length;
    if (p->profiles) {
        snprintf(path, sizeof path, "%s/%s.json", p->profiles, name);
        enum status status = file_read(path, PROFILE_MAX_BYTES, &text, &length, err);
        if (!status) status = profile_parse(&p->profile[host], path, (const char *)text, err);
        free(text);
        if (status) {
            err_hint(err, "on %s: espalier-deploy profile MODEL -o %s.json", name, name);
            return status;
        }
        if (p->profile[host]->nblocks != blocks->nblocks || p->profile[host]->nlevels != p->model->levels->nlevels)
            return err_set(err, STATUS_FORMAT, "%s: %d blocks and %d levels; the model has %d and %d", path,
                           p->profile[host]->nblocks, p->profile[host]->nlevels, blocks->nblocks,
                           p->model->levels->nlevels);
        return STATUS_OK;
    }
    if (!*here) {
        log_info("no --profiles: all hosts are taken to be as fast as this one, which is measured now");
        struct pool *pool = NULL;
        enum status status = pool_create(&pool, p->threads > 0 ? p->threads : pool_default_threads(), err);
        if (!status) status = profile_measure(&p->profile[host], p->model, pool, REPEATS, err);
        pool_destroy(&pool);
        if (status) return status;
        *here = p->profile[host];
        return STATUS_OK;
    }
    const struct profile *from = *here;
    enum status status = profile_create(&p->profile[host], from->nblocks, from->nlevels, err);
    if (status) return status;
    struct profile *to = p->profile[host];
    size_t n = (size_t)from->nblocks * (size_t)from->nlevels * (size_t)from->nlevels;
    memcpy(to->ms, from->ms, n * sizeof *to->ms);
    memcpy(to->encode_ns, from->encode_ns, sizeof to->encode_ns);
    memcpy(to->decode_ns, from->decode_ns, sizeof to->decode_ns);
    return STATUS_OK;
}

static enum status read_maps(struct planning *p, struct err *err) {
    int nblocks = p->model->blocks->nblocks, nlevels = p->model->levels->nlevels;
    struct controller_stage *each = calloc((size_t)nblocks, sizeof *each);
    p->maps = calloc((size_t)nblocks * (size_t)nlevels, sizeof *p->maps);
    enum status status = each && p->maps ? STATUS_OK : err_memory(err, "plan");
    for (int b = 0; b < nblocks && !status; b++) each[b] = (struct controller_stage){.first_block = b, .nblocks = 1};
    if (!status) status = controller_maps(p->model, each, nblocks, p->maps, err);
    free(each);
    return status;
}

static int link_level(const struct planning *p, int host) {
    int level = p->cluster->worker[host].link.level, most = p->model->levels->nlevels - 1;
    return level > p->level ? (level < most ? level : most) : p->level;
}

/* Bytes into `host`, if its first block is `block`; of the raw form of its
 * link's codec. */
static double bytes_into(const struct planning *p, int host, int block) {
    const struct controller_map *m = &p->maps[block * p->model->levels->nlevels + link_level(p, host)];
    return (double)codec_raw_size(p->cluster->worker[host].link.codec, m->c, m->hw);
}

static enum status fill_placement(struct planning *p, struct err *err) {
    int nhosts = p->cluster->nworkers, n = p->model->blocks->nblocks, nlevels = p->model->levels->nlevels;
    enum status status = placement_create(&p->placement, nhosts, n, err);
    if (status) return status;
    for (int h = 0; h < nhosts; h++) {
        const struct cluster_link *link = &p->cluster->worker[h].link;
        p->placement->delay[h] = link->delay_ms;
        for (int b = 0; b < n; b++) {
            int i = h * n + b;
            p->placement->compute[i] = profile_ms(p->profile[h], b, p->level, p->level);
            if (h == 0 || b == 0) continue; /* frames come as files; host 0 begins with block 0 */
            const struct controller_map *m = &p->maps[b * nlevels + link_level(p, h)];
            double values = (double)m->c * m->hw;
            p->placement->encode[i] = p->profile[h - 1]->encode_ns[link->codec] * values * 1e-6;
            p->placement->decode[i] = p->profile[h]->decode_ns[link->codec] * values * 1e-6;
            if (link->rate_kb_s > 0) p->placement->link[i] = bytes_into(p, h, b) / (double)link->rate_kb_s;
        }
    }
    return STATUS_OK;
}

/* ---- cuts and plan together ------------------------------------------------------- */

/* What is to be small. */
static double measure_of(const struct planning *p, const struct controller_optimum *expected) {
    return p->objective == PLACEMENT_LATENCY ? expected->sum_ms : expected->bottleneck_ms;
}

/* The best plan above the least accuracy with these cuts; kept if it beats the
 * best so far. */
static enum status try_cuts(struct planning *p, const int *first, struct err *err) {
    int nhosts = p->cluster->nworkers, nlevels = p->model->levels->nlevels;
    struct controller_stage stages[CLUSTER_MAX_WORKERS];
    struct controller_map maps[CLUSTER_MAX_WORKERS * PLAN_MAX_LEVELS];
    for (int h = 0; h < nhosts; h++) {
        const struct cluster_link *link = &p->cluster->worker[h].link;
        stages[h] = (struct controller_stage){.first_block = first[h], .nblocks = first[h + 1] - first[h],
                                              .profile = p->profile[h], .bytes_per_s = link->rate_kb_s * 1e3,
                                              .latency_ms = link->delay_ms};
        memcpy(maps + h * nlevels, p->maps + first[h] * nlevels, (size_t)nlevels * sizeof *maps);
    }
    struct controller_config config = controller_defaults();
    config.slo_ms = 1;
    config.min_accuracy = p->min_accuracy;
    struct controller *controller = NULL;
    struct controller_optimum expected;
    enum status status = controller_create(&controller, &config, stages, nhosts, p->model->accuracy,
                                           p->model->blocks->nblocks, nlevels, maps, err);
    if (!status) status = controller_optimum(controller, 0, p->objective == PLACEMENT_LATENCY ? 0 : CONTROLLER_MANY, p->trial, &expected, err);
    controller_destroy(&controller);
    if (status) return status;
    if (nhosts == 2) {
        const struct plan *t = p->trial;
        int b = first[1];
        p->partition[b] = (struct partition){{t->level[0], t->level[b]}, t->link[b], t->codec[b], expected};
    }
    if (measure_of(p, &expected) >= measure_of(p, &p->expected)) return STATUS_OK;
    p->expected = expected;
    struct plan *swap = p->plan;
    p->plan = p->trial;
    p->trial = swap;
    memcpy(p->first, first, ((size_t)nhosts + 1) * sizeof *first);
    return STATUS_OK;
}

static enum status each_cuts(struct planning *p, int host, int *first, struct err *err) {
    int nhosts = p->cluster->nworkers, n = p->model->blocks->nblocks;
    if (host == nhosts) {
        first[host] = n;
        return try_cuts(p, first, err);
    }
    for (int b = host ? first[host - 1] + 1 : 0; b <= (host ? n - (nhosts - host) : 0); b++) {
        first[host] = b;
        enum status status = each_cuts(p, host + 1, first, err);
        if (status) return status;
    }
    return STATUS_OK;
}

static enum status solve(struct planning *p, struct err *err) {
    enum status status = placement_solve(p->placement, p->objective, p->first, &p->value, err);
    if (status || p->min_accuracy < 0) return status;
    int nhosts = p->cluster->nworkers, n = p->model->blocks->nblocks, first[CLUSTER_MAX_WORKERS + 1];
    double combinations = 1;
    for (int k = 1; k < nhosts; k++) combinations *= (double)(n - k) / k;
    if (combinations > COMBINATIONS_MAX)
        return err_set(err, STATUS_LIMIT,
                       "%.0f ways to cut %d blocks for %d hosts are too many to plan each (at most %d); leave out "
                       "--min-accuracy, and let the controller choose the levels",
                       combinations, n, nhosts, COMBINATIONS_MAX);
    p->expected = (struct controller_optimum){.sum_ms = INFINITY, .bottleneck_ms = INFINITY};
    status = plan_create(&p->plan, n, 0, err);
    if (!status && !(p->partition = calloc((size_t)n, sizeof *p->partition))) status = err_memory(err, "plan");
    if (!status) status = plan_create(&p->trial, n, 0, err);
    if (!status) status = each_cuts(p, 0, first, err);
    if (!status) p->value = placement_evaluate(p->placement, p->first);
    return status;
}

/* ---- telling ----------------------------------------------------------------------- */

static void cuts_text(const struct planning *p, const int *first, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (int h = 1; h < p->cluster->nworkers && used < size; h++)
        used += (size_t)snprintf(text + used, size - used, "%s%d", h > 1 ? "," : "",
                                 p->model->blocks->block[first[h]].first - 1);
}

/* As `run` takes it: "0,2" and "1:q8z". */
static void plan_text(const struct planning *p, char *levels, char *links, size_t size) {
    size_t used = 0, linked = 0;
    levels[0] = links[0] = '\0';
    for (int h = 0; h < p->cluster->nworkers; h++) {
        int b = p->first[h];
        used += (size_t)snprintf(levels + used, size - used, "%s%d", h ? "," : "", p->plan->level[b]);
        if (h)
            linked += (size_t)snprintf(links + linked, size - linked, "%s%d:%s", h > 1 ? "," : "", p->plan->link[b],
                                       codec_name(p->plan->codec[b]));
    }
}

/* What a host and its link would take, block by block. */
static void print_blocks(const struct planning *p) {
    int nhosts = p->cluster->nworkers, n = p->model->blocks->nblocks;
    printf("block  layers    enters kB");
    for (int h = 0; h < nhosts; h++) printf("  %9.9s", p->cluster->worker[h].name);
    printf("   ms at level %d\n", p->level);
    for (int b = 0; b < n; b++) {
        const struct block *block = &p->model->blocks->block[b];
        char layers[32];
        snprintf(layers, sizeof layers, "%d-%d", block->first, block->last);
        printf("%5d  %-9s", b, layers);
        if (b) printf(" %9.1f", bytes_into(p, nhosts > 1 ? 1 : 0, b) / 1e3);
        else printf(" %9s", "-");
        for (int h = 0; h < nhosts; h++) printf("  %9.3f", p->placement->compute[h * n + b]);
        printf("\n");
    }
}

/* Bytes into the second host under a plan, before zlib. */
static double planned_bytes(const struct planning *p, int block) {
    const struct partition *t = &p->partition[block];
    int crossing = t->level[0] > t->link ? t->level[0] : t->link;
    if (t->level[1] > crossing) crossing = t->level[1];
    const struct controller_map *m = &p->maps[block * p->model->levels->nlevels + crossing];
    return (double)codec_raw_size(t->codec, m->c, m->hw);
}

/* Every partition point of two hosts, each with its own plan. */
static void print_plans(const struct planning *p) {
    printf("\ncut behind  plan  link    link kB  frames/s  latency ms  accuracy   with at least %.2f%%\n",
           100 * p->min_accuracy);
    for (int b = 1; b < p->model->blocks->nblocks; b++) {
        const struct partition *t = &p->partition[b];
        char levels[16], link[16];
        snprintf(levels, sizeof levels, "%d,%d", t->level[0], t->level[1]);
        snprintf(link, sizeof link, "%d:%s", t->link, codec_name(t->codec));
        printf("%10d  %4s  %-6s  %7.2f  %8.1f  %10.2f  %7.2f%%%s\n", p->model->blocks->block[b].first - 1, levels, link,
               planned_bytes(p, b) / 1e3, 1e3 / t->expected.bottleneck_ms, t->expected.sum_ms, 100 * t->expected.accuracy, b == p->first[1] ? "  <-" : "");
    }
}

/* Every partition point of two hosts. */
static void print_partitions(const struct planning *p) {
    int n = p->model->blocks->nblocks;
    printf("\ncut behind  %9.9s  link kB  link ms  %9.9s  frames/s  latency ms\n", p->cluster->worker[0].name,
           p->cluster->worker[1].name);
    for (int b = 1; b < n; b++) {
        const int first[3] = {0, b, n};
        struct placement_value v = placement_evaluate(p->placement, first);
        printf("%10d  %9.2f  %7.1f  %7.2f  %9.2f  %8.1f  %10.2f%s\n", p->model->blocks->block[b].first - 1,
               placement_stage_ms(p->placement, 0, 0, b - 1), bytes_into(p, 1, b) / 1e3,
               placement_load_ms(p->placement, 1, b), placement_stage_ms(p->placement, 1, b, n - 1),
               1e3 / v.largest_ms, v.sum_ms, b == p->first[1] ? "  <-" : "");
    }
}

static void print_choice(const struct planning *p) {
    const struct blocks *blocks = p->model->blocks;
    printf("\n%-12s %-9s %-9s %9s %9s %9s\n", "host", "blocks", "layers", "stage ms", "link ms", "delay ms");
    for (int h = 0; h < p->cluster->nworkers; h++) {
        int first = p->first[h], last = p->first[h + 1] - 1;
        char range[32], layers[32];
        snprintf(range, sizeof range, "%d-%d", first, last);
        snprintf(layers, sizeof layers, "%d-%d", blocks->block[first].first, blocks->block[last].last);
        printf("%-12.12s %-9s %-9s %9.2f %9.2f %9.2f\n", p->cluster->worker[h].name, range, layers,
               placement_stage_ms(p->placement, h, first, last), placement_load_ms(p->placement, h, first),
               p->placement->delay[h]);
    }
    char cuts[CLUSTER_MAX_WORKERS * 8];
    cuts_text(p, p->first, cuts, sizeof cuts);
    printf("\n--cuts %s: %.1f frames/s, %.2f ms at level %d\n", cuts[0] ? cuts : "(none)", 1e3 / p->value.largest_ms,
           p->value.sum_ms, p->level);
    if (!p->plan) return;
    char levels[CLUSTER_MAX_WORKERS * 8], links[CLUSTER_MAX_WORKERS * 8];
    plan_text(p, levels, links, sizeof levels);
    printf("--plan %s%s%s: %.1f frames/s, %.2f ms, accuracy %.2f%% expected\n", levels, links[0] ? " --link " : "", links,
           1e3 / p->expected.bottleneck_ms, p->expected.sum_ms, 100 * p->expected.accuracy);
    if (p->expected.accuracy < p->min_accuracy)
        log_warn("no plan reaches %.2f%%; this is the most accurate one", 100 * p->min_accuracy);
}

static void print_json(const struct planning *p) {
    char cuts[CLUSTER_MAX_WORKERS * 8];
    cuts_text(p, p->first, cuts, sizeof cuts);
    printf("{\"cuts\":\"%s\",\"fps\":%.6g,\"latency_ms\":%.6g", cuts, 1e3 / p->value.largest_ms, p->value.sum_ms);
    if (p->plan) {
        char levels[CLUSTER_MAX_WORKERS * 8], links[CLUSTER_MAX_WORKERS * 8];
        plan_text(p, levels, links, sizeof levels);
        printf(",\"plan\":\"%s\",\"link\":\"%s", levels, links);
        printf("\",\"plan_fps\":%.6g,\"plan_ms\":%.6g,\"accuracy\":%.6g", 1e3 / p->expected.bottleneck_ms,
               p->expected.sum_ms, p->expected.accuracy);
    }
    printf("}\n");
}

static enum status prepare(struct planning *p, const char *cluster, const char *model, struct err *err) {
    enum status status = cluster_load(&p->cluster, cluster, err);
    if (!status) status = model_load(&p->model, model, err);
    if (status) return status;
    if (p->level < 0 || p->level >= p->model->levels->nlevels)
        return err_set(err, STATUS_USAGE, "--level %d: %s has levels 0 to %d", p->level, model,
                       p->model->levels->nlevels - 1);
    const struct profile *here = NULL;
    for (int h = 0; h < p->cluster->nworkers && !status; h++) status = read_profile(p, h, &here, err);
    if (!status) status = read_maps(p, err);
    if (!status) status = fill_placement(p, err);
    return status;
}

enum status cmd_plan(int argc, char **argv, struct err *err) {
    struct planning p = {.min_accuracy = -1};
    const char *objective = "throughput";
    bool json = false;
    const struct option options[] = {
        {"--objective", 0, OPTION_STRING, &objective, "WHAT", "throughput: the slowest stage or link as fast as can be; latency: the sum"},
        {"--profiles", 0, OPTION_STRING, &p.profiles, "DIR", "NAME.json of each worker, as 'profile' writes them; default: measure here, for all"},
        {"--level", 0, OPTION_INT, &p.level, "L", "level of all blocks that the cuts are chosen for"},
        {"--min-accuracy", 0, OPTION_DOUBLE, &p.min_accuracy, "SHARE", "choose the best plan above it together with the cuts"},
        {"--threads", 0, OPTION_INT, &p.threads, "N", "to measure with; 0: all cores"},
        {"--json", 0, OPTION_FLAG, &json, NULL, "the choice as one line of JSON"},
        {0},
    };
    const struct options_command usage = {
        "plan CLUSTER MODEL",
        "Chooses where to cut MODEL for the workers of the cluster cfg, from each one's profile and\n"
        "each link's rate_kb_s and delay_ms, exact over all cut positions, and prints what it chose from.",
        options, 2, 2};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (strcmp(objective, "latency") == 0) p.objective = PLACEMENT_LATENCY;
    else if (strcmp(objective, "throughput") != 0)
        return err_set(err, STATUS_USAGE, "--objective takes throughput or latency, not '%.40s'", objective);
    if (p.min_accuracy > 1) return err_set(err, STATUS_USAGE, "--min-accuracy takes a share from 0 to 1");
    status = prepare(&p, argv[0], argv[1], err);
    if (!status) status = solve(&p, err);
    if (!status && json) print_json(&p);
    if (!status && !json) {
        print_blocks(&p);
        if (p.cluster->nworkers == 2) print_partitions(&p);
        if (p.partition && p.cluster->nworkers == 2) print_plans(&p);
        print_choice(&p);
    }
    for (int h = 0; h < CLUSTER_MAX_WORKERS; h++) profile_destroy(&p.profile[h]);
    placement_destroy(&p.placement);
    plan_destroy(&p.plan);
    plan_destroy(&p.trial);
    free(p.partition);
    free(p.maps);
    model_destroy(&p.model);
    cluster_destroy(&p.cluster);
    return status;
}
