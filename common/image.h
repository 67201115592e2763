/* Images: decoding, Darknet's resize and letterbox, and the preprocessing that
 * a model records.
 *
 * Pixels are f32 [c, h, w], planar, RGB, 0 to 1; or, as decoders deliver
 * them, u8 [h, w, c]. Thread-safe throughout. */
#ifndef ESPALIER_IMAGE_H
#define ESPALIER_IMAGE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { IMAGE_MAX_PIXELS = 100 * 1000 * 1000 }; /* width x height, checked before decoding */

struct image {
    int c, h, w;
    float *data; /* [c, h, w], owned */
};

struct image_u8 {
    int c, h, w;
    uint8_t *data; /* [h, w, c], owned unless said otherwise */
};

enum image_decode {
    IMAGE_EXACT, /* stb_image, no EXIF: what Darknet sees */
    IMAGE_FAST,  /* libjpeg-turbo's reduced-size decoding for JPEGs, EXIF orientation honoured */
};
enum image_fit {
    IMAGE_LETTERBOX, /* Darknet's classifier predict: whole image, padded with .5 */
    IMAGE_CROP,      /* Darknet's classifier valid: the largest centred window of the input's proportions */
    IMAGE_STRETCH,
};

/* How an image becomes the network's input; recorded in the model file. */
struct image_preproc {
    int c, h, w;
    enum image_fit fit;
    enum image_decode decode;
    int resize; /* crop: the shorter side becomes this, then the centre is cut out, as torchvision does; 0: as above */
    float mean[4], std[4]; /* per channel: (x - mean) / std */
};

void image_free(struct image *image);
void image_u8_free(struct image_u8 *image);
enum status image_create(struct image *image, int c, int h, int w, struct err *err) MUST_CHECK;

/* Decodes `bytes`: JPEG, PNG, BMP, TGA, PNM; `name` is for
 * errors. `channels` 1 or 3. `want_side` (IMAGE_FAST): the shorter side that
 * will be needed; a JPEG may come back reduced, to four times that or, if it is
 * large, to a million pixels, but never below it. 0: full size.
 * Truncated or damaged data is STATUS_FORMAT, too many pixels STATUS_LIMIT. */
enum status image_decode_u8(struct image_u8 *image, const char *name, const uint8_t *bytes, size_t length,
                            int channels, enum image_decode how, int want_side, struct err *err) MUST_CHECK;
/* The same from a file. */
enum status image_load_u8(struct image_u8 *image, const char *path, int channels, enum image_decode how,
                          int want_side, struct err *err) MUST_CHECK;
enum status image_decode(struct image *image, const char *name, const uint8_t *bytes, size_t length, int channels,
                         enum image_decode how, int want_side, struct err *err) MUST_CHECK;
enum status image_load(struct image *image, const char *path, int channels, enum image_decode how, int want_side,
                       struct err *err) MUST_CHECK;

/* Pixels to a JPEG (quality 1 to 100), malloc'ed. */
enum status image_encode_jpeg(const struct image_u8 *image, int quality, uint8_t **bytes, size_t *length,
                              struct err *err) MUST_CHECK;

/* Darknet's bilinear resize. */
enum status image_resize(struct image *out, const struct image *in, int w, int h, struct err *err) MUST_CHECK;
/* Darknet's letterbox: fitted, centred, .5 around. */
enum status image_letterbox(struct image *out, const struct image *in, int w, int h, struct err *err) MUST_CHECK;
/* The [h, w] window at (x, y); outside of the image the nearest pixel, as Darknet. */
enum status image_crop(struct image *out, const struct image *in, int x, int y, int w, int h,
                       struct err *err) MUST_CHECK;

/* torchvision's Resize and CenterCrop: the shorter side becomes `resize` (at
 * least w and h), bilinear and antialiased; the centred window. `out`: [c, h, w]
 * f32, 0 to 1, caller's. */
enum status image_resize_crop(const struct image_u8 *image, int resize, int w, int h, float *out,
                              struct err *err) MUST_CHECK;

/* Whether size, fit, decoder and normalisation make sense. */
enum status image_preproc_check(const struct image_preproc *preproc, struct err *err) MUST_CHECK;
/* The shorter side an image must be decoded to so that fitting never enlarges
 * what was reduced (for image_decode). */
int image_want_side(const struct image_preproc *preproc);
/* Decoded pixels (preproc->c channels) to input: fit, normalise. `input`:
 * [c, h, w], caller's. Equal to resize, letterbox or crop of the f32 image,
 * without making one: room for two rows is all it takes. */
enum status image_fit(const struct image_preproc *preproc, const struct image_u8 *image, float *input,
                      struct err *err) MUST_CHECK;
/* Bytes to input: decode, fit, normalise. */
enum status image_preprocess(const struct image_preproc *preproc, const char *name, const uint8_t *bytes,
                             size_t length, float *input, struct err *err) MUST_CHECK;

/* Text form kept in model files: a JSON object. `preproc_parse` checks every field. */
char *image_preproc_json(const struct image_preproc *preproc);
enum status image_preproc_parse(struct image_preproc *preproc, const char *json, struct err *err) MUST_CHECK;

#endif
