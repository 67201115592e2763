#include "train/step.h"

#include "common/random.h"
#include "train/loss.h"
#include "train/order.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nats: beyond it a run is taken to have diverged. Chance is log(classes). */
static const double LOSS_LIMIT = 1e4;

static float temperature_of(const struct net *net) {
    for (int i = 0; i < net->nlayers; i++)
        if (net->layers[i].kind == NET_SOFTMAX && net->layers[i].temperature > 0) return net->layers[i].temperature;
    return 1;
}

enum status step_create(struct step **out, const struct step_config *config, struct network *network,
                        const struct model *model, struct err *err) {
    struct step *step = calloc(1, sizeof *step);
    if (!step) return err_memory(err, "training step");
    step->config = *config;
    step->network = network;
    step->model = model;
    step->temperature = temperature_of(model->net);
    size_t logits = (size_t)(config->batch / config->subdivisions) * (size_t)model->net->classes;
    step->logits = malloc(logits * sizeof(float));
    step->dlogits = malloc(logits * sizeof(float));
    step->target = malloc(logits * sizeof(float));
    enum status status = STATUS_OK;
    if (!step->logits || !step->dlogits || !step->target) status = err_memory(err, "training step");
    if (!status) status = sgd_create(&step->sgd, network_view(network).size, err);
    if (!status) status = reach_create(&step->reach, model, err);
    for (int i = 0; !status && i < ROBUST_MAX_PASSES; i++)
        status = robust_pass_create(&step->passes[i], model, err);
    if (status) {
        step_destroy(&step);
        return status;
    }
    *out = step;
    return STATUS_OK;
}

void step_destroy(struct step **step) {
    struct step *s = *step;
    if (!s) return;
    sgd_destroy(&s->sgd);
    reach_destroy(&s->reach);
    sparsity_mask_destroy(&s->mask);
    for (int i = 0; i < ROBUST_MAX_PASSES; i++) robust_pass_destroy(&s->passes[i]);
    free(s->logits);
    free(s->dlogits);
    free(s->target);
    free(s);
    *step = NULL;
}

enum status step_keep_zeros(struct step *step, struct err *err) {
    struct network_view view = network_view(step->network);
    sparsity_mask_destroy(&step->mask);
    return sparsity_mask_create(&step->mask, &view, err);
}

static void scale(float *values, size_t n, float factor) {
    if (factor == 1) return;
    for (size_t i = 0; i < n; i++) values[i] *= factor;
}

static bool all_finite(const float *values, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return false;
    return true;
}

static enum status diverged(int index, const char *where, struct err *err) {
    err_set(err, STATUS_FORMAT, "training diverged in step %d, seen first in %s", index + 1, where);
    err_hint(err, "lower learning_rate (or raise burn_in) in [net]; the last checkpoint is kept");
    return STATUS_FORMAT;
}

/* A gradient that is no number spreads to the layers in front: the last of them is where it began. */
enum status step_check(const struct step *step, int index, struct err *err) {
    const struct network_view view = network_view(step->network);
    for (int i = view.nparams - 1; i >= 0; i--)
        if (!all_finite(view.values + view.params[i].offset, view.params[i].size))
            return diverged(index, view.params[i].name, err);
    return STATUS_OK;
}

/* The largest magnitude of a layer's output; infinite if it holds something that is not a number. */
static float largest_output(const struct step *step, int layer) {
    struct net_shape shape = net_shape_of(step->model->net, layer);
    size_t room = net_shape_size(shape) * (size_t)(step->config.batch / step->config.subdivisions);
    float largest = 0, *out = malloc(room * sizeof *out);
    int channels;
    if (out && network_activation(step->network, layer, out, &channels, NULL) == STATUS_OK)
        for (size_t i = 0; i < room / (size_t)shape.c * (size_t)channels; i++) {
            float x = isfinite(out[i]) ? fabsf(out[i]) : INFINITY;
            if (x > largest) largest = x;
        }
    free(out);
    return largest;
}

/* Behind a forward pass whose loss is no number, or absurd: the first layer that
 * puts out something that is not a number, or else the one with the largest output. */
static enum status loss_diverged(const struct step *step, int index, double loss, struct err *err) {
    const struct net *net = step->model->net;
    int layer = 0;
    float largest = -1;
    char where[120];
    enum status status = step_check(step, index, err);
    if (status) return status;
    for (int i = 0; i <= net_logits_layer(net) && !isinf(largest); i++) {
        float here = largest_output(step, i);
        if (here > largest) largest = here, layer = i;
    }
    snprintf(where, sizeof where, "the output of layer %d (%s): up to %.3g, loss %.3g", layer,
             net_kind_name(net->layers[layer].kind), (double)largest, loss);
    return diverged(index, where, err);
}

/* What a pruned pass learns from: soft labels, mixed with the true ones. */
static void mix_targets(const struct step *step, const int *labels, int n) {
    int classes = step->model->net->classes;
    float soft = (float)step->config.robust.distill, smoothing = step->config.label_smoothing;
    if (soft >= 1) return;
    for (int i = 0; i < n; i++)
        for (int c = 0; c < classes; c++) {
            float hard = smoothing / (float)classes + (c == labels[i] ? 1 - smoothing : 0);
            float *target = &step->target[i * classes + c];
            *target = soft * *target + (1 - soft) * hard;
        }
}

/* Forward of pass `p` over one part of the step's images, and d(loss)/d(logits). */
static enum status forward(struct step *step, const struct loader_batch *part, int p, bool teacher, uint64_t seed,
                           double *loss, int *correct, struct err *err) {
    const struct step_config *config = &step->config;
    int classes = step->model->net->classes;
    size_t count = (size_t)part->n * (size_t)classes;
    enum status status = network_forward(step->network, step->passes[p].plan, NETWORK_TRAIN, part->input, part->n, seed,
                                         step->logits, err);
    if (status) return status;
    scale(step->logits, count, 1 / step->temperature);
    float weight = (p == 0 ? 1 : (float)config->robust.weight) / (float)config->subdivisions;
    if (teacher && p > 0) {
        *loss = loss_targets(step->logits, step->target, part->n, classes, weight, step->dlogits);
    } else {
        *loss = loss_labels(step->logits, part->labels, part->n, classes, config->label_smoothing, weight,
                            step->dlogits, correct);
        loss_softmax(step->logits, part->n, classes, step->target);
        mix_targets(step, part->labels, part->n);
    }
    scale(step->dlogits, count, 1 / step->temperature);
    return STATUS_OK;
}

/* Puts values and gradients in the order of a shuffled pass, and back. */
static enum status shuffle(struct step *step, const struct robust_pass *pass, bool back, struct err *err) {
    struct network_view view = network_view(step->network);
    struct order *order;
    if (!pass->shuffled) return STATUS_OK;
    enum status status = order_create(&order, step->model, ORDER_RANDOM, pass->shuffle, NULL, err);
    if (status) return status;
    if (back) status = order_invert(order, err);
    if (!status) status = order_apply_values(order, &view, view.values, err);
    if (!status) status = order_apply_values(order, &view, view.grads, err);
    order_destroy(&order);
    return status;
}

/* While the mask is soft, a pass at a level computes as wide as the mask is, and is weighted by it. */
static void draw_masks(struct step *step, int passes, bool soft) {
    for (int p = 0; p < passes; p++) {
        struct plan *plan = step->passes[p].plan;
        step->soft_level[p] = soft ? plan->level[0] : 0;
        if (step->soft_level[p] == 0) continue;
        int width = soft_mask_set(step->soft, step->soft_level[p]);
        for (int b = 0; b < plan->nblocks; b++) plan->level[b] = width;
    }
}

/* Lays the mask of pass `p` on, and off again. */
static void mask_on(struct step *step, int p) {
    struct network_view view = network_view(step->network);
    if (step->soft_level[p] == 0) return;
    soft_mask_set(step->soft, step->soft_level[p]);
    soft_mask_apply(step->soft, &view);
}

static void mask_off(struct step *step, int p) {
    struct network_view view = network_view(step->network);
    if (step->soft_level[p] > 0) soft_mask_collect(step->soft, &view);
}

/* All passes over one part. */
static enum status run_part(struct step *step, const struct loader_batch *part, int index, int number, bool teacher,
                            struct step_result *result, struct err *err) {
    for (int p = 0; p < result->passes; p++) {
        uint64_t id = (uint64_t)number * ROBUST_MAX_PASSES + (uint64_t)p;
        struct random random = random_stream(step->config.seed, (uint64_t)index, 0x64726f70 + (id << 32));
        double loss;
        int correct = 0;
        network_set_levels(step->network, step->passes[p].levels);
        enum status status = shuffle(step, &step->passes[p], false, err);
        mask_on(step, p);
        if (!status) status = forward(step, part, p, teacher, random_next(&random), &loss, &correct, err);
        if (!status && !(fabs(loss) <= LOSS_LIMIT)) status = loss_diverged(step, index, loss, err);
        if (!status) status = network_backward(step->network, step->dlogits, err);
        mask_off(step, p);
        enum status back = shuffle(step, &step->passes[p], true, status ? NULL : err);
        if (!status) status = back;
        network_set_levels(step->network, NULL);
        if (status) return status;
        if (p > 0) continue;
        result->loss += loss / step->config.subdivisions;
        result->correct += correct;
        result->images += part->n;
    }
    return STATUS_OK;
}

enum status step_run(struct step *step, struct loader *images, int index, float rate, struct step_result *result,
                     struct err *err) {
    struct network_view view = network_view(step->network);
    struct sgd_config sgd = step->config.sgd;
    *result = (struct step_result){ 0 };
    bool soft = step->soft && soft_mask_step(step->soft, index);
    struct robust_config robust = index < step->config.robust_begin ? robust_defaults(ROBUST_NONE) : step->config.robust;
    if (soft) robust.max_cuts = 0;
    else if (index < step->config.allocate_at) robust.groups = 1;
    bool teacher = robust_passes(&robust, step->model, step->config.seed, index, step->passes, &result->passes);
    draw_masks(step, result->passes, soft);
    reach_clear(step->reach);
    for (int p = 0; p < result->passes; p++) reach_add(step->reach, step->passes[p].levels, step->passes[p].plan);
    for (int s = 0; s < step->config.subdivisions; s++) {
        struct loader_batch part;
        enum status status = loader_next(images, &part, err);
        if (!status) status = run_part(step, &part, index, s, teacher, result, err);
        if (status) {
            memset(view.grads, 0, view.size * sizeof *view.grads);
            return status;
        }
    }
    sgd.rate = rate;
    sgd_step(step->sgd, &sgd, &view, step->reach);
    if (soft) soft_mask_update(step->soft, rate, sgd.momentum);
    if (step->mask) sparsity_mask_apply(step->mask, view.values);
    return STATUS_OK;
}
