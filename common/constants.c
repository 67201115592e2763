#include "common/bn.h"
#include "common/constants.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool *read_of(const struct constants *c, int layer, int channel) {
    return &c->read[c->first[layer + 1] + channel];
}

/* The weights of output o of a layer on its input: taps per input channel, and
 * which channels these are. */
struct row {
    const float *weight;
    int first, channels; /* of the input */
    size_t taps;
    bool whole; /* every output position sees every tap */
};

static struct row row_of(const struct model *m, int layer, int output) {
    const struct net_layer *l = &m->net->layers[layer];
    size_t each = net_weight_count(l) / (size_t)l->filters;
    struct row r = {.weight = m->layers[layer].weight + (size_t)output * each, .channels = l->in.c, .whole = true};
    if (l->kind == NET_CONVOLUTIONAL) {
        r.channels = l->in.c / l->groups;
        r.first = output / (l->filters / l->groups) * r.channels;
        r.whole = l->pad == 0;
    }
    r.taps = each / (size_t)r.channels;
    return r;
}

static bool reads(const struct row *r, int k) {
    for (size_t t = 0; t < r->taps; t++)
        if (r->weight[(size_t)k * r->taps + t] != 0) return true;
    return false;
}

static double tap_sum(const struct row *r, int k) {
    double sum = 0;
    for (size_t t = 0; t < r->taps; t++) sum += (double)r->weight[(size_t)k * r->taps + t];
    return sum;
}

/* ---- forwards: what is constant ---- */

/* In front of bias or batch norm; NaN if it varies. */
static double row_value(const struct constants *c, int source, const struct row *r) {
    double sum = 0;
    for (int k = 0; k < r->channels; k++) {
        float v = *constants_value(c, source, r->first + k);
        if (v == 0 || !reads(r, k)) continue;
        if (isnan(v) || !r->whole) return NAN;
        sum += (double)v * tap_sum(r, k);
    }
    return sum;
}

static void find_row_values(const struct constants *c, int layer, const float *scale, const float *shift) {
    const struct net_layer *l = &c->model->net->layers[layer];
    const struct model_layer *w = &c->model->layers[layer];
    for (int o = 0; o < l->out.c; o++) {
        struct row r = {0};
        if (l->kind != NET_BATCHNORM) r = row_of(c->model, layer, o);
        double x = l->kind == NET_BATCHNORM ? (double)*constants_value(c, l->inputs[0], o)
                                            : row_value(c, l->inputs[0], &r);
        if (w->mean) x = x * (double)scale[o] + (double)shift[o];
        else if (w->bias) x += (double)w->bias[o];
        if (l->kind == NET_BATCHNORM) *constants_value(c, layer, o) = (float)x;
        else *constants_value(c, layer, o) = isnan(x) ? NAN : activation_apply(l->activation, (float)x);
    }
}

/* A sum over maps of different sizes adds to some positions only. */
static void find_sum_values(const struct constants *c, int layer) {
    const struct net_layer *l = &c->model->net->layers[layer];
    struct net_shape from = net_shape_of(c->model->net, l->inputs[1]);
    bool everywhere = from.h == l->out.h && from.w == l->out.w;
    for (int k = 0; k < l->out.c; k++) {
        double x = (double)l->alpha * (double)*constants_value(c, l->inputs[0], k);
        float v = k < from.c ? *constants_value(c, l->inputs[1], k) : 0;
        if (v != 0) x = everywhere ? x + (double)l->beta * (double)v : (double)NAN;
        *constants_value(c, layer, k) = isnan(x) ? NAN : activation_apply(l->activation, (float)x);
    }
}

/* scale, shift: room for any layer's outputs. */
static void find_values(const struct constants *c, float *scale, float *shift) {
    const struct net *net = c->model->net;
    const struct bn_terms whole = bn_uniform(c->model, 0);
    for (int k = 0; k < net->input.c; k++) *constants_value(c, -1, k) = NAN;
    for (int i = 0; i < net->nlayers; i++) {
        const struct net_layer *l = &net->layers[i];
        float *out = constants_value(c, i, 0);
        switch (l->kind) {
        case NET_CONVOLUTIONAL:
        case NET_CONNECTED:
        case NET_BATCHNORM:
            if (c->model->layers[i].mean) bn_affine(c->model, i, &whole, scale, shift);
            find_row_values(c, i, scale, shift);
            break;
        case NET_SHORTCUT: find_sum_values(c, i); break;
        case NET_ROUTE:
            for (int k = 0; k < l->ninputs; k++) {
                size_t n = (size_t)net_shape_of(net, l->inputs[k]).c;
                memcpy(out, constants_value(c, l->inputs[k], 0), n * sizeof *out);
                out += n;
            }
            break;
        case NET_MAXPOOL:
        case NET_AVGPOOL:
        case NET_DROPOUT: memcpy(out, constants_value(c, l->inputs[0], 0), (size_t)l->out.c * sizeof *out); break;
        default:
            for (int k = 0; k < l->out.c; k++) out[k] = NAN;
        }
    }
}

/* ---- backwards: what is read ---- */

static void find_reads(const struct constants *c) {
    const struct net *net = c->model->net;
    int last = net->nlayers - 1;
    for (int k = 0; k < net->layers[last].out.c; k++) *read_of(c, last, k) = true;
    for (int i = last; i >= 0; i--) {
        const struct net_layer *l = &net->layers[i];
        if (l->kind == NET_ROUTE) {
            for (int k = 0, at = 0; k < l->ninputs; k++)
                for (int n = 0; n < net_shape_of(net, l->inputs[k]).c; n++, at++)
                    *read_of(c, l->inputs[k], n) |= *read_of(c, i, at);
            continue;
        }
        for (int o = 0; o < l->out.c; o++) {
            if (!*read_of(c, i, o)) continue;
            if (l->kind == NET_CONVOLUTIONAL || l->kind == NET_CONNECTED) {
                struct row r = row_of(c->model, i, o);
                for (int k = 0; k < r.channels; k++) {
                    if (!reads(&r, k)) continue;
                    *read_of(c, l->inputs[0], r.first + k) = true;
                    c->padded[c->first[l->inputs[0] + 1] + r.first + k] |= !r.whole;
                }
                continue;
            }
            *read_of(c, l->inputs[0], o) = true;
            if (l->kind == NET_SHORTCUT && o < net_shape_of(net, l->inputs[1]).c) *read_of(c, l->inputs[1], o) = true;
        }
        if (l->kind == NET_SOFTMAX || l->kind == NET_COST)
            for (int k = 0; k < l->in.c; k++) *read_of(c, l->inputs[0], k) = true;
    }
}

static void number_channels(const struct constants *c) {
    const struct net *net = c->model->net;
    c->first[0] = 0;
    for (int i = -1; i < net->nlayers; i++) c->first[i + 2] = c->first[i + 1] + net_shape_of(net, i).c;
}

enum status constants_find(struct constants **out, const struct model *model, struct err *err) {
    size_t nlayers = (size_t)model->net->nlayers, total = 0, most = 1;
    for (int i = -1; i < model->net->nlayers; i++) {
        size_t n = (size_t)net_shape_of(model->net, i).c;
        total += n;
        if (n > most) most = n;
    }
    struct constants *c = calloc(1, sizeof *c);
    if (!c) return err_memory(err, "constants");
    c->model = model;
    c->first = malloc((nlayers + 2) * sizeof *c->first);
    c->value = malloc(total * sizeof *c->value);
    c->read = calloc(total, sizeof *c->read);
    c->padded = calloc(total, sizeof *c->padded);
    c->replaced = calloc(total, sizeof *c->replaced);
    c->stays = malloc(((size_t)model->groups->ngroups + 1) * sizeof *c->stays);
    float *scale = malloc(2 * most * sizeof *scale);
    if (!c->first || !c->value || !c->read || !c->padded || !c->replaced || !c->stays || !scale) {
        free(scale);
        constants_destroy(&c);
        return err_memory(err, "constants");
    }
    number_channels(c);
    for (int g = 0; g < model->groups->ngroups; g++) c->stays[g] = -1;
    find_values(c, scale, scale + most);
    find_reads(c);
    free(scale);
    *out = c;
    return STATUS_OK;
}

void constants_destroy(struct constants **constants) {
    if (!*constants) return;
    free((*constants)->first);
    free((*constants)->value);
    free((*constants)->read);
    free((*constants)->padded);
    free((*constants)->replaced);
    free((*constants)->stays);
    free(*constants);
    *constants = NULL;
}

void constants_replace(struct constants *c, int layer, int channel, float mean) {
    int at = c->first[layer + 1] + channel;
    if (!isnan(c->value[at])) return; /* it is a constant */
    c->value[at] = mean;
    c->replaced[at] = true;
}

/* ---- which units go ---- */

/* Constant or unread in all tensors that hold the group. */
static bool can_go(const struct constants *c, int group, int unit) {
    const struct groups *groups = c->model->groups;
    if (groups->group[group].whole) return false;
    for (int layer = -1; layer < c->model->net->nlayers; layer++) {
        int n;
        const struct segment *s = groups_segments(groups, layer, &n);
        for (int i = 0; i < n; i++)
            for (int k = 0; s[i].group == group && k < s[i].unit; k++) {
                int channel = s[i].first + unit * s[i].unit + k;
                if (isnan(*constants_value(c, layer, channel)) && *read_of(c, layer, channel)) return false;
            }
    }
    return true;
}

static bool tier_can_go(const struct constants *c, const struct tier *tier, int unit) {
    for (int i = 0; i < tier->ngroups; i++)
        if (!can_go(c, tier->groups[i], unit)) return false;
    return true;
}

/* Whether it was cut while a padded convolution still depends on its constant. */
static bool carried(const struct constants *c, int layer, int channel, const struct shrink_units *units, int group,
                    int unit) {
    float v = *constants_value(c, layer, channel);
    int at = c->first[layer + 1] + channel;
    return !*shrink_unit(units, group, unit) && v != 0 && !isnan(v) && c->padded[at] && !c->replaced[at];
}

/* Whether one of the segment's units is carried; with `keep`, all that are come back. */
static bool segment_carried(const struct constants *c, int layer, const struct segment *s,
                            const struct shrink_units *units, bool keep) {
    bool any = false;
    for (int k = 0; k < s->channels; k++) {
        if (!carried(c, layer, s->first + k, units, s->group, k / s->unit)) continue;
        any = true;
        if (keep) shrink_units_set(units, s->group, k / s->unit, true);
    }
    return any;
}

/* One of the group's constant units stays for all, the one whose constants are
 * farthest from zero; if none is other than zero wherever it is needed, all that are needed stay.
 * least: [units]. */
static void choose_stay(struct constants *c, struct shrink_units *units, int group, double *least) {
    int best = -1, count = c->model->groups->group[group].units;
    bool needed = false;
    for (int u = 0; u < count; u++) least[u] = HUGE_VAL;
    for (int pass = 0; pass < 2; pass++) {
        for (int layer = -1; layer < c->model->net->nlayers; layer++) {
            int n;
            const struct segment *s = groups_segments(c->model->groups, layer, &n);
            for (int i = 0; i < n; i++) {
                if (s[i].group != group || !segment_carried(c, layer, &s[i], units, pass == 1)) continue;
                needed = true;
                for (int u = 0; u < count; u++) {
                    int channel = s[i].first + u * s[i].unit;
                    float v = *constants_value(c, layer, channel);
                    bool is = !isnan(v) && !c->replaced[c->first[layer + 1] + channel];
                    least[u] = is ? fmin(least[u], fabs((double)v)) : 0;
                }
            }
        }
        for (int u = 0; u < count; u++)
            if (needed && can_go(c, group, u) && least[u] > 0 && (best < 0 || least[u] > least[best])) best = u;
        if (best >= 0 || !needed) break; /* otherwise once more, to keep them */
    }
    c->stays[group] = best;
    if (best >= 0) shrink_units_set(units, group, best, true);
}

enum status constants_cut(struct constants *c, struct shrink_units *units, struct err *err) {
    const struct groups *groups = c->model->groups;
    size_t most = 1;
    for (int g = 0; g < groups->ngroups; g++)
        if ((size_t)groups->group[g].units > most) most = (size_t)groups->group[g].units;
    double *least = malloc(most * sizeof *least);
    if (!least) return err_memory(err, "constants");
    for (int t = 0; t < groups->ntiers; t++) {
        const struct tier *tier = &groups->tiers[t];
        for (int u = tier->first; !tier->fixed && u < tier->last; u++)
            if (tier_can_go(c, tier, u)) shrink_units_set(units, tier->groups[0], u, false);
    }
    for (int g = 0; g < groups->ngroups; g++) choose_stay(c, units, g, least);
    for (int g = 0; g < groups->ngroups; g++)
        if (shrink_units_count(units, g) == 0) shrink_units_set(units, g, 0, true);
    free(least);
    return STATUS_OK;
}

/* ---- carrying ---- */

/* place: of a layer's inputs. The channel of the input's segments that stays for
 * `channel`, where it went; -1: none. */
static int staying(const struct constants *c, int source, int channel) {
    int n;
    const struct segment *s = groups_segments(c->model->groups, source, &n);
    while (channel >= s->first + s->channels) s++;
    return c->stays[s->group] < 0 ? -1 : s->first + c->stays[s->group] * s->unit;
}

/* What an output misses of the channels that were cut: where it sees all taps, into bias or
 * the mean, else on the weights of the channel that stays. */
static void carry_row(const struct constants *c, int layer, int output, const int *in, int to_row, struct model *small) {
    int source = c->model->net->layers[layer].inputs[0];
    struct row r = row_of(c->model, layer, output);
    struct model_layer *to = &small->layers[layer];
    size_t row = net_weight_count(&small->net->layers[layer]) / (size_t)small->net->layers[layer].filters;
    double sum = 0;
    for (int k = 0; k < r.channels; k++) {
        int channel = r.first + k;
        float v = *constants_value(c, source, channel);
        if (in[channel] >= 0 || v == 0 || isnan(v) || !reads(&r, k)) continue;
        if (r.whole || c->replaced[c->first[source + 1] + channel]) {
            sum += (double)v * tap_sum(&r, k);
            continue;
        }
        int stays = staying(c, source, channel);
        if (stays < 0) continue; /* nothing depends on this output */
        double factor = (double)v / (double)*constants_value(c, source, stays);
        float *weight = to->weight + (size_t)to_row * row + (size_t)in[stays] * r.taps;
        for (size_t t = 0; t < r.taps; t++) weight[t] += (float)(factor * (double)r.weight[(size_t)k * r.taps + t]);
    }
    if (to->mean) to->mean[to_row] -= (float)sum;
    else to->bias[to_row] += (float)sum;
}

enum status constants_carry(const struct constants *c, const struct shrink_units *units, struct model *small,
                            struct err *err) {
    const struct net *net = c->model->net;
    size_t most = (size_t)net->input.c;
    for (int i = 0; i < net->nlayers; i++)
        if ((size_t)net->layers[i].out.c > most) most = (size_t)net->layers[i].out.c;
    int *in = malloc(2 * most * sizeof *in), *out = in + most;
    if (!in) return err_memory(err, "constants");
    for (int i = 0; i < net->nlayers; i++) {
        const struct net_layer *l = &net->layers[i];
        if (l->kind != NET_CONNECTED && (l->kind != NET_CONVOLUTIONAL || l->groups > 1)) continue;
        shrink_places(units, i, out);
        shrink_places(units, l->inputs[0], in);
        for (int o = 0; o < l->out.c; o++)
            if (out[o] >= 0) carry_row(c, i, o, in, out[o], small);
    }
    free(in);
    return STATUS_OK;
}

enum status constants_shrink_found(struct constants *c, struct model **out, struct err *err) {
    struct shrink_units *units;
    struct model *small = NULL;
    enum status status = shrink_units_create(&units, c->model->groups, err);
    if (status) return status;
    status = constants_cut(c, units, err);
    if (!status) status = shrink_model(c->model, units, SHRINK_ONE_LEVEL, &small, err);
    if (!status) status = constants_carry(c, units, small, err);
    shrink_units_destroy(&units);
    if (status) model_destroy(&small);
    else *out = small;
    return status;
}

enum status constants_shrink(const struct model *model, struct model **small, struct err *err) {
    struct constants *c;
    enum status status = constants_find(&c, model, err);
    if (status) return status;
    status = constants_shrink_found(c, small, err);
    constants_destroy(&c);
    return status;
}
