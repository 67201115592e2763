#include "deploy/variants.h"

#include <malloc.h>
#include <stdlib.h>

static enum status open_variant(struct variants *v, int i, const struct variants_config *config, struct err *err) {
    const struct portfolio_variant *p = &v->portfolio.variants[i];
    struct engine_config engine = engine_defaults();
    engine.pool = config->pool;
    engine.kernels = config->kernels;
    engine.cache = config->cache;
    enum status status = model_load_part(&v->models[i], config->path, p->offset, p->bytes,
                                         config->cache ? MODEL_UNVERIFIED : 0, err);
    if (status) return status;
    status = engine_create(&v->engines[i], v->models[i], &engine, err);
    if (status) return status;
    engine_rest(v->engines[i]);
    return STATUS_OK;
}

/* With a cache the first pass packs, in memory, what is not there yet; a second one maps it. The memory that packing
 * took would stay the allocator's, weights and all, and goes back to the system. */
static enum status open_all(struct variants *v, const struct variants_config *config, struct err *err) {
    bool made = false;
    enum status status = portfolio_read(&v->portfolio, config->path, err);
    for (int i = 0; !status && i < v->portfolio.nvariants; i++) {
        status = open_variant(v, i, config, err);
        if (status || !config->cache || engine_mapped(v->engines[i])) continue;
        engine_destroy(&v->engines[i]);
        model_destroy(&v->models[i]);
        status = open_variant(v, i, config, err);
        made = true;
    }
    if (made) malloc_trim(0);
    return status;
}

enum status variants_open(struct variants **out, const struct variants_config *config, struct err *err) {
    struct variants *v = calloc(1, sizeof *v);
    if (!v) return err_memory(err, "portfolio");
    v->to_rest = -1;
    enum status status = open_all(v, config, err);
    if (status) variants_close(&v);
    else *out = v;
    return status;
}

void variants_close(struct variants **variants) {
    struct variants *v = *variants;
    if (!v) return;
    for (int i = 0; i < PORTFOLIO_MAX_VARIANTS; i++) {
        engine_destroy(&v->engines[i]);
        model_destroy(&v->models[i]);
    }
    free(v);
    *variants = NULL;
}

void variants_use(struct variants *v, int index) {
    if (index == v->at_work) return;
    variants_settle(v); /* if nobody had the time */
    v->to_rest = v->at_work;
    v->at_work = index;
}

struct engine *variants_engine(const struct variants *v) { return v->engines[v->at_work]; }

void variants_settle(struct variants *v) {
    if (v->to_rest >= 0 && v->to_rest != v->at_work) engine_rest(v->engines[v->to_rest]);
    v->to_rest = -1;
}
