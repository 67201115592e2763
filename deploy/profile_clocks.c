#include "deploy/profile_clocks.h"

#include "common/log.h"
#include "common/median.h"
#include "common/random.h"
#include "deploy/engine.h"
#include "deploy/profile_measure.h"
#include "deploy/signals.h"

#include <stdio.h>
#include <stdlib.h>

static const double LEAST_MHZ = 1, MOST_MHZ = 100000, WAIT_S = 15;

enum status profile_clocks_parse(const char *text, double *mhz, int *n, struct err *err) {
    int count = 0;
    for (const char *at = text;; at++) {
        char *end;
        const double value = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(value >= LEAST_MHZ && value <= MOST_MHZ))
            return err_set(err, STATUS_USAGE, "--frequencies takes MHz, like 600,900,1200, not '%.60s'", text);
        if (count == PROFILE_MAX_CLOCKS)
            return err_set(err, STATUS_USAGE, "--frequencies takes at most %d", PROFILE_MAX_CLOCKS);
        if (count && value <= mhz[count - 1])
            return err_set(err, STATUS_USAGE, "--frequencies: %g does not come behind %g; name them rising", value,
                           mhz[count - 1]);
        mhz[count++] = value;
        at = end;
        if (!*end) break;
    }
    *n = count;
    return STATUS_OK;
}

struct frames {
    struct engine *engine;
    struct plan *plan;
    float *input, *output;
    double *samples; /* [nlevels][repeats] */
    int repeats, signals;
};

static void frames_fini(struct frames *f) {
    engine_destroy(&f->engine);
    plan_destroy(&f->plan);
    free(f->input);
    free(f->output);
    free(f->samples);
}

static enum status frames_init(struct frames *f, const struct model *model, struct pool *pool, struct err *err) {
    struct engine_config config = engine_defaults();
    struct random random = random_stream(1, 1, 0);
    config.pool = pool;
    enum status status = engine_create(&f->engine, model, &config, err);
    if (!status) status = plan_create(&f->plan, model->blocks->nblocks, 0, err);
    if (status) return status;
    const size_t inputs = engine_input_max(f->engine);
    f->input = malloc(inputs * sizeof *f->input);
    f->output = malloc(engine_output_max(f->engine) * sizeof *f->output);
    f->samples = malloc((size_t)model->levels->nlevels * (size_t)f->repeats * sizeof *f->samples);
    if (!f->input || !f->output || !f->samples) return err_memory(err, "profile");
    for (size_t i = 0; i < inputs; i++) f->input[i] = (float)random_uniform(&random);
    return STATUS_OK;
}

/* Levels take turns, so that what disturbs the machine for a while disturbs all alike, and the medians little. */
static enum status time_levels(struct frames *f, int nlevels, double *ms, struct err *err) {
    for (int r = -1; r < f->repeats; r++) /* the first only brings weights and buffers into the caches */
        for (int level = 0; level < nlevels; level++) {
            if (f->signals >= 0 && signals_take(f->signals)) return err_set(err, STATUS_CANCELLED, "stopped");
            for (int b = 0; b < f->plan->nblocks; b++) f->plan->level[b] = level;
            engine_set_plan(f->engine, f->plan);
            const double start = log_now_s();
            engine_run(f->engine, f->input, f->output);
            if (r >= 0) f->samples[level * f->repeats + r] = log_now_s() - start;
        }
    for (int level = 0; level < nlevels; level++) ms[level] = 1e3 * median(f->samples + level * f->repeats, f->repeats);
    return STATUS_OK;
}

enum status profile_clocks_measure(struct profile **out, const struct model *model, struct pool *pool, int repeats,
                                   struct cpufreq *cpufreq, const double *mhz, int n, int signals, struct err *err) {
    struct frames f = {.repeats = repeats, .signals = signals};
    struct profile_clock clocks[PROFILE_MAX_CLOCKS] = {0};
    struct log_progress progress;
    struct cpufreq_state state;
    const int nlevels = model->levels->nlevels;
    enum status status = frames_init(&f, model, pool, err);
    log_progress_start(&progress, "profile", n);
    for (int i = 0; !status && i < n; i++) {
        char detail[40];
        snprintf(detail, sizeof detail, "%g MHz", mhz[i]);
        status = cpufreq_pin(cpufreq, mhz[i], WAIT_S, err);
        if (!status) status = cpufreq_read(cpufreq, &state, err);
        if (!status) clocks[i].mhz = state.mhz;
        if (!status) status = time_levels(&f, nlevels, clocks[i].frame_ms, err);
        log_progress_update(&progress, i + 1, detail);
    }
    if (status) log_progress_abandon(&progress);
    else log_progress_end(&progress, "");
    frames_fini(&f);
    if (!status) status = profile_measure(out, model, pool, repeats, err);
    for (int i = 0; !status && i < n; i++) (*out)->clocks[i] = clocks[i];
    if (!status) (*out)->nclocks = n;
    return status;
}
