/* profile: how long each block takes here, at every level. */
#include "deploy/commands.h"

#include "common/file.h"
#include "common/options.h"
#include "deploy/device.h"
#include "deploy/profile_measure.h"

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

enum status cmd_profile(int argc, char **argv, struct err *err) {
    struct device_options o = device_defaults();
    const char *output = NULL;
    int repeats = 15;
    bool json = true;
    const struct option options[] = {
        {"--output", 'o', OPTION_STRING, &output, "FILE", "write it there instead of to standard output"},
        {"--repeats", 0, OPTION_INT, &repeats, "N", "runs of each plan; the median counts"},
        {"--threads", 0, OPTION_INT, &o.threads, "N", "threads to compute with"},
        {"--cpu-mask", 0, OPTION_STRING, &o.cpu_mask, "ISA", "no kernels above this instruction set"},
        {"--json", 0, OPTION_FLAG, &json, NULL, "accepted: a profile is always JSON"},
        {0},
    };
    const struct options_command usage = {
        "profile MODEL", "Measures each block's latency on this device, by own level and level of what arrives.", options,
        1, 1};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (repeats < 1 || repeats > 10000) return err_set(err, STATUS_USAGE, "--repeats is between 1 and 10000");
    o.model = argv[0];
    struct device device;
    struct profile *profile = NULL;
    if ((status = device_open(&device, &o, err))) return status;
    status = profile_measure(&profile, device.model, device.pool, repeats, err);
    device_close(&device);
    if (status) return status;
    char *text = profile_json(profile);
    profile_destroy(&profile);
    status = text ? write_text(output, text, err) : err_memory(err, "JSON");
    free(text);
    return status;
}
