#include "common/plan.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- levels ---- */

static int gcd(int a, int b) { return b ? gcd(b, a % b) : a; }

/* The fewest channels that a unit of the group has in any tensor. */
static int smallest_unit(const struct groups *groups, int group) {
    int unit = INT_MAX;
    for (int s = 0; s < groups->nsegments; s++)
        if (groups->segment[s].group == group && groups->segment[s].unit < unit) unit = groups->segment[s].unit;
    return unit;
}

static int step_of(int unit, int align) { return align / gcd(align, unit); }

/* Units kept at a ratio: rounded up so that channels are a multiple of align. */
static int units_kept(int units, int unit, float ratio, int align) {
    int step = step_of(unit, align);
    int kept = (int)ceil((double)ratio * units / step - 1e-6) * step;
    if (kept < step) kept = step;
    return kept < units ? kept : units;
}

static enum status read_ratios(const struct cfg *cfg, const struct cfg_section *prune, float *ratios, int *n, struct err *err) {
    static const float defaults[] = {1, .875f, .75f, .625f, .5f, .375f, .25f};
    float *list = NULL;
    enum status status = cfg_floats(cfg, prune, "levels", &list, n, err);
    if (status) return status;
    if (*n == 0) {
        *n = sizeof defaults / sizeof defaults[0];
        memcpy(ratios, defaults, sizeof defaults);
        return STATUS_OK;
    }
    int line = cfg_option(prune, "levels")->line;
    if (*n > PLAN_MAX_LEVELS)
        status = cfg_error(cfg, line, err, "%d levels; at most %d are possible", *n, PLAN_MAX_LEVELS);
    else if (list[0] != 1)
        status = cfg_error(cfg, line, err, "the first level must be 1: it keeps all channels");
    for (int i = 1; !status && i < *n; i++)
        if (!(list[i] > 0 && list[i] < list[i - 1])) status = cfg_error(cfg, line, err, "levels must fall from 1 towards 0");
    if (!status) memcpy(ratios, list, (size_t)*n * sizeof *list);
    free(list);
    return status;
}

/* Marks the groups of the layers named in `whole`. */
static enum status read_whole(const struct cfg *cfg, const struct cfg_section *prune, const struct net *net,
                              const struct groups *groups, bool *whole, struct err *err) {
    int *list = NULL, n = 0;
    enum status status = cfg_ints(cfg, prune, "whole", &list, &n, err);
    for (int i = 0; !status && i < n; i++) {
        if (list[i] < 0 || list[i] >= net->nlayers) {
            status = cfg_error(cfg, cfg_option(prune, "whole")->line, err, "'whole' names layer %d; there are layers 0 to %d",
                               list[i], net->nlayers - 1);
            break;
        }
        int count;
        const struct segment *segments = groups_segments(groups, list[i], &count);
        for (int s = 0; s < count; s++) whole[segments[s].group] = true;
    }
    free(list);
    return status;
}

static enum status read_align(const struct cfg *cfg, int *align, struct err *err) {
    *align = 8;
    return cfg_int(cfg, cfg_find(cfg, "prune"), "align", 1, 1024, align, err);
}

enum status levels_step(const struct cfg *cfg, const struct groups *groups, int group, int *units, struct err *err) {
    int align;
    enum status status = read_align(cfg, &align, err);
    if (!status) *units = step_of(smallest_unit(groups, group), align);
    return status;
}

static enum status levels_alloc(struct levels **out, int nlevels, int ngroups, struct err *err) {
    struct levels *levels = calloc(1, sizeof *levels);
    if (levels) {
        *levels = (struct levels){ nlevels, ngroups, calloc((size_t)nlevels, sizeof *levels->ratio),
                                   calloc((size_t)nlevels * (size_t)ngroups, sizeof *levels->keep) };
        if (levels->ratio && levels->keep) {
            *out = levels;
            return STATUS_OK;
        }
    }
    levels_destroy(&levels);
    return err_memory(err, "levels");
}

enum status levels_copy(struct levels **out, const struct levels *from, struct err *err) {
    enum status status = levels_alloc(out, from->nlevels, from->ngroups, err);
    if (status) return status;
    memcpy((*out)->ratio, from->ratio, (size_t)from->nlevels * sizeof *from->ratio);
    memcpy((*out)->keep, from->keep, (size_t)from->nlevels * (size_t)from->ngroups * sizeof *from->keep);
    return STATUS_OK;
}

enum status levels_create(struct levels **out, const struct cfg *cfg, const struct net *net, const struct groups *groups,
                          struct err *err) {
    const struct cfg_section *prune = cfg_find(cfg, "prune");
    float ratios[PLAN_MAX_LEVELS];
    int n = 0, align;
    enum status status;
    if ((status = read_ratios(cfg, prune, ratios, &n, err)) || (status = read_align(cfg, &align, err))) return status;
    struct levels *levels = NULL;
    bool *whole = calloc((size_t)groups->ngroups, sizeof *whole);
    status = whole ? levels_alloc(&levels, n, groups->ngroups, err) : err_memory(err, "levels");
    if (status) goto fail;
    if ((status = read_whole(cfg, prune, net, groups, whole, err))) goto fail;
    memcpy(levels->ratio, ratios, (size_t)n * sizeof *ratios);
    for (int g = 0; g < groups->ngroups; g++) {
        const struct group *group = &groups->group[g];
        int unit = smallest_unit(groups, g);
        for (int l = 0; l < n; l++)
            levels->keep[l * groups->ngroups + g] =
                group->whole || whole[g] ? group->units : units_kept(group->units, unit, ratios[l], align);
    }
    free(whole);
    *out = levels;
    return STATUS_OK;
fail:
    free(whole);
    levels_destroy(&levels);
    return status;
}

void levels_destroy(struct levels **levels) {
    if (!*levels) return;
    free((*levels)->ratio);
    free((*levels)->keep);
    free(*levels);
    *levels = NULL;
}

int levels_keep(const struct levels *levels, int level, int group) { return levels->keep[level * levels->ngroups + group]; }

/* ---- plans ---- */

static const char *const codec_names[CODEC_COUNT] = {"f32", "f32z", "f16", "f16z", "q8",  "q8z",
                                                       "q8t", "q8tz", "q4",  "q4z",  "q4t", "q4tz"};

const char *codec_name(enum codec codec) { return codec_names[codec]; }

enum status plan_create(struct plan **out, int nblocks, int level, struct err *err) {
    struct plan *plan = calloc(1, sizeof *plan);
    if (plan) {
        plan->nblocks = nblocks;
        plan->level = calloc((size_t)nblocks, sizeof *plan->level);
        plan->link = calloc((size_t)nblocks, sizeof *plan->link);
        plan->codec = calloc((size_t)nblocks, sizeof *plan->codec);
    }
    if (!plan || !plan->level || !plan->link || !plan->codec) {
        plan_destroy(&plan);
        return err_memory(err, "plan");
    }
    for (int b = 0; b < nblocks; b++) plan->level[b] = level;
    *out = plan;
    return STATUS_OK;
}

void plan_destroy(struct plan **plan) {
    if (!*plan) return;
    free((*plan)->level);
    free((*plan)->link);
    free((*plan)->codec);
    free(*plan);
    *plan = NULL;
}

static bool read_level(const char **text, int nlevels, int *level) {
    char *end;
    long v = strtol(*text, &end, 10);
    if (end == *text || v < 0 || v >= nlevels) return false;
    *text = end;
    *level = (int)v;
    return true;
}

static enum status bad_levels(const char *text, int nlevels, int nslices, struct err *err) {
    err_set(err, STATUS_USAGE, "'%.60s' is not a plan", text);
    err_hint(err, "a plan is one level for all, or one per slice with commas between them: %d slices, levels 0 to %d", nslices,
             nlevels - 1);
    return STATUS_USAGE;
}

static enum status parse_levels(struct plan *plan, int nlevels, int nslices, const int *slice_first, const char *text,
                                struct err *err) {
    const char *p = text;
    for (int s = 0; s < nslices; s++) {
        int level, last = s + 1 < nslices ? slice_first[s + 1] : plan->nblocks;
        if (!read_level(&p, nlevels, &level)) return bad_levels(text, nlevels, nslices, err);
        if (s == 0 && *p == '\0') last = plan->nblocks;
        for (int b = slice_first[s]; b < last; b++) plan->level[b] = level;
        if (*p == '\0' && (s == 0 || s + 1 == nslices)) return STATUS_OK;
        if (*p++ != ',') break;
    }
    return bad_levels(text, nlevels, nslices, err);
}

static bool read_codec(const char **text, enum codec *codec) {
    size_t n = strcspn(*text, ",");
    for (int c = 0; c < CODEC_COUNT; c++)
        if (strlen(codec_names[c]) == n && memcmp(codec_names[c], *text, n) == 0) {
            *codec = (enum codec)c;
            *text += n;
            return true;
        }
    return false;
}

static enum status parse_links(struct plan *plan, int nlevels, int nslices, const int *slice_first, const char *text,
                               struct err *err) {
    const char *p = text;
    for (int s = 1; s < nslices; s++) {
        int b = slice_first[s];
        bool good = read_level(&p, nlevels, &plan->link[b]);
        if (good && *p == ':') {
            p++;
            good = read_codec(&p, &plan->codec[b]);
        }
        if (!good || *p != (s + 1 < nslices ? ',' : '\0')) break;
        if (*p == '\0') return STATUS_OK;
        p++;
    }
    err_set(err, STATUS_USAGE, "'%.60s' does not describe the %d links", text, nslices - 1);
    err_hint(err, "one level:codec per cut, with commas between them, such as 1:q8z; codecs: f32 f16 q8 q8t q4 q4t, each with z for zlib");
    return STATUS_USAGE;
}

enum status plan_parse(struct plan **out, const struct blocks *blocks, const struct levels *levels, int nslices,
                       const int *slice_first, const char *levels_text, const char *link_text, struct err *err) {
    struct plan *plan = NULL;
    enum status status = plan_create(&plan, blocks->nblocks, 0, err);
    if (status) return status;
    status = parse_levels(plan, levels->nlevels, nslices, slice_first, levels_text, err);
    if (!status && link_text) status = parse_links(plan, levels->nlevels, nslices, slice_first, link_text, err);
    if (status) plan_destroy(&plan);
    else *out = plan;
    return status;
}

int plan_incoming(const struct plan *plan, int block) {
    int before = block > 0 ? plan->level[block - 1] : 0;
    return before > plan->link[block] ? before : plan->link[block];
}

void plan_before_cut(struct plan_before *before, int level) {
    for (int i = before->n - before->nchain; i < before->n; i++)
        if (before->share[i].arriving < level) before->share[i].arriving = (uint8_t)level;
}

static void add_share(struct plan_before *before, int level, bool joined) {
    if (before->n == PLAN_MAX_BEFORE) {
        memmove(before->share, before->share + 1, (size_t)--before->n * sizeof *before->share);
        if (before->nchain > before->n) before->nchain--;
    }
    if (!joined) before->nchain = 0;
    plan_before_cut(before, level);
    before->share[before->n++] = (struct plan_share){(uint8_t)level, (uint8_t)level};
    before->nchain++;
}

void plan_before(const struct plan *plan, const struct blocks *blocks, int block, struct plan_before *before) {
    *before = plan->before;
    plan_before_cut(before, plan->link[0]);
    for (int b = 0; b < block; b++) {
        /* Whether what entered block b is part of what leaves it. */
        add_share(before, plan->level[b], blocks->chain[b + 1] < b);
        if (b + 1 < plan->nblocks) plan_before_cut(before, plan->link[b + 1]);
    }
}

/* ---- counts ---- */

enum status counts_create(struct counts **out, const struct groups *groups, struct err *err) {
    struct counts *counts = calloc(1, sizeof *counts);
    if (counts) counts->out = calloc((size_t)groups->nsegments, sizeof *counts->out);
    if (!counts || !counts->out) {
        free(counts);
        return err_memory(err, "channel counts");
    }
    counts->nsegments = groups->nsegments;
    *out = counts;
    return STATUS_OK;
}

void counts_destroy(struct counts **counts) {
    if (!*counts) return;
    free((*counts)->out);
    free(*counts);
    *counts = NULL;
}

static int min(int a, int b) { return a < b ? a : b; }

int counts_read(const struct counts *counts, const struct net *net, const struct blocks *blocks, const struct groups *groups,
                const struct levels *levels, const struct plan *plan, int layer, int k, int s) {
    int source = net->layers[layer].inputs[k], block = blocks->of_layer[layer];
    int index = groups->first_segment[source + 1] + s;
    const struct segment *segment = &groups->segment[index];
    int kept = levels_keep(levels, plan->level[block], segment->group);
    if (source < blocks->block[block].first) kept = min(kept, levels_keep(levels, plan->link[block], segment->group));
    return min(counts->out[index], kept * segment->unit);
}

/* Units of a grouped convolution's input that arrive. */
static int units_read(const struct counts *counts, const struct net *net, const struct blocks *blocks,
                      const struct groups *groups, const struct levels *levels, const struct plan *plan, int layer) {
    int n;
    const struct segment *input = groups_segments(groups, net->layers[layer].inputs[0], &n);
    return counts_read(counts, net, blocks, groups, levels, plan, layer, 0, 0) / input[0].unit;
}

void counts_set(struct counts *counts, const struct net *net, const struct blocks *blocks, const struct groups *groups,
                const struct levels *levels, const struct plan *plan) {
    for (int s = groups->first_segment[0]; s < groups->first_segment[1]; s++)
        counts->out[s] = levels_keep(levels, plan->link[0], groups->segment[s].group) * groups->segment[s].unit;
    for (int i = 0; i < net->nlayers; i++) {
        const struct net_layer *l = &net->layers[i];
        int *out = &counts->out[groups->first_segment[i + 1]], n;
        const struct segment *segments = groups_segments(groups, i, &n);
        if (l->kind == NET_CONVOLUTIONAL || l->kind == NET_CONNECTED) {
            int units = levels_keep(levels, plan->level[blocks->of_layer[i]], segments[0].group), inputs;
            groups_segments(groups, l->inputs[0], &inputs);
            if (l->groups > 1 && inputs == 1)
                units = min(units, units_read(counts, net, blocks, groups, levels, plan, i));
            out[0] = units * segments[0].unit;
            continue;
        }
        int joined = l->kind == NET_ROUTE ? l->ninputs : 1; /* of a shortcut: its own branch */
        for (int k = 0; k < joined; k++) {
            groups_segments(groups, l->inputs[k], &n);
            for (int s = 0; s < n; s++) *out++ = counts_read(counts, net, blocks, groups, levels, plan, i, k, s);
        }
    }
}

int counts_total(const struct counts *counts, const struct groups *groups, int layer) {
    int total = 0;
    for (int s = groups->first_segment[layer + 1]; s < groups->first_segment[layer + 2]; s++) total += counts->out[s];
    return total;
}

double counts_multiply_adds(const struct counts *counts, const struct net *net, const struct blocks *blocks,
                            const struct groups *groups, const struct levels *levels, const struct plan *plan, int first,
                            int last) {
    double sum = 0;
    for (int i = first; i <= last; i++) {
        const struct net_layer *l = &net->layers[i];
        if (l->kind != NET_CONVOLUTIONAL && l->kind != NET_CONNECTED) continue;
        int n, read = 0;
        groups_segments(groups, l->inputs[0], &n);
        for (int s = 0; s < n; s++) read += counts_read(counts, net, blocks, groups, levels, plan, i, 0, s);
        if (l->groups > 1) read = l->in.c / l->groups;
        double taps = l->kind == NET_CONVOLUTIONAL ? (double)l->size * l->size * l->out.h * l->out.w : (double)l->in.h * l->in.w;
        sum += taps * read * counts_total(counts, groups, i);
    }
    return sum;
}
