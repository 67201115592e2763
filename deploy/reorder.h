/* Restores an order: things are expected in rising order of their numbers, are
 * done in any, and are handed out in the order in which they were expected. */
#ifndef ESPALIER_REORDER_H
#define ESPALIER_REORDER_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

struct reorder {
    struct reorder_slot {
        int64_t seq;
        void *item; /* NULL: not done */
    } *slot;        /* a ring */
    size_t first, count, room;
};
/* Items not handed out are the caller's to free: take them first. */
void reorder_free(struct reorder *reorder);
/* `seq` is larger than those before. */
enum status reorder_expect(struct reorder *reorder, int64_t seq, struct err *err) MUST_CHECK;
/* Ignored unless it is expected and not done. False then. */
int reorder_done(struct reorder *reorder, int64_t seq, void *item);
/* The next item in order, or NULL: it is not done yet. */
void *reorder_take(struct reorder *reorder);
/* Any item, in order or not; NULL: none is left. */
void *reorder_drain(struct reorder *reorder);

#endif
