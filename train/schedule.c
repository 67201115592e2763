#include "train/schedule.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const policy_names[SCHEDULE_COUNT] = { "constant", "step", "steps",  "exp",
                                                          "poly",     "sig",  "cosine", "onecycle" };

const char *schedule_policy_name(enum schedule_policy policy) { return policy_names[policy]; }

static enum status read_policy(struct schedule *s, const struct cfg *cfg, const struct cfg_section *net,
                               struct err *err) {
    const struct cfg_option *option = cfg_option(net, "policy");
    if (!option) return STATUS_OK;
    for (int i = 0; i < SCHEDULE_COUNT; i++)
        if (strcmp(option->value, policy_names[i]) == 0) {
            s->policy = (enum schedule_policy)i;
            return STATUS_OK;
        }
    enum status status = cfg_error(cfg, option->line, err, "unknown learning-rate policy '%s'", option->value);
    const char *near = cfg_nearest(option->value, policy_names, SCHEDULE_COUNT);
    if (near) err_hint(err, "did you mean '%s'?", near);
    else err_hint(err, "one of constant, step, steps, exp, poly, sig, cosine, onecycle");
    return status;
}

static enum status read_steps(struct schedule *s, const struct cfg *cfg, const struct cfg_section *net,
                              struct err *err) {
    int nscales = 0;
    enum status status = cfg_ints(cfg, net, "steps", &s->steps, &s->nsteps, err);
    if (status) return status;
    status = cfg_floats(cfg, net, "scales", &s->scales, &nscales, err);
    if (status || s->policy != SCHEDULE_STEPS) return status;
    const struct cfg_option *steps = cfg_option(net, "steps");
    int line = steps ? steps->line : net->line;
    if (s->nsteps == 0 || s->nsteps != nscales)
        return cfg_error(cfg, line, err, "policy=steps needs as many steps as scales, not %d and %d", s->nsteps,
                         nscales);
    for (int i = 1; i < s->nsteps; i++)
        if (s->steps[i] < s->steps[i - 1])
            return cfg_error(cfg, line, err, "steps must rise: %d comes behind %d", s->steps[i], s->steps[i - 1]);
    return STATUS_OK;
}

static enum status read_options(struct schedule *s, const struct cfg *cfg, struct err *err) {
    const struct cfg_section *net = cfg_find(cfg, "net");
    if (!net) net = cfg_find(cfg, "network");
    if (!net) return err_set(err, STATUS_FORMAT, "%s: no [net] section", cfg->name);
    enum status status = read_policy(s, cfg, net, err);
    if (status) return status;
    const struct {
        const char *key;
        double min, max;
        float *value;
    } floats[] = {
        { "learning_rate", 0, 1e6, &s->learning_rate },
        { "momentum", 0, 1, &s->momentum },
        { "decay", 0, 1e3, &s->decay },
        { "power", 0, 100, &s->power },
        { "gamma", -1e6, 1e6, &s->gamma },
        { "scale", 0, 1e6, &s->scale },
        { "warmup", 0, 1, &s->warmup },
        { "label_smoothing", 0, 0.99, &s->label_smoothing },
    };
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        if ((status = cfg_float(cfg, net, floats[i].key, floats[i].min, floats[i].max, floats[i].value, err)))
            return status;
    const struct {
        const char *key;
        int min;
        int *value;
    } ints[] = {
        { "step", 1, &s->step },
        { "burn_in", 0, &s->burn_in },
        { "max_batches", 0, &s->max_batches },
        { "epochs", 0, &s->epochs },
    };
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if ((status = cfg_int(cfg, net, ints[i].key, ints[i].min, INT_MAX, ints[i].value, err))) return status;
    status = cfg_bool(cfg, net, "nesterov", &s->nesterov, err);
    return status ? status : read_steps(s, cfg, net, err);
}

enum status schedule_init(struct schedule *schedule, const struct cfg *cfg, struct err *err) {
    struct schedule s = {
        .policy = SCHEDULE_CONSTANT, .learning_rate = .001f, .momentum = .9f, .decay = .0001f,
        .power = 4, .gamma = 1, .scale = 1, .warmup = .3f, .step = 1,
    };
    enum status status = read_options(&s, cfg, err);
    if (status) {
        schedule_fini(&s);
        return status;
    }
    *schedule = s;
    return STATUS_OK;
}

void schedule_fini(struct schedule *schedule) {
    free(schedule->steps);
    free(schedule->scales);
    schedule->steps = NULL;
    schedule->scales = NULL;
    schedule->nsteps = 0;
}

/* From a to b along half a cosine, x from 0 to 1. */
static double half_cosine(double a, double b, double x) { return b + (a - b) * .5 * (1 + cos(M_PI * x)); }

static double steps_rate(const struct schedule *s, int batch) {
    double rate = s->learning_rate;
    for (int i = 0; i < s->nsteps && s->steps[i] <= batch; i++) rate *= s->scales[i];
    return rate;
}

static double onecycle_rate(const struct schedule *s, double done) {
    double peak = s->learning_rate, low = peak / 25;
    if (done < s->warmup) return half_cosine(low, peak, done / s->warmup);
    if (s->warmup >= 1) return peak;
    return half_cosine(peak, low / 1e4, (done - s->warmup) / (1 - s->warmup));
}

float schedule_rate(const struct schedule *s, int batch) {
    double rate = s->learning_rate;
    if (batch < s->burn_in) return (float)(rate * pow((double)batch / s->burn_in, s->power));
    /* Share of the run that lies behind: Darknet's poly counts this batch in. */
    double total = s->max_batches, done = total > 0 ? fmin((batch - 1) / total, 1) : 0;
    switch (s->policy) {
    case SCHEDULE_STEP: return (float)(rate * pow(s->scale, batch / s->step));
    case SCHEDULE_STEPS: return (float)steps_rate(s, batch);
    case SCHEDULE_EXP: return (float)(rate * pow(s->gamma, batch));
    case SCHEDULE_POLY: return (float)(rate * pow(fmax(1 - batch / total, 0), s->power));
    case SCHEDULE_SIG: return (float)(rate / (1 + exp(s->gamma * (batch - s->step))));
    case SCHEDULE_COSINE: return (float)half_cosine(rate, 0, done);
    case SCHEDULE_ONECYCLE: return (float)onecycle_rate(s, done);
    case SCHEDULE_CONSTANT:
    case SCHEDULE_COUNT: break;
    }
    return (float)rate;
}
