#include "deploy/engine_internal.h"

#include "common/log.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LINE = 64, HUGE = 2 << 20, SLAB = 16 * HUGE };

struct engine_config engine_defaults(void) {
    return (struct engine_config){.last_block = -1};
}

/* Memory that engine_destroy frees: from a huge page on, so that streaming through
 * it misses fewer translations, or from a cache line on. */
static void *take(struct engine *e, size_t bytes, size_t align) {
    void **list = realloc(e->allocations, ((size_t)e->nallocations + 1) * sizeof *list);
    if (!list) return NULL;
    e->allocations = list;
    void *block = aligned_alloc(align, (bytes + align - 1) / align * align);
    if (!block) return NULL;
    if (align == HUGE) madvise(block, bytes, MADV_HUGEPAGE); /* only a wish */
    list[e->nallocations++] = block;
    return block;
}

/* Small blocks lie behind each other in slabs, so that they are on huge pages, too.
 * What is not given out of a slab is never touched. */
static void *slice(struct engine *e, size_t bytes) {
    if (bytes > e->slab_left) {
        uint8_t *slab = take(e, SLAB, HUGE);
        if (!slab) return NULL;
        e->slab = slab;
        e->slab_left = SLAB;
    }
    e->slab += bytes;
    e->slab_left -= bytes;
    return e->slab - bytes;
}

void *engine_alloc(struct engine *e, size_t n, size_t size) {
    if (n > (SIZE_MAX - HUGE) / size) return NULL;
    const size_t bytes = n == 0 ? LINE : (n * size + LINE - 1) / LINE * LINE;
    if (bytes > e->max_bytes - e->bytes) {
        e->over_limit = true;
        return NULL;
    }
    void *block = e->slabs && bytes <= SLAB ? slice(e, bytes) : take(e, bytes, e->slabs ? HUGE : LINE);
    if (!block) return NULL;
    memset(block, 0, bytes);
    e->bytes += bytes;
    return block;
}

/* Whether there are so many weights that a slab's last page does not matter. */
static bool wants_slabs(const struct engine *e) {
    size_t bytes = 0;
    for (int i = e->first_layer; i <= e->last_layer; i++)
        bytes += net_weight_count(&e->model->net->layers[i]) * sizeof(float);
    return !e->low_memory && bytes >= 4 * HUGE;
}

void engine_parallel(const struct engine *e, int tasks, pool_task *task, void *context) {
    if (e->pool) pool_run(e->pool, tasks, task, context);
    else
        for (int i = 0; i < tasks; i++) task(context, i, 0);
}

static enum status check_blocks(const struct engine_config *config, int nblocks, int *first, int *last,
                                struct err *err) {
    *first = config->first_block;
    *last = config->last_block < 0 ? nblocks - 1 : config->last_block;
    if (*first >= 0 && *first <= *last && *last < nblocks) return STATUS_OK;
    return err_set(err, STATUS_USAGE, "blocks %d to %d do not exist: the model has blocks 0 to %d", *first, *last,
                   nblocks - 1);
}

/* Buffers for what is neither a tensor nor a weight. */
static enum status make_rest(struct engine *e, bool time_layers, struct err *err) {
    const struct net *net = e->model->net;
    const int logits = net_logits_layer(net);
    size_t values = 0;
    for (int i = 0; i < e->nops; i++)
        if (e->ops[i].kind == OP_SOFTMAX && net_shape_size(net->layers[e->ops[i].layer].in) > values)
            values = net_shape_size(net->layers[e->ops[i].layer].in);
    int inputs, outputs;
    groups_segments(e->model->groups, e->source, &inputs);
    groups_segments(e->model->groups, e->last_layer, &outputs);
    e->values = engine_alloc(e, values, sizeof *e->values);
    e->input_counts = engine_alloc(e, (size_t)inputs, sizeof *e->input_counts);
    e->output_counts = engine_alloc(e, (size_t)outputs, sizeof *e->output_counts);
    e->block_seconds = engine_alloc(e, (size_t)(e->last_block - e->first_block + 1), sizeof *e->block_seconds);
    bool room = e->values && e->input_counts && e->output_counts && e->block_seconds;
    if (room && time_layers) {
        e->layer_seconds = engine_alloc(e, (size_t)net->nlayers, sizeof *e->layer_seconds);
        room = e->layer_seconds;
    }
    if (room && !e->model->ends.outgoing && logits >= e->first_layer && logits <= e->last_layer) {
        e->logits = engine_alloc(e, net_shape_size(net->layers[logits].out), sizeof *e->logits);
        room = e->logits;
    }
    return room ? STATUS_OK : err_memory(err, "engine");
}

static size_t machine_bytes(void) {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages * (size_t)page : SIZE_MAX;
}

enum status engine_create(struct engine **out, const struct model *model, const struct engine_config *config,
                          struct err *err) {
    const struct blocks *blocks = model->blocks;
    int first, last;
    enum status status = check_blocks(config, blocks->nblocks, &first, &last, err);
    if (status) return status;
    struct engine *e = calloc(1, sizeof *e);
    if (!e) return err_memory(err, "engine");
    e->model = model;
    e->pool = config->pool;
    e->kernels = config->kernels ? config->kernels : kernels_best();
    e->keep = config->keep;
    e->clock = config->clock ? config->clock : log_now_s;
    e->low_memory = config->low_memory;
    e->max_bytes = config->max_bytes ? config->max_bytes : machine_bytes();
    e->first_block = first;
    e->last_block = last;
    e->first_layer = blocks->block[first].first;
    e->last_layer = blocks->block[last].last;
    e->source = blocks->block[first].source;
    e->slabs = wants_slabs(e);
    if ((status = plan_create(&e->plan, blocks->nblocks, 0, err)) ||
        (status = counts_create(&e->counts, model->groups, err)) || (status = engine_graph(e, err)) ||
        (status = engine_memory(e, err)) || (status = engine_weights_open(e, config->cache, err)) ||
        (status = engine_bind(e, err)) || (status = engine_winograd_memory(e, err)) ||
        (status = make_rest(e, config->time_layers, err))) {
        if (e->over_limit)
            status = err_set(err, STATUS_LIMIT, "%s: needs more memory than the limit of %.0f MB", model->cfg->name,
                             (double)e->max_bytes / 1e6);
        engine_destroy(&e);
        return status;
    }
    if (!config->cache_later) engine_keep(e);
    engine_set_plan(e, e->plan);
    *out = e;
    return STATUS_OK;
}

void engine_destroy(struct engine **engine) {
    struct engine *e = *engine;
    if (!e) return;
    for (int i = 0; i < e->nallocations; i++) free(e->allocations[i]);
    free(e->allocations);
    packed_close(&e->packed);
    counts_destroy(&e->counts);
    plan_destroy(&e->plan);
    free(e);
    *engine = NULL;
}

bool engine_mapped(const struct engine *e) { return e->packed != NULL; }

/* Whole pages leave the memory, and are zero when they come back. */
static void forget(void *block, size_t bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)block + page - 1) / page * page, last = ((uintptr_t)block + bytes) / page * page;
    if (block && last > first) madvise((void *)first, last - first, MADV_DONTNEED); /* only a wish */
}

void engine_rest(struct engine *e) {
    forget(e->maps, e->maps_bytes);
    forget(e->scratch, e->scratch_bytes);
    const struct safetensors *file = e->model->file;
    if (file) safetensors_release(file, file->bytes, file->length);
    if (e->packed) packed_release(e->packed);
}

static struct engine_tensor describe(const struct engine *e, int layer, const int *counts) {
    const struct net_shape shape = net_shape_of(e->model->net, layer);
    struct engine_tensor t = {.h = shape.h, .w = shape.w, .counts = counts};
    groups_segments(e->model->groups, layer, &t.nsegments);
    for (int s = 0; s < t.nsegments; s++) t.c += counts[s];
    return t;
}

struct engine_tensor engine_input(const struct engine *e) { return describe(e, e->source, e->input_counts); }
struct engine_tensor engine_output(const struct engine *e) { return describe(e, e->last_layer, e->output_counts); }

size_t engine_input_max(const struct engine *e) { return net_shape_size(net_shape_of(e->model->net, e->source)); }
size_t engine_output_max(const struct engine *e) { return net_shape_size(net_shape_of(e->model->net, e->last_layer)); }

const float *engine_logits(const struct engine *e) { return e->logits; }
const double *engine_block_seconds(const struct engine *e) { return e->block_seconds; }
const double *engine_layer_seconds(const struct engine *e) { return e->layer_seconds; }
size_t engine_bytes(const struct engine *e) { return e->bytes; }
