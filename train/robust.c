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
        .from = .6,
        .full = 1,
        .plans = mode == ROBUST_NONE ? 0 : 2,
        .max_cuts = 3,
        .link = .1,
        .groups = 0,
        .channels = ROBUST_LEAST,
        .distill = 1,
        .weight = .5,
    };
}

enum status robust_check(const struct robust_config *config, struct err *err) {
    const struct {
        const char *option;
        double value, max;
    } ranges[] = {
        { "--robust-from", config->from, 1 },
        { "--robust-full", config->full, 1 },
        { "--robust-plans", config->plans, ROBUST_MAX_PASSES - 2 },
        { "--robust-cuts", config->max_cuts, PLAN_MAX_BLOCKS },
        { "--robust-link", config->link, 1 },
        { "--robust-groups", config->groups, 1 },
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

enum status robust_pass_create(struct robust_pass *pass, const struct model *model, struct err *err) {
    *pass = (struct robust_pass){ 0 };
    enum status status = plan_create(&pass->plan, model->blocks->nblocks, 0, err);
    if (!status) status = levels_copy(&pass->levels, model->levels, err);
    if (status) robust_pass_destroy(pass);
    return status;
}

void robust_pass_destroy(struct robust_pass *pass) {
    plan_destroy(&pass->plan);
    levels_destroy(&pass->levels);
}

/* The model's levels, or with each group, by chance, at the count of another;
 * level 0 stays full width. */
static void draw_counts(double share, const struct levels *model, struct random *random, struct levels *levels) {
    for (int l = 1; l < levels->nlevels; l++)
        for (int g = 0; g < levels->ngroups; g++) {
            bool own = share > 0 && random_uniform(random) < share;
            int from = own ? random_below(random, levels->nlevels) : l;
            levels->keep[l * levels->ngroups + g] = levels_keep(model, from, g);
        }
}

bool robust_passes(const struct robust_config *config, const struct model *model, uint64_t seed, int step,
                   struct robust_pass *passes, int *npasses) {
    struct random random = random_stream(seed, 0x726f6275, (uint64_t)step);
    bool full = config->mode != ROBUST_DROP || random_uniform(&random) < config->full;
    int n = 0, whole = 0;
    if (full) fill(passes[n++].plan, 0);
    if (config->mode == ROBUST_SANDWICH) fill(passes[n++].plan, model->levels->nlevels - 1);
    whole = n; /* passes whose counts are not drawn */
    if (config->mode != ROBUST_NONE) {
        int wanted = n + config->plans;
        if (wanted == 0) wanted = 1;
        while (n < wanted) robust_draw(config, model, &random, passes[n++].plan);
    }
    for (int p = 0; p < n; p++) {
        draw_counts(p < whole ? 0 : config->groups, model->levels, &random, passes[p].levels);
        passes[p].shuffled = config->channels == ROBUST_RANDOM && !(full && p == 0);
        passes[p].shuffle = passes[p].shuffled ? random_next(&random) : 0;
    }
    *npasses = n;
    return full;
}
