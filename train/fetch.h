/* One sample's decoded pixels: from memory, the cache or a file; damaged
 * images remembered. Thread-safe, one scratch per thread. */
#ifndef ESPALIER_FETCH_H
#define ESPALIER_FETCH_H

#include "common/err.h"
#include "common/image.h"
#include "train/augment.h"
#include "train/dataset.h"

struct fetch;
/* `channels` 1 or 3; `want_side` as for image_decode. */
enum status fetch_create(struct fetch **fetch, const struct dataset *dataset, int channels, enum image_decode decode,
                         int want_side, size_t cache_bytes, struct err *err) MUST_CHECK;
void fetch_destroy(struct fetch **fetch);

struct fetch_scratch {
    struct image_u8 image; /* what is not in the cache */
    struct augment_scratch augment;
};
void fetch_scratch_free(struct fetch_scratch *scratch);

/* *image is valid until the next call with this scratch; NULL for a damaged
 * image, which is warned of the first time. Fails only for want of memory. */
enum status fetch_image(struct fetch *fetch, int sample, struct fetch_scratch *scratch, const struct image_u8 **image,
                        struct err *err) MUST_CHECK;
/* Damaged images met so far. */
int fetch_damaged(const struct fetch *fetch);

#endif
