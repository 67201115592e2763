/* The preprocessing that a model records, as JSON and as a check. */
#include "common/image.h"

#include "common/json.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 16384 };

static const char *const fit_names[] = {
    [IMAGE_LETTERBOX] = "letterbox", [IMAGE_CROP] = "crop", [IMAGE_STRETCH] = "stretch"};
static const char *const decode_names[] = {[IMAGE_EXACT] = "exact", [IMAGE_FAST] = "fast"};

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

enum status image_preproc_check(const struct image_preproc *p, struct err *err) {
    if (p->c != 1 && p->c != 3)
        return err_set(err, STATUS_FORMAT, "preprocessing to %d channels; images have 1 or 3", p->c);
    if (p->w < 1 || p->h < 1 || p->w > MAX_SIDE || p->h > MAX_SIDE)
        return err_set(err, STATUS_FORMAT, "preprocessing to %d x %d pixels; 1 to %d a side are possible", p->w, p->h,
                       MAX_SIDE);
    if ((unsigned)p->fit >= (unsigned)COUNT(fit_names) || (unsigned)p->decode >= (unsigned)COUNT(decode_names))
        return err_set(err, STATUS_FORMAT, "preprocessing of an unknown kind");
    const int side = p->w > p->h ? p->w : p->h;
    if (p->resize && (p->fit != IMAGE_CROP || p->resize < side || p->resize > MAX_SIDE))
        return err_set(err, STATUS_FORMAT, "preprocessing resizes to %d; that goes with crop, and from %d to %d pixels",
                       p->resize, side, MAX_SIDE);
    for (int k = 0; k < p->c; k++)
        if (!isfinite(p->mean[k]) || !isfinite(p->std[k]) || p->std[k] <= 0)
            return err_set(err, STATUS_FORMAT,
                           "preprocessing of channel %d has mean %g and std %g; std must be above 0", k,
                           (double)p->mean[k], (double)p->std[k]);
    return STATUS_OK;
}

int image_want_side(const struct image_preproc *preproc) {
    if (preproc->resize) return preproc->resize;
    return preproc->w > preproc->h ? preproc->w : preproc->h;
}

enum status image_preprocess(const struct image_preproc *preproc, const char *name, const uint8_t *bytes,
                             size_t length, float *input, struct err *err) {
    struct image_u8 image;
    enum status status = image_decode_u8(&image, name, bytes, length, preproc->c, preproc->decode,
                                         image_want_side(preproc), err);
    if (status != STATUS_OK) return status;
    status = image_fit(preproc, &image, input, err);
    image_u8_free(&image);
    return status;
}

/* The shortest text that reads back as the same float. */
static cJSON *number(float value) {
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return cJSON_CreateRaw(text);
}

char *image_preproc_json(const struct image_preproc *preproc) {
    cJSON *root = cJSON_CreateObject();
    bool ok = cJSON_AddNumberToObject(root, "channels", preproc->c) &&
              cJSON_AddNumberToObject(root, "height", preproc->h) &&
              cJSON_AddNumberToObject(root, "width", preproc->w) &&
              cJSON_AddStringToObject(root, "fit", fit_names[preproc->fit]) &&
              cJSON_AddStringToObject(root, "decode", decode_names[preproc->decode]) &&
              (!preproc->resize || cJSON_AddNumberToObject(root, "resize", preproc->resize));
    cJSON *mean = cJSON_AddArrayToObject(root, "mean"), *std = cJSON_AddArrayToObject(root, "std");
    for (int k = 0; ok && k < preproc->c; k++)
        ok = cJSON_AddItemToArray(mean, number(preproc->mean[k])) &&
             cJSON_AddItemToArray(std, number(preproc->std[k]));
    return json_text(root, ok);
}

/* Index of the text among the names, or -1. */
static int name_of(const cJSON *item, const char *const *names, int n) {
    if (cJSON_IsString(item))
        for (int i = 0; i < n; i++)
            if (strcmp(item->valuestring, names[i]) == 0) return i;
    return -1;
}

static int integer(const cJSON *item) {
    bool ok = cJSON_IsNumber(item) && item->valuedouble == floor(item->valuedouble) && item->valuedouble >= 0 &&
              item->valuedouble <= INT_MAX;
    return ok ? (int)item->valuedouble : -1;
}

static bool floats(const cJSON *array, int n, float *values) {
    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) != n) return false;
    for (int k = 0; k < n; k++) {
        const cJSON *item = cJSON_GetArrayItem(array, k);
        if (!cJSON_IsNumber(item)) return false;
        values[k] = (float)item->valuedouble;
    }
    return true;
}

enum status image_preproc_parse(struct image_preproc *out, const char *json, struct err *err) {
    struct image_preproc p = {0};
    enum status status = STATUS_OK;
    cJSON *root = cJSON_Parse(json);
    const char *wrong = NULL;
    p.c = integer(cJSON_GetObjectItemCaseSensitive(root, "channels"));
    p.h = integer(cJSON_GetObjectItemCaseSensitive(root, "height"));
    p.w = integer(cJSON_GetObjectItemCaseSensitive(root, "width"));
    int fit = name_of(cJSON_GetObjectItemCaseSensitive(root, "fit"), fit_names, COUNT(fit_names));
    int decode = name_of(cJSON_GetObjectItemCaseSensitive(root, "decode"), decode_names, COUNT(decode_names));
    const cJSON *resize = cJSON_GetObjectItemCaseSensitive(root, "resize");
    if (resize) p.resize = integer(resize);
    if (!cJSON_IsObject(root)) wrong = "it is not a JSON object";
    else if (p.c != 1 && p.c != 3) wrong = "\"channels\" is not 1 or 3";
    else if (fit < 0) wrong = "\"fit\" is none of letterbox, crop, stretch";
    else if (p.resize < 0) wrong = "\"resize\" is not a number of pixels";
    else if (decode < 0) wrong = "\"decode\" is none of exact, fast";
    else if (!floats(cJSON_GetObjectItemCaseSensitive(root, "mean"), p.c, p.mean) ||
             !floats(cJSON_GetObjectItemCaseSensitive(root, "std"), p.c, p.std))
        wrong = "\"mean\" and \"std\" need one number per channel";
    if (wrong) status = err_set(err, STATUS_FORMAT, "preprocessing: %s", wrong);
    if (status == STATUS_OK) {
        p.fit = (enum image_fit)fit;
        p.decode = (enum image_decode)decode;
        status = image_preproc_check(&p, err);
    }
    cJSON_Delete(root);
    if (status == STATUS_OK) *out = p;
    return status;
}
