/* What a pass works on: the shapes that a plan leaves, and the buffers that
 * gradients live in.
 *
 * A gradient lives from the backward pass of its last reader to that of its own
 * layer, so few buffers serve all; they are laid out once, for full width. */
#include "train/network_private.h"

#include "common/bn.h"
#include "common/random.h"

#include <stdlib.h>
#include <string.h>

/* ---- shapes ---- */

/* Appends a range; joins it to the one before if both are adjacent. */
static void append(struct layer_range *ranges, int *n, struct layer_range r) {
    struct layer_range *last = *n ? &ranges[*n - 1] : NULL;
    if (r.count == 0) return;
    if (last && last->first + last->count == r.first && last->offset + last->count == r.offset) last->count += r.count;
    else ranges[(*n)++] = r;
}

static void set_output(struct network *network, int index) {
    struct node *node = &network->nodes[index];
    int nsegments;
    const struct segment *segments = groups_segments(network->model->groups, index - 1, &nsegments);
    const int *kept = &network->counts->out[network->model->groups->first_segment[index]];
    node->out.c = node->out.nranges = 0;
    for (int s = 0; s < nsegments; s++) {
        append(node->out_ranges, &node->out.nranges, (struct layer_range){ segments[s].first, kept[s], node->out.c });
        node->out.c += kept[s];
    }
}

static void set_input(struct network *network, const struct plan *plan, int index, int k) {
    struct node *node = &network->nodes[index];
    const struct model *m = network->model;
    int source = node->inputs[k], nsegments, offset = 0, compact = 0;
    const struct segment *segments = groups_segments(m->groups, source - 1, &nsegments);
    const int *kept = &network->counts->out[m->groups->first_segment[source]];
    struct layer_tensor *in = &node->in[k];
    struct layer_range *ranges = node->in_ranges + node->in_first[k];
    in->nranges = 0;
    for (int s = 0; s < nsegments; s++) {
        int read = counts_read(network->counts, m->net, m->blocks, m->groups, network->levels, plan, index - 1, k, s);
        append(ranges, &in->nranges, (struct layer_range){ segments[s].first, read, node->kind->views ? offset : compact });
        offset += kept[s];
        compact += read;
    }
    in->c = node->kind->views ? network->nodes[source].out.c : compact;
}

bool network_narrows(const struct network *network, const struct node *node, int k) {
    return node->in[k].c != network->nodes[node->inputs[k]].out.c;
}

struct layer_pass network_pass(const struct network *network, int index) {
    const struct node *node = &network->nodes[index];
    struct random random = random_stream(network->seed, (uint64_t)index, 0);
    return (struct layer_pass){ network->mode, network->n, &node->norm, random_next(&random),
                                network->mode == NETWORK_TRAIN ? network->precision : OPS_F32, node->in, node->out };
}

/* A tensor behind batch norm stays lazy if its only reader can do with that. */
static bool stays_lazy(const struct network *network, int index) {
    const struct node *node = &network->nodes[index];
    const struct layer *layer = node->layer;
    if (network->mode == NETWORK_INFERENCE || !layer || !layer->norm || !layer->front || !layer->rectified) return false;
    if (node->nreaders != 1) return false;
    const struct node *reader = &network->nodes[node->reader];
    for (int k = 0; k < reader->ninputs; k++)
        if (reader->inputs[k] == index && network_narrows(network, reader, k)) return false;
    struct layer_pass pass = network_pass(network, node->reader);
    return reader->kind->reads_lazy && reader->kind->reads_lazy(reader->layer, &pass);
}

void network_set_plan(struct network *network, const struct plan *plan) {
    const struct model *m = network->model;
    counts_set(network->counts, m->net, m->blocks, m->groups, network->levels, plan);
    for (int i = 0; i < network->nnodes; i++) {
        struct node *node = &network->nodes[i];
        set_output(network, i);
        for (int k = 0; k < node->ninputs; k++) set_input(network, plan, i, k);
        if (i == 0) continue;
        node->norm = bn_planned(m, plan, m->blocks->of_layer[i - 1]);
    }
    for (int i = 0; i < network->nnodes; i++)
        network->nodes[i].out.lazy = stays_lazy(network, i) ? network->nodes[i].layer : NULL;
}

/* ---- gradient buffers ---- */

/* The smallest free slot that is large enough, else the largest, which grows,
 * else a new one. */
static int take(struct network *network, bool *busy, size_t size) {
    int best = -1;
    for (int s = 0; s < network->nslots; s++) {
        if (busy[s]) continue;
        size_t own = network->slots[s].size, other = best < 0 ? 0 : network->slots[best].size;
        bool fits = own >= size, better = best < 0 || (fits ? other < size || own < other : own > other && other < size);
        if (better) best = s;
    }
    if (best < 0) best = network->nslots++;
    if (network->slots[best].size < size) network->slots[best].size = size;
    busy[best] = true;
    return best;
}

static void lay_out(struct network *network, bool *busy) {
    int last = network->nnodes - 1;
    network->nodes[last].slot = take(network, busy, net_shape_size(network->model->net->layers[last - 1].out));
    for (int i = last; i > 0; i--) {
        struct node *node = &network->nodes[i];
        if (node->slot < 0) continue; /* nobody reads it */
        for (int k = 0; k < node->ninputs; k++) {
            int source = node->inputs[k];
            struct node *input = &network->nodes[source];
            if (source == 0 || input->slot >= 0) continue;
            struct net_shape shape = net_shape_of(network->model->net, source - 1);
            bool in_place = node->kind->in_place && k == 0 && input->nreaders == 1;
            input->slot = in_place ? node->slot : take(network, busy, net_shape_size(shape));
            node->in_place |= in_place;
        }
        if (!node->in_place) busy[node->slot] = false;
    }
}

enum status network_slots_create(struct network *network, struct err *err) {
    size_t n = (size_t)network->nnodes;
    bool *busy = calloc(n + 1, sizeof *busy);
    network->slots = calloc(n + 1, sizeof *network->slots);
    enum status status = busy && network->slots ? STATUS_OK : err_memory(err, "gradients");
    if (!status) lay_out(network, busy);
    for (int s = 0; s < network->nslots && !status; s++)
        status = ops_alloc(network->ops, (size_t)network->batch * network->slots[s].size, &network->slots[s].values,
                           "gradients of activations", err);
    free(busy);
    return status;
}
