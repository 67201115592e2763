#include "deploy/slices.h"

#include "deploy/surgery.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- where to cut ---- */

/* As --cuts says, or with NULL as the [slice] sections wish. */
static enum status wished(struct slices *s, const char *cuts, bool *fits, struct err *err) {
    int n, *first = malloc((size_t)s->model->blocks->nblocks * sizeof *first);
    if (!first) return err_memory(err, "cuts");
    enum status status = blocks_parse_cuts(s->model->blocks, cuts, first, &n, err);
    *fits = !status && n == s->count;
    if (*fits) memcpy(s->first, first, (size_t)n * sizeof *first);
    if (!status && !*fits && cuts)
        status = err_set(err, STATUS_USAGE, "--cuts %.60s makes %d slices, there are %d workers", cuts, n, s->count);
    free(first);
    return status;
}

/* How many slices it takes if none may cost more than `limit`; fills `first`. */
static int pack(const double *cost, int nblocks, double limit, int *first) {
    int n = 0;
    double sum = 0;
    for (int b = 0; b < nblocks; b++) {
        if (b == 0 || sum + cost[b] > limit) {
            first[n++] = b;
            sum = 0;
        }
        sum += cost[b];
    }
    return n;
}

/* Bisects for the smallest largest cost that greedy packing gets by with. */
static enum status balance(struct slices *s, struct err *err) {
    const struct blocks *blocks = s->model->blocks;
    int n = blocks->nblocks;
    double *cost = calloc((size_t)n, sizeof *cost);
    int *first = calloc((size_t)n + 1, sizeof *first);
    if (!cost || !first) {
        free(cost);
        free(first);
        return err_memory(err, "cuts");
    }
    double total = 0, largest = 0;
    for (int b = 0; b < n; b++) {
        for (int i = blocks->block[b].first; i <= blocks->block[b].last; i++)
            cost[b] += net_multiply_adds(&s->model->net->layers[i]);
        cost[b] += 1; /* so that blocks without weights count, too */
        total += cost[b];
        if (cost[b] > largest) largest = cost[b];
    }
    double low = largest, high = total;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (pack(cost, n, middle, first) <= s->count) high = middle;
        else low = middle;
    }
    int got = pack(cost, n, high, first);
    assert(got <= s->count);
    /* Fewer may do: the surplus workers take single blocks from the last ones on. */
    for (int extra = s->count - got, b = n - 1; extra > 0; b--) {
        int k = got;
        while (k > 0 && first[k - 1] > b) k--;
        if (k > 0 && first[k - 1] == b) continue;
        memmove(first + k + 1, first + k, (size_t)(got - k) * sizeof *first);
        first[k] = b;
        got++;
        extra--;
    }
    memcpy(s->first, first, (size_t)s->count * sizeof *first);
    free(cost);
    free(first);
    return STATUS_OK;
}

static enum status place_cuts(struct slices *s, const char *cuts, struct err *err) {
    const struct blocks *blocks = s->model->blocks;
    if (s->count > blocks->nblocks) {
        err_set(err, STATUS_USAGE, "%d workers for a model that can be cut into %d slices at most", s->count,
                blocks->nblocks);
        err_hint(err, "take workers out of the cluster cfg");
        return STATUS_USAGE;
    }
    s->first[s->count] = blocks->nblocks;
    bool fits;
    enum status status = wished(s, cuts, &fits, err);
    return status || fits ? status : balance(s, err);
}

/* ---- the slices ---- */

static enum status serialize_variants(const struct slices *s, int index, uint8_t **bytes, size_t *size, struct err *err) {
    struct portfolio portfolio = s->portfolio->portfolio;
    struct model *slices[PORTFOLIO_MAX_VARIANTS] = { NULL };
    if (s->count == 1) return portfolio_serialize(&portfolio, s->portfolio->variants, bytes, size, err);
    enum status status = STATUS_OK;
    for (int i = 0; i < portfolio.nvariants && !status; i++)
        status = surgery_slice(s->portfolio->variants[i], s->first[index], s->first[index + 1] - 1, &slices[i], err);
    if (!status) status = portfolio_serialize(&portfolio, slices, bytes, size, err);
    for (int i = 0; i < portfolio.nvariants; i++) model_destroy(&slices[i]);
    return status;
}

static enum status serialize(const struct slices *s, int index, uint8_t **bytes, size_t *size, struct err *err) {
    if (s->portfolio) return serialize_variants(s, index, bytes, size, err);
    if (s->count == 1) return model_serialize(s->model, bytes, size, err);
    struct model *slice = NULL;
    enum status status = surgery_slice(s->model, s->first[index], s->first[index + 1] - 1, &slice, err);
    if (!status) status = model_serialize(slice, bytes, size, err);
    model_destroy(&slice);
    return status;
}

static enum status create(struct slices **out, const struct model *model, const struct portfolio_model *portfolio,
                          int count, const char *cuts, struct err *err) {
    assert(count > 0 && count <= WIRE_MAX_STAGES);
    struct slices *s = calloc(1, sizeof *s);
    if (!s) return err_memory(err, "slices");
    s->model = model;
    s->portfolio = portfolio;
    s->count = count;
    enum status status = place_cuts(s, cuts, err);
    for (int i = 0; i < count && !status; i++) {
        const uint8_t *bytes;
        status = slices_bytes(s, i, &bytes, err);
        if (!status) model_hash(bytes, s->size[i], s->hash[i]);
        slices_release(s, i);
    }
    if (status) slices_destroy(&s);
    else *out = s;
    return status;
}

enum status slices_create(struct slices **out, const struct model *model, int count, const char *cuts,
                          struct err *err) {
    return create(out, model, NULL, count, cuts, err);
}

enum status slices_create_portfolio(struct slices **out, const struct portfolio_model *portfolio, int count,
                                    const char *cuts, struct err *err) {
    return create(out, portfolio->model, portfolio, count, cuts, err);
}

void slices_destroy(struct slices **pointer) {
    struct slices *s = *pointer;
    if (!s) return;
    for (int i = 0; i < s->count; i++) slices_release(s, i);
    free(s);
    *pointer = NULL;
}

enum status slices_bytes(struct slices *s, int index, const uint8_t **bytes, struct err *err) {
    enum status status = STATUS_OK;
    if (!s->bytes[index]) status = serialize(s, index, &s->bytes[index], &s->size[index], err);
    if (!status) *bytes = s->bytes[index];
    return status;
}

void slices_release(struct slices *s, int index) {
    free(s->bytes[index]);
    s->bytes[index] = NULL;
}

void slices_text(const struct slices *s, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 1; i < s->count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%d", i > 1 ? "," : "",
                                 s->model->blocks->block[s->first[i] - 1].last);
}
