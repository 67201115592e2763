/* Packed weights on disk (--cache): what an engine packs at its creation, kept
 * so that the next one need not.
 *
 * One file for each model, instruction set and range of blocks:
 * DIR/<key of the model>-<isa>-<first>-<last>.packed. It is used only if it was
 * written after the model's file, if its header says that it was made from that
 * model, for the same instruction set, by the same version of the code that
 * packs, and if every byte is what it was: otherwise it is as if there were
 * none, and the next save replaces it. */
#ifndef ESPALIER_PACKED_H
#define ESPALIER_PACKED_H

#include "common/err.h"
#include "common/pool.h"

#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct packed_key {
    uint64_t model;  /* tells it from others: engine_weights.c */
    uint64_t length; /* of its file */
    struct timespec modified;
    const char *isa;
    int first_block, last_block;
};

struct packed; /* a mapped file, and how much of it has been handed out */

/* NULL if the folder has no such file, or one that cannot be trusted. */
struct packed *packed_open(const char *folder, const struct packed_key *key, struct pool *pool);
void packed_close(struct packed **packed);
/* Its pages leave the memory until they are read again. */
void packed_release(struct packed *packed);
/* The next block, 64-byte aligned, valid until packed_close and not to be
 * written; NULL if it does not have that many bytes. */
void *packed_next(struct packed *packed, size_t bytes);

struct packed_block {
    const void *data;
    size_t bytes;
};
/* Makes the folder if need be. Replaces the file whole or not at all. */
enum status packed_save(const char *folder, const struct packed_key *key, const struct packed_block *blocks, int nblocks,
                        struct pool *pool, struct err *err) MUST_CHECK;

#endif
