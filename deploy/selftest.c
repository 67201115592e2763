#include "deploy/selftest.h"

#include "common/bn.h"
#include "common/bn_rows.h"
#include "common/log.h"
#include "common/median.h"
#include "common/random.h"
#include "deploy/engine.h"
#include "deploy/kernels/check.h"
#include "deploy/kernels/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the golden network ---- */

#define CONV "[convolutional]\nbatch_normalize=1\npad=1\n"
static const char golden_cfg[] =
    "[net]\nwidth=20\nheight=18\nchannels=3\n[prune]\nlevels=1,.75,.5,.25\nalign=4\n" CONV
    "filters=24\nsize=3\nactivation=leaky\n" CONV "filters=24\nsize=3\nactivation=relu\n" CONV
    "filters=24\nsize=3\nactivation=linear\n[shortcut]\nfrom=-3\nactivation=relu\n" CONV
    "filters=48\nsize=1\nactivation=relu6\n" CONV "filters=48\nsize=3\nstride=2\ngroups=48\nactivation=relu6\n" CONV
    "filters=40\nsize=1\nactivation=linear\n" CONV
    "filters=40\nsize=3\ngroups=5\nactivation=relu\n[route]\nlayers=-1,-2\n" CONV
    "filters=36\nsize=1\nactivation=relu\n[maxpool]\nsize=2\nstride=2\n" CONV
    "filters=20\nsize=3\nactivation=logistic\n[connected]\noutput=32\nactivation=tanh\n"
    "[connected]\noutput=10\nactivation=linear\n[softmax]\n";

static void fill(float *values, size_t n, double low, double high, struct random *random) {
    for (size_t i = 0; values && i < n; i++) values[i] = (float)random_between(random, low, high);
}

void selftest_fill(struct model *m, uint64_t seed) {
    for (int i = 0; i < m->net->nlayers; i++) {
        const struct net_layer *l = &m->net->layers[i];
        if (!net_has_weights(l)) continue;
        struct model_layer *w = &m->layers[i];
        struct random random = random_stream(seed, (uint64_t)i, 0);
        const size_t outputs = (size_t)model_outputs(m, i), rows = (size_t)m->nrows;
        const size_t levels = (size_t)bn_level_rows(m) * outputs;
        const size_t weights = net_weight_count(l);
        const double scale = weights ? sqrt(4.0 * (double)outputs / (double)weights) : 1;
        fill(w->weight, weights, -scale, scale, &random);
        fill(w->bias, outputs, -.5, .5, &random);
        fill(w->gamma, outputs * (size_t)w->gamma_rows, .5, 1.5, &random);
        fill(w->beta, outputs * (size_t)w->gamma_rows, -.5, .5, &random);
        fill(w->mean, outputs * rows, -.3, .3, &random);
        fill(w->var, levels, .5, 1.5, &random);
        if (w->var) fill(w->var + levels, outputs * rows - levels, -.1, .1, &random);
    }
    bn_rows_round(m);
}

enum status selftest_model(struct model **out, struct err *err) {
    struct cfg *cfg;
    struct model *model;
    enum status status = cfg_parse(&cfg, "selftest", golden_cfg, sizeof golden_cfg - 1, err);
    if (status) return status;
    if ((status = model_create(&model, cfg, 0, err))) {
        cfg_destroy(&cfg);
        return status;
    }
    selftest_fill(model, 1);
    *out = model;
    return STATUS_OK;
}

void selftest_input(const struct model *model, float *input) {
    struct random random = random_stream(2, 0, 0);
    fill(input, net_shape_size(model->net->input), 0, 1, &random);
}

void selftest_plan(const struct model *model, int index, struct plan *plan) {
    const int nlevels = model->levels->nlevels;
    struct random random = random_stream(3, (uint64_t)index, 0);
    for (int b = 0; b < plan->nblocks; b++) {
        plan->level[b] = index < nlevels ? index : random_below(&random, nlevels);
        plan->link[b] = index < nlevels || b == 0 ? 0 : random_below(&random, nlevels);
    }
}

/* ---- the checks ---- */

static void count(struct selftest *t, bool good) {
    t->checks++;
    t->failures += !good;
}

static void check_kernels(struct selftest *t, FILE *out) {
    for (int i = 1; kernels_at(i); i++) {
        const struct kernels *kernels = kernels_at(i);
        if (!kernels_runnable(kernels)) {
            fprintf(out, "SKIP kernels, %s: this processor has none\n", kernels->isa);
            continue;
        }
        for (const struct check_entry *entry = check_entries; entry->name; entry++) {
            struct check check = {.kernels = kernels, .cases = 200, .seed = 1, .out = out};
            entry->run(&check);
            const bool good = check.failed == 0 && check.passed == check.cases;
            fprintf(out, "%s kernels, %s: %s, %d of %d shapes agree with plain C\n", good ? "ok  " : "FAIL",
                    kernels->isa, entry->name, check.passed, check.cases);
            count(t, good);
        }
    }
}

/* The largest difference as a share of the largest magnitude; infinite if one
 * is not a number. */
static double difference(const float *got, const float *expected) {
    double largest = 0, worst = 0;
    for (int i = 0; i < SELFTEST_CLASSES; i++) {
        const double d = fabs((double)got[i] - (double)expected[i]);
        if (!(d <= worst)) worst = isnan(d) ? INFINITY : d;
        largest = fmax(largest, fabs((double)expected[i]));
    }
    return worst / largest;
}

struct golden {
    struct model *model;
    struct plan *plan;
    float *input, *output;
};

static void golden_free(struct golden *g) {
    plan_destroy(&g->plan);
    model_destroy(&g->model);
    free(g->input);
    free(g->output);
}

static enum status golden_make(struct golden *g, struct err *err) {
    *g = (struct golden){0};
    enum status status = selftest_model(&g->model, err);
    if (!status) status = plan_create(&g->plan, g->model->blocks->nblocks, 0, err);
    if (status) return status;
    g->input = malloc(net_shape_size(g->model->net->input) * sizeof *g->input);
    g->output = malloc(SELFTEST_CLASSES * sizeof *g->output);
    if (!g->input || !g->output) return err_memory(err, "selftest");
    selftest_input(g->model, g->input);
    return STATUS_OK;
}

static enum status check_golden(struct selftest *t, struct golden *g, const struct kernels *kernels, struct pool *pool,
                                FILE *out, struct err *err) {
    struct engine *engine;
    struct engine_config config = engine_defaults();
    config.kernels = kernels;
    config.pool = pool;
    enum status status = engine_create(&engine, g->model, &config, err);
    if (status) return status;
    double worst = 0;
    for (int i = 0; i < SELFTEST_PLANS; i++) {
        selftest_plan(g->model, i, g->plan);
        engine_set_plan(engine, g->plan);
        engine_run(engine, g->input, g->output);
        worst = fmax(worst, difference(engine_logits(engine), selftest_golden[i]));
    }
    const bool good = worst <= 1e-4;
    fprintf(out, "%s golden outputs, %s: %d plans, the largest difference is %.1e of the largest magnitude\n",
            good ? "ok  " : "FAIL", kernels->isa, SELFTEST_PLANS, worst);
    count(t, good);
    engine_destroy(&engine);
    return STATUS_OK;
}

static enum status time_switches(struct selftest *t, struct golden *g, FILE *out, struct err *err) {
    enum { SWITCHES = 1000 };
    struct engine *engine;
    const struct engine_config config = engine_defaults();
    double us[SWITCHES];
    enum status status = engine_create(&engine, g->model, &config, err);
    if (status) return status;
    for (int i = 0; i < SWITCHES; i++) {
        selftest_plan(g->model, i % SELFTEST_PLANS, g->plan);
        const double start = log_now_s();
        engine_set_plan(engine, g->plan);
        us[i] = (log_now_s() - start) * 1e6;
    }
    t->switch_us = median(us, SWITCHES);
    fprintf(out, "%s level switch: median %.2f us of %d\n", t->switch_us < 50 ? "ok  " : "slow", t->switch_us, SWITCHES);
    engine_destroy(&engine);
    return STATUS_OK;
}

enum status selftest_run(struct selftest *result, struct pool *pool, FILE *out, struct err *err) {
    struct selftest t = {0};
    struct golden golden;
    enum status status = golden_make(&golden, err);
    cpu_describe(t.processor);
    fprintf(out, "     processor: %s\n", t.processor[0] ? t.processor : "none of the instruction sets known here");
    if (!status) check_kernels(&t, out);
    for (int i = 0; !status && kernels_at(i); i++)
        if (kernels_runnable(kernels_at(i))) status = check_golden(&t, &golden, kernels_at(i), pool, out, err);
    if (!status) status = time_switches(&t, &golden, out, err);
    golden_free(&golden);
    if (!status) *result = t;
    return status;
}
