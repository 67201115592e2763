/* bench: latency of every level on this device. */
#include "deploy/commands.h"

#include "common/json.h"
#include "common/options.h"
#include "common/portfolio.h"
#include "deploy/bench.h"
#include "deploy/bench_variants.h"

static enum status report(const struct device *device, const struct bench_options *options, bool json,
                          struct err *err) {
    struct bench *bench = NULL;
    enum status status = bench_run(&bench, device, options, err);
    if (status) return status;
    if (json) status = json_print(bench_json(bench, device->model), true, err);
    else bench_print(bench, device->model, stdout);
    bench_destroy(&bench);
    return status;
}

enum status cmd_bench(int argc, char **argv, struct err *err) {
    struct device_options d = device_defaults();
    struct bench_options b = {.repeats = 10, .seconds = .5};
    const char *plan = NULL;
    bool json = false;
    const struct option options[] = {
        {"--variant", 0, OPTION_STRING, &d.variant, "NAME", "of a portfolio: a name that info shows, or a number; else the first"},
        {"--plan", 0, OPTION_STRING, &plan, "P", "one plan instead of every level: 0,2,4"},
        {"--link", 0, OPTION_STRING, &d.link, "L", "per cut a cap on the channels that cross: 1,0"},
        {"--cuts", 0, OPTION_STRING, &d.cuts, "LAYERS", "slices end behind these layers: 8,15; else as [slice] says"},
        {"--layers", 0, OPTION_FLAG, &b.layers, NULL, "each layer's time, too (level 0 or the plan)"},
        {"--switches", 0, OPTION_INT, &b.switches, "N", "time this many level switches"},
        {"--decode", 0, OPTION_STRING, &b.decode, "IMAGE", "time both decoders on it, too"},
        {"--repeats", 0, OPTION_INT, &b.repeats, "N", "runs of each level, at least"},
        {"--seconds", 0, OPTION_DOUBLE, &b.seconds, "S", "time for each level, at least"},
        {"--cache", 0, OPTION_STRING, &d.cache, "DIR", "keep packed weights there: the next start is faster"},
        {"--low-memory", 0, OPTION_FLAG, &d.low_memory, NULL, "less memory, more time"},
        {"--threads", 0, OPTION_INT, &d.threads, "N", "threads to compute with"},
        {"--cpu-mask", 0, OPTION_STRING, &d.cpu_mask, "ISA", "no kernels above this instruction set"},
        {"--json", 0, OPTION_FLAG, &json, NULL, "one JSON object"},
        {0},
    };
    const struct options_command usage = {
        "bench MODEL | CFG | PORTFOLIO",
        "Latency of every level on this device, as a share of what its processor can do. A cfg is given random weights. "
        "Of a portfolio without --variant: frames, switches and memory of every variant.", options, 1, 1};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (b.repeats < 1 || b.repeats > 1000000 || b.switches < 0 || b.switches > 10000000)
        return err_set(err, STATUS_USAGE, "--repeats is between 1 and 1000000, --switches between 0 and 10000000");
    d.model = argv[0];
    d.cfg = true;
    b.one_plan = plan != NULL;
    if (plan) d.plan = plan;
    if (!d.variant && portfolio_is(d.model)) {
        const struct bench_variants_options v = {b.switches, b.repeats, json};
        return bench_variants(&d, &v, err);
    }
    struct device device;
    if ((status = device_open(&device, &d, err))) return status;
    status = report(&device, &b, json, err);
    device_close(&device);
    return status;
}
