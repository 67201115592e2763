/* Producers (the input, convolutional and connected layers) are nodes of a
 * union-find. Ties between equal channel counts, and between the two sides of
 * a grouped convolution, unite nodes into one group; ties between differing
 * counts leave the groups apart and become tiers. */
#include "common/groups.h"

#include <stdlib.h>
#include <string.h>

struct node {
    int parent;   /* union-find */
    int layer;    /* -1: the input */
    int channels;
    int units;    /* of the class, at its root */
    bool whole;   /* likewise */
    int group;    /* at the root, once numbered */
};

struct tie { /* of the first `units` units of two groups */
    int a, b, units;
};

struct piece { /* of a tensor */
    int node, channels;
};

struct finder {
    const struct net *net;
    struct node *nodes;
    int nnodes;
    struct piece **pieces; /* [nlayers + 1]: per tensor, index 0 the input */
    int *npieces;
    struct tie *partial; /* between nodes, units in channels until resolved */
    int npartial;
};

static int gcd(int a, int b) {
    while (b) {
        int r = a % b;
        a = b;
        b = r;
    }
    return a;
}

static int root_of(struct node *nodes, int i) {
    while (nodes[i].parent != i) i = nodes[i].parent = nodes[nodes[i].parent].parent;
    return i;
}

static void unite(struct finder *f, int a, int b) {
    a = root_of(f->nodes, a);
    b = root_of(f->nodes, b);
    if (a == b) return;
    if (a > b) {
        int t = a;
        a = b;
        b = t;
    }
    f->nodes[b].parent = a;
    f->nodes[a].units = gcd(f->nodes[a].units, f->nodes[b].units);
    f->nodes[a].whole |= f->nodes[b].whole;
}

static void keep_whole(struct finder *f, int layer, int from) {
    for (int i = from; i < f->npieces[layer + 1]; i++) f->nodes[root_of(f->nodes, f->pieces[layer + 1][i].node)].whole = true;
}

static enum status add_partial(struct finder *f, int a, int b, struct err *err) {
    struct tie *larger = realloc(f->partial, (size_t)(f->npartial + 1) * sizeof *larger);
    if (!larger) return err_memory(err, "prune groups");
    f->partial = larger;
    int ca = f->nodes[a].channels, cb = f->nodes[b].channels;
    f->partial[f->npartial++] = (struct tie){a, b, ca < cb ? ca : cb};
    return STATUS_OK;
}

static enum status tie_shortcut(struct finder *f, int own, int from, struct err *err) {
    const struct piece *a = f->pieces[own + 1], *b = f->pieces[from + 1];
    int na = f->npieces[own + 1], nb = f->npieces[from + 1];
    for (int i = 0; i < na && i < nb; i++) {
        if (a[i].channels == b[i].channels) {
            unite(f, a[i].node, b[i].node);
            continue;
        }
        bool shorter_ends = a[i].channels < b[i].channels ? i == na - 1 : i == nb - 1;
        if (shorter_ends) return add_partial(f, a[i].node, b[i].node, err);
        keep_whole(f, own, i);
        keep_whole(f, from, i);
        return STATUS_OK;
    }
    return STATUS_OK;
}

static enum status set_pieces(struct finder *f, int layer, const struct piece *pieces, int n, struct err *err) {
    struct piece *copy = malloc((size_t)n * sizeof *copy);
    if (!copy) return err_memory(err, "prune groups");
    memcpy(copy, pieces, (size_t)n * sizeof *copy);
    f->pieces[layer + 1] = copy;
    f->npieces[layer + 1] = n;
    return STATUS_OK;
}

static void new_node(struct finder *f, int layer, int channels, int units, bool whole, struct piece *piece) {
    int i = f->nnodes++;
    f->nodes[i] = (struct node){.parent = i, .layer = layer, .channels = channels, .units = units, .whole = whole, .group = -1};
    *piece = (struct piece){i, channels};
}

static enum status join_pieces(struct finder *f, int layer, struct err *err) {
    const struct net_layer *l = &f->net->layers[layer];
    int n = 0;
    for (int k = 0; k < l->ninputs; k++) n += f->npieces[l->inputs[k] + 1];
    struct piece *joined = malloc((size_t)n * sizeof *joined);
    if (!joined) return err_memory(err, "prune groups");
    n = 0;
    for (int k = 0; k < l->ninputs; k++) {
        int t = l->inputs[k] + 1;
        memcpy(joined + n, f->pieces[t], (size_t)f->npieces[t] * sizeof *joined);
        n += f->npieces[t];
    }
    f->pieces[layer + 1] = joined;
    f->npieces[layer + 1] = n;
    return STATUS_OK;
}

static enum status visit(struct finder *f, int layer, struct err *err) {
    const struct net_layer *l = &f->net->layers[layer];
    int input = l->inputs[0];
    struct piece piece;
    enum status status;
    switch (l->kind) {
    case NET_CONVOLUTIONAL:
    case NET_CONNECTED:
        new_node(f, layer, l->filters, l->groups > 1 ? l->groups : l->filters, false, &piece);
        if ((status = set_pieces(f, layer, &piece, 1, err))) return status;
        if (l->groups == 1) return STATUS_OK;
        if (f->npieces[input + 1] > 1) {
            keep_whole(f, input, 0);
            keep_whole(f, layer, 0);
            return STATUS_OK;
        }
        int root = root_of(f->nodes, f->pieces[input + 1][0].node);
        f->nodes[root].units = gcd(f->nodes[root].units, l->groups);
        unite(f, root, piece.node);
        return STATUS_OK;
    case NET_ROUTE: return join_pieces(f, layer, err);
    case NET_SHORTCUT:
        if ((status = tie_shortcut(f, input, l->inputs[1], err))) return status;
        break;
    default: break;
    }
    return set_pieces(f, layer, f->pieces[input + 1], f->npieces[input + 1], err);
}

/* ---- from nodes to groups, segments and tiers ---- */

static enum status number_groups(struct finder *f, struct groups *g, struct err *err) {
    for (int i = 0; i < f->nnodes; i++)
        if (root_of(f->nodes, i) == i) f->nodes[i].group = g->ngroups++;
    g->group = calloc((size_t)g->ngroups, sizeof *g->group);
    if (!g->group) return err_memory(err, "prune groups");
    for (int i = 0; i < f->nnodes; i++) {
        const struct node *root = &f->nodes[root_of(f->nodes, i)];
        struct group *group = &g->group[root->group];
        group->units = root->units;
        group->whole = root->whole;
        int *members = realloc(group->members, (size_t)(group->nmembers + 1) * sizeof *members);
        if (!members) return err_memory(err, "prune groups");
        group->members = members;
        members[group->nmembers++] = f->nodes[i].layer;
    }
    return STATUS_OK;
}

static enum status list_segments(struct finder *f, struct groups *g, struct err *err) {
    int tensors = f->net->nlayers + 1;
    g->first_segment = calloc((size_t)tensors + 1, sizeof *g->first_segment);
    if (!g->first_segment) return err_memory(err, "prune groups");
    for (int t = 0; t < tensors; t++) g->first_segment[t + 1] = g->first_segment[t] + f->npieces[t];
    g->nsegments = g->first_segment[tensors];
    g->segment = calloc((size_t)g->nsegments, sizeof *g->segment);
    if (!g->segment) return err_memory(err, "prune groups");
    for (int t = 0; t < tensors; t++)
        for (int i = 0, first = 0; i < f->npieces[t]; i++) {
            const struct piece *piece = &f->pieces[t][i];
            int group = f->nodes[root_of(f->nodes, piece->node)].group;
            g->segment[g->first_segment[t] + i] = (struct segment){
                .group = group, .unit = piece->channels / g->group[group].units, .first = first, .channels = piece->channels};
            first += piece->channels;
        }
    return STATUS_OK;
}

/* Ties between groups of differing counts. Where a unit has not the same
 * number of channels on both sides, units do not line up: keep both whole. */
static void resolve_partial(struct finder *f, struct groups *g, struct tie *ties, int *nties) {
    for (int i = 0; i < f->npartial; i++) {
        const struct tie *p = &f->partial[i];
        int a = f->nodes[root_of(f->nodes, p->a)].group, b = f->nodes[root_of(f->nodes, p->b)].group;
        int unit_a = f->nodes[p->a].channels / g->group[a].units, unit_b = f->nodes[p->b].channels / g->group[b].units;
        if (unit_a != unit_b || a == b) g->group[a].whole = g->group[b].whole = true;
        else ties[(*nties)++] = (struct tie){a, b, p->units / unit_a};
    }
}

static int root_in(int *parent, int i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

static enum status add_tier(struct groups *g, int *parent, int root, int first, int last, struct err *err) {
    struct tier *larger = realloc(g->tiers, (size_t)(g->ntiers + 1) * sizeof *larger);
    if (!larger) return err_memory(err, "prune groups");
    g->tiers = larger;
    struct tier *tier = &g->tiers[g->ntiers];
    *tier = (struct tier){.first = first, .last = last};
    tier->groups = malloc((size_t)g->ngroups * sizeof *tier->groups);
    if (!tier->groups) return err_memory(err, "prune groups");
    g->ntiers++;
    for (int i = 0; i < g->ngroups; i++)
        if (g->group[i].units >= last && root_in(parent, i) == root) {
            tier->groups[tier->ngroups++] = i;
            tier->fixed |= g->group[i].whole;
        }
    return STATUS_OK;
}

static int compare_ints(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* For each component of partly tied groups: its boundaries are the counts of
 * its groups; within [lo, hi) groups are tied by the ties that reach hi. */
static enum status make_tiers(struct groups *g, const struct tie *ties, int nties, struct err *err) {
    size_t n = (size_t)g->ngroups;
    int *component = malloc(n * sizeof *component), *parent = malloc(n * sizeof *parent), *bounds = malloc(n * sizeof *bounds);
    enum status status = STATUS_OK;
    if (!component || !parent || !bounds) {
        status = err_memory(err, "prune groups");
        goto done;
    }
    for (int i = 0; i < g->ngroups; i++) component[i] = i;
    for (int i = 0; i < nties; i++) component[root_in(component, ties[i].a)] = root_in(component, ties[i].b);
    for (int c = 0; c < g->ngroups; c++) {
        if (root_in(component, c) != c) continue;
        int nbounds = 0;
        for (int i = 0; i < g->ngroups; i++)
            if (root_in(component, i) == c) bounds[nbounds++] = g->group[i].units;
        qsort(bounds, (size_t)nbounds, sizeof *bounds, compare_ints);
        for (int b = 0, lo = 0; b < nbounds; lo = bounds[b++]) {
            int hi = bounds[b];
            if (hi == lo) continue;
            for (int i = 0; i < g->ngroups; i++) parent[i] = i;
            for (int i = 0; i < nties; i++)
                if (ties[i].units >= hi) parent[root_in(parent, ties[i].a)] = root_in(parent, ties[i].b);
            for (int i = 0; i < g->ngroups; i++) {
                if (root_in(component, i) != c || g->group[i].units < hi || root_in(parent, i) != i) continue;
                if ((status = add_tier(g, parent, i, lo, hi, err))) goto done;
            }
        }
    }
done:
    free(component);
    free(parent);
    free(bounds);
    return status;
}

static enum status make_input(struct finder *f, const struct groups_ends *ends, struct err *err) {
    int n = ends && ends->nincoming ? ends->nincoming : 1;
    struct piece *pieces = malloc((size_t)n * sizeof *pieces);
    if (!pieces) return err_memory(err, "prune groups");
    if (ends && ends->nincoming) {
        for (int i = 0; i < n; i++)
            new_node(f, -1, ends->incoming[i].channels, ends->incoming[i].channels / ends->incoming[i].unit, false, &pieces[i]);
    } else {
        new_node(f, -1, f->net->input.c, f->net->input.c, true, &pieces[0]);
    }
    f->pieces[0] = pieces;
    f->npieces[0] = n;
    return STATUS_OK;
}

static enum status check_ends(const struct net *net, const struct groups_ends *ends, struct err *err) {
    if (!ends || !ends->nincoming) return STATUS_OK;
    int sum = 0;
    for (int i = 0; i < ends->nincoming; i++) {
        const struct groups_incoming *in = &ends->incoming[i];
        if (in->channels < 1 || in->channels > net->input.c || in->unit < 1 || in->channels % in->unit)
            return err_set(err, STATUS_FORMAT, "incoming segment %d of %d channels in units of %d is not possible", i,
                           in->channels, in->unit);
        sum += in->channels;
        if (sum > net->input.c) break;
    }
    if (sum != net->input.c)
        return err_set(err, STATUS_FORMAT, "incoming segments have %d channels, the network's input has %d", sum, net->input.c);
    return STATUS_OK;
}

enum status groups_create(struct groups **out, const struct net *net, const struct groups_ends *ends, struct err *err) {
    enum status status = check_ends(net, ends, err);
    if (status) return status;
    size_t tensors = (size_t)net->nlayers + 1, nodes = (size_t)net->nlayers + 1 + (ends ? (size_t)ends->nincoming : 0);
    struct groups *groups = calloc(1, sizeof *groups);
    struct finder f = {.net = net,
                       .nodes = calloc(nodes, sizeof *f.nodes),
                       .pieces = calloc(tensors, sizeof *f.pieces),
                       .npieces = calloc(tensors, sizeof *f.npieces)};
    struct tie *ties = NULL;
    int nties = 0;
    if (!groups || !f.nodes || !f.pieces || !f.npieces) {
        status = err_memory(err, "prune groups");
        goto done;
    }
    if ((status = make_input(&f, ends, err))) goto done;
    for (int i = 0; i < net->nlayers; i++)
        if ((status = visit(&f, i, err))) goto done;
    if (!ends || !ends->outgoing) keep_whole(&f, net->nlayers - 1, 0);
    ties = malloc((size_t)(f.npartial + 1) * sizeof *ties);
    if (!ties) {
        status = err_memory(err, "prune groups");
        goto done;
    }
    if ((status = number_groups(&f, groups, err))) goto done;
    resolve_partial(&f, groups, ties, &nties);
    if ((status = list_segments(&f, groups, err)) || (status = make_tiers(groups, ties, nties, err))) goto done;
    *out = groups;
    groups = NULL;
done:
    for (size_t t = 0; f.pieces && t < tensors; t++) free(f.pieces[t]);
    free(f.pieces);
    free(f.npieces);
    free(f.nodes);
    free(f.partial);
    free(ties);
    groups_destroy(&groups);
    return status;
}

void groups_destroy(struct groups **groups_pointer) {
    struct groups *g = *groups_pointer;
    if (!g) return;
    for (int i = 0; g->group && i < g->ngroups; i++) free(g->group[i].members);
    for (int i = 0; i < g->ntiers; i++) free(g->tiers[i].groups);
    free(g->group);
    free(g->segment);
    free(g->first_segment);
    free(g->tiers);
    free(g);
    *groups_pointer = NULL;
}

const struct segment *groups_segments(const struct groups *g, int layer, int *count) {
    *count = g->first_segment[layer + 2] - g->first_segment[layer + 1];
    return &g->segment[g->first_segment[layer + 1]];
}
