#include "deploy/bench.h"

#include "common/file.h"
#include "common/log.h"
#include "common/median.h"

#include <stdlib.h>

enum { MAX_FILE = 256 << 20, MAX_REPEATS = 100 };

static enum status time_decoder(enum image_decode how, struct image_preproc preproc, const char *path, const uint8_t *bytes,
                                size_t length, int repeats, float *input, double *ms, struct err *err) {
    double samples[MAX_REPEATS];
    preproc.decode = how;
    for (int i = -1; i < repeats; i++) { /* the first brings the file into the caches */
        const double start = log_now_s();
        const enum status status = image_preprocess(&preproc, path, bytes, length, input, err);
        if (status) return status;
        if (i >= 0) samples[i] = (log_now_s() - start) * 1e3;
    }
    *ms = median(samples, repeats);
    return STATUS_OK;
}

enum status bench_decode(struct bench_decode *out, const struct image_preproc *preproc, const char *path, int repeats,
                         struct err *err) {
    struct bench_decode d = {.path = path, .to_w = preproc->w, .to_h = preproc->h};
    struct image_u8 image;
    uint8_t *bytes;
    enum status status = file_read(path, MAX_FILE, &bytes, &d.bytes, err);
    if (status) return status;
    float *input = malloc((size_t)preproc->c * (size_t)preproc->h * (size_t)preproc->w * sizeof *input);
    status = input ? image_decode_u8(&image, path, bytes, d.bytes, preproc->c, IMAGE_EXACT, 0, err) : err_memory(err, path);
    if (!status) {
        d.w = image.w;
        d.h = image.h;
        image_u8_free(&image);
    }
    if (repeats > MAX_REPEATS) repeats = MAX_REPEATS;
    if (!status) status = time_decoder(IMAGE_FAST, *preproc, path, bytes, d.bytes, repeats, input, &d.fast_ms, err);
    if (!status) status = time_decoder(IMAGE_EXACT, *preproc, path, bytes, d.bytes, repeats, input, &d.exact_ms, err);
    free(input);
    free(bytes);
    if (!status) *out = d;
    return status;
}
