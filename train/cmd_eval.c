#include "train/commands.h"

#include "common/options.h"
#include "common/pool.h"
#include "common/portfolio.h"
#include "train/measure.h"
#include "train/report.h"
#include "train/setup.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arguments {
    const char *plan, *link, *levels, *cuts, *split, *variant;
    int random_plans, images, batch, threads, seed;
    bool json;
};

enum { PLAN_TEXT = 256 };

static enum status take(struct measure_set *plans, struct plan *plan, struct err *err) {
    enum status status = measure_set_add(plans, plan, err);
    if (status) plan_destroy(&plan);
    return status;
}

/* --levels: "all" or a list of levels, each throughout. */
static enum status add_levels(struct measure_set *plans, const struct model *model, const char *text,
                              struct err *err) {
    if (strcmp(text, "all") == 0) return measure_set_uniform(plans, model, err);
    for (const char *p = text;; p++) {
        char *end;
        long level = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',') || level < 0 || level >= model->levels->nlevels)
            return err_set(err, STATUS_USAGE, "--levels takes 'all' or levels from 0 to %d with commas between, not '%s'",
                           model->levels->nlevels - 1, text);
        struct plan *plan;
        enum status status = plan_create(&plan, model->blocks->nblocks, (int)level, err);
        if (!status) status = take(plans, plan, err);
        if (status) return status;
        p = end;
        if (!*p) return STATUS_OK;
    }
}

/* The plan of --plan and --link. */
static enum status add_plan(struct measure_set *plans, const struct model *model, const struct arguments *a,
                            struct err *err) {
    int nslices, *first = malloc((size_t)model->blocks->nblocks * sizeof *first);
    struct plan *plan;
    if (!first) return err_memory(err, "slices");
    enum status status = blocks_parse_cuts(model->blocks, a->cuts, first, &nslices, err);
    if (!status)
        status = plan_parse(&plan, model->blocks, model->levels, nslices, first, a->plan ? a->plan : "0", a->link, err);
    free(first);
    return status ? status : take(plans, plan, err);
}

static enum status gather_plans(struct measure_set *plans, const struct model *model, const struct arguments *a,
                                struct err *err) {
    enum status status = STATUS_OK;
    if (a->plan || a->link || (!a->levels && !a->random_plans)) status = add_plan(plans, model, a, err);
    if (!status && a->levels) status = add_levels(plans, model, a->levels, err);
    if (!status && a->random_plans)
        status = measure_set_random(plans, model, a->random_plans, (uint64_t)a->seed, err);
    return status;
}

static enum status print(const struct model *model, const struct measure_set *plans, const double *accuracy,
                         int images, const struct arguments *a, struct err *err) {
    double mean = 0, worst = 1, off = 0;
    if (!a->json) printf("accuracy  expected  multiply-adds  plan\n");
    for (int i = 0; i < plans->n; i++) {
        char levels[PLAN_TEXT], cuts[PLAN_TEXT], links[PLAN_TEXT];
        double cost, expected = model->accuracy ? accuracy_predict(model->accuracy, plans->plans[i]) : -1;
        enum status status = report_cost(model, plans->plans[i], &cost, err);
        if (status) return status;
        report_plan(model, plans->plans[i], levels, cuts, links, PLAN_TEXT);
        mean += accuracy[i] / plans->n;
        off += (expected > accuracy[i] ? expected - accuracy[i] : accuracy[i] - expected) / plans->n;
        if (accuracy[i] < worst) worst = accuracy[i];
        if (a->json) {
            printf("{\"plan\":\"%s\",\"cuts\":\"%s\",\"link\":\"%s\",\"accuracy\":%.6g,\"multiply_adds\":%.4g,"
                   "\"images\":%d", levels, cuts, links, accuracy[i], cost, images);
            if (model->accuracy) printf(",\"expected\":%.6g", expected);
            printf("}\n");
            continue;
        }
        printf("%7.2f%%  ", 100 * accuracy[i]);
        if (model->accuracy) printf("%7.2f%%", 100 * expected);
        else printf("%8s", "-");
        printf("  %12.1f%%  %s%s%s%s%s\n", 100 * cost, levels, cuts[0] ? " --cuts " : "", cuts,
               links[0] ? " --link " : "", links);
    }
    if (!a->json && plans->n > 1) {
        printf("mean %.2f%%, worst %.2f%%", 100 * mean, 100 * worst);
        if (model->accuracy) printf(", expected accuracy off by %.2f points", 100 * off);
        printf(", %d images\n", images);
    }
    return STATUS_OK;
}

static enum status evaluate(struct model *model, const struct dataset *dataset, const struct arguments *a,
                            struct err *err) {
    struct measure_set plans = { 0 };
    struct network *network = NULL;
    struct loader *loader = NULL;
    double *accuracy = NULL;
    int images;
    struct loader_config loading = { .dataset = dataset, .preproc = model->preproc, .batch = a->batch,
                                     .threads = a->threads };
    enum status status = setup_check_classes(dataset, model, err);
    if (!status) status = gather_plans(&plans, model, a, err);
    if (!status) status = loader_create(&loader, &loading, err);
    if (!status) status = network_create(&network, model, a->batch, a->threads, err);
    if (!status && !(accuracy = malloc((size_t)plans.n * sizeof *accuracy))) status = err_memory(err, "accuracy");
    if (!status)
        status = measure_plans(network, model, loader, plans.plans, plans.n, 1, "eval", accuracy, &images, err);
    if (!status) status = print(model, &plans, accuracy, images, a, err);
    free(accuracy);
    network_destroy(&network);
    loader_destroy(&loader);
    measure_set_free(&plans);
    return status;
}

static enum status open_images(struct dataset **images, const char *data, enum dataset_split split,
                               const struct arguments *a, struct err *err) {
    struct dataset *all;
    enum status status = dataset_open(&all, data, split, err);
    if (status) return status;
    if (a->images == 0 || a->images >= all->n) {
        *images = all;
        return STATUS_OK;
    }
    status = dataset_hold_out(all, a->images, (uint64_t)a->seed, images, err);
    dataset_close(&all);
    return status;
}

enum status cmd_eval(int argc, char **argv, struct err *err) {
    struct arguments a = { .split = "valid", .batch = 128, .threads = pool_default_threads(), .seed = 1 };
    const struct option options[] = {
        { "--variant", 0, OPTION_STRING, &a.variant, "NAME", "of a portfolio: a name, or a number; else the first" },
        { "--plan", 0, OPTION_STRING, &a.plan, "P", "a level for all, or one per slice: 0,2,4" },
        { "--link", 0, OPTION_STRING, &a.link, "L", "a level per link, in the same way: 0,3" },
        { "--cuts", 0, OPTION_STRING, &a.cuts, "LAYERS", "slices end behind these layers: 8,15; else as [slice] says" },
        { "--levels", 0, OPTION_STRING, &a.levels, "LIST", "every level throughout: all, or 0,3,6" },
        { "--random-plans", 0, OPTION_INT, &a.random_plans, "N", "as many random plans, a level per slice" },
        { "--seed", 0, OPTION_INT, &a.seed, "N", "of the random plans" },
        { "--split", 0, OPTION_STRING, &a.split, "WHICH", "images: train, valid or test" },
        { "--images", 0, OPTION_INT, &a.images, "N", "at most so many, of all classes alike; 0: all" },
        { "--batch", 0, OPTION_INT, &a.batch, "N", "images per pass" },
        { "--threads", 0, OPTION_INT, &a.threads, "N", "threads that compute" },
        { "--json", 0, OPTION_FLAG, &a.json, NULL, "one JSON line per plan" },
        { 0 },
    };
    const struct options_command usage = { "eval DATA MODEL", "Accuracy of a model under any plan.", options, 2, 2 };
    static const char *const splits[] = { "train", "valid", "test" };
    int positional, help, split = 0;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    while (split < 3 && strcmp(a.split, splits[split]) != 0) split++;
    if (split == 3) return err_set(err, STATUS_USAGE, "--split is train, valid or test, not '%s'", a.split);
    if (a.batch < 1 || a.threads < 1 || a.random_plans < 0 || a.images < 0)
        return err_set(err, STATUS_USAGE, "--batch and --threads are at least 1, --random-plans and --images 0");
    struct model *model;
    struct dataset *dataset;
    if ((status = portfolio_load(&model, argv[1], a.variant, 0, err))) return status;
    status = open_images(&dataset, argv[0], (enum dataset_split)split, &a, err);
    if (!status) {
        status = evaluate(model, dataset, &a, err);
        dataset_close(&dataset);
    }
    model_destroy(&model);
    return status;
}
