#include "deploy/steady_clock.h"

#include "common/file.h"
#include "common/log.h"

#include <stdlib.h>

enum { MAX_PROFILE = 64 << 20 };

struct steady_options steady_options_defaults(void) {
    return (struct steady_options){ .cpufreq = CPUFREQ_FOLDER };
}

static enum status read_profile(const char *path, struct profile **profile, struct err *err) {
    uint8_t *text = NULL;
    size_t length;
    enum status status = file_read(path, MAX_PROFILE, &text, &length, err);
    if (!status) status = profile_parse(profile, path, (const char *)text, err);
    free(text);
    return status;
}

enum status steady_clock_open(struct steady_clock **out, const struct steady_options *options,
                              const struct model *model, int nslices, const int *slice_first, struct err *err) {
    struct steady_clock *clock = calloc(1, sizeof *clock);
    struct profile *profile = NULL;
    if (!clock) return err_memory(err, "ladder");
    enum status status = read_profile(options->profile, &profile, err);
    const struct steady_config config = { model, profile, nslices, slice_first, options->target_ms };
    if (!status) status = steady_create(&clock->steady, &config, err);
    if (!status) status = cpufreq_open(&clock->cpufreq, options->cpufreq, options->throttled, err);
    if (!status) status = cpufreq_read(clock->cpufreq, &clock->state, err);
    profile_destroy(&profile);
    if (status) {
        steady_clock_close(&clock);
        return status;
    }
    log_info("steady: %.3g ms a frame, by %d plans; the clock is at %.0f MHz", steady_target_ms(clock->steady),
             steady_rungs(clock->steady), clock->state.mhz);
    *out = clock;
    return STATUS_OK;
}

void steady_clock_close(struct steady_clock **clock) {
    if (!*clock) return;
    steady_destroy(&(*clock)->steady);
    cpufreq_close(&(*clock)->cpufreq);
    free(*clock);
    *clock = NULL;
}

const struct plan *steady_clock_plan(struct steady_clock *clock) {
    struct err err;
    enum status status = cpufreq_read(clock->cpufreq, &clock->state, &err);
    if (status && !clock->lost) log_warn("the plan stays: %s", err.text);
    clock->lost = status != STATUS_OK;
    return steady_choose(clock->steady, &clock->state);
}
