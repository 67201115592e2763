/* prune: a dense, physically smaller model of one plan. */
#include "deploy/commands.h"

#include "common/options.h"
#include "common/portfolio.h"
#include "deploy/surgery.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arguments {
    const char *model, *variant, *plan, *link, *cuts, *output;
    bool json;
};

static double parameters(const struct model *model) {
    double sum = 0;
    for (int i = 0; i < model->net->nlayers; i++) sum += (double)net_weight_count(&model->net->layers[i]);
    return sum;
}

static double multiply_adds(const struct model *model) {
    double sum = 0;
    for (int i = 0; i < model->net->nlayers; i++) sum += net_multiply_adds(&model->net->layers[i]);
    return sum;
}

static void print(const struct arguments *a, const struct model *model, const struct model *small) {
    double weights = parameters(small) / parameters(model), work = multiply_adds(small) / multiply_adds(model);
    if (a->json) printf("{\"weights\":%.4g,\"multiply_adds\":%.4g", weights, work);
    else printf("%s: %.1f%% of the weights, %.1f%% of the multiply-adds", a->output, 100 * weights, 100 * work);
    if (small->accuracy) printf(a->json ? ",\"accuracy\":%.4g" : ", expected accuracy %.4g", small->accuracy->base);
    printf(a->json ? "}\n" : "\n");
}

static enum status read_plan(const struct arguments *a, const struct model *model, struct plan **plan, struct err *err) {
    int nslices, *first = malloc((size_t)model->blocks->nblocks * sizeof *first);
    if (!first) return err_memory(err, "slices");
    enum status status = blocks_parse_cuts(model->blocks, a->cuts, first, &nslices, err);
    if (!status) status = plan_parse(plan, model->blocks, model->levels, nslices, first, a->plan, a->link, err);
    free(first);
    return status;
}

static enum status prune(const struct arguments *a, struct err *err) {
    struct model *model, *small = NULL;
    struct plan *plan = NULL;
    enum status status = portfolio_load(&model, a->model, a->variant, 0, err);
    if (status) return status;
    status = read_plan(a, model, &plan, err);
    if (!status) status = surgery_prune(model, plan, &small, err);
    if (!status) status = model_save(small, a->output, err);
    if (!status) print(a, model, small);
    plan_destroy(&plan);
    model_destroy(&small);
    model_destroy(&model);
    return status;
}

enum status cmd_prune(int argc, char **argv, struct err *err) {
    struct arguments a = {0};
    const struct option options[] = {
        {"--variant", 0, OPTION_STRING, &a.variant, "NAME", "of a portfolio: a name that info shows, or a number; else the first"},
        {"--plan", 0, OPTION_STRING, &a.plan, "P", "a level for all, or one per slice: 0,2,4"},
        {"--link", 0, OPTION_STRING, &a.link, "L", "a level per link: a cap on the channels that cross"},
        {"--cuts", 0, OPTION_STRING, &a.cuts, "LAYERS", "slices end behind these layers: 8,15; else as [slice] says"},
        {"--output", 'o', OPTION_STRING, &a.output, "SMALL", "the model file to write"},
        {"--json", 0, OPTION_FLAG, &a.json, NULL, "what is left, as JSON"},
        {0},
    };
    const struct options_command usage = {
        "prune MODEL --plan P -o SMALL",
        "A dense model of one plan: smaller weights, the counts in its cfg, the same outputs.", options, 1, 1};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (!a.plan || !a.output) return err_set(err, STATUS_USAGE, "prune needs --plan and -o");
    a.model = argv[0];
    return prune(&a, err);
}
