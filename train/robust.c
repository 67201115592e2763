#include "train/robust.h"

#include <string.h>

static const char *const names[ROBUST_COUNT] = { "none", "drop", "sandwich" };

const char *robust_name(enum robust_mode mode) { return names[mode]; }

enum robust_mode robust_parse(const char *name) {
    int i = 0;
    while (i < ROBUST_COUNT && strcmp(name, names[i]) != 0) i++;
    return (enum robust_mode)i;
}

struct robust_config robust_defaults(enum robust_mode mode) {
    return (struct robust_config){
        .mode = mode,
        .full = 1,
        .plans = mode == ROBUST_NONE ? 0 : 1,
        .max_cuts = 3,
        .link = .1,
        .distill = 1,
        .weight = 1,
    };
}

enum status robust_check(const struct robust_config *config, struct err *err) {
    const struct {
        const char *option;
        double value, max;
    } ranges[] = {
        { "--robust-full", config->full, 1 },
        { "--robust-plans", config->plans, ROBUST_MAX_PASSES - 2 },
        { "--robust-cuts", config->max_cuts, PLAN_MAX_BLOCKS },
        { "--robust-link", config->link, 1 },
        { "--distill", config->distill, 1 },
        { "--robust-weight", config->weight, 100 },
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= 0 && ranges[i].value <= ranges[i].max))
            return err_set(err, STATUS_USAGE, "%s is %g, not between 0 and %g", ranges[i].option, ranges[i].value,
                           ranges[i].max);
    return STATUS_OK;
}

static void fill(struct plan *plan, int level) {
    for (int b = 0; b < plan->nblocks; b++) {
        plan->level[b] = level;
        plan->link[b] = 0;
        plan->codec[b] = CODEC_F32;
    }
}

void robust_draw(const struct robust_config *config, const struct model *model, struct random *random,
                 struct plan *plan) {
    int nlevels = model->levels->nlevels, places = plan->nblocks - 1;
    int cuts = random_below(random, (config->max_cuts < places ? config->max_cuts : places) + 1);
    int level = random_below(random, nlevels);
    fill(plan, level);
    /* Selection sampling: each place is taken with the chance that leaves
     * exactly `cuts` of them, all choices alike. */
    for (int b = 1; b < plan->nblocks; b++) {
        if (random_below(random, plan->nblocks - b) < cuts) {
            cuts--;
            int narrower = nlevels - 1 - level; /* levels that a cap could have */
            if (random_uniform(random) < config->link && narrower > 0)
                plan->link[b] = level + 1 + random_below(random, narrower);
            level = random_below(random, nlevels);
        }
        plan->level[b] = level;
    }
}

bool robust_passes(const struct robust_config *config, const struct model *model, uint64_t seed, int step,
                   struct plan **plans, int *npasses) {
    struct random random = random_stream(seed, 0x726f6275, (uint64_t)step);
    bool full = config->mode != ROBUST_DROP || random_uniform(&random) < config->full;
    int n = 0;
    if (full) fill(plans[n++], 0);
    if (config->mode == ROBUST_SANDWICH) fill(plans[n++], model->levels->nlevels - 1);
    if (config->mode != ROBUST_NONE) {
        int wanted = n + config->plans;
        if (wanted == 0) wanted = 1;
        while (n < wanted) robust_draw(config, model, &random, plans[n++]);
    }
    *npasses = n;
    return full;
}
