/* The one place where stb_image is compiled. Its allocations are bounded by
 * what the header promised, because a small PNG may inflate to gigabytes. */
#include "common/image_codec.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>

static _Thread_local uint64_t largest_allocation;

static void *bounded_malloc(size_t size) {
    return size > largest_allocation ? NULL : malloc(size);
}

static void *bounded_realloc(void *pointer, size_t size) {
    return size > largest_allocation ? NULL : realloc(pointer, size);
}

#define STBI_MALLOC(size) bounded_malloc(size)
#define STBI_REALLOC(pointer, size) bounded_realloc(pointer, size)
#define STBI_FREE(pointer) free(pointer)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_NO_GIF
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_NO_PIC
#define STBI_NO_PSD
#define STBI_FAILURE_USERMSG
#pragma GCC diagnostic ignored "-Wunused-function" /* declared there, but left out by the choices above */
#include <stb/stb_image.h>

enum status image_stb_decode(struct image_u8 *image, const char *name, const uint8_t *bytes, size_t length,
                             int channels, struct err *err) {
    int w, h, c;
    if (length > INT_MAX)
        return err_set(err, STATUS_LIMIT, "%s: %zu bytes are more than an image file may have", name, length);
    largest_allocation = 1 << 20;
    if (!stbi_info_from_memory(bytes, (int)length, &w, &h, &c)) {
        enum status status = err_set(err, STATUS_FORMAT, "%s: not an image that can be read", name);
        err_hint(err, "JPEG, PNG, BMP, TGA and PNM files are images");
        return status;
    }
    if (h < 0 && h != INT_MIN) h = -h; /* a BMP from top to bottom */
    enum status status = image_check_size(name, w, h, err);
    if (status != STATUS_OK) return status;
    bool pnm = bytes[0] == 'P';
    /* stb_image 2.27 reads beyond its buffer while it converts these. */
    if (pnm && stbi_is_16_bit_from_memory(bytes, (int)length))
        return err_set(err, STATUS_FORMAT, "%s: a PNM file with 16 bits per value; only 8 are read", name);
    /* It does not notice that these end early, and leaves the rest undefined. */
    if (pnm && length < (uint64_t)w * (uint64_t)h * (uint64_t)c)
        return err_set(err, STATUS_FORMAT, "%s: damaged image (ends before its last row)", name);
    /* The largest that a decoder asks for at once: 16-bit RGBA, doubled while it grows, on whole JPEG blocks. */
    largest_allocation += 16 * ((uint64_t)w + 64) * ((uint64_t)h + 64);
    uint8_t *data = stbi_load_from_memory(bytes, (int)length, &w, &h, &c, channels);
    if (!data) return err_set(err, STATUS_FORMAT, "%s: damaged image (%s)", name, stbi_failure_reason());
    *image = (struct image_u8){.c = channels, .h = h, .w = w, .data = data};
    return STATUS_OK;
}
