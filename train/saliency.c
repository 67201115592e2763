#include "train/saliency.h"

#include "common/random.h"
#include "train/loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of the logits, and the step of the difference as a share of the weights' norm. */
static const float GRASP_TEMPERATURE = 200;
static const double GRASP_STEP = .01;

static const char *const names[SALIENCY_COUNT] = { "synflow", "snip", "grasp", "magnitude", "random" };

const char *saliency_name(enum saliency method) { return names[method]; }

enum saliency saliency_parse(const char *name) {
    int i = 0;
    while (i < SALIENCY_COUNT && strcmp(name, names[i]) != 0) i++;
    return (enum saliency)i;
}

/* ---- gradients ---- */

struct gradients {
    struct network *network;
    const struct model *model;
    struct loader *images;
    int batches;
    float temperature;
    float *logits;
    struct plan *plan;
};

/* The gradient of the mean loss over the same images each time, into grads. */
static enum status gradient(const struct gradients *g, struct err *err) {
    struct network_view view = network_view(g->network);
    int classes = g->model->net->classes, correct;
    enum status status = loader_seek(g->images, 0, 0, err);
    memset(view.grads, 0, view.size * sizeof *view.grads);
    for (int b = 0; !status && b < g->batches; b++) {
        struct loader_batch batch;
        if ((status = loader_next(g->images, &batch, err))) break;
        size_t n = (size_t)batch.n * (size_t)classes;
        float *dlogits = g->logits + n;
        status = network_forward(g->network, g->plan, NETWORK_TRAIN, batch.input, batch.n, 0, g->logits, err);
        if (status) break;
        for (size_t i = 0; i < n; i++) g->logits[i] /= g->temperature;
        loss_labels(g->logits, batch.labels, batch.n, classes, 0, 1 / (float)g->batches, dlogits, &correct);
        for (size_t i = 0; i < n; i++) dlogits[i] /= g->temperature;
        status = network_backward(g->network, dlogits, err);
    }
    return status;
}

static enum status snip(const struct gradients *g, float *scores, struct err *err) {
    struct network_view view = network_view(g->network);
    enum status status = gradient(g, err);
    for (size_t i = 0; !status && i < view.size; i++) scores[i] = fabsf(view.values[i] * view.grads[i]);
    return status;
}

static double norm(const struct network_view *view, const float *x) {
    double sum = 0;
    for (int i = 0; i < view->nparams; i++)
        for (size_t k = 0; view->params[i].role == NETWORK_WEIGHT && k < view->params[i].size; k++)
            sum += (double)x[view->params[i].offset + k] * (double)x[view->params[i].offset + k];
    return sqrt(sum);
}

/* values: weights + step * direction. */
static void move(const struct network_view *view, const float *weights, const float *direction, double step) {
    for (int i = 0; i < view->nparams; i++)
        for (size_t k = view->params[i].offset;
             view->params[i].role == NETWORK_WEIGHT && k < view->params[i].offset + view->params[i].size; k++)
            view->values[k] = (float)((double)weights[k] + step * (double)direction[k]);
}

static enum status grasp(const struct gradients *g, float *scores, struct err *err) {
    struct network_view view = network_view(g->network);
    float *weights = malloc(2 * view.size * sizeof *weights), *direction = weights + view.size;
    if (!weights) return err_memory(err, "scores");
    memcpy(weights, view.values, view.size * sizeof *weights);
    enum status status = gradient(g, err);
    memcpy(direction, view.grads, view.size * sizeof *direction);
    double length = norm(&view, direction), step = length > 0 ? GRASP_STEP * norm(&view, weights) / length : 0;
    move(&view, weights, direction, step);
    if (!status) status = gradient(g, err);
    memcpy(scores, view.grads, view.size * sizeof *scores);
    move(&view, weights, direction, -step);
    if (!status) status = gradient(g, err);
    memcpy(view.values, weights, view.size * sizeof *weights);
    for (size_t i = 0; !status && i < view.size; i++)
        scores[i] = step > 0 ? weights[i] * (scores[i] - view.grads[i]) / (float)(2 * step) : 0;
    free(weights);
    return status;
}

static enum status by_gradients(struct network *network, const struct model *model, struct loader *images,
                                const struct saliency_config *config, float *scores, struct err *err) {
    struct network_view view = network_view(network);
    struct gradients g = { network, model, images, config->batches, 1, NULL, NULL };
    struct loader_batch first;
    enum status status = loader_seek(images, 0, 0, err);
    if (!status) status = loader_next(images, &first, err);
    if (!status) status = plan_create(&g.plan, model->blocks->nblocks, 0, err);
    if (status) return status;
    g.logits = malloc(2 * (size_t)first.n * (size_t)model->net->classes * sizeof *g.logits);
    if (!g.logits) status = err_memory(err, "scores");
    if (config->method == SALIENCY_GRASP) g.temperature = GRASP_TEMPERATURE;
    if (!status) status = config->method == SALIENCY_GRASP ? grasp(&g, scores, err) : snip(&g, scores, err);
    memset(view.grads, 0, view.size * sizeof *view.grads);
    plan_destroy(&g.plan);
    free(g.logits);
    return status;
}

/* ---- all of them ---- */

static enum status check(const struct network_view *view, const float *scores, enum saliency method, struct err *err) {
    for (int i = 0; i < view->nparams; i++)
        for (size_t k = 0; view->params[i].role == NETWORK_WEIGHT && k < view->params[i].size; k++)
            if (!isfinite(scores[view->params[i].offset + k])) {
                err_set(err, STATUS_LIMIT, "%s: the score of a weight of %s is not a number", saliency_name(method),
                        view->params[i].name);
                err_hint(err, "take another --method");
                return STATUS_LIMIT;
            }
    return STATUS_OK;
}

enum status saliency_scores(struct network *network, const struct model *model, struct loader *images,
                            const struct saliency_config *config, float *scores, struct err *err) {
    struct network_view view = network_view(network);
    struct random random = random_stream(config->seed, 0x706169, 0);
    enum status status = STATUS_OK;
    switch (config->method) {
    case SALIENCY_SNIP:
    case SALIENCY_GRASP: status = by_gradients(network, model, images, config, scores, err); break;
    case SALIENCY_SYNFLOW: status = saliency_synflow(network, model, config, scores, err); break;
    case SALIENCY_RANDOM:
        for (size_t i = 0; i < view.size; i++) scores[i] = (float)random_uniform(&random);
        break;
    default:
        for (size_t i = 0; i < view.size; i++) scores[i] = fabsf(view.values[i]);
    }
    return status ? status : check(&view, scores, config->method, err);
}
