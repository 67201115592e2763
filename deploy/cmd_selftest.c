/* selftest: what to run first on a new board. */
#include "deploy/commands.h"

#include "common/options.h"
#include "deploy/selftest.h"

#include <stdio.h>

enum status cmd_selftest(int argc, char **argv, struct err *err) {
    int threads = pool_default_threads();
    bool json = false;
    const struct option options[] = {
        {"--threads", 0, OPTION_INT, &threads, "N", "threads to compute with"},
        {"--json", 0, OPTION_FLAG, &json, NULL, "the result as JSON; the checks go to standard error"},
        {0},
    };
    const struct options_command usage = {
        "selftest", "Checks on this device: kernels, golden outputs, and the time of a level switch.", options, 0, 0};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    struct pool *pool = NULL;
    struct selftest t;
    if ((status = pool_create(&pool, threads, err))) return status;
    status = selftest_run(&t, pool, json ? stderr : stdout, err);
    pool_destroy(&pool);
    if (status) return status;
    if (json) printf("{\"processor\":\"%s\",\"checks\":%d,\"failures\":%d,\"switch_us\":%.3f}\n", t.processor, t.checks,
                     t.failures, t.switch_us);
    else printf("%d of %d checks passed\n", t.checks - t.failures, t.checks);
    if (t.failures == 0) return STATUS_OK;
    err_set(err, STATUS_FORMAT, "%d of %d checks failed: this build does not compute right here", t.failures, t.checks);
    err_hint(err, "'predict --cpu-mask ref' uses plain C kernels");
    return STATUS_FORMAT;
}
