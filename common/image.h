/* Images: decoding, Darknet's resize and letterbox, and the preprocessing that
 * a model records.
 *
 * Pixels are f32 [c, h, w], planar, RGB, 0 to 1. */
#ifndef ESPALIER_IMAGE_H
#define ESPALIER_IMAGE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { IMAGE_MAX_PIXELS = 100 * 1000 * 1000 }; /* width x height, checked before decoding */

struct image {
    int c, h, w;
    float *data; /* owned */
};

enum image_decode {
    IMAGE_EXACT, /* stb_image, no EXIF: what Darknet sees */
    IMAGE_FAST,  /* libjpeg-turbo's reduced-size decoding for JPEGs, EXIF orientation honoured */
};
enum image_fit {
    IMAGE_LETTERBOX, /* Darknet's classifier predict: whole image, padded with .5 */
    IMAGE_CROP,      /* Darknet's classifier valid: shorter side to size, centre crop */
    IMAGE_STRETCH,
};

/* How an image becomes the network's input; recorded in the model file. */
struct image_preproc {
    int c, h, w;
    enum image_fit fit;
    enum image_decode decode;
    float mean[4], std[4]; /* per channel: (x - mean) / std */
};

void image_free(struct image *image);
enum status image_create(struct image *image, int c, int h, int w, struct err *err) MUST_CHECK;
/* Decodes `bytes` (any format of stb_image); `name` is for errors. `channels`
 * 1 or 3. `want_side` (IMAGE_FAST): the shorter side that will be needed; a
 * JPEG may come back reduced, but not below it. 0: full size. */
enum status image_decode(struct image *image, const char *name, const uint8_t *bytes, size_t length, int channels,
                         enum image_decode how, int want_side, struct err *err) MUST_CHECK;
enum status image_load(struct image *image, const char *path, int channels, enum image_decode how, int want_side,
                       struct err *err) MUST_CHECK;
/* Darknet's bilinear resize. */
enum status image_resize(struct image *out, const struct image *in, int w, int h, struct err *err) MUST_CHECK;
/* Darknet's letterbox: fitted, centred, .5 around. */
enum status image_letterbox(struct image *out, const struct image *in, int w, int h, struct err *err) MUST_CHECK;
/* The [h, w] window at (x, y); outside of the image the nearest pixel, as Darknet. */
enum status image_crop(struct image *out, const struct image *in, int x, int y, int w, int h,
                       struct err *err) MUST_CHECK;
/* Bytes to input: decode, fit, normalise. `input`: [c, h, w], caller's. */
enum status image_preprocess(const struct image_preproc *preproc, const char *name, const uint8_t *bytes,
                             size_t length, float *input, struct err *err) MUST_CHECK;

/* Text form kept in model files: a JSON object. `preproc_parse` checks every field. */
char *image_preproc_json(const struct image_preproc *preproc);
enum status image_preproc_parse(struct image_preproc *preproc, const char *json, struct err *err) MUST_CHECK;

#endif
