#include "train/summary.h"

#include "common/file.h"
#include "train/precision.h"
#include "train/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void network_lines(FILE *out, const struct summary *s, const struct report_size *size) {
    const struct model *m = s->setup->model;
    struct net_shape in = m->net->input;
    fprintf(out, "network   %s: %d layers, input %dx%dx%d, %d classes\n", s->config->setup.cfg, m->net->nlayers, in.w, in.h,
            in.c, m->net->classes);
    fprintf(out, "          %.2f k parameters, %.2f M multiply-adds an image\n", size->parameters / 1e3,
            size->multiply_adds / 1e6);
    if (s->config->setup.from) fprintf(out, "          begun from %s\n", s->config->setup.from);
}

static void data_lines(FILE *out, const struct summary *s) {
    fprintf(out, "data      %s: %d training images, %d more held out\n", s->config->setup.data, s->setup->train->n,
            s->setup->held_out ? s->setup->held_out->n : 0);
}

static void recipe_lines(FILE *out, const struct summary *s) {
    const struct schedule *schedule = &s->setup->schedule;
    const struct robust_config *robust = &s->config->robust;
    fprintf(out, "recipe    %d steps of %d images (%.1f epochs), %s\n", s->steps, s->setup->batch,
            (double)s->steps * s->setup->batch / s->setup->train->n, precision_name(s->config->precision));
    fprintf(out, "          learning rate %g, %s; momentum %g%s; decay %g; label smoothing %g\n",
            (double)schedule->learning_rate, schedule_policy_name(schedule->policy), (double)schedule->momentum,
            schedule->nesterov ? " (Nesterov)" : "", (double)schedule->decay, (double)schedule->label_smoothing);
    fprintf(out, "          robust: %s", robust_name(robust->mode));
    if (robust->mode == ROBUST_DROP) fprintf(out, ", a full pass with chance %g", robust->full);
    if (robust->mode != ROBUST_NONE)
        fprintf(out, " behind %.0f%% of the steps, %d random plan%s a step, at most %d cuts, distilled by %g", 100 * robust->from, robust->plans,
                robust->plans == 1 ? "" : "s", robust->max_cuts, robust->distill);
    fprintf(out, "\n          order: %s", order_name(s->config->order));
    if (s->config->order_every) fprintf(out, ", again every %d epochs during the first half", s->config->order_every);
    if (s->config->soft_mask) fprintf(out, ", then by an importance learnt with the weights (soft mask)");
    fprintf(out, "\nseed      %llu\n", (unsigned long long)s->config->setup.seed);
}

static void time_lines(FILE *out, const struct summary *s) {
    long t = (long)(s->seconds + .5);
    fprintf(out, "time      %ld:%02ld:%02ld on %d thread%s\n", t / 3600, t / 60 % 60, t % 60, s->config->setup.threads,
            s->config->setup.threads == 1 ? "" : "s");
    if (s->loss >= 0)
        fprintf(out, "training  loss %.4f, accuracy %.2f%% over the last epoch\n", s->loss, 100 * s->accuracy);
}

/* Accuracy of the uniform plans at that share of multiply-adds, between the two next to it. */
static enum status uniform_at(const struct model *m, const double *accuracy, double cost, double *at, struct err *err) {
    struct plan *plan;
    double above = 1, here;
    enum status status = plan_create(&plan, m->blocks->nblocks, 0, err);
    *at = accuracy[0];
    for (int level = 1; !status && level < m->levels->nlevels; level++) {
        for (int b = 0; b < plan->nblocks; b++) plan->level[b] = level;
        if ((status = report_cost(m, plan, &here, err))) break;
        *at = accuracy[level];
        if (here <= cost) {
            if (above > here) *at += (accuracy[level - 1] - accuracy[level]) * (cost - here) / (above - here);
            break;
        }
        above = here;
    }
    plan_destroy(&plan);
    return status;
}

static enum status plan_lines(FILE *out, const struct summary *s, struct err *err) {
    const struct model *m = s->setup->model;
    int n = s->test->plans.n;
    double mean = 0, worst = 1, gap = 0, widest = -1;
    for (int i = 0; i < n; i++) {
        double cost, level;
        enum status status = report_cost(m, s->test->plans.plans[i], &cost, err);
        if (!status) status = uniform_at(m, s->uniform, cost, &level, err);
        if (status) return status;
        mean += s->test->accuracy[i] / n;
        gap += (level - s->test->accuracy[i]) / n;
        if (s->test->accuracy[i] < worst) worst = s->test->accuracy[i];
        if (level - s->test->accuracy[i] > widest) widest = level - s->test->accuracy[i];
    }
    fprintf(out, "\n%d random plans, a level per slice and some links capped:\n", n);
    fprintf(out, "  accuracy %.2f%% on average, %.2f%% at worst\n", 100 * mean, 100 * worst);
    fprintf(out, "  below one level throughout at the same multiply-adds: %.2f points on average, %.2f at most\n", 100 * gap,
            100 * widest);
    fprintf(out, "  the accuracy model foretells them within %.2f points on average, %.2f at worst\n",
            100 * m->accuracy->held_out_error, 100 * m->accuracy->held_out_worst);
    return STATUS_OK;
}

static enum status worth_lines(FILE *out, const struct summary *s, struct err *err) {
    if (!s->uniform) {
        fprintf(out, "\nNo images were held out: what it is worth at its levels was not measured, and it has no\n"
                     "accuracy model for the controller of `espalier-deploy run`.\n");
        return STATUS_OK;
    }
    fprintf(out, "\nOn the %d held-out images, every slice at the same level:\n\n", s->setup->held_out->n);
    enum status status = report_levels(s->setup->model, s->uniform, false, out, err);
    if (!status && s->test->plans.n > 0) status = plan_lines(out, s, err);
    return status;
}

static void next_lines(FILE *out, const struct summary *s) {
    const char *model = s->config->output;
    fprintf(out, "\nNext:\n"
                 "  espalier-deploy predict %s IMAGE             at full size; --plan 2: at level 2\n"
                 "  espalier-deploy bench %s                     latency of every level, there\n"
                 "  espalier-train eval %s %s --split test --levels all\n",
            model, model, s->config->setup.data, model);
    if (s->config->log) fprintf(out, "  espalier-train plot %s %s -o curves.png\n", s->config->log, model);
    else fprintf(out, "  espalier-train plot %s -o curves.png\n", model);
}

enum status summary_write(const struct summary *s, struct err *err) {
    const struct model *m = s->setup->model;
    struct file_replace file;
    struct report_size size;
    struct plan *plan = NULL;
    char *path;
    if (asprintf(&path, "%s.txt", s->config->output) < 0) return err_memory(err, "summary");
    enum status status = plan_create(&plan, m->blocks->nblocks, 0, err);
    if (!status) status = report_size(m, plan, &size, err);
    if (!status) status = file_replace_open(&file, path, err);
    if (!status) {
        fprintf(file.stream, "%s\n\n", s->config->output);
        network_lines(file.stream, s, &size);
        data_lines(file.stream, s);
        recipe_lines(file.stream, s);
        time_lines(file.stream, s);
        status = worth_lines(file.stream, s, err);
        next_lines(file.stream, s);
        if (status) file_replace_abort(&file);
        else status = file_replace_commit(&file, err);
    }
    plan_destroy(&plan);
    free(path);
    return status;
}
