/* A fast 64-bit checksum of large blocks of memory: tells whether they are what
 * they were, at the speed of memory. Any change within 8 aligned bytes changes
 * it; other damage goes unseen once in 2^64 cases. Not for keys, and no
 * defence against somebody who wants to deceive it. */
#ifndef ESPALIER_CHECKSUM_H
#define ESPALIER_CHECKSUM_H

#include "common/pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The same on every machine and with any number of threads; `pool` may be NULL.
 * `release`: the bytes are a file's mapping, whose pages need not stay in memory. */
uint64_t checksum_of(const void *bytes, size_t length, struct pool *pool, bool release);

#endif
