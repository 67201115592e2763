/* Darknet's bilinear resize, letterbox and crop, and the one pass from decoded
 * bytes to a network's input.
 *
 * The arithmetic is Darknet's, term by term and in single precision, so that
 * converted models see the same input: scales are (in-1)/(out-1), rows are
 * first resized across and then blended down. Where rounding leaves the last
 * row's position a hair above the last source row, Darknet gives it only the
 * share of that hair, which is a dark line at the bottom; models trained here
 * (IMAGE_FAST) get the whole row. Only the source rows that are needed are
 * read, so a large photograph is never expanded to floats. */
#include "common/image_codec.h"

#include <stdlib.h>
#include <string.h>

/* To [0, max]; rounding of a scale must not lead out of an image. */
static int clamp(int64_t value, int max) {
    return value < 0 ? 0 : value > max ? max : (int)value;
}

/* A window of pixels of either kind. */
struct window {
    const struct image *f32;
    const struct image_u8 *u8; /* if f32 is NULL */
    int x, y, w, h;
};

/* Per column of the output: the pixel to its left, and the right one's share. */
struct column {
    int left;
    float right_share;
    bool last; /* takes the last pixel alone */
};

struct resizer {
    struct window from;
    int w, h, c;
    struct column *columns; /* [w] */
    float *rows[2];         /* [c][w]: source rows across, resized */
    int held[2];            /* which ones; -1: none */
    float byte_value[256];
};

static void resizer_fini(struct resizer *r) {
    free(r->columns);
    free(r->rows[0]);
    free(r->rows[1]);
}

static enum status resizer_init(struct resizer *r, struct window from, int w, int h, struct err *err) {
    *r = (struct resizer){.from = from, .w = w, .h = h, .c = from.f32 ? from.f32->c : from.u8->c, .held = {-1, -1}};
    size_t row = (size_t)r->c * (size_t)w;
    r->columns = calloc((size_t)w, sizeof *r->columns);
    r->rows[0] = malloc(row * sizeof *r->rows[0]);
    r->rows[1] = malloc(row * sizeof *r->rows[1]);
    if (!r->columns || !r->rows[0] || !r->rows[1]) {
        resizer_fini(r);
        return err_memory(err, "image resize");
    }
    float scale = w > 1 ? (float)(from.w - 1) / (float)(w - 1) : 0;
    for (int x = 0; x < w; x++) {
        float at = (float)x * scale;
        int left = clamp((int64_t)at, from.w - 2);
        r->columns[x] = x == w - 1 || from.w == 1 ? (struct column){.left = from.w - 1, .last = true}
                                                  : (struct column){.left = left, .right_share = at - (float)left};
    }
    for (int i = 0; i < 256; i++) r->byte_value[i] = (float)i / 255.0f;
    return STATUS_OK;
}

/* Source row `y`, resized across. */
static const float *resizer_row(struct resizer *r, int y) {
    int slot = y & 1;
    if (r->held[slot] == y) return r->rows[slot];
    r->held[slot] = y;
    const struct window *from = &r->from;
    for (int k = 0; k < r->c; k++) {
        float *out = r->rows[slot] + (size_t)k * (size_t)r->w;
        if (from->f32) {
            const struct image *image = from->f32;
            const float *in = image->data + ((size_t)k * (size_t)image->h + (size_t)(from->y + y)) * (size_t)image->w +
                              from->x;
            for (int x = 0; x < r->w; x++) {
                struct column col = r->columns[x];
                out[x] = col.last ? in[col.left]
                                  : (1 - col.right_share) * in[col.left] + col.right_share * in[col.left + 1];
            }
        } else {
            const struct image_u8 *image = from->u8;
            const uint8_t *in = image->data +
                                ((size_t)(from->y + y) * (size_t)image->w + (size_t)from->x) * (size_t)r->c + k;
            for (int x = 0; x < r->w; x++) {
                struct column col = r->columns[x];
                const uint8_t *p = in + (size_t)col.left * (size_t)r->c;
                out[x] = col.last
                             ? r->byte_value[p[0]]
                             : (1 - col.right_share) * r->byte_value[p[0]] + col.right_share * r->byte_value[p[r->c]];
            }
        }
    }
    return r->rows[slot];
}

/* Output (channel k, row y, column x) goes to out[k * plane + y * stride + x]. */
static enum status resize_into(float *out, size_t plane, size_t stride, struct window from, int w, int h,
                               bool dark_line, struct err *err) {
    struct resizer r;
    enum status status = resizer_init(&r, from, w, h, err);
    if (status != STATUS_OK) return status;
    float scale = h > 1 ? (float)(from.h - 1) / (float)(h - 1) : 0;
    for (int y = 0; y < h; y++) {
        float at = y == h - 1 && !dark_line ? (float)(from.h - 1) : (float)y * scale;
        bool alone = y == h - 1 || from.h == 1;
        int above = clamp((int64_t)at, alone ? from.h - 1 : from.h - 2);
        float below_share = at - (float)above;
        const float *a = resizer_row(&r, above), *b = alone ? NULL : resizer_row(&r, above + 1);
        for (int k = 0; k < r.c; k++) {
            float *to = out + (size_t)k * plane + (size_t)y * stride;
            size_t first = (size_t)k * (size_t)w;
            for (int x = 0; x < w; x++) {
                float value = (1 - below_share) * a[first + (size_t)x];
                to[x] = alone ? value : value + below_share * b[first + (size_t)x];
            }
        }
    }
    resizer_fini(&r);
    return STATUS_OK;
}

struct rect {
    int x, y, w, h;
};

/* Where Darknet's letterbox puts an image of iw x ih in w x h. A picture so
 * thin that nothing would be left of it keeps one row or column. */
static struct rect letterbox_rect(int iw, int ih, int w, int h) {
    struct rect r = {.w = w, .h = h};
    if ((float)w / (float)iw < (float)h / (float)ih) r.h = (int)((int64_t)ih * w / iw);
    else r.w = (int)((int64_t)iw * h / ih);
    if (r.w < 1) r.w = 1;
    if (r.h < 1) r.h = 1;
    r.x = (w - r.w) / 2;
    r.y = (h - r.h) / 2;
    return r;
}

/* The largest centred window of the proportions w:h. */
static struct rect crop_rect(int iw, int ih, int w, int h) {
    struct rect r = {.w = iw, .h = ih};
    if ((int64_t)iw * h > (int64_t)ih * w) r.w = (int)((int64_t)ih * w / h);
    else r.h = (int)((int64_t)iw * h / w);
    if (r.w < 1) r.w = 1;
    if (r.h < 1) r.h = 1;
    r.x = (iw - r.w) / 2;
    r.y = (ih - r.h) / 2;
    return r;
}

static struct window whole(const struct image *image) {
    return (struct window){.f32 = image, .w = image->w, .h = image->h};
}

enum status image_resize(struct image *out, const struct image *in, int w, int h, struct err *err) {
    struct image image;
    enum status status = image_create(&image, in->c, h, w, err);
    if (status != STATUS_OK) return status;
    status = resize_into(image.data, (size_t)w * (size_t)h, (size_t)w, whole(in), w, h, true, err);
    if (status != STATUS_OK) {
        image_free(&image);
        return status;
    }
    *out = image;
    return STATUS_OK;
}

static void fill(float *data, size_t n, float value) {
    for (size_t i = 0; i < n; i++) data[i] = value;
}

/* `out`: [c, h, w]. */
static enum status letterbox_into(float *out, struct window from, int c, int w, int h, bool dark_line,
                                  struct err *err) {
    struct rect r = letterbox_rect(from.w, from.h, w, h);
    size_t plane = (size_t)w * (size_t)h;
    if (r.w != w || r.h != h) fill(out, (size_t)c * plane, .5f);
    return resize_into(out + (size_t)r.y * (size_t)w + r.x, plane, (size_t)w, from, r.w, r.h, dark_line, err);
}

enum status image_letterbox(struct image *out, const struct image *in, int w, int h, struct err *err) {
    struct image image;
    enum status status = image_create(&image, in->c, h, w, err);
    if (status != STATUS_OK) return status;
    status = letterbox_into(image.data, whole(in), in->c, w, h, true, err);
    if (status != STATUS_OK) {
        image_free(&image);
        return status;
    }
    *out = image;
    return STATUS_OK;
}

enum status image_crop(struct image *out, const struct image *in, int x, int y, int w, int h, struct err *err) {
    struct image image;
    enum status status = image_create(&image, in->c, h, w, err);
    if (status != STATUS_OK) return status;
    float *to = image.data;
    for (int k = 0; k < in->c; k++) {
        for (int j = 0; j < h; j++) {
            size_t row = (size_t)k * (size_t)in->h + (size_t)clamp((int64_t)y + j, in->h - 1);
            const float *from = in->data + row * (size_t)in->w;
            for (int i = 0; i < w; i++) *to++ = from[clamp((int64_t)x + i, in->w - 1)];
        }
    }
    *out = image;
    return STATUS_OK;
}

enum status image_fit(const struct image_preproc *preproc, const struct image_u8 *image, float *input,
                      struct err *err) {
    int w = preproc->w, h = preproc->h;
    size_t plane = (size_t)w * (size_t)h;
    struct window from = {.u8 = image, .w = image->w, .h = image->h};
    bool dark_line = preproc->decode == IMAGE_EXACT;
    enum status status;
    if (image->c != preproc->c)
        return err_set(err, STATUS_USAGE, "an image of %d channels for a network that takes %d", image->c, preproc->c);
    if (preproc->fit == IMAGE_LETTERBOX) {
        status = letterbox_into(input, from, image->c, w, h, dark_line, err);
    } else if (preproc->fit == IMAGE_CROP && preproc->resize) {
        status = image_resize_crop(image, preproc->resize, w, h, input, err);
    } else {
        if (preproc->fit == IMAGE_CROP) {
            struct rect r = crop_rect(image->w, image->h, w, h);
            from.x = r.x;
            from.y = r.y;
            from.w = r.w;
            from.h = r.h;
        }
        status = resize_into(input, plane, (size_t)w, from, w, h, dark_line, err);
    }
    if (status != STATUS_OK) return status;
    for (int k = 0; k < preproc->c; k++) {
        float mean = preproc->mean[k], std = preproc->std[k], *p = input + (size_t)k * plane;
        if (mean == 0 && std == 1) continue;
        for (size_t i = 0; i < plane; i++) p[i] = (p[i] - mean) / std;
    }
    return STATUS_OK;
}
