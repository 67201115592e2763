#include "train/fetch.h"

#include "common/log.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct fetch {
    const struct dataset *dataset;
    int channels, want_side;
    enum image_decode decode;
    size_t cache_bytes;
    atomic_size_t cached;            /* bytes in the cache, or on their way there */
    struct image_u8 *_Atomic *cache; /* [n] */
    atomic_bool *damaged;            /* [n] */
    atomic_int ndamaged;
};

enum status fetch_create(struct fetch **out, const struct dataset *dataset, int channels, enum image_decode decode,
                         int want_side, size_t cache_bytes, struct err *err) {
    struct fetch *f = calloc(1, sizeof *f);
    if (!f) return err_memory(err, "loader");
    *f = (struct fetch){.dataset = dataset,
                        .channels = channels,
                        .want_side = want_side,
                        .decode = decode,
                        .cache_bytes = cache_bytes};
    f->cache = calloc((size_t)dataset->n, sizeof *f->cache);
    f->damaged = calloc((size_t)dataset->n, sizeof *f->damaged);
    if (!f->cache || !f->damaged) {
        fetch_destroy(&f);
        return err_memory(err, "loader");
    }
    *out = f;
    return STATUS_OK;
}

void fetch_destroy(struct fetch **pointer) {
    struct fetch *f = *pointer;
    if (!f) return;
    for (int i = 0; f->cache && i < f->dataset->n; i++) {
        struct image_u8 *image = atomic_load(&f->cache[i]);
        if (image) image_u8_free(image);
        free(image);
    }
    free(f->cache);
    free(f->damaged);
    free(f);
    *pointer = NULL;
}

void fetch_scratch_free(struct fetch_scratch *scratch) {
    image_u8_free(&scratch->image);
    augment_scratch_free(&scratch->augment);
}

/* Raw pixels with the number of channels asked for: grey repeated, or colours
 * weighted to grey as the decoders do. */
static enum status copy_raw(const struct fetch *f, const uint8_t *bytes, struct image_u8 *image, struct err *err) {
    const struct dataset *d = f->dataset;
    size_t pixels = (size_t)d->h * (size_t)d->w, c = (size_t)f->channels;
    uint8_t *data = malloc(pixels * c);
    if (!data) return err_memory(err, "image");
    for (size_t i = 0; i < pixels; i++) {
        if (d->c == 1) memset(data + i * c, bytes[i], c);
        else if (c == 3) memcpy(data + i * 3, bytes + i * 3, 3);
        else data[i] = (uint8_t)((77 * bytes[3 * i] + 150 * bytes[3 * i + 1] + 29 * bytes[3 * i + 2]) >> 8);
    }
    image_u8_free(image);
    *image = (struct image_u8){.c = f->channels, .h = d->h, .w = d->w, .data = data};
    return STATUS_OK;
}

/* Moves the scratch's image into the cache if there is room; *image follows it. */
static void keep(struct fetch *f, int sample, struct fetch_scratch *scratch, const struct image_u8 **image) {
    size_t size = (size_t)scratch->image.c * (size_t)scratch->image.h * (size_t)scratch->image.w +
                  sizeof scratch->image;
    if (atomic_fetch_add(&f->cached, size) + size <= f->cache_bytes) {
        struct image_u8 *kept = malloc(sizeof *kept), *expected = NULL;
        if (kept) {
            *kept = scratch->image;
            if (atomic_compare_exchange_strong(&f->cache[sample], &expected, kept)) {
                scratch->image = (struct image_u8){0};
                *image = kept;
                return;
            }
            free(kept); /* another thread was first */
        }
    }
    atomic_fetch_sub(&f->cached, size);
}

enum status fetch_image(struct fetch *f, int sample, struct fetch_scratch *scratch, const struct image_u8 **image,
                        struct err *err) {
    const struct dataset_sample *s = &f->dataset->samples[sample];
    const struct image_u8 *kept = atomic_load_explicit(&f->cache[sample], memory_order_acquire);
    if (kept) {
        *image = kept;
        return STATUS_OK;
    }
    if (atomic_load_explicit(&f->damaged[sample], memory_order_relaxed)) {
        *image = NULL;
        return STATUS_OK;
    }
    enum status status;
    if (s->bytes) {
        status = copy_raw(f, s->bytes, &scratch->image, err);
        if (status == STATUS_OK) *image = &scratch->image;
        return status;
    }
    struct image_u8 decoded;
    struct err why = {0};
    status = image_load_u8(&decoded, s->path, f->channels, f->decode, f->want_side, &why);
    if (status == STATUS_MEMORY) {
        if (err) *err = why;
        return status;
    }
    if (status != STATUS_OK) {
        if (!atomic_exchange(&f->damaged[sample], true)) {
            atomic_fetch_add(&f->ndamaged, 1);
            log_warn("%s; skipped", why.text);
        }
        *image = NULL;
        return STATUS_OK;
    }
    image_u8_free(&scratch->image);
    scratch->image = decoded;
    *image = &scratch->image;
    keep(f, sample, scratch, image);
    return STATUS_OK;
}

int fetch_damaged(const struct fetch *f) {
    return atomic_load(&f->ndamaged);
}
