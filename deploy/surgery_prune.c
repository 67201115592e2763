/* What a plan leaves of a model, as a model without surplus.
 *
 * Two passes over the graph. Backwards: how many channels of each tensor's
 * segments anyone needs, from the counts of common/plan.h. Forwards: how many
 * each layer then holds. A layer with weights emits what is needed; a layer that works
 * channel by channel holds what its input holds, which may be more where
 * another consumer needs more. Consumers with weights meet that surplus with
 * zeroes. */
#include "deploy/surgery.h"

#include "common/bn.h"
#include "common/shrink.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct pruning {
    const struct model *model;
    const struct plan *plan;
    struct counts *counts;
    int *need, *hold; /* channels per segment, as counts->out */
    float *stats;     /* room for the mean and variance of any layer */
};

static int *of_tensor(const struct pruning *p, int *values, int layer) {
    return &values[p->model->groups->first_segment[layer + 1]];
}
static const struct segment *segments_of(const struct pruning *p, int layer, int *n) {
    return groups_segments(p->model->groups, layer, n);
}
static int reads(const struct pruning *p, int layer, int k, int s) {
    const struct model *m = p->model;
    return counts_read(p->counts, m->net, m->blocks, m->groups, m->levels, p->plan, layer, k, s);
}
static void raise(int *value, int least) {
    if (*value < least) *value = least;
}
static int least(int a, int b) { return a < b ? a : b; }

static int total(const struct pruning *p, int *values, int layer) {
    int n, sum = 0;
    segments_of(p, layer, &n);
    for (int s = 0; s < n; s++) sum += of_tensor(p, values, layer)[s];
    return sum;
}

/* A grouped convolution whose units are those of its input. */
static bool tied(const struct pruning *p, int layer) {
    const struct net_layer *l = &p->model->net->layers[layer];
    int inputs = 0;
    if (l->kind == NET_CONVOLUTIONAL && l->groups > 1) segments_of(p, l->inputs[0], &inputs);
    return inputs == 1;
}

/* ---- backwards: what is needed ---- */

static void need_inputs(const struct pruning *p, int layer) {
    const struct net_layer *l = &p->model->net->layers[layer];
    int n, *out = of_tensor(p, p->need, layer), *in = of_tensor(p, p->need, l->inputs[0]);
    const struct segment *segments = segments_of(p, l->inputs[0], &n);
    switch (l->kind) {
    case NET_CONVOLUTIONAL:
    case NET_CONNECTED:
        if (tied(p, layer)) {
            int m;
            raise(in, out[0] / segments_of(p, layer, &m)[0].unit * segments[0].unit);
            return;
        }
        for (int s = 0; s < n; s++) raise(&in[s], reads(p, layer, 0, s));
        return;
    case NET_SOFTMAX:
    case NET_COST:
        for (int s = 0; s < n; s++) raise(&in[s], reads(p, layer, 0, s));
        return;
    case NET_ROUTE:
        for (int k = 0; k < l->ninputs; k++) {
            segments_of(p, l->inputs[k], &n);
            in = of_tensor(p, p->need, l->inputs[k]);
            for (int s = 0; s < n; s++) raise(&in[s], *out++);
        }
        return;
    case NET_SHORTCUT: {
        int m, *from = of_tensor(p, p->need, l->inputs[1]);
        segments_of(p, l->inputs[1], &m);
        if (n == 1 && m == 1) {
            raise(from, least(out[0], reads(p, layer, 1, 0)));
            break;
        }
        for (int s = 0; s < m; s++) raise(&from[s], reads(p, layer, 1, s)); /* parts keep their places */
        for (int s = 0; s < n; s++) raise(&in[s], reads(p, layer, 0, s));
        return;
    }
    default: break;
    }
    for (int s = 0; s < n; s++) raise(&in[s], out[s]);
}

/* Rounded up to whole units, and one at least: no layer vanishes. */
static void round_needs(const struct pruning *p, int layer) {
    int n, *need = of_tensor(p, p->need, layer);
    const struct segment *segments = segments_of(p, layer, &n);
    for (int s = 0; s < n; s++) {
        int unit = segments[s].unit, units = (need[s] + unit - 1) / unit;
        need[s] = (units > 1 ? units : 1) * unit;
    }
}

static void find_needs(const struct pruning *p) {
    int last = p->model->net->nlayers - 1, n;
    segments_of(p, last, &n);
    memcpy(of_tensor(p, p->need, last), of_tensor(p, p->counts->out, last), (size_t)n * sizeof(int));
    for (int i = last; i >= 0; i--) {
        round_needs(p, i);
        need_inputs(p, i);
    }
    round_needs(p, -1);
}

/* ---- forwards: what each layer holds ---- */

static enum status refuse(const struct pruning *p, int layer, const char *why, struct err *err) {
    enum status status = err_set(err, STATUS_LIMIT, "%s: layer %d (%s) %s at this plan", p->model->cfg->name, layer,
                                 net_kind_name(p->model->net->layers[layer].kind), why);
    err_hint(err, "run the plan as a level instead: 'espalier-deploy predict --plan'");
    return status;
}

static bool held_whole(const struct segment *segments, const int *hold, int first, int n) {
    for (int s = first; s < n; s++)
        if (hold[s] != segments[s].channels) return false;
    return true;
}

/* Darknet adds channel by channel, from the first: as many must meet as under
 * the plan, as far as they are needed, and a shorter part may only come last. */
static enum status check_sum(const struct pruning *p, int layer, struct err *err) {
    const struct net_layer *l = &p->model->net->layers[layer];
    int n, m, *own = of_tensor(p, p->hold, l->inputs[0]), *from = of_tensor(p, p->hold, l->inputs[1]);
    const int *need = of_tensor(p, p->need, layer);
    const struct segment *a = segments_of(p, l->inputs[0], &n), *b = segments_of(p, l->inputs[1], &m);
    for (int s = 0; s < n && s < m; s++) {
        bool own_ends = s == n - 1, from_ends = s == m - 1;
        bool pair = a[s].channels == b[s].channels || (a[s].channels < b[s].channels ? own_ends : from_ends);
        if (!pair && held_whole(a, own, s, n) && held_whole(b, from, s, m)) return STATUS_OK;
        if (!pair || (from[s] < own[s] && !from_ends) || (from[s] > own[s] && !own_ends))
            return refuse(p, layer, "adds concatenations whose parts have different counts", err);
        if (least(need[s], from[s]) != least(need[s], reads(p, layer, 1, s)))
            return refuse(p, layer, "adds a map that holds more channels than it may add", err);
    }
    return STATUS_OK;
}

static enum status hold_outputs(const struct pruning *p, int layer, struct err *err) {
    const struct net_layer *l = &p->model->net->layers[layer];
    int n, m, *out = of_tensor(p, p->hold, layer), *in = of_tensor(p, p->hold, l->inputs[0]);
    const int *need = of_tensor(p, p->need, layer);
    const struct segment *inputs = segments_of(p, l->inputs[0], &n);
    enum status status = STATUS_OK;
    switch (l->kind) {
    case NET_CONVOLUTIONAL:
    case NET_CONNECTED:
        out[0] = tied(p, layer) ? in[0] / inputs[0].unit * segments_of(p, layer, &m)[0].unit : need[0];
        return STATUS_OK;
    case NET_ROUTE:
        for (int k = 0; k < l->ninputs; k++) {
            segments_of(p, l->inputs[k], &n);
            in = of_tensor(p, p->hold, l->inputs[k]);
            for (int s = 0; s < n; s++) *out++ = in[s];
        }
        return STATUS_OK;
    case NET_SHORTCUT: status = check_sum(p, layer, err); break;
    case NET_SOFTMAX:
        for (int s = 0; s < n && !status; s++)
            if (in[s] != reads(p, layer, 0, s)) status = refuse(p, layer, "holds more channels than it may normalise", err);
        break;
    default: break;
    }
    memcpy(out, in, (size_t)n * sizeof *out);
    return status;
}

static enum status find_holds(const struct pruning *p, struct err *err) {
    const struct model *m = p->model;
    int n;
    segments_of(p, -1, &n);
    memcpy(of_tensor(p, p->hold, -1), of_tensor(p, p->need, -1), (size_t)n * sizeof(int));
    if (!m->ends.nincoming) *of_tensor(p, p->hold, -1) = m->net->input.c; /* an image */
    for (int i = 0; i < m->net->nlayers; i++) {
        enum status status = hold_outputs(p, i, err);
        if (status) return status;
    }
    int last = m->net->nlayers - 1;
    if (total(p, p->hold, last) != total(p, p->counts->out, last))
        return refuse(p, last, "would put out more channels", err);
    return STATUS_OK;
}

/* ---- cfg ---- */

static enum status make_cfg(const struct pruning *p, struct cfg **cfg, struct err *err) {
    int nlayers = p->model->net->nlayers, *held = malloc(((size_t)nlayers + 1) * sizeof *held);
    if (!held) return err_memory(err, p->model->cfg->name);
    for (int i = -1; i < nlayers; i++) held[i + 1] = total(p, p->hold, i);
    enum status status = shrink_cfg(p->model, held, SHRINK_ONE_LEVEL, cfg, err);
    free(held);
    return status;
}

/* ---- weights ---- */

/* Copies the channels that are both read and held, `size` floats each, from a
 * layout with all channels of the layer's input to one with those held. */
static void copy_channels(const struct pruning *p, int layer, size_t size, float *to, const float *from) {
    int source = p->model->net->layers[layer].inputs[0], n;
    const struct segment *segments = segments_of(p, source, &n);
    const int *hold = of_tensor(p, p->hold, source);
    size_t at = 0;
    for (int s = 0; s < n; s++) {
        int both = least(hold[s], reads(p, layer, 0, s));
        memcpy(to + at * size, from + (size_t)segments[s].first * size, (size_t)both * size * sizeof *to);
        at += (size_t)hold[s];
    }
}

static void copy_weights(const struct pruning *p, int layer, struct model_layer *to, size_t outputs) {
    const struct net_layer *l = &p->model->net->layers[layer];
    const float *from = p->model->layers[layer].weight;
    size_t row = net_weight_count(l) / (size_t)l->filters;
    if (l->groups > 1) { /* its input is whole, or cut at the same units */
        memcpy(to->weight, from, outputs * row * sizeof *from);
        return;
    }
    size_t size = l->kind == NET_CONNECTED ? (size_t)l->in.h * (size_t)l->in.w : (size_t)l->size * (size_t)l->size;
    size_t held = (size_t)total(p, p->hold, l->inputs[0]) * size;
    for (size_t o = 0; o < outputs; o++) copy_channels(p, layer, size, to->weight + o * held, from + o * row);
}

static void copy_layer(const struct pruning *p, int layer, struct model *small) {
    const struct model *m = p->model;
    const struct net_layer *l = &m->net->layers[layer];
    if (!net_has_weights(l)) return;
    const struct model_layer *from = &m->layers[layer];
    struct model_layer *to = &small->layers[layer];
    const struct bn_terms terms = bn_planned(m, p->plan, m->blocks->of_layer[layer]);
    size_t all = (size_t)model_outputs(m, layer), kept = (size_t)model_outputs(small, layer);
    size_t gamma_at = from->gamma_rows > 1 ? (size_t)terms.row * all : 0;
    if (from->mean) bn_stats(m, layer, &terms, p->stats, p->stats + all);
    if (from->weight) copy_weights(p, layer, to, kept);
    const float *sources[] = {from->bias, from->gamma ? from->gamma + gamma_at : NULL,
                              from->beta ? from->beta + gamma_at : NULL, from->mean ? p->stats : NULL,
                              from->mean ? p->stats + all : NULL};
    float *targets[] = {to->bias, to->gamma, to->beta, to->mean, to->var};
    for (int i = 0; i < 5; i++) {
        if (!sources[i]) continue;
        if (l->kind == NET_BATCHNORM) copy_channels(p, layer, 1, targets[i], sources[i]);
        else memcpy(targets[i], sources[i], kept * sizeof(float));
    }
}

/* ---- putting it together ---- */

/* One level: the base is what the plan is expected to reach; codecs stay a choice. */
static enum status prune_accuracy(const struct pruning *p, struct model *small, struct err *err) {
    const struct accuracy *whole = p->model->accuracy;
    if (!whole) return STATUS_OK;
    struct accuracy *a;
    enum status status = accuracy_create(&a, whole->nblocks, 1, err);
    if (status) return status;
    double base = accuracy_predict(whole, p->plan);
    for (int b = 1; b < whole->nblocks; b++) base += whole->codec[b * CODEC_COUNT + (int)p->plan->codec[b]];
    a->base = base < 0 ? 0 : base > 1 ? 1 : base;
    memcpy(a->codec, whole->codec, (size_t)whole->nblocks * CODEC_COUNT * sizeof *a->codec);
    a->samples = whole->samples;
    a->fit_error = whole->fit_error;
    a->held_out_error = whole->held_out_error;
    a->held_out_worst = whole->held_out_worst;
    small->accuracy = a;
    return STATUS_OK;
}

static enum status make_small(const struct pruning *p, struct cfg *cfg, struct model **small, struct err *err) {
    const struct model *m = p->model;
    struct groups_ends ends = {.nincoming = m->ends.nincoming, .outgoing = m->ends.outgoing};
    if (ends.nincoming && !(ends.incoming = malloc((size_t)ends.nincoming * sizeof *ends.incoming)))
        return err_memory(err, cfg->name);
    for (int s = 0; s < ends.nincoming; s++)
        ends.incoming[s] = (struct groups_incoming){of_tensor(p, p->hold, -1)[s], m->ends.incoming[s].unit};
    enum status status = model_create_slice(small, cfg, 1, &ends, err);
    free(ends.incoming);
    return status;
}

static enum status build(const struct pruning *p, struct model **out, struct err *err) {
    struct cfg *cfg;
    struct model *small = NULL;
    enum status status = make_cfg(p, &cfg, err);
    if (status) return status;
    status = make_small(p, cfg, &small, err);
    if (status) {
        cfg_destroy(&cfg);
        return status;
    }
    assert(small->blocks->nblocks == p->model->blocks->nblocks);
    for (int i = 0; i < p->model->net->nlayers; i++) copy_layer(p, i, small);
    if ((status = shrink_facts(p->model, small, err)) || (status = prune_accuracy(p, small, err))) {
        model_destroy(&small);
        return status;
    }
    small->first_layer = p->model->first_layer;
    small->first_block = p->model->first_block;
    memcpy(small->parent, p->model->parent, sizeof small->parent);
    *out = small;
    return STATUS_OK;
}

enum status surgery_prune(const struct model *model, const struct plan *plan, struct model **small, struct err *err) {
    assert(plan->nblocks == model->blocks->nblocks);
    struct pruning p = {.model = model, .plan = plan};
    enum status status = counts_create(&p.counts, model->groups, err);
    if (status) return status;
    size_t n = (size_t)model->groups->nsegments;
    p.need = calloc(n, sizeof *p.need);
    p.hold = calloc(n, sizeof *p.hold);
    int outputs = 1;
    for (int i = 0; i < model->net->nlayers; i++)
        if (model->layers[i].mean && model_outputs(model, i) > outputs) outputs = model_outputs(model, i);
    p.stats = malloc(2 * (size_t)outputs * sizeof *p.stats);
    if (!p.need || !p.hold || !p.stats) {
        status = err_memory(err, "pruning");
    } else {
        counts_set(p.counts, model->net, model->blocks, model->groups, model->levels, plan);
        find_needs(&p);
        status = find_holds(&p, err);
        if (!status) status = build(&p, small, err);
    }
    free(p.need);
    free(p.hold);
    free(p.stats);
    counts_destroy(&p.counts);
    return status;
}
