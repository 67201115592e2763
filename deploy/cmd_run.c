#include "deploy/commands.h"

#include "common/cfg.h"
#include "common/options.h"
#include "deploy/runner.h"

#include <stddef.h>
#include <string.h>

static enum status parse_policy(const char *text, enum controller_policy *policy, struct err *err) {
    enum controller_policy found = controller_policy_parse(text);
    if (found != CONTROLLER_POLICIES) {
        *policy = found;
        return STATUS_OK;
    }
    const char *names[CONTROLLER_POLICIES];
    for (int i = 0; i < CONTROLLER_POLICIES; i++) names[i] = controller_policy_name((enum controller_policy)i);
    err_set(err, STATUS_USAGE, "--policy takes static, bottleneck or exact, not '%.40s'", text);
    const char *near = cfg_nearest(text, names, CONTROLLER_POLICIES);
    if (near) err_hint(err, "did you mean '%s'?", near);
    return STATUS_USAGE;
}

static enum status parse_overload(const char *text, enum runner_overload *overload, struct err *err) {
    const char *names[RUNNER_OVERLOADS];
    for (int i = 0; i < RUNNER_OVERLOADS; i++) {
        names[i] = runner_overload_name((enum runner_overload)i);
        if (strcmp(text, names[i]) != 0) continue;
        *overload = (enum runner_overload)i;
        return STATUS_OK;
    }
    err_set(err, STATUS_USAGE, "--overload takes wait, drop-oldest or refuse, not '%.40s'", text);
    const char *near = cfg_nearest(text, names, RUNNER_OVERLOADS);
    if (near) err_hint(err, "did you mean '%s'?", near);
    return STATUS_USAGE;
}

static enum status check(const struct runner_config *c, int frames, int shuffle, struct err *err) {
    if (c->min_accuracy < 0 || c->min_accuracy > 1)
        return err_set(err, STATUS_USAGE, "--min-accuracy takes a share from 0 to 1, not %g", c->min_accuracy);
    if (c->source.fps < 0 || c->source.fps > 1e6) return err_set(err, STATUS_USAGE, "--fps %g", c->source.fps);
    if (frames < 0 || shuffle < 0) return err_set(err, STATUS_USAGE, "--frames and --shuffle take no negative number");
    if (c->queue < 1 || c->queue > 4096) return err_set(err, STATUS_USAGE, "--queue takes 1 to 4096, not %d", c->queue);
    if (c->credits < 0 || c->credits > 60)
        return err_set(err, STATUS_USAGE, "--credits takes 1 to 60, not %d", c->credits);
    return STATUS_OK;
}

enum status cmd_run(int argc, char **argv, struct err *err) {
    struct runner_config config = runner_defaults();
    const char *policy = NULL, *overload = runner_overload_name(config.overload);
    int frames = 0, shuffle = 0;
    const struct option options[] = {
        { "--slo-ms", 0, OPTION_DOUBLE, &config.slo_ms, "MS", "deadline from due to stored; -1: the one of the cfg" },
        { "--policy", 0, OPTION_STRING, &policy, "POLICY", "static, bottleneck or exact (if there is a deadline)" },
        { "--min-accuracy", 0, OPTION_DOUBLE, &config.min_accuracy, "SHARE", "plan no less expected accuracy" },
        { "--portfolio", 0, OPTION_FLAG, &config.portfolio, NULL, "MODEL must be a portfolio; it is served as one in any case" },
        { "--steady", 0, OPTION_STRING, &config.steady.profile, "FILE", "hold latency as this device's clock moves: a profile with --frequencies" },
        { "--steady-ms", 0, OPTION_DOUBLE, &config.steady.target_ms, "MS", "of a frame in all stages; 0: the least that all clocks can hold" },
        { "--cpufreq", 0, OPTION_STRING, &config.steady.cpufreq, "DIR", "where the clock is read" },
        { "--throttled", 0, OPTION_STRING, &config.steady.throttled, "FILE", "the firmware's flags; else a Raspberry Pi's, where there are any" },
        { "--plan", 0, OPTION_STRING, &config.plan, "LEVELS", "to start with: one level, or one per worker (0,2,4); of a portfolio a variant's number" },
        { "--link", 0, OPTION_STRING, &config.links, "LINKS", "to start with: level:codec per cut (1:q8z,0:f16)" },
        { "--cuts", 0, OPTION_STRING, &config.cuts, "LAYERS", "cut behind these; default: the model's, or balanced" },
        { "--fps", 0, OPTION_DOUBLE, &config.source.fps, "N", "frames due per second, 0: as fast as accepted" },
        { "--trace", 0, OPTION_STRING, &config.source.trace, "FILE", "times at which frames are due, in seconds" },
        { "--watch", 0, OPTION_FLAG, &config.source.watch, NULL, "go on with the folder's new files until stopped" },
        { "--overload", 0, OPTION_STRING, &overload, "HOW", "frames too many: wait, drop-oldest or refuse (counted)" },
        { "--queue", 0, OPTION_INT, &config.queue, "N", "frames that may wait before that; not for wait" },
        { "--frames", 0, OPTION_INT, &frames, "N", "stop after N frames, going round if need be; 0: all" },
        { "--shuffle", 0, OPTION_INT, &shuffle, "SEED", "files in a random order, 0: sorted" },
        { "--results", 0, OPTION_STRING, &config.results, "FILE", "database of results; an unfinished run is resumed" },
        { "--summary", 0, OPTION_STRING, &config.summary, "FILE", "write the summary as JSON" },
        { "--metrics", 0, OPTION_STRING, &config.metrics, "ADDR", "serve Prometheus text: PORT or HOST:PORT; see top" },
        { "--json", 0, OPTION_FLAG, &config.json, NULL, "print results as JSON Lines as they land" },
        { "--keys", 0, OPTION_STRING, &config.keys, "DIR", "own secret key and the workers' public ones" },
        { "--name", 0, OPTION_STRING, &config.name, "NAME", "whose secret key of DIR, if it holds several" },
        { "--credits", 0, OPTION_INT, &config.credits, "N", "frames in flight, 0: workers + 2" },
        { "--connect-timeout", 0, OPTION_DOUBLE, &config.connect_timeout_s, "S", "for all workers to be ready" },
        { "--takeover", 0, OPTION_DOUBLE, &config.takeover_s, "S", "without a worker till others do its part; 0: never" },
        { "--recut", 0, OPTION_DOUBLE, &config.recut_s, "S", "with stages out of balance till cuts move; 0: never" },
        { "--timeout", 0, OPTION_DOUBLE, &config.timeout_s, "S", "give up after so long without a result; 0: never" },
        { 0 },
    };
    const struct options_command spec = {
        .usage = "run CLUSTER MODEL SOURCE",
        .summary = "Cuts MODEL into slices, gives one to each worker of the cluster cfg, and streams the\n"
                   "frames of SOURCE through them: a folder, a list file, an image, or - for JPEGs on\n"
                   "standard input. Every accepted frame gets exactly one result, whatever fails.",
        .options = options,
        .min_positional = 3,
        .max_positional = 3,
    };
    int positional, help;
    enum status status = options_parse(&spec, argc, argv, &positional, &help, err);
    if (status || help) return status;
    config.cluster = argv[0];
    config.model = argv[1];
    config.source.spec = argv[2];
    if (policy) status = parse_policy(policy, &config.policy, err);
    if (!status) status = parse_overload(overload, &config.overload, err);
    if (!status) status = check(&config, frames, shuffle, err);
    config.source.frames = frames;
    config.source.shuffle = (uint64_t)shuffle;
    return status ? status : runner_run(&config, err);
}
