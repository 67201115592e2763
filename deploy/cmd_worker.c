#include "deploy/commands.h"

#include "common/options.h"
#include "deploy/kernels/table.h"
#include "deploy/keys.h"
#include "deploy/worker.h"

#include <stddef.h>

enum status cmd_worker(int argc, char **argv, struct err *err) {
    struct worker_config config = { .listen = "tcp://127.0.0.1:7700" };
    const char *keys_folder = NULL, *name = NULL, *cpu_mask = NULL;
    const struct option options[] = {
        { "--listen", 0, OPTION_STRING, &config.listen, "ADDRESS", "where runners reach it; port *: a free one" },
        { "--keys", 0, OPTION_STRING, &keys_folder, "DIR", "own secret key and the public keys of who may connect" },
        { "--name", 0, OPTION_STRING, &name, "NAME", "whose secret key of DIR, if it holds several" },
        { "--cache", 0, OPTION_STRING, &config.cache, "DIR", "where slices and their packed weights are kept; default ~/.cache/espalier" },
        { "--threads", 0, OPTION_INT, &config.threads, "N", "threads to compute with, 0: one per core" },
        { "--cpu-mask", 0, OPTION_STRING, &cpu_mask, "ISA", "no kernels above this instruction set" },
        { "--address-file", 0, OPTION_STRING, &config.address_file, "FILE", "write the address to FILE, too" },
        { 0 },
    };
    const struct options_command spec = {
        .usage = "worker [--listen ADDRESS] [--keys DIR]",
        .summary = "Serves as one stage of a pipeline: waits for 'run' on another device, gets its slice\n"
                   "of the model from there, and computes until told to stop. Prints its address.",
        .options = options,
    };
    int positional, help;
    enum status status = options_parse(&spec, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (config.threads < 0 || config.threads > 1024)
        return err_set(err, STATUS_USAGE, "--threads takes 0 to 1024, not %d", config.threads);
    struct keys *keys = NULL;
    if (cpu_mask) status = kernels_limit(cpu_mask, err);
    if (!status && keys_folder) status = keys_load(&keys, keys_folder, name, err);
    config.keys = keys;
    if (!status) status = worker_run(&config, err);
    keys_destroy(&keys);
    return status;
}
