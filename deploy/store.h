/* A worker's cache of slices on disk: HASH.safetensors, named by the SHA-256
 * of their content and checked against it before every use, so a damaged or
 * swapped file is fetched again, never run. Beside them lie their packed
 * weights (deploy/packed.h).
 *
 * Several workers may share a folder. What was used longest ago is removed
 * when all together exceed STORE_LIMIT. */
#ifndef ESPALIER_STORE_H
#define ESPALIER_STORE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_LIMIT ((int64_t)4 << 30) /* bytes */

struct store;

/* `folder`: NULL for $XDG_CACHE_HOME/espalier or ~/.cache/espalier. Made if
 * need be; what workers that are gone left half fetched is removed. */
enum status store_create(struct store **store, const char *folder, struct err *err) MUST_CHECK;
void store_destroy(struct store **store);

const char *store_folder(const struct store *store);
/* The path of a slice, whether or not it is there; `ending`: ".safetensors" for
 * the slice itself, another for what belongs to it. */
enum status store_path(const struct store *store, const char *hash, const char *ending, char *path, size_t size,
                       struct err *err) MUST_CHECK;
/* Whether the file at `path` has that content; reads all of it. */
bool store_check(const char *path, const char *hash);

/* Receiving a slice: bytes are taken in order only. One at a time. */
enum status store_begin(struct store *store, const char *hash, uint64_t size, struct err *err) MUST_CHECK;
/* STATUS_FORMAT if the bytes are not those at store_received(). */
enum status store_append(struct store *store, uint64_t offset, const uint8_t *bytes, size_t length,
                         struct err *err) MUST_CHECK;
uint64_t store_received(const struct store *store);
/* All bytes are there: checks the hash, and puts the file in its place. */
enum status store_commit(struct store *store, struct err *err) MUST_CHECK;
void store_abort(struct store *store);

#endif
