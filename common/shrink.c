#include "common/shrink.h"

#include "common/cfg_writer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- cfg ---- */

static void write_layer(const struct model *m, const int *held, struct cfg_writer *w, int layer, const int *new_index) {
    static const char *const counts[] = {"filters", "groups", "output", NULL};
    const struct net_layer *l = &m->net->layers[layer];
    bool weights = l->kind == NET_CONVOLUTIONAL || l->kind == NET_CONNECTED;
    cfg_writer_layer(w, net_section(m->cfg, layer), l, new_index, layer, weights ? counts : NULL);
    if (!weights) return;
    cfg_writer_option(w, l->kind == NET_CONNECTED ? "output" : "filters", "%d", held[layer + 1]);
    if (l->kind == NET_CONVOLUTIONAL && l->groups > 1)
        cfg_writer_option(w, "groups", "%d", (int)((int64_t)l->groups * held[layer + 1] / l->filters));
}

static void write_net(const struct model *m, const int *held, struct cfg_writer *w) {
    static const char *const channels[] = {"channels", NULL};
    cfg_writer_copy(w, &m->cfg->sections[0], m->ends.nincoming ? channels : NULL);
    if (m->ends.nincoming) cfg_writer_option(w, "channels", "%d", held[0]);
}

enum status shrink_cfg(const struct model *model, const int *held, enum shrink_levels levels, struct cfg **out,
                       struct err *err) {
    const struct cfg *cfg = model->cfg;
    const struct cfg_section *prune = cfg_find(cfg, "prune");
    struct cfg_writer w = {0};
    int nlayers = model->net->nlayers, *new_index = malloc(((size_t)nlayers + 1) * sizeof *new_index);
    if (!new_index) return err_memory(err, cfg->name);
    for (int i = -1; i < nlayers; i++) new_index[i + 1] = i;
    write_net(model, held, &w);
    if (levels == SHRINK_ONE_LEVEL) {
        cfg_writer_section(&w, "prune");
        cfg_writer_option(&w, "levels", "1");
    } else if (prune) {
        cfg_writer_copy(&w, prune, NULL);
    }
    for (int s = 0, layer = 0; s < cfg->nsections; s++) {
        const struct cfg_section *section = &cfg->sections[s];
        if (section == net_section(cfg, layer)) write_layer(model, held, &w, layer++, new_index);
        else if (strcmp(section->name, "slice") == 0) cfg_writer_copy(&w, section, NULL);
    }
    free(new_index);
    char name[200];
    snprintf(name, sizeof name, "%.150s, pruned", cfg->name);
    return cfg_writer_finish(&w, name, out, err);
}

/* ---- facts ---- */

static enum status copy_labels(const struct model *model, struct model *part, struct err *err) {
    if (!model->nlabels || part->ends.outgoing) return STATUS_OK;
    part->labels = calloc((size_t)model->nlabels, sizeof *part->labels);
    if (!part->labels) return err_memory(err, "labels");
    for (int i = 0; i < model->nlabels; i++, part->nlabels++)
        if (!(part->labels[i] = strdup(model->labels[i]))) return err_memory(err, "labels");
    return STATUS_OK;
}

enum status shrink_facts(const struct model *model, struct model *part, struct err *err) {
    part->bn_form = model->bn_form;
    part->bn_eps = model->bn_eps;
    part->preproc = model->preproc;
    part->darknet = model->darknet;
    if (model->training && !(part->training = strdup(model->training))) return err_memory(err, "model");
    return copy_labels(model, part, err);
}

/* ---- units ---- */

enum status shrink_units_create(struct shrink_units **out, const struct groups *groups, struct err *err) {
    size_t total = 0;
    for (int g = 0; g < groups->ngroups; g++) total += (size_t)groups->group[g].units;
    struct shrink_units *u = calloc(1, sizeof *u);
    if (!u) return err_memory(err, "units");
    u->groups = groups;
    u->first = calloc((size_t)groups->ngroups + 1, sizeof *u->first);
    u->kept = malloc((total + 1) * sizeof *u->kept);
    if (!u->first || !u->kept) {
        shrink_units_destroy(&u);
        return err_memory(err, "units");
    }
    for (int g = 0; g < groups->ngroups; g++) u->first[g + 1] = u->first[g] + groups->group[g].units;
    memset(u->kept, 1, total * sizeof *u->kept);
    *out = u;
    return STATUS_OK;
}

void shrink_units_destroy(struct shrink_units **units) {
    if (!*units) return;
    free((*units)->first);
    free((*units)->kept);
    free(*units);
    *units = NULL;
}

int shrink_units_count(const struct shrink_units *units, int group) {
    int n = 0;
    for (int u = 0; u < units->groups->group[group].units; u++) n += *shrink_unit(units, group, u);
    return n;
}

void shrink_units_set(const struct shrink_units *units, int group, int unit, bool kept) {
    const struct groups *groups = units->groups;
    for (int t = 0; t < groups->ntiers; t++) {
        const struct tier *tier = &groups->tiers[t];
        if (unit < tier->first || unit >= tier->last) continue;
        for (int i = 0; i < tier->ngroups; i++) {
            if (tier->groups[i] != group) continue;
            for (int k = 0; k < tier->ngroups; k++) *shrink_unit(units, tier->groups[k], unit) = kept;
            return;
        }
    }
}

bool shrink_units_take(const struct shrink_units *units, int group, int unit) {
    shrink_units_set(units, group, unit, false);
    for (int g = 0; g < units->groups->ngroups; g++)
        if (shrink_units_count(units, g) == 0) {
            shrink_units_set(units, group, unit, true);
            return false;
        }
    return true;
}

int shrink_places(const struct shrink_units *units, int layer, int *place) {
    int nsegments, n = 0;
    const struct segment *segments = groups_segments(units->groups, layer, &nsegments);
    for (int s = 0; s < nsegments; s++)
        for (int c = 0; c < segments[s].channels; c++)
            place[segments[s].first + c] = *shrink_unit(units, segments[s].group, c / segments[s].unit) ? n++ : -1;
    return n;
}

/* ---- the small model ---- */

/* Room for the places of any layer's inputs and outputs. */
struct places {
    int *in, *out;
};

static enum status places_create(struct places *p, const struct model *m, struct err *err) {
    size_t most = (size_t)m->net->input.c;
    for (int i = 0; i < m->net->nlayers; i++)
        if ((size_t)m->net->layers[i].out.c > most) most = (size_t)m->net->layers[i].out.c;
    *p = (struct places){malloc(most * sizeof(int)), malloc(most * sizeof(int))};
    if (p->in && p->out) return STATUS_OK;
    free(p->in);
    free(p->out);
    return err_memory(err, "units");
}

static void copy_vector(float *to, const float *from, int n, const int *place) {
    for (int c = 0; from && c < n; c++)
        if (place[c] >= 0) to[place[c]] = from[c];
}

/* A grouped convolution loses whole groups, so that its columns stay. */
static void copy_weight(const struct model *m, int layer, const struct places *p, float *to) {
    const struct net_layer *l = &m->net->layers[layer];
    const float *from = m->layers[layer].weight;
    size_t row = net_weight_count(l) / (size_t)l->filters;
    bool grouped = l->kind == NET_CONVOLUTIONAL && l->groups > 1;
    size_t each = l->kind == NET_CONNECTED ? (size_t)l->in.h * (size_t)l->in.w : (size_t)l->size * (size_t)l->size;
    for (int o = 0; o < l->filters; o++) {
        if (p->out[o] < 0) continue;
        if (grouped) memcpy(to, from + (size_t)o * row, row * sizeof *to), to += row;
        for (int c = 0; !grouped && c < l->in.c; c++) {
            if (p->in[c] < 0) continue;
            memcpy(to, from + (size_t)o * row + (size_t)c * each, each * sizeof *to);
            to += each;
        }
    }
}

static enum status copy_layers(const struct model *m, const struct shrink_units *units, struct model *small,
                               struct err *err) {
    struct places p;
    enum status status = places_create(&p, m, err);
    if (status) return status;
    for (int i = 0; i < m->net->nlayers; i++) {
        if (!net_has_weights(&m->net->layers[i])) continue;
        const struct model_layer *from = &m->layers[i];
        struct model_layer *to = &small->layers[i];
        int outputs = model_outputs(m, i);
        shrink_places(units, i, p.out);
        shrink_places(units, m->net->layers[i].inputs[0], p.in);
        if (from->weight) copy_weight(m, i, &p, to->weight);
        copy_vector(to->bias, from->bias, outputs, p.out);
        copy_vector(to->gamma, from->gamma, outputs, p.out);
        copy_vector(to->beta, from->beta, outputs, p.out);
        copy_vector(to->mean, from->mean, outputs, p.out);
        copy_vector(to->var, from->var, outputs, p.out);
    }
    free(p.in);
    free(p.out);
    return STATUS_OK;
}

static enum status units_cfg(const struct model *m, const struct shrink_units *units, enum shrink_levels levels,
                             struct cfg **cfg, struct err *err) {
    struct places p;
    int *held = malloc(((size_t)m->net->nlayers + 1) * sizeof *held);
    enum status status = held ? places_create(&p, m, err) : err_memory(err, "units");
    if (!status) {
        for (int i = -1; i < m->net->nlayers; i++) held[i + 1] = shrink_places(units, i, p.out);
        free(p.in);
        free(p.out);
        status = shrink_cfg(m, held, levels, cfg, err);
    }
    free(held);
    return status;
}

enum status shrink_model(const struct model *model, const struct shrink_units *units, enum shrink_levels levels,
                         struct model **out, struct err *err) {
    struct cfg *cfg;
    struct model *small = NULL;
    for (int g = 0; g < model->groups->ngroups; g++) assert(shrink_units_count(units, g) > 0);
    assert(!model->ends.nincoming && !model->ends.outgoing);
    enum status status = units_cfg(model, units, levels, &cfg, err);
    if (status) return status;
    if ((status = model_create(&small, cfg, 1, err))) {
        cfg_destroy(&cfg);
        return status;
    }
    status = copy_layers(model, units, small, err);
    if (!status) status = shrink_facts(model, small, err);
    if (status) model_destroy(&small);
    else *out = small;
    return status;
}
