#include "common/blocks.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Whether a single tensor crosses from layers [..i] to (i..]; `source` tells
 * which. last_use[t + 1]: the last layer that reads tensor t. */
static bool single_crossing(const int *last_use, int i, int *source) {
    int crossing = 0;
    for (int t = -1; t <= i && crossing < 2; t++)
        if (last_use[t + 1] > i) {
            crossing++;
            *source = t;
        }
    return crossing == 1;
}

/* Fills block[] and of_layer[]; returns the number of blocks. */
static int find_blocks(struct blocks *blocks, const struct net *net, const int *last_use) {
    int n = 0, source = -1;
    bool weights = false; /* in the present block */
    blocks->block[0] = (struct block){.first = 0, .source = -1};
    for (int i = 0; i < net->nlayers; i++) {
        weights |= net_has_weights(&net->layers[i]);
        blocks->of_layer[i] = n;
        blocks->block[n].last = i;
        bool cut = i + 1 < net->nlayers && weights && net_has_weights(&net->layers[i + 1]) &&
                   single_crossing(last_use, i, &source);
        if (!cut) continue;
        blocks->block[++n] = (struct block){.first = i + 1, .source = source};
        weights = false;
    }
    return n + 1;
}

/* The layer that made what `layer` hands on channel by channel. */
static int maker(const struct net *net, int layer) {
    while (layer >= 0 && net->layers[layer].ninputs == 1 && !net_has_weights(&net->layers[layer]))
        layer = net->layers[layer].inputs[0];
    return layer;
}

static void find_chains(struct blocks *blocks, const struct net *net) {
    blocks->chain[0] = -1;
    for (int b = 1; b <= blocks->nblocks; b++) {
        int entered = maker(net, blocks->block[b - 1].source);
        int left = maker(net, b < blocks->nblocks ? blocks->block[b].source : net->nlayers - 1);
        bool joined = left == entered;
        for (int k = 0; left >= 0 && !net_has_weights(&net->layers[left]) && k < net->layers[left].ninputs; k++)
            joined |= maker(net, net->layers[left].inputs[k]) == entered;
        blocks->chain[b] = joined ? blocks->chain[b - 1] : b - 1;
    }
}

enum status blocks_cut_after(const struct blocks *blocks, int layer, int *block, struct err *err) {
    int before = -1, after = -1; /* nearest cuts */
    for (int b = 1; b < blocks->nblocks; b++) {
        int cut = blocks->block[b].first - 1;
        if (cut == layer) {
            *block = b;
            return STATUS_OK;
        }
        if (cut < layer) before = cut;
        if (cut > layer && after < 0) after = cut;
    }
    err_set(err, STATUS_USAGE, "there is no cut point behind layer %d", layer);
    if (before >= 0 && after >= 0) err_hint(err, "the nearest are behind layers %d and %d", before, after);
    else if (before >= 0 || after >= 0) err_hint(err, "the nearest is behind layer %d", before >= 0 ? before : after);
    else err_hint(err, "this network cannot be cut");
    return STATUS_USAGE;
}

enum status blocks_parse_cuts(const struct blocks *blocks, const char *text, int *slice_first, int *nslices,
                              struct err *err) {
    if (!text) {
        memcpy(slice_first, blocks->slice_first, (size_t)blocks->nslices * sizeof *slice_first);
        *nslices = blocks->nslices;
        return STATUS_OK;
    }
    int n = 0;
    slice_first[n++] = 0;
    for (const char *p = text; n == 1 || *p; n++) {
        char *end;
        long layer = strtol(p, &end, 10);
        int block = 0;
        if (end == p || (*end && *end != ',') || layer < 0 || layer > INT_MAX) break;
        enum status status = blocks_cut_after(blocks, (int)layer, &block, err);
        if (status) return status;
        if (block <= slice_first[n - 1]) break;
        slice_first[n] = block;
        p = end + (*end == ',');
        if (*end) continue;
        *nslices = n + 1;
        return STATUS_OK;
    }
    err_set(err, STATUS_USAGE, "'%.60s' is not a list of cuts", text);
    err_hint(err, "cuts are layers in rising order with commas between them, such as 8,15");
    return STATUS_USAGE;
}

static bool is_layer(const struct cfg_section *section) {
    static const char *const others[] = {"net", "network", "prune", "slice"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(section->name, others[i]) == 0) return false;
    return true;
}

static enum status read_slices(struct blocks *blocks, const struct cfg *cfg, struct err *err) {
    blocks->slice_first[blocks->nslices++] = 0;
    for (int i = 0, layer = 0; i < cfg->nsections; i++) {
        layer += is_layer(&cfg->sections[i]);
        if (strcmp(cfg->sections[i].name, "slice") != 0 || layer == 0) continue;
        int block;
        struct err why;
        if (blocks_cut_after(blocks, layer - 1, &block, &why)) {
            cfg_error(cfg, cfg->sections[i].line, err, "%s", why.text);
            err_hint(err, "%s", why.hint);
            return STATUS_FORMAT;
        }
        if (block > blocks->slice_first[blocks->nslices - 1]) blocks->slice_first[blocks->nslices++] = block;
    }
    return STATUS_OK;
}

enum status blocks_create(struct blocks **out, const struct net *net, const struct cfg *cfg, struct err *err) {
    enum status status;
    size_t n = (size_t)net->nlayers;
    int *last_use = calloc(n + 1, sizeof *last_use);
    struct blocks *blocks = calloc(1, sizeof *blocks);
    if (blocks) {
        blocks->block = calloc(n, sizeof *blocks->block);
        blocks->of_layer = calloc(n, sizeof *blocks->of_layer);
        blocks->chain = calloc(n + 1, sizeof *blocks->chain);
        blocks->slice_first = calloc(n, sizeof *blocks->slice_first);
    }
    if (!last_use || !blocks || !blocks->block || !blocks->of_layer || !blocks->chain || !blocks->slice_first) {
        status = err_memory(err, "blocks");
        goto fail;
    }
    for (int i = 0; i < net->nlayers; i++)
        for (int k = 0; k < net->layers[i].ninputs; k++) last_use[net->layers[i].inputs[k] + 1] = i;
    blocks->nblocks = find_blocks(blocks, net, last_use);
    find_chains(blocks, net);
    status = read_slices(blocks, cfg, err);
    if (status) goto fail;
    free(last_use);
    *out = blocks;
    return STATUS_OK;
fail:
    free(last_use);
    blocks_destroy(&blocks);
    return status;
}

void blocks_destroy(struct blocks **blocks_pointer) {
    struct blocks *blocks = *blocks_pointer;
    if (!blocks) return;
    free(blocks->block);
    free(blocks->of_layer);
    free(blocks->chain);
    free(blocks->slice_first);
    free(blocks);
    *blocks_pointer = NULL;
}
