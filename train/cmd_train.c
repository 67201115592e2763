#include "train/commands.h"

#include "common/options.h"
#include "common/pool.h"
#include "train/precision.h"
#include "train/trainer.h"

#include <string.h>

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    stop = 1;
    signal(number, SIG_DFL); /* a second one ends it at once */
}

/* What the command line says before it is checked. */
struct arguments {
    struct trainer_config config;
    const char *robust, *channels, *order, *allocate, *precision;
    int seed;
};

static enum status read_names(struct arguments *a, struct err *err) {
    struct trainer_config *c = &a->config;
    c->robust.mode = robust_parse(a->robust);
    if (c->robust.mode == ROBUST_COUNT)
        return err_set(err, STATUS_USAGE, "--robust is none, drop or sandwich, not '%s'", a->robust);
    c->robust.channels = strcmp(a->channels, "random") == 0 ? ROBUST_RANDOM : ROBUST_LEAST;
    if (c->robust.channels != ROBUST_RANDOM && strcmp(a->channels, "least") != 0)
        return err_set(err, STATUS_USAGE, "--robust-channels is least or random, not '%s'", a->channels);
    c->order = order_parse(a->order);
    if (c->order == ORDER_COUNT)
        return err_set(err, STATUS_USAGE, "--order is none, l1, l2, bn-gamma, taylor or random, not '%s'", a->order);
    c->allocate = strcmp(a->allocate, "sensitivity") == 0;
    if (!c->allocate && strcmp(a->allocate, "uniform") != 0)
        return err_set(err, STATUS_USAGE, "--allocate is uniform or sensitivity, not '%s'", a->allocate);
    return precision_parse(a->precision, &c->precision, err);
}

static enum status check(const struct trainer_config *c, int seed, struct err *err) {
    const struct {
        const char *option;
        int value, min;
    } least[] = {
        { "--epochs", c->epochs, -1 },
        { "--batch", c->setup.batch, 0 },
        { "--seed", seed, 0 },
        { "--threads", c->setup.threads, 1 },
        { "--hold-out", c->setup.hold_out, -1 },
        { "--order-every", c->order_every, 0 },
        { "--checkpoint-every", c->checkpoint_every, 0 },
        { "--calibrate-uniform", c->calibrate.uniform, 1 },
        { "--calibrate-mixed", c->calibrate.mixed, 0 },
        { "--measure-plans", c->measure_plans, 0 },
        { "--cache-mib", c->cache_mib, 0 },
    };
    if (!c->output) return err_set(err, STATUS_USAGE, "say where the model goes: -o MODEL");
    for (size_t i = 0; i < sizeof least / sizeof *least; i++)
        if (least[i].value < least[i].min)
            return err_set(err, STATUS_USAGE, "%s is %d; the least is %d", least[i].option, least[i].value,
                           least[i].min);
    return STATUS_OK;
}

enum status cmd_train(int argc, char **argv, struct err *err) {
    struct arguments a = { .config = trainer_defaults(ROBUST_SANDWICH) };
    struct trainer_config *c = &a.config;
    a.robust = robust_name(c->robust.mode);
    a.order = order_name(c->order);
    a.channels = "least";
    a.allocate = "uniform";
    a.precision = "auto";
    a.seed = (int)c->setup.seed;
    c->setup.threads = pool_default_threads();
    const struct option options[] = {
        { "--output", 'o', OPTION_STRING, &c->output, "MODEL", "the model file to write" },
        { "--robust", 0, OPTION_STRING, &a.robust, "HOW", "make it survive pruning: none, drop, sandwich" },
        { "--order", 0, OPTION_STRING, &a.order, "BY", "channel order: none, l1, l2, bn-gamma, taylor, random" },
        { "--epochs", 0, OPTION_INT, &c->epochs, "N", "passes over the images; -1: as [net] says" },
        { "--batch", 0, OPTION_INT, &c->setup.batch, "N", "images per step; 0: as [net] says" },
        { "--seed", 0, OPTION_INT, &a.seed, "N", "of all random draws" },
        { "--from", 0, OPTION_STRING, &c->setup.from, "MODEL", "start from a model file, Darknet's .weights or PyTorch's safetensors" },
        { "--keep-zeros", 0, OPTION_FLAG, &c->keep_zeros, NULL, "weights that are zero in --from's file stay zero: for sparse networks" },
        { "--resume", 0, OPTION_FLAG, &c->resume, NULL, "go on from MODEL.checkpoint" },
        { "--checkpoint-every", 0, OPTION_INT, &c->checkpoint_every, "STEPS", "0: once an epoch" },
        { "--hold-out", 0, OPTION_INT, &c->setup.hold_out, "N",
          "training images kept back to measure accuracy; -1: a tenth, at most 1000" },
        { "--normalize", 0, OPTION_FLAG, &c->setup.normalize, NULL,
          "input's mean and deviation from the images; else mean and std of [net]" },
        { "--robust-from", 0, OPTION_DOUBLE, &c->robust.from, "P", "share of the steps that are plain, before it begins" },
        { "--robust-full", 0, OPTION_DOUBLE, &c->robust.full, "P", "drop: chance of a full-width pass in a step" },
        { "--robust-plans", 0, OPTION_INT, &c->robust.plans, "N", "random plans per step" },
        { "--robust-cuts", 0, OPTION_INT, &c->robust.max_cuts, "N", "most cuts of a random plan" },
        { "--robust-link", 0, OPTION_DOUBLE, &c->robust.link, "P", "chance that a link is capped" },
        { "--robust-groups", 0, OPTION_DOUBLE, &c->robust.groups, "P", "chance that a prune group has a level of its own" },
        { "--robust-channels", 0, OPTION_STRING, &a.channels, "WHICH", "channels that a random plan drops: least important, or random" },
        { "--robust-weight", 0, OPTION_DOUBLE, &c->robust.weight, "W", "of a pruned pass's gradient" },
        { "--distill", 0, OPTION_DOUBLE, &c->robust.distill, "P", "share of full width's soft labels in its target" },
        { "--order-every", 0, OPTION_INT, &c->order_every, "EPOCHS", "order again during the first half; 0: no" },
        { "--soft-mask", 0, OPTION_FLAG, &c->soft_mask, NULL,
          "learn each channel's importance with the weights; half of the robust steps are for that" },
        { "--allocate", 0, OPTION_STRING, &a.allocate, "HOW",
          "channels per group and level: uniform, or by sensitivity at equal multiply-adds" },
        { "--allocate-from", 0, OPTION_DOUBLE, &c->allocate_from, "P", "share of the steps before the counts are chosen" },
        { "--calibrate-uniform", 0, OPTION_INT, &c->calibrate.uniform, "N", "passes for batch norm of every level throughout" },
        { "--calibrate-mixed", 0, OPTION_INT, &c->calibrate.mixed, "N", "passes under mixed plans, for each correction of a channel" },
        { "--measure-plans", 0, OPTION_INT, &c->measure_plans, "N", "random plans that test the accuracy model; 0: none is fitted" },
        { "--precision", 0, OPTION_STRING, &a.precision, "P",
          "of convolutions: f32, bf16 (and sums in f32), or auto: bf16 where the processor has it" },
        { "--threads", 0, OPTION_INT, &c->setup.threads, "N", "threads that train" },
        { "--cache-mib", 0, OPTION_INT, &c->cache_mib, "N", "memory for decoded images" },
        { "--log", 0, OPTION_STRING, &c->log, "FILE", "progress as JSON lines" },
        { "--json", 0, OPTION_FLAG, &c->json, NULL, "print the table of levels as JSON lines" },
        { 0 },
    };
    const struct options_command usage = { "train DATA CFG -o MODEL",
                                             "Train a network that survives pruning and write one model file.", options,
                                             2, 2 };
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if ((status = read_names(&a, err)) || (status = check(c, a.seed, err))) return status;
    c->setup.data = argv[0];
    c->setup.cfg = argv[1];
    c->setup.seed = (uint64_t)a.seed;
    c->stop = &stop;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    return trainer_run(c, err);
}
