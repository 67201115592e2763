/* profile: how long each block takes here, at every level. */
#include "deploy/commands.h"

#include "common/file.h"
#include "common/json.h"
#include "common/options.h"
#include "common/portfolio.h"
#include "deploy/cpufreq.h"
#include "deploy/device.h"
#include "deploy/profile_clocks.h"
#include "deploy/profile_measure.h"
#include "deploy/signals.h"

#include <stdio.h>
#include <stdlib.h>

static enum status write_text(const char *path, const char *text, struct err *err) {
    if (!path) {
        puts(text);
        return STATUS_OK;
    }
    struct file_replace file;
    enum status status = file_replace_open(&file, path, err);
    if (status) return status;
    fprintf(file.stream, "%s\n", text);
    return file_replace_commit(&file, err);
}

/* Milliseconds of a frame at level 0: the sum over the blocks. */
static double frame_ms(const struct profile *profile) {
    double ms = 0;
    for (int b = 0; b < profile->nblocks; b++) ms += profile_ms(profile, b, 0, 0);
    return ms;
}

struct measuring {
    int repeats, nclocks, signals;
    double mhz[PROFILE_MAX_CLOCKS];
    struct cpufreq *cpufreq; /* NULL: the clock as it is */
};

static enum status measure(const struct device_options *o, const struct measuring *how, struct profile **profile,
                           struct err *err) {
    struct device device;
    enum status status = device_open(&device, o, err);
    if (status) return status;
    if (how->cpufreq)
        status = profile_clocks_measure(profile, device.model, device.pool, how->repeats, how->cpufreq, how->mhz,
                                        how->nclocks, how->signals, err);
    else status = profile_measure(profile, device.model, device.pool, how->repeats, err);
    device_close(&device);
    return status;
}

static enum status add_variant(cJSON *list, const struct profile *profile, const char *name, struct err *err) {
    char *text = profile_json(profile);
    cJSON *o = cJSON_CreateObject();
    bool good = text && json_append(list, o) && json_add(o, "name", cJSON_CreateString(name)) &&
                json_add(o, "ms", cJSON_CreateNumber(frame_ms(profile))) &&
                json_add(o, "profile", cJSON_CreateRaw(text));
    free(text);
    return good ? STATUS_OK : err_memory(err, "JSON");
}

/* A portfolio: {"variants": [{"name", "ms" of a frame, "profile"}]}. */
static enum status measure_variants(struct device_options o, const struct measuring *how, char **text, struct err *err) {
    struct portfolio p;
    enum status status = portfolio_read(&p, o.model, err);
    if (status) return status;
    cJSON *root = cJSON_CreateObject(), *list = root ? cJSON_AddArrayToObject(root, "variants") : NULL;
    if (!list) status = err_memory(err, "JSON");
    for (int i = 0; !status && i < p.nvariants; i++) {
        struct profile *profile = NULL;
        o.variant = p.variants[i].name;
        status = measure(&o, how, &profile, err);
        if (!status) status = add_variant(list, profile, o.variant, err);
        profile_destroy(&profile);
    }
    *text = json_text(root, !status);
    return status || *text ? status : err_memory(err, "JSON");
}

static enum status profile_text(const struct device_options *o, const struct measuring *how, char **text,
                                struct err *err) {
    struct profile *profile = NULL;
    if (!o->variant && portfolio_is(o->model)) return measure_variants(*o, how, text, err);
    enum status status = measure(o, how, &profile, err);
    if (!status && !(*text = profile_json(profile))) status = err_memory(err, "JSON");
    profile_destroy(&profile);
    return status;
}

enum status cmd_profile(int argc, char **argv, struct err *err) {
    struct device_options o = device_defaults();
    struct measuring how = {.repeats = 15, .signals = -1};
    const char *output = NULL, *frequencies = NULL, *folder = CPUFREQ_FOLDER;
    bool json = true;
    const struct option options[] = {
        {"--variant", 0, OPTION_STRING, &o.variant, "NAME", "of a portfolio; else all of them"},
        {"--output", 'o', OPTION_STRING, &output, "FILE", "write it there instead of to standard output"},
        {"--repeats", 0, OPTION_INT, &how.repeats, "N", "runs of each plan; the median counts"},
        {"--frequencies", 0, OPTION_STRING, &frequencies, "MHZ,...", "at these clocks of the cores, rising: for --steady. Takes root"},
        {"--cpufreq", 0, OPTION_STRING, &folder, "DIR", "where they are set"},
        {"--threads", 0, OPTION_INT, &o.threads, "N", "threads to compute with"},
        {"--cpu-mask", 0, OPTION_STRING, &o.cpu_mask, "ISA", "no kernels above this instruction set"},
        {"--json", 0, OPTION_FLAG, &json, NULL, "accepted: a profile is always JSON"},
        {0},
    };
    const struct options_command usage = {
        "profile MODEL",
        "Measures each block's latency on this device, by own level and level of what arrives; of a portfolio, each variant's.", options,
        1, 1};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (how.repeats < 1 || how.repeats > 10000) return err_set(err, STATUS_USAGE, "--repeats is between 1 and 10000");
    o.model = argv[0];
    char *text = NULL;
    if (frequencies) {
        status = profile_clocks_parse(frequencies, how.mhz, &how.nclocks, err);
        if (!status) status = cpufreq_open(&how.cpufreq, folder, NULL, err);
        if (!status) status = signals_open(&how.signals, err); /* so that the clock's limits are given back */
    }
    if (!status) status = profile_text(&o, &how, &text, err);
    cpufreq_close(&how.cpufreq);
    signals_close(&how.signals);
    if (!status) status = write_text(output, text, err);
    free(text);
    return status;
}
