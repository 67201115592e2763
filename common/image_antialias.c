/* PIL's and torchvision's resize: bilinear where every source pixel weighs in.
 *
 * An output pixel is the mean of the source pixels under a triangle as wide as
 * the scale (Pillow, Resample.c: BILINEAR). Source rows are read once, resized
 * across, and added to the two or three output rows that they belong to, so
 * that a large photograph is never expanded to floats. Pillow rounds to bytes
 * between its passes; here it is float throughout, as for torchvision's tensors. */
#include "common/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Output position i takes source pixels first[i] to first[i] + n[i] - 1. */
struct taps {
    int *first, *n;
    float *weight; /* [positions][room] */
    int room;
};

static void taps_fini(struct taps *t) {
    free(t->first);
    free(t->n);
    free(t->weight);
}

/* Positions offset to offset + count - 1 of `size` source pixels resized to `resized`. */
static enum status taps_init(struct taps *t, int size, int64_t resized, int64_t offset, int count, struct err *err) {
    const double scale = (double)size / (double)resized, support = fmax(scale, 1);
    *t = (struct taps){.room = 2 * (int)ceil(support) + 1};
    t->first = malloc((size_t)count * sizeof *t->first);
    t->n = malloc((size_t)count * sizeof *t->n);
    t->weight = calloc((size_t)count * (size_t)t->room, sizeof *t->weight);
    if (!t->first || !t->n || !t->weight) {
        taps_fini(t);
        return err_memory(err, "image resize");
    }
    for (int i = 0; i < count; i++) {
        const double centre = ((double)(offset + i) + .5) * scale;
        const int first = (int)fmax(centre - support + .5, 0), end = (int)fmin(centre + support + .5, size);
        float *weight = t->weight + (size_t)i * (size_t)t->room;
        double sum = 0;
        for (int k = first; k < end; k++) sum += fmax(1 - fabs(k - centre + .5) / support, 0);
        for (int k = first; k < end; k++)
            weight[k - first] = (float)(fmax(1 - fabs(k - centre + .5) / support, 0) / sum);
        t->first[i] = first;
        t->n[i] = end - first;
    }
    return STATUS_OK;
}

/* Source row y, resized across: row [c][w]. */
static void across(const struct image_u8 *image, int y, const struct taps *t, int w, float *row) {
    const uint8_t *in = image->data + (size_t)y * (size_t)image->w * (size_t)image->c;
    for (int k = 0; k < image->c; k++)
        for (int x = 0; x < w; x++) {
            const float *weight = t->weight + (size_t)x * (size_t)t->room;
            const uint8_t *p = in + (size_t)t->first[x] * (size_t)image->c + k;
            float sum = 0;
            for (int i = 0; i < t->n[x]; i++) sum += weight[i] * (float)p[(size_t)i * (size_t)image->c];
            *row++ = sum / 255.0f;
        }
}

/* Python's round((size - window) / 2): halves to the even side. */
static int64_t centred(int64_t size, int window) { return (int64_t)nearbyint((double)(size - window) / 2); }

enum status image_resize_crop(const struct image_u8 *image, int resize, int w, int h, float *out, struct err *err) {
    const bool upright = image->w <= image->h;
    const int64_t rw = upright ? resize : (int64_t)resize * image->w / image->h;
    const int64_t rh = upright ? (int64_t)resize * image->h / image->w : resize;
    struct taps columns, rows;
    float *row = NULL;
    enum status status = taps_init(&columns, image->w, rw, centred(rw, w), w, err);
    if (status) return status;
    status = taps_init(&rows, image->h, rh, centred(rh, h), h, err);
    if (status) {
        taps_fini(&columns);
        return status;
    }
    row = malloc((size_t)image->c * (size_t)w * sizeof *row);
    if (!row) status = err_memory(err, "image resize");
    else memset(out, 0, (size_t)image->c * (size_t)h * (size_t)w * sizeof *out);
    int done = 0; /* output rows that need no more source rows */
    for (int y = rows.first[0]; !status && y < rows.first[h - 1] + rows.n[h - 1]; y++) {
        across(image, y, &columns, w, row);
        while (rows.first[done] + rows.n[done] <= y) done++;
        for (int j = done; j < h && rows.first[j] <= y; j++) {
            const float weight = rows.weight[(size_t)j * (size_t)rows.room + (size_t)(y - rows.first[j])];
            for (int k = 0; k < image->c; k++) {
                float *to = out + ((size_t)k * (size_t)h + (size_t)j) * (size_t)w;
                const float *from = row + (size_t)k * (size_t)w;
                for (int x = 0; x < w; x++) to[x] += weight * from[x];
            }
        }
    }
    free(row);
    taps_fini(&rows);
    taps_fini(&columns);
    return status;
}
