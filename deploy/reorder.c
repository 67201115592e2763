#include "deploy/reorder.h"

#include <assert.h>
#include <stdlib.h>

static struct reorder_slot *at(const struct reorder *r, size_t i) {
    return &r->slot[(r->first + i) % r->room];
}

void reorder_free(struct reorder *r) {
    free(r->slot);
    *r = (struct reorder){ 0 };
}

enum status reorder_expect(struct reorder *r, int64_t seq, struct err *err) {
    assert(!r->count || at(r, r->count - 1)->seq < seq);
    if (r->count == r->room) {
        size_t room = r->room ? r->room * 2 : 64;
        struct reorder_slot *slot = malloc(room * sizeof *slot);
        if (!slot) return err_memory(err, "results");
        for (size_t i = 0; i < r->count; i++) slot[i] = *at(r, i);
        free(r->slot);
        r->slot = slot;
        r->first = 0;
        r->room = room;
    }
    r->count++;
    *at(r, r->count - 1) = (struct reorder_slot){ seq, NULL };
    return STATUS_OK;
}

int reorder_done(struct reorder *r, int64_t seq, void *item) {
    size_t low = 0, high = r->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (at(r, middle)->seq < seq) low = middle + 1;
        else high = middle;
    }
    if (low == r->count || at(r, low)->seq != seq || at(r, low)->item) return 0;
    at(r, low)->item = item;
    return 1;
}

void *reorder_take(struct reorder *r) {
    void *item = r->count ? at(r, 0)->item : NULL;
    if (!item) return NULL;
    r->first = (r->first + 1) % r->room;
    r->count--;
    return item;
}

void *reorder_drain(struct reorder *r) {
    while (r->count) {
        void *item = at(r, 0)->item;
        r->first = (r->first + 1) % r->room;
        r->count--;
        if (item) return item;
    }
    return NULL;
}
