#include "train/soft_mask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* In units of importance, which spans 1 at the beginning: at first a tenth of a tier's
 * channels have a mask between .27 and .73, at last a hundredth. */
static const double WARM = .05, COLD = .005;
/* Less than that of a channel is not computed with. */
static const float LEAST = .01f;
enum { BISECTIONS = 48 };

/* A tensor of [outer, channels, inner] that the mask multiplies. */
struct masked {
    const struct network_param *param;
    int channels;
    size_t outer, inner;
    size_t saved; /* where it lies in values and grads below */
};

struct soft_mask_pass {
    int *group_first;    /* [ngroups] where a group's units begin in what follows */
    float *mask;         /* [units of all groups] of the level set */
    double *slope, *dmask;
    double *gradient;    /* [nunits] of the importance, in double until it is asked for */
    float *rounded;      /* [nunits] */
    int nmasked;
    struct masked *masked;
    float *values, *grads; /* of the masked tensors, as they were */
    int group_units;
};

/* ---- creating -------------------------------------------------------------- */

/* Whether some of the layer's channels may be left out. */
static bool is_pruned(const struct model *model, int layer) {
    int n;
    const struct segment *segments = groups_segments(model->groups, layer, &n);
    for (int s = 0; s < n; s++)
        if (!model->groups->group[segments[s].group].whole) return true;
    return false;
}

static bool is_masked(const struct model *model, const struct network_param *param) {
    bool vector = param->role == NETWORK_GAMMA || param->role == NETWORK_BETA;
    return is_pruned(model, param->layer) && (vector || !model->layers[param->layer].gamma);
}

static enum status check_activations(const struct model *model, struct err *err) {
    for (int i = 0; i < net_logits_layer(model->net); i++) {
        const struct net_layer *layer = &model->net->layers[i];
        bool has = layer->kind == NET_CONVOLUTIONAL || layer->kind == NET_CONNECTED || layer->kind == NET_SHORTCUT;
        if (has && is_pruned(model, i) && activation_apply(layer->activation, 0) != 0)
            return err_set(err, STATUS_USAGE, "--soft-mask: layer %d's activation, %s, is not 0 at 0, so a channel cannot fade",
                           i, activation_name(layer->activation));
    }
    return STATUS_OK;
}

static void place_units(struct soft_mask *mask) {
    const struct groups *groups = mask->model->groups;
    for (int t = 0; t < groups->ntiers; t++) {
        const struct tier *tier = &groups->tiers[t];
        mask->first[t] = tier->fixed ? -1 : mask->nunits;
        if (!tier->fixed) mask->nunits += tier->last - tier->first;
    }
    for (int g = 0; g < groups->ngroups; g++) {
        mask->pass->group_first[g] = mask->pass->group_units;
        mask->pass->group_units += groups->group[g].units;
    }
}

/* Lists the tensors; returns how many values they hold. */
static size_t list_masked(struct soft_mask *mask, const struct network_view *view) {
    size_t size = 0;
    for (int i = 0; i < view->nparams; i++) {
        const struct network_param *p = &view->params[i];
        if (!is_masked(mask->model, p)) continue;
        bool rows = p->role == NETWORK_GAMMA || p->role == NETWORK_BETA;
        size_t channels = (size_t)model_outputs(mask->model, p->layer);
        mask->pass->masked[mask->pass->nmasked++] = (struct masked){
            p, (int)channels, rows ? p->size / channels : 1, rows ? 1 : p->size / channels, size };
        size += p->size;
    }
    return size;
}

static enum status create(struct soft_mask *mask, const struct network_view *view, struct err *err) {
    const struct groups *groups = mask->model->groups;
    struct soft_mask_pass *pass = mask->pass = calloc(1, sizeof *pass);
    mask->first = calloc((size_t)groups->ntiers + 1, sizeof *mask->first);
    if (!pass || !mask->first) return err_memory(err, "soft mask");
    pass->group_first = calloc((size_t)groups->ngroups + 1, sizeof *pass->group_first);
    pass->masked = calloc((size_t)view->nparams + 1, sizeof *pass->masked);
    if (!pass->group_first || !pass->masked) return err_memory(err, "soft mask");
    place_units(mask);
    size_t units = (size_t)mask->nunits + 1, each = (size_t)pass->group_units + 1, saved = list_masked(mask, view) + 1;
    mask->importance = calloc(units, sizeof *mask->importance);
    mask->velocity = calloc(units, sizeof *mask->velocity);
    pass->gradient = calloc(units, sizeof *pass->gradient);
    pass->rounded = calloc(units, sizeof *pass->rounded);
    pass->mask = calloc(each, sizeof *pass->mask);
    pass->slope = calloc(each, sizeof *pass->slope);
    pass->dmask = calloc(each, sizeof *pass->dmask);
    pass->values = calloc(saved, sizeof *pass->values);
    pass->grads = calloc(saved, sizeof *pass->grads);
    bool good = mask->importance && mask->velocity && pass->gradient && pass->rounded && pass->mask && pass->slope &&
                pass->dmask && pass->values && pass->grads;
    return good ? STATUS_OK : err_memory(err, "soft mask");
}

enum status soft_mask_create(struct soft_mask **out, const struct model *model, const struct network_view *view,
                             struct err *err) {
    enum status status = check_activations(model, err);
    if (status) return status;
    struct soft_mask *mask = calloc(1, sizeof *mask);
    if (!mask) return err_memory(err, "soft mask");
    mask->model = model;
    mask->temperature = WARM;
    if ((status = create(mask, view, err))) {
        soft_mask_destroy(&mask);
        return status;
    }
    for (int t = 0; t < model->groups->ntiers; t++) {
        const struct tier *tier = &model->groups->tiers[t];
        int n = tier->last - tier->first;
        for (int u = 0; mask->first[t] >= 0 && u < n; u++)
            mask->importance[mask->first[t] + u] = 1 - ((float)u + .5f) / (float)n;
    }
    *out = mask;
    return STATUS_OK;
}

void soft_mask_destroy(struct soft_mask **mask) {
    if (!*mask) return;
    struct soft_mask_pass *pass = (*mask)->pass;
    if (pass) {
        free(pass->group_first);
        free(pass->masked);
        free(pass->gradient);
        free(pass->rounded);
        free(pass->mask);
        free(pass->slope);
        free(pass->dmask);
        free(pass->values);
        free(pass->grads);
        free(pass);
    }
    free((*mask)->first);
    free((*mask)->importance);
    free((*mask)->velocity);
    free(*mask);
    *mask = NULL;
}

bool soft_mask_step(struct soft_mask *mask, int index) {
    if (index < mask->begin || index >= mask->end) return false;
    mask->temperature = WARM * pow(COLD / WARM, (double)(index - mask->begin) / (mask->end - mask->begin));
    return true;
}

/* ---- the mask of a level --------------------------------------------------- */

static double weight_of(double importance, double threshold, double temperature) {
    return 1 / (1 + exp((threshold - importance) / temperature));
}

/* The threshold at which n weights sum to `kept`, which is between 0 and n. */
static double find_threshold(const float *importance, int n, int kept, double temperature) {
    double low = INFINITY, high = -INFINITY;
    for (int u = 0; u < n; u++) {
        low = fmin(low, (double)importance[u]);
        high = fmax(high, (double)importance[u]);
    }
    low -= temperature * 40;
    high += temperature * 40;
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = (low + high) / 2, sum = 0;
        for (int u = 0; u < n; u++) sum += weight_of((double)importance[u], middle, temperature);
        if (sum > kept) low = middle;
        else high = middle;
    }
    return (low + high) / 2;
}

/* Units that group `g` keeps of a tier. */
static int kept_of(const struct soft_mask *mask, int level, int group, const struct tier *tier) {
    int kept = levels_keep(mask->model->levels, level, group) - tier->first, n = tier->last - tier->first;
    return kept < 0 ? 0 : kept > n ? n : kept;
}

static void set_tier(struct soft_mask *mask, int level, int t, int group) {
    const struct tier *tier = &mask->model->groups->tiers[t];
    int n = tier->last - tier->first, kept = kept_of(mask, level, group, tier);
    bool steps = tier->fixed || kept == 0 || kept == n;
    const float *importance = mask->importance + (tier->fixed ? 0 : mask->first[t]);
    double threshold = steps ? 0 : find_threshold(importance, n, kept, mask->temperature);
    for (int u = 0; u < n; u++) {
        int at = mask->pass->group_first[group] + tier->first + u;
        double m = steps ? u < kept : weight_of((double)importance[u], threshold, mask->temperature);
        mask->pass->mask[at] = (float)m;
        mask->pass->slope[at] = steps ? 0 : m * (1 - m) / mask->temperature;
    }
}

/* Units of a group that have any weight, as a prefix. */
static int width_of(const struct soft_mask *mask, int group) {
    const float *m = mask->pass->mask + mask->pass->group_first[group];
    int n = mask->model->groups->group[group].units;
    while (n > 0 && !(m[n - 1] > LEAST)) n--;
    return n;
}

int soft_mask_set(struct soft_mask *mask, int level) {
    const struct groups *groups = mask->model->groups;
    for (int t = 0; t < groups->ntiers; t++)
        for (int g = 0; g < groups->tiers[t].ngroups; g++) set_tier(mask, level, t, groups->tiers[t].groups[g]);
    for (int g = 0; g < groups->ngroups; g++) {
        int width = width_of(mask, g);
        while (level > 0 && levels_keep(mask->model->levels, level, g) < width) level--;
    }
    return level;
}

/* ---- around a pass --------------------------------------------------------- */

/* Where the mask of a layer's channel is. */
static int entry_of(const struct soft_mask *mask, const struct segment *segment, int channel) {
    return mask->pass->group_first[segment->group] + (channel - segment->first) / segment->unit;
}

/* Calls for every run of `inner` values of one channel. */
typedef void channel_values(struct soft_mask_pass *pass, int entry, float *values, float *grads, size_t saved, size_t n);

static void each_channel(struct soft_mask *mask, const struct network_view *view, channel_values *run) {
    struct soft_mask_pass *pass = mask->pass;
    for (int i = 0; i < pass->nmasked; i++) {
        const struct masked *m = &pass->masked[i];
        int nsegments;
        const struct segment *segments = groups_segments(mask->model->groups, m->param->layer, &nsegments);
        for (size_t o = 0; o < m->outer; o++)
            for (int s = 0; s < nsegments; s++)
                for (int c = segments[s].first; c < segments[s].first + segments[s].channels; c++) {
                    size_t at = (o * (size_t)m->channels + (size_t)c) * m->inner;
                    run(pass, entry_of(mask, &segments[s], c), view->values + m->param->offset + at,
                        view->grads + m->param->offset + at, m->saved + at, m->inner);
                }
    }
}

static void apply(struct soft_mask_pass *pass, int entry, float *values, float *grads, size_t saved, size_t n) {
    memcpy(pass->values + saved, values, n * sizeof *values);
    memcpy(pass->grads + saved, grads, n * sizeof *grads);
    for (size_t i = 0; i < n; i++) {
        values[i] *= pass->mask[entry];
        grads[i] = 0;
    }
}

static void collect(struct soft_mask_pass *pass, int entry, float *values, float *grads, size_t saved, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)grads[i] * (double)pass->values[saved + i];
    pass->dmask[entry] += sum;
    for (size_t i = 0; i < n; i++) grads[i] = pass->grads[saved + i] + pass->mask[entry] * grads[i];
    memcpy(values, pass->values + saved, n * sizeof *values);
}

void soft_mask_apply(struct soft_mask *mask, const struct network_view *view) { each_channel(mask, view, apply); }

/* From the gradients of a group's mask to those of a tier's importance. */
static void collect_tier(struct soft_mask *mask, int t, int group) {
    const struct tier *tier = &mask->model->groups->tiers[t];
    const double *slope = mask->pass->slope + mask->pass->group_first[group] + tier->first;
    const double *dmask = mask->pass->dmask + mask->pass->group_first[group] + tier->first;
    double *gradient = mask->pass->gradient + mask->first[t], slopes = 0, weighted = 0;
    int n = tier->last - tier->first;
    for (int u = 0; u < n; u++) {
        slopes += slope[u];
        weighted += slope[u] * dmask[u];
    }
    for (int u = 0; slopes > 0 && u < n; u++) gradient[u] += slope[u] * (dmask[u] - weighted / slopes);
}

void soft_mask_collect(struct soft_mask *mask, const struct network_view *view) {
    const struct groups *groups = mask->model->groups;
    memset(mask->pass->dmask, 0, (size_t)mask->pass->group_units * sizeof *mask->pass->dmask);
    each_channel(mask, view, collect);
    for (int t = 0; t < groups->ntiers; t++)
        for (int g = 0; mask->first[t] >= 0 && g < groups->tiers[t].ngroups; g++)
            collect_tier(mask, t, groups->tiers[t].groups[g]);
}

const float *soft_mask_gradient(const struct soft_mask *mask) {
    for (int u = 0; u < mask->nunits; u++) mask->pass->rounded[u] = (float)mask->pass->gradient[u];
    return mask->pass->rounded;
}

void soft_mask_update(struct soft_mask *mask, float rate, float momentum) {
    const float *gradient = soft_mask_gradient(mask);
    for (int u = 0; u < mask->nunits; u++) {
        mask->velocity[u] = momentum * mask->velocity[u] + gradient[u];
        mask->importance[u] -= rate * mask->velocity[u];
    }
    memset(mask->pass->gradient, 0, (size_t)mask->nunits * sizeof *mask->pass->gradient);
}

/* ---- the order ------------------------------------------------------------- */

static int narrowest(const struct soft_mask *mask, const struct tier *tier) {
    int most = 0;
    for (int g = 0; g < tier->ngroups; g++) {
        int kept = kept_of(mask, mask->model->levels->nlevels - 1, tier->groups[g], tier);
        if (kept > most) most = kept;
    }
    return most;
}

static void permute(float *values, const int *from, int base, int n, float *scratch) {
    memcpy(scratch, values, (size_t)n * sizeof *values);
    for (int u = 0; u < n; u++) values[u] = scratch[from[u] - base];
}

enum status soft_mask_order(struct soft_mask *mask, struct order **out, int *entered, struct err *err) {
    const struct groups *groups = mask->model->groups;
    struct order *order;
    enum status status = order_by_importance(&order, mask->model, mask->importance, mask->first, err);
    if (status) return status;
    *entered = 0;
    for (int t = 0; t < groups->ntiers; t++) {
        const struct tier *tier = &groups->tiers[t];
        if (mask->first[t] < 0) continue;
        const int *from = order->from + order->first[tier->groups[0]] + tier->first;
        int n = tier->last - tier->first, kept = narrowest(mask, tier);
        for (int u = 0; u < kept; u++) *entered += from[u] - tier->first >= kept;
        permute(mask->importance + mask->first[t], from, tier->first, n, mask->pass->rounded);
        permute(mask->velocity + mask->first[t], from, tier->first, n, mask->pass->rounded);
    }
    *out = order;
    return STATUS_OK;
}
