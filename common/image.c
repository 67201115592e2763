/* Decoding: which decoder for which file, limits, and the way up. */
#include "common/image.h"

#include "common/file.h"
#include "common/image_codec.h"

#include <stdlib.h>

enum { MAX_FILE_BYTES = 256 << 20 };

void image_free(struct image *image) {
    free(image->data);
    *image = (struct image){0};
}

void image_u8_free(struct image_u8 *image) {
    free(image->data);
    *image = (struct image_u8){0};
}

enum status image_check_size(const char *name, int64_t w, int64_t h, struct err *err) {
    if (w < 1 || h < 1) return err_set(err, STATUS_FORMAT, "%s: an image without pixels", name);
    if (w <= IMAGE_MAX_PIXELS && h <= IMAGE_MAX_PIXELS / w) return STATUS_OK;
    return err_set(err, STATUS_LIMIT, "%s: %lld x %lld pixels are more than the limit of %d million", name,
                   (long long)w, (long long)h, IMAGE_MAX_PIXELS / 1000000);
}

enum status image_create(struct image *image, int c, int h, int w, struct err *err) {
    enum status status = image_check_size("image", w, h, err);
    if (status != STATUS_OK) return status;
    if (c < 1 || c > 4) return err_set(err, STATUS_USAGE, "image: %d channels; 1 to 4 are possible", c);
    float *data = calloc((size_t)c * (size_t)h * (size_t)w, sizeof *data);
    if (!data) return err_memory(err, "image");
    *image = (struct image){.c = c, .h = h, .w = w, .data = data};
    return STATUS_OK;
}

/* Turns the stored picture upright. EXIF's orientation n says where the stored
 * row 0 and column 0 belong: 1 top left, 2 top right, 3 bottom right, 4 bottom
 * left; 5 to 8 the same with rows and columns exchanged. */
static enum status turn_upright(struct image_u8 *image, int orientation, const char *name, struct err *err) {
    if (orientation == 1) return STATUS_OK;
    bool exchanged = orientation >= 5;
    bool mirror_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    bool mirror_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    size_t c = (size_t)image->c, stored_w = (size_t)image->w;
    int w = exchanged ? image->h : image->w, h = exchanged ? image->w : image->h;
    uint8_t *data = malloc((size_t)w * (size_t)h * c), *to = data;
    if (!data) return err_memory(err, name);
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++, to += c) {
            size_t u = (size_t)(mirror_x ? w - 1 - x : x), v = (size_t)(mirror_y ? h - 1 - y : y);
            const uint8_t *from = image->data + (exchanged ? u * stored_w + v : v * stored_w + u) * c;
            for (size_t k = 0; k < c; k++) to[k] = from[k];
        }
    }
    free(image->data);
    *image = (struct image_u8){.c = image->c, .h = h, .w = w, .data = data};
    return STATUS_OK;
}

enum status image_decode_u8(struct image_u8 *out, const char *name, const uint8_t *bytes, size_t length, int channels,
                            enum image_decode how, int want_side, struct err *err) {
    struct image_u8 image = {0};
    enum status status;
    if (channels != 1 && channels != 3)
        return err_set(err, STATUS_USAGE, "%s: an image is decoded to 1 or 3 channels, not %d", name, channels);
    if (length == 0) return err_set(err, STATUS_FORMAT, "%s: the file is empty", name);
    if (image_is_jpeg(bytes, length)) {
        struct jpeg_markers markers = image_jpeg_markers(bytes, length);
        bool by_stb = how == IMAGE_EXACT;
        if (markers.w > 0 && (status = image_check_size(name, markers.w, markers.h, err)) != STATUS_OK) return status;
        if (markers.damage) return err_set(err, STATUS_FORMAT, "%s: damaged JPEG (%s)", name, markers.damage);
        if (!by_stb) status = image_jpeg_decode(&image, name, bytes, length, channels, want_side, &by_stb, err);
        if (by_stb) status = image_stb_decode(&image, name, bytes, length, channels, err);
        if (status == STATUS_OK && how == IMAGE_FAST) status = turn_upright(&image, markers.orientation, name, err);
    } else {
        status = image_stb_decode(&image, name, bytes, length, channels, err);
    }
    if (status != STATUS_OK) {
        image_u8_free(&image);
        return status;
    }
    *out = image;
    return STATUS_OK;
}

enum status image_load_u8(struct image_u8 *image, const char *path, int channels, enum image_decode how, int want_side,
                          struct err *err) {
    uint8_t *bytes;
    size_t length;
    enum status status = file_read(path, MAX_FILE_BYTES, &bytes, &length, err);
    if (status != STATUS_OK) return status;
    status = image_decode_u8(image, path, bytes, length, channels, how, want_side, err);
    free(bytes);
    return status;
}

static enum status to_float(struct image *out, struct image_u8 *pixels, struct err *err) {
    struct image image;
    enum status status = image_create(&image, pixels->c, pixels->h, pixels->w, err);
    if (status == STATUS_OK) {
        size_t plane = (size_t)image.h * (size_t)image.w, c = (size_t)image.c;
        for (size_t k = 0; k < c; k++)
            for (size_t i = 0; i < plane; i++) image.data[k * plane + i] = (float)pixels->data[i * c + k] / 255.0f;
        *out = image;
    }
    image_u8_free(pixels);
    return status;
}

enum status image_decode(struct image *image, const char *name, const uint8_t *bytes, size_t length, int channels,
                         enum image_decode how, int want_side, struct err *err) {
    struct image_u8 pixels;
    enum status status = image_decode_u8(&pixels, name, bytes, length, channels, how, want_side, err);
    return status == STATUS_OK ? to_float(image, &pixels, err) : status;
}

enum status image_load(struct image *image, const char *path, int channels, enum image_decode how, int want_side,
                       struct err *err) {
    struct image_u8 pixels;
    enum status status = image_load_u8(&pixels, path, channels, how, want_side, err);
    return status == STATUS_OK ? to_float(image, &pixels, err) : status;
}
