/* shift: a portfolio of variants from sparse training. */
#include "train/commands.h"

#include "common/options.h"
#include "common/pool.h"
#include "train/precision.h"
#include "train/shift.h"

#include <signal.h>
#include <stdlib.h>

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    stop = 1;
    signal(number, SIG_DFL); /* a second one ends it at once */
}

static enum status read_sparsities(const char *text, struct shift_config *c, struct err *err) {
    for (const char *p = text;; p++) {
        char *end;
        double value = strtod(p, &end), before = c->nsparsities ? c->sparsities[c->nsparsities - 1] : 0;
        if (end == p || (*end && *end != ',') || !(value > before && value < 1))
            return err_set(err, STATUS_USAGE, "--sparsities takes rising shares between 0 and 1: .5,.8,.9, not '%.60s'", text);
        if (c->nsparsities == SHIFT_MAX_SPARSITIES)
            return err_set(err, STATUS_USAGE, "--sparsities takes at most %d", SHIFT_MAX_SPARSITIES);
        c->sparsities[c->nsparsities++] = value;
        p = end;
        if (!*p) return STATUS_OK;
    }
}

static enum status check(const struct shift_config *c, int seed, double tolerance, struct err *err) {
    const struct trainer_config *t = &c->train;
    if (!c->output) return err_set(err, STATUS_USAGE, "say where the portfolio goes: -o PORTFOLIO");
    if (t->epochs < -1 || t->setup.batch < 0 || seed < 0 || t->setup.threads < 1 || t->setup.hold_out < -1 ||
        t->cache_mib < 0 || t->checkpoint_every < 0)
        return err_set(err, STATUS_USAGE, "--threads is at least 1, --epochs and --hold-out -1, the others 0");
    if (c->rewind < 1 || (t->epochs >= 0 && c->rewind >= t->epochs))
        return err_set(err, STATUS_USAGE, "--rewind is an epoch of the training, from 1 to the last but one");
    if (!(c->share >= 0 && c->share <= 1)) return err_set(err, STATUS_USAGE, "--channel-share is between 0 and 1");
    if (!(tolerance <= 100)) return err_set(err, STATUS_USAGE, "--removable is a number of points of accuracy");
    return STATUS_OK;
}

enum status cmd_shift(int argc, char **argv, struct err *err) {
    struct shift_config c = shift_defaults();
    struct trainer_config *t = &c.train;
    const char *sparsities = ".5,.8,.9,.95,.99", *precision = "auto";
    int seed = (int)t->setup.seed;
    double tolerance = 100 * c.tolerance;
    t->setup.threads = pool_default_threads();
    const struct option options[] = {
        { "--output", 'o', OPTION_STRING, &c.output, "PORTFOLIO", "the file to write; trainings are kept in PORTFOLIO.rounds" },
        { "--sparsities", 0, OPTION_STRING, &sparsities, "LIST", "shares of the weights that are zero, one variant each" },
        { "--epochs", 0, OPTION_INT, &t->epochs, "N", "of the first training; -1: as [net] says" },
        { "--rewind", 0, OPTION_INT, &c.rewind, "EPOCH", "sparse trainings begin with the weights behind it" },
        { "--channel-share", 0, OPTION_DOUBLE, &c.share, "A", "how much of pruning is by whole channels: 1 - sparsity to this power; 0: single weights alone" },
        { "--removable", 0, OPTION_DOUBLE, &tolerance, "POINTS",
          "channels go without which accuracy on 500 training images is no lower; below 0: only those that carry nothing" },
        { "--batch", 0, OPTION_INT, &t->setup.batch, "N", "images per step; 0: as [net] says" },
        { "--seed", 0, OPTION_INT, &seed, "N", "of all random draws" },
        { "--hold-out", 0, OPTION_INT, &t->setup.hold_out, "N",
          "training images kept back to measure accuracy; -1: a tenth, at most 1000" },
        { "--checkpoint-every", 0, OPTION_INT, &t->checkpoint_every, "STEPS", "0: once an epoch" },
        { "--precision", 0, OPTION_STRING, &precision, "P", "as in train" },
        { "--threads", 0, OPTION_INT, &t->setup.threads, "N", "threads that train" },
        { "--cache-mib", 0, OPTION_INT, &t->cache_mib, "N", "memory for decoded images" },
        { "--json", 0, OPTION_FLAG, &t->json, NULL, "the variants as JSON lines" },
        { 0 },
    };
    const struct options_command usage = {
        "shift DATA CFG -o PORTFOLIO",
        "Train sparse networks and make a portfolio of small dense ones of them. Goes on where it was interrupted.",
        options, 2, 2 };
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if ((status = check(&c, seed, tolerance, err)) || (status = read_sparsities(sparsities, &c, err)) ||
        (status = precision_parse(precision, &t->precision, err)))
        return status;
    t->setup.data = argv[0];
    t->setup.cfg = argv[1];
    t->setup.seed = (uint64_t)seed;
    c.tolerance = tolerance / 100;
    t->stop = &stop;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    return shift_run(&c, err);
}
