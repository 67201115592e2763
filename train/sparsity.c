#include "train/sparsity.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

size_t sparsity_weights(const struct network_view *view) {
    size_t n = 0;
    for (int i = 0; i < view->nparams; i++)
        if (view->params[i].role == NETWORK_WEIGHT) n += view->params[i].size;
    return n;
}

size_t sparsity_left(const struct network_view *view) {
    size_t n = 0;
    for (int i = 0; i < view->nparams; i++)
        for (size_t k = 0; view->params[i].role == NETWORK_WEIGHT && k < view->params[i].size; k++)
            n += view->values[view->params[i].offset + k] != 0;
    return n;
}

/* Rises with the float: the sign turned round, and all bits of negative ones. */
static uint32_t rising(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Counts scores by 16 of their bits, among those whose bits above are `above`. */
static void count(const struct network_view *view, const float *scores, int shift, uint32_t above, size_t *counts) {
    memset(counts, 0, 65536 * sizeof *counts);
    for (int i = 0; i < view->nparams; i++) {
        const struct network_param *p = &view->params[i];
        if (p->role != NETWORK_WEIGHT) continue;
        for (size_t k = 0; k < p->size; k++) {
            uint32_t r = rising(scores[p->offset + k]);
            if (shift || r >> 16 == above) counts[r >> shift & 0xffff]++;
        }
    }
}

/* From the highest down: the bucket in which `*keep` is reached, and how many are left for it. */
static uint32_t descend(const size_t *counts, size_t *keep) {
    uint32_t bucket = 65535;
    while (bucket > 0 && counts[bucket] < *keep) *keep -= counts[bucket--];
    return bucket;
}

/* Two passes of a radix selection: 15 million scores in some 50 ms. */
void sparsity_keep(const struct network_view *view, const float *scores, size_t keep) {
    size_t counts[65536];
    size_t ties = keep;
    if (keep >= sparsity_weights(view)) return;
    count(view, scores, 16, 0, counts);
    uint32_t high = descend(counts, &ties);
    count(view, scores, 0, high, counts);
    uint32_t threshold = high << 16 | descend(counts, &ties);
    for (int i = 0; i < view->nparams; i++) {
        const struct network_param *p = &view->params[i];
        if (p->role != NETWORK_WEIGHT) continue;
        for (size_t k = 0; k < p->size; k++) {
            uint32_t r = rising(scores[p->offset + k]);
            if (r > threshold) continue;
            if (r == threshold && ties > 0) ties--;
            else view->values[p->offset + k] = 0;
        }
    }
}

enum status sparsity_mask_create(struct sparsity_mask **out, const struct network_view *view, struct err *err) {
    struct sparsity_mask *mask = malloc(sizeof *mask);
    unsigned char *kept = malloc(view->size ? view->size : 1);
    if (!mask || !kept) {
        free(mask);
        free(kept);
        return err_memory(err, "mask");
    }
    memset(kept, 1, view->size);
    *mask = (struct sparsity_mask){ view->size, 0, kept };
    for (int i = 0; i < view->nparams; i++) {
        const struct network_param *p = &view->params[i];
        for (size_t k = p->offset; p->role == NETWORK_WEIGHT && k < p->offset + p->size; k++)
            if (view->values[k] == 0) kept[k] = 0, mask->zeros++;
    }
    *out = mask;
    return STATUS_OK;
}

void sparsity_mask_destroy(struct sparsity_mask **mask) {
    if (!*mask) return;
    free((*mask)->kept);
    free(*mask);
    *mask = NULL;
}

void sparsity_mask_apply(const struct sparsity_mask *mask, float *values) {
    for (size_t i = 0; i < mask->n; i++) values[i] = mask->kept[i] ? values[i] : 0;
}
