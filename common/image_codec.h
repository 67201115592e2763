/* What image.c needs of the decoders; nobody else's business.
 *
 * All of them return 8-bit [h, w, c] pixels of 1 or 3 channels in memory that
 * free() takes, and leave `image` alone on failure. */
#ifndef ESPALIER_IMAGE_CODEC_H
#define ESPALIER_IMAGE_CODEC_H

#include "common/err.h"
#include "common/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* stb_image: any of its formats that is built in. */
enum status image_stb_decode(struct image_u8 *image, const char *name, const uint8_t *bytes, size_t length,
                             int channels, struct err *err) MUST_CHECK;

/* What the markers of a JPEG say. */
struct jpeg_markers {
    int w, h;        /* of the first frame header; 0 if there is none */
    int orientation; /* EXIF's, 1 to 8; 1 if there is none that is valid */
    const char *damage; /* NULL, or what is wrong: stb must not see such a file */
};
bool image_is_jpeg(const uint8_t *bytes, size_t length);
struct jpeg_markers image_jpeg_markers(const uint8_t *bytes, size_t length);
/* libjpeg-turbo. *unsupported is set (and the status is not OK) where only the
 * colour space is beyond it and stb should be asked. */
enum status image_jpeg_decode(struct image_u8 *image, const char *name, const uint8_t *bytes, size_t length,
                              int channels, int want_side, bool *unsupported, struct err *err) MUST_CHECK;

/* STATUS_LIMIT or STATUS_FORMAT unless 0 < w * h <= IMAGE_MAX_PIXELS. */
enum status image_check_size(const char *name, int64_t w, int64_t h, struct err *err) MUST_CHECK;

#endif
