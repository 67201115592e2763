/* SynFlow needs a network without batch norm: its cfg is written anew, so that
 * the trainer's forward and backward passes serve it as any other. A
 * [batchnorm] layer, which at initialisation changes nothing, becomes a
 * [dropout] that drops nothing.
 *
 * R grows with every layer, and that of a deep residual network beyond float32.
 * So both sides of each sum of equal maps are divided by what the sum is
 * expected to have grown to: where all paths cross it, as in a residual
 * network's trunk, that scales all scores alike. */
#include "train/saliency.h"

#include "common/cfg_writer.h"
#include "train/sparsity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How much a layer with weights multiplies what it reads, on average: mean
 * magnitude times fan-in, as a logarithm. */
static double log_gain(const struct model *m, int layer) {
    const struct net_layer *l = &m->net->layers[layer];
    double sum = 0;
    for (size_t i = 0; i < net_weight_count(l); i++) sum += fabs((double)m->layers[layer].weight[i]);
    return sum > 0 ? log(sum / l->filters) : 0;
}

/* A cfg has no factor for sums over a smaller map. */
static bool divides(const struct model *m, int layer) {
    const struct net_layer *l = &m->net->layers[layer];
    if (l->kind != NET_SHORTCUT) return false;
    struct net_shape from = net_shape_of(m->net, l->inputs[1]);
    return from.c >= l->out.c && from.h >= l->out.h && from.w >= l->out.w;
}

/* growth[i + 1]: logarithm of what layer i's output is expected to have grown to, a sum
 * being divided by its own; growth of the sum itself in `sums`. */
static void find_growth(const struct model *m, double *growth, double *sums) {
    growth[0] = 0;
    for (int i = 0; i < m->net->nlayers; i++) {
        const struct net_layer *l = &m->net->layers[i];
        double g = growth[l->inputs[0] + 1];
        for (int k = 1; k < l->ninputs; k++) g = fmax(g, growth[l->inputs[k] + 1]);
        if (net_weight_count(l)) g += log_gain(m, i);
        sums[i] = g;
        growth[i + 1] = divides(m, i) ? 0 : g;
    }
}

static void write_layer(const struct model *m, struct cfg_writer *w, int layer, const int *same, double sum) {
    static const char *const dropped[] = { "batch_normalize", "activation", "alpha", "beta", NULL };
    const struct net_layer *l = &m->net->layers[layer];
    if (l->kind == NET_BATCHNORM || l->kind == NET_DROPOUT) {
        cfg_writer_section(w, "dropout");
        cfg_writer_option(w, "probability", "0");
        return;
    }
    bool active = l->kind == NET_CONVOLUTIONAL || l->kind == NET_CONNECTED || l->kind == NET_SHORTCUT;
    cfg_writer_layer(w, net_section(m->cfg, layer), l, same, layer, active ? dropped : NULL);
    if (active) cfg_writer_option(w, "activation", "linear");
    if (l->kind != NET_SHORTCUT) return;
    if (!divides(m, layer)) sum = 0;
    else cfg_writer_option(w, "alpha", "%.9g", fabs((double)l->alpha) * exp(-sum));
    cfg_writer_option(w, "beta", "%.9g", fabs((double)l->beta) * exp(-sum));
}

static enum status make_linear(const struct model *m, struct model **linear, struct err *err) {
    struct cfg_writer w = { 0 };
    struct cfg *cfg;
    int nlayers = m->net->nlayers, *same = malloc(((size_t)nlayers + 1) * sizeof *same);
    double *growth = malloc((2 * (size_t)nlayers + 1) * sizeof *growth), *sums = growth + nlayers + 1;
    if (!same || !growth) {
        free(same);
        free(growth);
        return err_memory(err, "scores");
    }
    find_growth(m, growth, sums);
    for (int i = -1; i < nlayers; i++) same[i + 1] = i;
    cfg_writer_copy(&w, &m->cfg->sections[0], NULL);
    cfg_writer_section(&w, "prune");
    cfg_writer_option(&w, "levels", "1");
    for (int i = 0; i < nlayers; i++) write_layer(m, &w, i, same, sums[i]);
    free(same);
    free(growth);
    enum status status = cfg_writer_finish(&w, m->cfg->name, &cfg, err);
    if (status) return status;
    if ((status = model_create(linear, cfg, 1, err))) cfg_destroy(&cfg);
    return status;
}

/* The next trained tensor that is a weight, from *i on. */
static const struct network_param *next_weight(const struct network_view *view, int *i) {
    while (view->params[*i].role != NETWORK_WEIGHT) (*i)++;
    return &view->params[(*i)++];
}

/* Magnitudes. */
static void set_values(const struct network_view *from, const struct network_view *to) {
    int i = 0, k = 0;
    memset(to->values, 0, to->size * sizeof *to->values);
    for (int left = to->nparams / 2; left > 0; left--) { /* a weight and a bias each */
        const struct network_param *p = next_weight(from, &i), *q = next_weight(to, &k);
        for (size_t j = 0; j < p->size; j++) to->values[q->offset + j] = fabsf(from->values[p->offset + j]);
    }
}

/* One round: R's gradient times the weights, into grads. */
static enum status flow(struct network *network, const struct plan *plan, const float *ones, const float *dlogits,
                        float *logits, struct err *err) {
    struct network_view view = network_view(network);
    memset(view.grads, 0, view.size * sizeof *view.grads);
    enum status status = network_forward(network, plan, NETWORK_TRAIN, ones, 1, 0, logits, err);
    if (!status) status = network_backward(network, dlogits, err);
    for (size_t i = 0; !status && i < view.size; i++) view.grads[i] *= view.values[i];
    return status;
}

static enum status run_rounds(struct network *linear, const struct saliency_config *config, const struct plan *plan,
                              const float *ones, float *logits, const float *dlogits, struct err *err) {
    struct network_view view = network_view(linear);
    double all = (double)sparsity_weights(&view);
    enum status status = flow(linear, plan, ones, dlogits, logits, err);
    for (int r = 1; !status && r < config->rounds; r++) {
        double density = pow(config->density, (double)r / config->rounds);
        sparsity_keep(&view, view.grads, (size_t)(all * density + .5));
        status = flow(linear, plan, ones, dlogits, logits, err);
    }
    return status;
}

static void copy_scores(const struct network_view *from, const struct network_view *to, float *scores) {
    int i = 0, k = 0;
    for (int left = from->nparams / 2; left > 0; left--) {
        const struct network_param *p = next_weight(from, &i), *q = next_weight(to, &k);
        memcpy(scores + q->offset, from->grads + p->offset, p->size * sizeof *scores);
    }
}

enum status saliency_synflow(struct network *network, const struct model *model, const struct saliency_config *config,
                             float *scores, struct err *err) {
    struct model *linear = NULL;
    struct network *flowing = NULL;
    struct plan *plan = NULL;
    size_t input = net_shape_size(model->net->input), classes = (size_t)model->net->classes;
    float *ones = malloc((input + 2 * classes) * sizeof *ones), *dlogits = ones + input, *logits = dlogits + classes;
    if (!ones) return err_memory(err, "scores");
    for (size_t i = 0; i < input + classes; i++) ones[i] = 1;
    enum status status = make_linear(model, &linear, err);
    if (!status) status = network_create(&flowing, linear, 1, config->threads, err);
    if (!status) status = plan_create(&plan, linear->blocks->nblocks, 0, err);
    if (!status) {
        struct network_view from = network_view(network), to = network_view(flowing);
        set_values(&from, &to);
        status = run_rounds(flowing, config, plan, ones, logits, dlogits, err);
        if (!status) copy_scores(&to, &from, scores);
    }
    plan_destroy(&plan);
    network_destroy(&flowing);
    model_destroy(&linear);
    free(ones);
    return status;
}
