/* simulate: a scenario played through the controller, event by event, with
 * devices and links from profiles. */
#include "deploy/commands.h"

#include "common/file.h"
#include "common/log.h"
#include "common/options.h"
#include "deploy/controller.h"
#include "deploy/roofline.h"
#include "deploy/scenario.h"
#include "deploy/simulate.h"
#include "deploy/slices.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILE_MAX_BYTES = 64 << 20, CAPACITY_FRAMES = 400, MAX_COPIES = 100000 };
/* Beside the policies: the fastest plan throughout. No choice of plans attains more. */
enum { ORACLE = CONTROLLER_POLICIES, CANDIDATES };
#define SLO_FACTOR 1.3      /* of the undisturbed 95th percentile */
#define CALIBRATION_S 60.0 /* of undisturbed frames, to find it */
#define CALM_LOAD 0.7f     /* of those, at most */

struct simulation_run {
    const char *profiles, *cuts, *policy, *busy;
    double slo_ms, fps, min_accuracy, spread;
    int copies;
    bool json, show, switches;

    struct cluster *cluster;
    struct model *model;
    struct scenario *scenario;
    struct slices *slices;
    struct profile *profile[CLUSTER_MAX_WORKERS];
    struct controller_stage stages[CLUSTER_MAX_WORKERS];
    struct simulate_stage truth[CLUSTER_MAX_WORKERS];
    struct controller_map *maps;
    struct plan *start, *fastest;
    struct simulate_config config;
};

/* One policy, all copies together. */
struct tally {
    struct simulate_summary part[3]; /* by enum simulate_part */
    double switches, seconds;
    double least; /* attainment of the copy that had the least */
    int64_t frames;
};

/* ---- what is known ---- */

/* DIR/NAME.json, or the device that the scenario names. */
static enum status read_profile(struct simulation_run *s, int i, struct err *err) {
    const char *name = s->cluster->worker[i].name, *device = s->scenario->host[i].device, *known;
    if (!s->profiles) {
        const struct roofline *r = roofline_find(device, &known);
        if (r) {
            if (i == 0) log_info("%s: %s", r->name, r->source);
            return roofline_profile(r, s->model, &s->profile[i], err);
        }
        err_set(err, STATUS_USAGE, "host %s: no profile, and device '%.31s' is not known", name, device);
        err_hint(err, "give --profiles DIR with %s.json as 'profile' writes it, or device= in the scenario (%s)", name,
                 known);
        return STATUS_USAGE;
    }
    char path[1024];
    uint8_t *text = NULL;
    size_t length;
    snprintf(path, sizeof path, "%s/%s.json", s->profiles, name);
    enum status status = file_read(path, PROFILE_MAX_BYTES, &text, &length, err);
    if (!status) status = profile_parse(&s->profile[i], path, (const char *)text, err);
    free(text);
    if (status) return status;
    const struct profile *p = s->profile[i];
    if (p->nblocks == s->model->blocks->nblocks && p->nlevels == s->model->levels->nlevels) return STATUS_OK;
    return err_set(err, STATUS_FORMAT, "%s: %d blocks and %d levels; the model has %d and %d", path, p->nblocks,
                   p->nlevels, s->model->blocks->nblocks, s->model->levels->nlevels);
}

/* --busy: what the profile does not explain of it. */
static enum status read_busy(struct simulation_run *s, struct err *err) {
    const char *at = s->busy;
    for (int i = 0; i < s->cluster->nworkers; i++) {
        char *end;
        double ms = strtod(at, &end), explained = 0;
        if (end == at || !(ms >= 0 && isfinite(ms)) || *end != (i + 1 < s->cluster->nworkers ? ',' : '\0'))
            return err_set(err, STATUS_USAGE, "--busy '%.100s': %d times in ms are wanted, with commas between them", s->busy,
                           s->cluster->nworkers);
        at = end + 1;
        for (int b = s->slices->first[i]; b < s->slices->first[i + 1]; b++) explained += profile_ms(s->profile[i], b, 0, 0);
        s->truth[i].other_ms = fmax(0, ms - explained);
    }
    return STATUS_OK;
}

static enum status prepare(struct simulation_run *s, struct err *err) {
    const struct model *m = s->model;
    int n = s->cluster->nworkers;
    if (n != s->scenario->nhosts)
        return err_set(err, STATUS_USAGE, "the cluster has %d workers, the scenario %d hosts", n, s->scenario->nhosts);
    s->maps = calloc((size_t)(n * m->levels->nlevels), sizeof *s->maps);
    enum status status = s->maps ? slices_create(&s->slices, m, n, s->cuts, err) : err_memory(err, "simulation");
    if (!status) status = plan_create(&s->start, m->blocks->nblocks, 0, err);
    for (int i = 0; i < n && !status; i++) {
        const struct cluster_link *told = &s->cluster->worker[i].link, *real = &s->scenario->host[i].link;
        status = read_profile(s, i, err);
        int first = s->slices->first[i];
        s->stages[i] = (struct controller_stage){ .first_block = first, .nblocks = s->slices->first[i + 1] - first,
                                                  .profile = s->profile[i], .bytes_per_s = told->rate_kb_s * 1e3,
                                                  .latency_ms = told->delay_ms };
        s->truth[i] = (struct simulate_stage){ s->profile[i], real->rate_kb_s * 1e3, real->delay_ms, 0 };
        s->start->codec[first] = told->codec;
        s->start->link[first] = i ? told->level : 0;
    }
    if (!status) status = controller_maps(m, s->stages, n, s->maps, err);
    struct simulate_config *c = &s->config;
    *c = simulate_defaults();
    c->controller.start = s->start;
    c->controller.min_accuracy = s->min_accuracy;
    c->stages = s->stages, c->truth = s->truth, c->maps = s->maps, c->accuracy = m->accuracy;
    c->nstages = n, c->nblocks = m->blocks->nblocks, c->nlevels = m->levels->nlevels;
    c->credits = s->cluster->credits ? s->cluster->credits : n + 2;
    c->noise = s->spread >= 0 ? s->spread : s->scenario->spread;
    c->store_ms = s->scenario->store_ms;
    struct net_shape in = m->net->input;
    c->image_bytes = 0.5 * in.c * in.h * in.w; /* a JPEG of that size, about */
    return status || !s->busy ? status : read_busy(s, err);
}

static enum status find_fastest(struct simulation_run *s, struct err *err) {
    struct controller *controller = NULL;
    struct controller_config config = s->config.controller;
    struct controller_optimum expected;
    config.slo_ms = 1;
    enum status status = plan_create(&s->fastest, s->config.nblocks, 0, err);
    if (!status)
        status = controller_create(&controller, &config, s->stages, s->config.nstages, s->config.accuracy,
                                   s->config.nblocks, s->config.nlevels, s->maps, err);
    if (!status) status = controller_optimum(controller, 0, 0, s->fastest, &expected, err);
    controller_destroy(&controller);
    return status;
}

/* ---- running ---- */

static const char *candidate_name(int candidate) {
    return candidate == ORACLE ? "oracle" : controller_policy_name((enum controller_policy)candidate);
}

static void show_switch(void *context, double now_s, const char *line) {
    log_info("%8.2f s  %s", now_s, line);
}

static enum status run_frames(struct simulation_run *s, int candidate, const double *due_s, int n,
                              bool disturbed, uint64_t seed, struct simulate_frame *frames, int *switches,
                              struct err *err) {
    struct simulate_config c = s->config;
    c.controller.policy = candidate == ORACLE ? CONTROLLER_STATIC : (enum controller_policy)candidate;
    if (candidate == ORACLE) c.controller.start = s->fastest;
    c.controller.slo_ms = s->slo_ms > 0 ? s->slo_ms : 1;
    c.events = s->scenario->event;
    c.nevents = disturbed ? s->scenario->nevents : 0;
    c.due_s = due_s;
    c.nframes = n;
    c.seed = seed;
    c.log = disturbed && s->switches ? show_switch : NULL;
    return simulate_run(&c, frames, switches, err);
}

/* What the undisturbed pipeline takes at its start plan, frames/s. */
static enum status find_capacity(struct simulation_run *s, double *fps, struct err *err) {
    static const double due_s[CAPACITY_FRAMES];
    struct simulate_frame frames[CAPACITY_FRAMES];
    int switches;
    enum status status = run_frames(s, CONTROLLER_STATIC, due_s, CAPACITY_FRAMES, false, 1, frames, &switches, err);
    if (!status) *fps = (CAPACITY_FRAMES - 1) / (frames[CAPACITY_FRAMES - 1].stored_s - frames[0].stored_s);
    return status;
}

/* From frames that are not disturbed, and not more than can be taken. */
static enum status find_slo(struct simulation_run *s, struct err *err) {
    struct scenario calm = *s->scenario;
    if (calm.arrivals == SCENARIO_BURSTY || calm.load > CALM_LOAD) calm.arrivals = SCENARIO_STEADY, calm.load = CALM_LOAD;
    calm.seconds = (float)CALIBRATION_S;
    double *due_s = NULL, fps = s->fps * calm.load / s->scenario->load;
    int n, switches;
    struct simulate_summary all;
    enum status status = scenario_due(&calm, fps, 0, &due_s, &n, err);
    struct simulate_frame *frames = status ? NULL : calloc((size_t)n, sizeof *frames);
    if (!status && !frames) status = err_memory(err, "simulation");
    if (!status) status = run_frames(s, CONTROLLER_STATIC, due_s, n, false, 2, frames, &switches, err);
    if (!status) status = simulate_summarise(frames, n, 1, 0, NULL, 0, SIMULATE_ALL, &all, err);
    if (!status) s->slo_ms = SLO_FACTOR * all.p95_ms;
    free(frames);
    free(due_s);
    return status;
}

static void add(struct tally *t, const struct simulate_summary part[3], int switches, double seconds) {
    for (int k = 0; k < 3; k++) {
        struct simulate_summary *sum = &t->part[k];
        const struct simulate_summary *one = &part[k];
        int frames = sum->frames + one->frames;
        double share = frames > 0 ? (double)one->frames / frames : 0;
        sum->attainment += share * (one->attainment - sum->attainment);
        sum->accuracy += share * (one->accuracy - sum->accuracy);
        sum->fps += share * (one->fps - sum->fps);
        /* of several copies: the largest */
        sum->p50_ms = fmax(sum->p50_ms, one->p50_ms);
        sum->p95_ms = fmax(sum->p95_ms, one->p95_ms);
        sum->p99_ms = fmax(sum->p99_ms, one->p99_ms);
        sum->recovery_s = fmax(sum->recovery_s, one->recovery_s);
        sum->settled_s = fmax(sum->settled_s, one->settled_s);
        if (one->reaction > sum->reaction) sum->reaction = one->reaction;
        if (one->settled > sum->settled) sum->settled = one->settled;
        sum->frames = frames;
    }
    if (t->frames == 0 || part[0].attainment < t->least) t->least = part[0].attainment;
    t->frames += part[0].frames;
    t->switches += switches;
    t->seconds += seconds;
}

/* All policies wanted on one copy's trace; the windows are of the static one. */
static enum status run_copy(struct simulation_run *s, int copy, unsigned policies, struct tally *tally,
                            struct err *err) {
    struct simulate_window windows[SCENARIO_MAX_EVENTS];
    double *due_s = NULL;
    int n, nwindows = 0;
    enum status status = scenario_due(s->scenario, s->fps, copy, &due_s, &n, err);
    struct simulate_frame *frames = status ? NULL : calloc((size_t)n, sizeof *frames);
    if (!status && !frames) status = err_memory(err, "simulation");
    for (int p = 0; p < CANDIDATES && !status; p++) {
        struct simulate_summary part[3];
        int switches = 0;
        if (!(policies & 1u << p) && p != CONTROLLER_STATIC) continue;
        uint64_t seed = (uint64_t)s->scenario->seed * MAX_COPIES + (uint64_t)copy;
        status = run_frames(s, p, due_s, n, true, seed, frames, &switches, err);
        if (!status && p == CONTROLLER_STATIC)
            nwindows = simulate_windows(s->scenario->event, s->scenario->nevents, frames, n, s->slo_ms, windows);
        double full = s->model->accuracy ? accuracy_predict(s->model->accuracy, s->start) : 0;
        for (int k = 0; k < 3 && !status; k++)
            status = simulate_summarise(frames, n, s->slo_ms, full, windows, nwindows, (enum simulate_part)k, &part[k],
                                        err);
        if (!status) add(&tally[p], part, switches, s->scenario->seconds);
    }
    free(frames);
    free(due_s);
    return status;
}

/* ---- telling ---- */

static void print_share(const struct simulate_summary *part) {
    if (part->frames) printf(" %8.1f", 100 * part->attainment);
    else printf(" %8s", "-");
}

static void print_table(const struct simulation_run *s, const struct tally *tally, unsigned policies) {
    printf("%d x %d hosts, %lld frames at %.1f frames/s for %g s, SLO %.1f ms\n", s->copies, s->cluster->nworkers,
           (long long)tally[CONTROLLER_STATIC].frames, s->fps, s->scenario->seconds, s->slo_ms);
    printf("%-12s %8s %8s %8s %8s %8s %8s %8s %9s %9s %9s %9s %9s %9s\n", "policy", "in SLO %", "inside", "outside", "p50 ms",
           "p95 ms", "p99 ms", "fps", "accuracy", "inside", "reaction", "settled", "recovery", "switches");
    for (int p = 0; p < CANDIDATES; p++) {
        const struct tally *t = &tally[p];
        if (!(policies & 1u << p)) continue;
        printf("%-12s", candidate_name(p));
        for (int k = 0; k < 3; k++) print_share(&t->part[k]);
        const struct simulate_summary *all = &t->part[SIMULATE_ALL], *in = &t->part[SIMULATE_INSIDE];
        printf(" %8.1f %8.1f %8.1f %8.1f %8.2f%% %8.2f%% %7d f %7d f %7.1f s %5.1f/min\n", all->p50_ms, all->p95_ms,
               all->p99_ms, all->fps, 100 * all->accuracy, 100 * (in->frames ? in->accuracy : all->accuracy),
               all->reaction, all->settled, all->recovery_s, t->switches / (t->seconds / 60));
    }
    if (s->copies > 1)
        printf("of %d pipelines the latencies, reactions and recoveries are the worst; least attainment: static %.1f%%, "
               "exact %.1f%%\n",
               s->copies, 100 * tally[CONTROLLER_STATIC].least, 100 * tally[CONTROLLER_EXACT].least);
}

static void print_json(const struct simulation_run *s, const struct tally *tally, unsigned policies) {
    for (int p = 0; p < CANDIDATES; p++) {
        const struct tally *t = &tally[p];
        const struct simulate_summary *all = &t->part[SIMULATE_ALL], *in = &t->part[SIMULATE_INSIDE],
                                      *out = &t->part[SIMULATE_OUTSIDE];
        if (!(policies & 1u << p)) continue;
        printf("{\"policy\":\"%s\",\"frames\":%lld,\"fps_due\":%.4g,\"slo_ms\":%.4g,\"attainment\":%.5g",
               candidate_name(p), (long long)t->frames, s->fps, s->slo_ms,
               all->attainment);
        if (in->frames) printf(",\"inside\":%.5g,\"accuracy_inside\":%.5g", in->attainment, in->accuracy);
        if (in->frames && out->frames) printf(",\"outside\":%.5g", out->attainment);
        printf(",\"p50_ms\":%.5g,\"p95_ms\":%.5g,\"p99_ms\":%.5g,\"fps\":%.5g,\"accuracy\":%.5g,\"reaction\":%d,"
               "\"settled\":%d,\"settled_s\":%.4g,\"recovery_s\":%.4g,\"switches_per_min\":%.4g}\n",
               all->p50_ms, all->p95_ms, all->p99_ms, all->fps, all->accuracy, all->reaction, all->settled, all->settled_s,
               all->recovery_s, t->switches / (t->seconds / 60));
    }
}

static enum status show(struct simulation_run *s, struct err *err) {
    double *due_s = NULL;
    int n;
    enum status status = scenario_due(s->scenario, s->fps, 0, &due_s, &n, err);
    if (status) return status;
    char *text = scenario_json(s->scenario, due_s, n);
    if (text) puts(text);
    else status = err_memory(err, "scenario");
    free(text);
    free(due_s);
    return status;
}

static enum status simulate(struct simulation_run *s, struct err *err) {
    unsigned policies = (1u << CANDIDATES) - 1;
    if (s->policy) {
        enum controller_policy one = controller_policy_parse(s->policy);
        if (one == CONTROLLER_POLICIES)
            return err_set(err, STATUS_USAGE, "--policy takes static, bottleneck or exact, not '%.40s'", s->policy);
        policies = 1u << one;
    }
    enum status status = prepare(s, err);
    double capacity = 0;
    if (!status && !(s->fps > 0)) {
        status = find_capacity(s, &capacity, err);
        s->fps = capacity * s->scenario->load;
    }
    if (!status && !(s->slo_ms > 0)) status = find_slo(s, err);
    if (!status) status = find_fastest(s, err);
    struct tally tally[CANDIDATES] = { { .seconds = 0 } };
    struct log_progress progress;
    if (!status && s->copies > 1) log_progress_start(&progress, "pipelines", s->copies);
    for (int copy = 0; copy < s->copies && !status; copy++) {
        status = run_copy(s, copy, policies, tally, err);
        if (s->copies > 1) log_progress_update(&progress, copy + 1, "");
    }
    if (s->copies > 1 && !status) log_progress_end(&progress, NULL);
    if (status) return status;
    if (s->json) print_json(s, tally, policies);
    else print_table(s, tally, policies);
    return STATUS_OK;
}

enum status cmd_simulate(int argc, char **argv, struct err *err) {
    struct simulation_run s = { .copies = 1, .spread = -1 };
    const struct option options[] = {
        { "--profiles", 0, OPTION_STRING, &s.profiles, "DIR", "NAME.json of each worker, as 'profile' writes them" },
        { "--policy", 0, OPTION_STRING, &s.policy, "POLICY", "static, bottleneck or exact; default: each in turn, and the oracle" },
        { "--slo-ms", 0, OPTION_DOUBLE, &s.slo_ms, "MS", "deadline; 0: 1.3 times the undisturbed 95th percentile" },
        { "--fps", 0, OPTION_DOUBLE, &s.fps, "N", "arrivals; 0: the scenario's load of the undisturbed capacity" },
        { "--min-accuracy", 0, OPTION_DOUBLE, &s.min_accuracy, "SHARE", "plan no less expected accuracy" },
        { "--busy", 0, OPTION_STRING, &s.busy, "MS,...", "a frame at full size keeps each host busy for so long: the profile's time and all else" },
        { "--spread", 0, OPTION_DOUBLE, &s.spread, "S", "compute times vary by exp(S * normal); -1: as the scenario says" },
        { "--cuts", 0, OPTION_STRING, &s.cuts, "LAYERS", "cut behind these; default: the model's, or balanced" },
        { "--copies", 0, OPTION_INT, &s.copies, "N", "so many pipelines of the kind, each with its own draws" },
        { "--switches", 0, OPTION_FLAG, &s.switches, NULL, "tell of every switch, with the reason" },
        { "--show", 0, OPTION_FLAG, &s.show, NULL, "print the scenario with its arrivals at --fps as JSON, and stop" },
        { "--json", 0, OPTION_FLAG, &s.json, NULL, "one line of JSON per policy" },
        { 0 },
    };
    const struct options_command usage = {
        "simulate CLUSTER MODEL SCENARIO",
        "Plays SCENARIO through the controller on simulated hosts, with the speed of each from its\n"
        "profile, and prints how each policy did. 'inside': while disturbed, until the backlog of the\n"
        "static policy has cleared. The oracle has the fastest plan throughout: none attains more.",
        options, 1, 3 };
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (positional != (s.show ? 1 : 3))
        return err_set(err, STATUS_USAGE, s.show ? "simulate --show takes one SCENARIO" : "simulate takes CLUSTER MODEL SCENARIO");
    if (s.copies < 1 || s.copies > MAX_COPIES) return err_set(err, STATUS_USAGE, "--copies is 1 to %d", MAX_COPIES);
    if (s.show && !(s.fps > 0)) return err_set(err, STATUS_USAGE, "--show needs the arrivals' rate: give --fps");
    if (!(s.slo_ms >= 0 && s.fps >= 0 && isfinite(s.slo_ms) && isfinite(s.fps)))
        return err_set(err, STATUS_USAGE, "--slo-ms %g and --fps %g are to be at least 0", s.slo_ms, s.fps);
    status = scenario_load(&s.scenario, argv[positional - 1], err);
    if (!status && !s.show) status = cluster_load(&s.cluster, argv[0], err);
    if (!status && !s.show) status = model_load(&s.model, argv[1], err);
    if (!status) status = s.show ? show(&s, err) : simulate(&s, err);
    for (int i = 0; i < CLUSTER_MAX_WORKERS; i++) profile_destroy(&s.profile[i]);
    free(s.maps);
    plan_destroy(&s.start);
    plan_destroy(&s.fastest);
    slices_destroy(&s.slices);
    scenario_destroy(&s.scenario);
    model_destroy(&s.model);
    cluster_destroy(&s.cluster);
    return status;
}
