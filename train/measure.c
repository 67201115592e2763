#include "train/measure.h"

#include "common/log.h"
#include "train/loss.h"
#include "train/robust.h"

#include <stdlib.h>

/* Random plans fitted to for each that tests the fit. Without them the costs
 * know no plan of several slices: the error on such doubles. */
enum { FITTED_PER_HELD_OUT = 2 };

enum status measure_plans(struct network *network, const struct model *model, struct loader *images,
                          struct plan *const *plans, int nplans, int stride, const char *label, double *accuracy,
                          int *measured, struct err *err) {
    int *correct = calloc((size_t)nplans, sizeof *correct);
    float *logits = NULL;
    int done = 0, capacity = 0, classes = model->net->classes;
    struct log_progress progress;
    if (!correct) return err_memory(err, "measuring");
    enum status status = loader_seek(images, 0, 0, err);
    if (label) log_progress_start(&progress, label, loader_batches(images));
    for (int b = 0; !status; b++) {
        struct loader_batch batch;
        if ((status = loader_next(images, &batch, err)) || batch.n == 0) break;
        if (b % stride) continue;
        if (batch.n > capacity) {
            float *larger = realloc(logits, (size_t)batch.n * (size_t)classes * sizeof *logits);
            if (!larger) {
                status = err_memory(err, "measuring");
                break;
            }
            logits = larger;
            capacity = batch.n;
        }
        for (int p = 0; !status && p < nplans; p++) {
            status = network_forward(network, plans[p], NETWORK_INFERENCE, batch.input, batch.n, 0, logits, err);
            if (!status) correct[p] += loss_correct(logits, batch.labels, batch.n, classes);
            if (label) log_progress_update(&progress, b + (p + 1.0) / nplans, NULL);
        }
        done += batch.n;
    }
    if (label && status) log_progress_abandon(&progress);
    else if (label) log_progress_end(&progress, NULL);
    if (!status && done == 0) status = err_set(err, STATUS_FORMAT, "no image to measure the accuracy on");
    if (!status) {
        for (int p = 0; p < nplans; p++) accuracy[p] = (double)correct[p] / done;
        *measured = done;
    }
    free(correct);
    free(logits);
    return status;
}

void measure_set_free(struct measure_set *plans) {
    for (int i = 0; i < plans->n; i++) plan_destroy(&plans->plans[i]);
    free(plans->plans);
    *plans = (struct measure_set){ 0 };
}

enum status measure_set_add(struct measure_set *plans, struct plan *plan, struct err *err) {
    if (plans->n == plans->capacity) {
        int capacity = plans->capacity ? plans->capacity * 2 : 64;
        struct plan **larger = realloc(plans->plans, (size_t)capacity * sizeof *larger);
        if (!larger) return err_memory(err, "plans");
        plans->plans = larger;
        plans->capacity = capacity;
    }
    plans->plans[plans->n++] = plan;
    return STATUS_OK;
}

/* A plan at level 0 throughout, for the caller to change; NULL: out of memory. */
static struct plan *add_plan(struct measure_set *plans, const struct model *model, struct err *err) {
    struct plan *plan;
    if (plan_create(&plan, model->blocks->nblocks, 0, err)) return NULL;
    if (measure_set_add(plans, plan, err)) plan_destroy(&plan);
    return plan;
}

enum status measure_set_uniform(struct measure_set *plans, const struct model *model, struct err *err) {
    for (int level = 0; level < model->levels->nlevels; level++) {
        struct plan *plan = add_plan(plans, model, err);
        if (!plan) return STATUS_MEMORY;
        for (int b = 0; b < plan->nblocks; b++) plan->level[b] = level;
    }
    return STATUS_OK;
}

enum status measure_set_random(struct measure_set *plans, const struct model *model, int n, uint64_t seed,
                               struct err *err) {
    struct robust_config config = robust_defaults(ROBUST_DROP);
    struct random random = random_stream(seed, 0x6d656173, 0);
    for (int i = 0; i < n; i++) {
        struct plan *plan = add_plan(plans, model, err);
        if (!plan) return STATUS_MEMORY;
        robust_draw(&config, model, &random, plan);
    }
    return STATUS_OK;
}

static enum status add_single(struct measure_set *plans, const struct model *model, struct err *err) {
    for (int b = 0; b < model->blocks->nblocks; b++)
        for (int level = 1; level < model->levels->nlevels; level++) {
            struct plan *plan = add_plan(plans, model, err);
            if (!plan) return STATUS_MEMORY;
            plan->level[b] = level;
            if (b == 0) continue;
            if (!(plan = add_plan(plans, model, err))) return STATUS_MEMORY;
            plan->link[b] = level;
        }
    return STATUS_OK;
}

/* One change of level at every cut, up and down: between level 0 and a middle one
 * and the last, and between any two neighbours, whose channels differ by a larger
 * share the narrower they are. */
static enum status add_steps(struct measure_set *plans, const struct model *model, struct err *err) {
    int last = model->levels->nlevels - 1;
    for (int b = 1; b < model->blocks->nblocks; b++)
        for (int narrow = 1; narrow <= last; narrow++)
            for (int wide = 0; wide < narrow; wide++) {
                bool far = wide == 0 && (narrow == last || narrow == (last + 1) / 2);
                if (narrow != wide + 1 && !far) continue;
                for (int up = 0; up < 2; up++) {
                    struct plan *plan = add_plan(plans, model, err);
                    if (!plan) return STATUS_MEMORY;
                    for (int k = 0; k < plan->nblocks; k++) plan->level[k] = (k < b) == up ? narrow : wide;
                }
            }
    return STATUS_OK;
}

/* Each coarse codec, without zlib, at every cut. */
static enum status add_codecs(struct measure_set *plans, const struct model *model, struct err *err) {
    for (int b = 1; b < model->blocks->nblocks; b++)
        for (int c = CODEC_Q8; c < CODEC_COUNT; c += 2) {
            struct plan *plan = add_plan(plans, model, err);
            if (!plan) return STATUS_MEMORY;
            plan->codec[b] = (enum codec)c;
        }
    return STATUS_OK;
}

/* Gives about two cuts of each plan from `first` on a codec of 8 or 4 bits; wherever
 * levels change or not, so that the one does not pay for the other. */
static void draw_codecs(struct measure_set *plans, int first, uint64_t seed) {
    struct random random = random_stream(seed, 0x636f6465, 0);
    for (int i = first; i < plans->n; i++) {
        struct plan *plan = plans->plans[i];
        for (int b = 1; b < plan->nblocks; b++)
            if (random_below(&random, plan->nblocks - 1) < 2)
                plan->codec[b] = (enum codec)(CODEC_Q8 + 2 * random_below(&random, (CODEC_COUNT - CODEC_Q8) / 2));
    }
}

/* The first `fitted` plans are fitted to, the others test it. */
static enum status fit(struct model *model, const struct measure_set *plans, int fitted, const double *accuracy,
                       int images, struct err *err) {
    struct accuracy *result = NULL;
    struct accuracy_sample *samples = calloc((size_t)plans->n, sizeof *samples);
    if (!samples) return err_memory(err, "accuracy model");
    for (int i = 0; i < plans->n; i++) samples[i] = (struct accuracy_sample){ plans->plans[i], accuracy[i] };
    enum status status = accuracy_create(&result, model->blocks->nblocks, model->levels->nlevels, err);
    if (!status) status = accuracy_fit(result, samples, fitted, err);
    if (!status) {
        result->samples = images;
        result->held_out_error =
            accuracy_error(result, samples + fitted, plans->n - fitted, &result->held_out_worst);
        accuracy_destroy(&model->accuracy);
        model->accuracy = result;
        result = NULL;
    }
    accuracy_destroy(&result);
    free(samples);
    return status;
}

void measure_test_free(struct measure_test *test) {
    measure_set_free(&test->plans);
    free(test->accuracy);
    *test = (struct measure_test){ 0 };
}

/* Moves the plans from `first` on. */
static enum status keep_test(struct measure_set *plans, int first, const double *accuracy, struct measure_test *test,
                             struct err *err) {
    test->accuracy = calloc((size_t)(plans->n - first) + 1, sizeof *test->accuracy);
    if (!test->accuracy) return err_memory(err, "measuring");
    for (int i = plans->n; i > first; i--) {
        enum status status = measure_set_add(&test->plans, plans->plans[i - 1], err);
        if (status) return status;
        test->accuracy[test->plans.n - 1] = accuracy[i - 1];
        plans->n--;
    }
    return STATUS_OK;
}

enum status measure_model(struct network *network, struct model *model, struct loader *images,
                          int held_out, uint64_t seed, double *uniform, struct measure_test *test,
                          struct err *err) {
    struct measure_set plans = { 0 };
    double *accuracy = NULL;
    int measured;
    enum status status = measure_set_uniform(&plans, model, err);
    if (!status && held_out > 0) status = add_single(&plans, model, err);
    if (!status && held_out > 0) status = add_steps(&plans, model, err);
    if (!status && held_out > 0) status = add_codecs(&plans, model, err);
    int random = plans.n;
    if (!status) status = measure_set_random(&plans, model, FITTED_PER_HELD_OUT * held_out, ~seed, err);
    int fitted = plans.n;
    if (!status) status = measure_set_random(&plans, model, held_out, seed, err);
    if (!status) draw_codecs(&plans, random, seed);
    if (!status && !(accuracy = malloc((size_t)plans.n * sizeof *accuracy))) status = err_memory(err, "measuring");
    if (!status)
        status = measure_plans(network, model, images, plans.plans, plans.n, 1, "measure", accuracy, &measured,
                               err);
    if (!status && held_out > 0) status = fit(model, &plans, fitted, accuracy, measured, err);
    for (int level = 0; !status && level < model->levels->nlevels; level++) uniform[level] = accuracy[level];
    if (!status) status = keep_test(&plans, fitted, accuracy, test, err);
    measure_set_free(&plans);
    free(accuracy);
    return status;
}
