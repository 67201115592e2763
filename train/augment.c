/* Deviations from Darknet: the crop's vertical play is taken from its height
 * (Darknet takes the width, which only matters where they differ), and draws
 * come from the sample's own stream instead of rand(). */
#include "train/augment.h"

#include "common/random.h"

#include <math.h>

enum { MAX_CROP = 16384 };

struct augment augment_none(void) {
    return (struct augment){.aspect = 1, .saturation = 1, .exposure = 1};
}

enum status augment_from_cfg(struct augment *out, const struct cfg *cfg, struct err *err) {
    const struct cfg_section *net = cfg_find(cfg, "net");
    if (!net) net = cfg_find(cfg, "network");
    struct augment a = augment_none();
    int width = 0;
    a.flip = true;
    enum status status = cfg_int(cfg, net, "width", 0, MAX_CROP, &width, err);
    if (status == STATUS_OK) status = cfg_bool(cfg, net, "flip", &a.flip, err);
    if (status == STATUS_OK) status = cfg_int(cfg, net, "pad_crop", 0, MAX_CROP, &a.pad, err);
    if (!cfg_option(net, "pad_crop")) {
        a.min_crop = width;
        a.max_crop = 2 * width;
    }
    if (status == STATUS_OK) status = cfg_int(cfg, net, "min_crop", 0, MAX_CROP, &a.min_crop, err);
    if (status == STATUS_OK) status = cfg_int(cfg, net, "max_crop", 0, MAX_CROP, &a.max_crop, err);
    if (status == STATUS_OK) status = cfg_float(cfg, net, "angle", 0, 360, &a.angle, err);
    if (status == STATUS_OK) status = cfg_float(cfg, net, "aspect", .01, 100, &a.aspect, err);
    if (status == STATUS_OK) status = cfg_float(cfg, net, "hue", 0, 1, &a.hue, err);
    if (status == STATUS_OK) status = cfg_float(cfg, net, "saturation", .01, 100, &a.saturation, err);
    if (status == STATUS_OK) status = cfg_float(cfg, net, "exposure", .01, 100, &a.exposure, err);
    if (status != STATUS_OK) return status;
    if (a.min_crop > a.max_crop) {
        const struct cfg_option *option = cfg_option(net, "max_crop");
        if (!option) option = cfg_option(net, "min_crop");
        return cfg_error(cfg, option ? option->line : net->line, err, "min_crop=%d is above max_crop=%d", a.min_crop,
                         a.max_crop);
    }
    *out = a;
    return STATUS_OK;
}

static bool crops_at_random(const struct augment *augment) {
    return augment->max_crop > 0;
}

static bool changes_colour(const struct augment *augment) {
    return augment->hue != 0 || augment->saturation != 1 || augment->exposure != 1;
}

int augment_want_side(const struct augment *augment, const struct image_preproc *preproc) {
    int side = image_want_side(preproc);
    return crops_at_random(augment) && augment->max_crop > side ? augment->max_crop : side;
}

void augment_scratch_free(struct augment_scratch *scratch) {
    image_free(&scratch->fitted);
}

/* A factor up to `s`, or as often its inverse. */
static double random_scale(struct random *random, double s) {
    double scale = random_between(random, 1, s);
    return random_below(random, 2) ? scale : 1 / scale;
}

/* ---- geometry ------------------------------------------------------------------- */

static float pixel_or_black(const struct image_u8 *in, int x, int y, int c) {
    if (x < 0 || y < 0 || x >= in->w || y >= in->h) return 0;
    return (float)in->data[((size_t)y * (size_t)in->w + (size_t)x) * (size_t)in->c + (size_t)c] / 255.0f;
}

/* Darknet's: resized so that the shorter side is in [min_crop, max_crop],
 * turned, and cut to size at a random place; black where nothing is. */
static void random_crop(const struct augment *augment, const struct image_u8 *in, int w, int h, struct random *random,
                        float *out) {
    double aspect = random_scale(random, augment->aspect);
    int side = augment->min_crop + random_below(random, augment->max_crop - augment->min_crop + 1);
    double shorter = in->h < in->w * aspect ? in->h : in->w * aspect;
    double scale = (side > 0 ? side : 1) / shorter;
    double angle = random_between(random, -augment->angle, augment->angle) * M_PI / 180;
    double play_x = (in->w * scale / aspect - w) / 2, play_y = (in->h * scale - h) / 2;
    double dx = random_between(random, -play_x, play_x), dy = random_between(random, -play_y, play_y);
    double cosine = cos(angle), sine = sin(angle);
    size_t plane = (size_t)w * (size_t)h;
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            double u = (x - w / 2. + dx) / scale * aspect, v = (y - h / 2. + dy) / scale;
            double at_x = cosine * u - sine * v + in->w / 2., at_y = sine * u + cosine * v + in->h / 2.;
            int left = (int)floor(at_x), top = (int)floor(at_y);
            float right = (float)(at_x - left), below = (float)(at_y - top);
            for (int c = 0; c < in->c; c++)
                out[(size_t)c * plane + (size_t)y * (size_t)w + (size_t)x] =
                    (1 - below) * ((1 - right) * pixel_or_black(in, left, top, c) +
                                   right * pixel_or_black(in, left + 1, top, c)) +
                    below * ((1 - right) * pixel_or_black(in, left, top + 1, c) +
                             right * pixel_or_black(in, left + 1, top + 1, c));
        }
    }
}

static void mirror(float *data, int rows, int w) {
    for (int y = 0; y < rows; y++, data += w) {
        for (int a = 0, b = w - 1; a < b; a++, b--) {
            float held = data[a];
            data[a] = data[b];
            data[b] = held;
        }
    }
}

/* Where the output's columns [first, last) come from: source column = x * step + start. */
struct span {
    int first, last, start, step;
};

static struct span columns(int w, int shift, bool flip) {
    struct span s = {.first = shift < 0 ? -shift : 0, .last = shift > 0 ? w - shift : w, .start = shift, .step = 1};
    if (s.last < s.first) s.last = s.first = 0;
    if (flip) s = (struct span){.first = w - s.last, .last = w - s.first, .start = shift + w - 1, .step = -1};
    return s;
}

/* Bytes of the input's size, shifted over a black border and perhaps mirrored,
 * straight to normalised values: the path of small images. */
static void shift_bytes(const struct image_preproc *preproc, const struct image_u8 *in, int dx, int dy, bool flip,
                        float *out) {
    struct span s = columns(in->w, dx, flip);
    for (int c = 0; c < in->c; c++) {
        float values[256];
        for (int i = 0; i < 256; i++) values[i] = ((float)i / 255.0f - preproc->mean[c]) / preproc->std[c];
        for (int y = 0; y < in->h; y++, out += in->w) {
            bool inside = y + dy >= 0 && y + dy < in->h;
            int first = inside ? s.first : in->w, last = inside ? s.last : in->w, from = inside ? y + dy : 0;
            const uint8_t *row = in->data + (size_t)from * (size_t)in->w * (size_t)in->c + c;
            for (int x = 0; x < first; x++) out[x] = values[0];
            for (int x = first; x < last; x++) out[x] = values[row[(x * s.step + s.start) * in->c]];
            for (int x = last; x < in->w; x++) out[x] = values[0];
        }
    }
}

/* The same on floats, not normalised. */
static void shift_floats(const struct image *in, int dx, int dy, bool flip, float *out) {
    struct span s = columns(in->w, dx, flip);
    for (int c = 0; c < in->c; c++) {
        for (int y = 0; y < in->h; y++, out += in->w) {
            bool inside = y + dy >= 0 && y + dy < in->h;
            int first = inside ? s.first : in->w, last = inside ? s.last : in->w, from = inside ? y + dy : 0;
            const float *row = in->data + ((size_t)c * (size_t)in->h + (size_t)from) * (size_t)in->w;
            for (int x = 0; x < in->w; x++) out[x] = x >= first && x < last ? row[x * s.step + s.start] : 0;
        }
    }
}

/* ---- colour --------------------------------------------------------------------- */

struct colour_change {
    float hue, saturation, value; /* added, in turns; factors */
};

static float unit(float x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static void change_pixel(struct colour_change change, float *r, float *g, float *b) {
    float max = fmaxf(*r, fmaxf(*g, *b)), min = fminf(*r, fminf(*g, *b)), delta = max - min, hue = 0;
    if (delta > 0) {
        if (*r == max) hue = (*g - *b) / delta;
        else if (*g == max) hue = 2 + (*b - *r) / delta;
        else hue = 4 + (*r - *g) / delta;
    }
    hue += 6 * change.hue;
    hue -= 6 * floorf(hue / 6);
    float value = max * change.value, saturation = max > 0 ? delta / max * change.saturation : 0;
    int sector = (int)hue;
    float part = hue - (float)sector, p = unit(value * (1 - saturation)), q = unit(value * (1 - saturation * part)),
          t = unit(value * (1 - saturation * (1 - part))), v = unit(value);
    const float red[6] = {v, q, p, p, t, v}, green[6] = {t, v, v, q, p, p}, blue[6] = {p, p, t, v, v, q};
    sector = sector > 5 ? 5 : sector;
    *r = red[sector];
    *g = green[sector];
    *b = blue[sector];
}

static void change_colour(const struct augment *augment, struct random *random, float *data, int c, size_t plane) {
    struct colour_change change;
    change.hue = (float)random_between(random, -augment->hue, augment->hue);
    change.saturation = (float)random_scale(random, augment->saturation);
    change.value = (float)random_scale(random, augment->exposure);
    for (size_t i = 0; i < plane; i++) {
        if (c == 3) change_pixel(change, data + i, data + plane + i, data + 2 * plane + i);
        else data[i] = unit(data[i] * change.value);
    }
}

/* ---- all of it ------------------------------------------------------------------ */

static enum status fit_unnormalised(const struct image_preproc *preproc, const struct image_u8 *in,
                                    struct augment_scratch *scratch, struct err *err) {
    struct image *fitted = &scratch->fitted;
    if (fitted->c != preproc->c || fitted->h != preproc->h || fitted->w != preproc->w) {
        image_free(fitted);
        enum status status = image_create(fitted, preproc->c, preproc->h, preproc->w, err);
        if (status != STATUS_OK) return status;
    }
    struct image_preproc plain = *preproc;
    for (int c = 0; c < plain.c; c++) {
        plain.mean[c] = 0;
        plain.std[c] = 1;
    }
    return image_fit(&plain, in, fitted->data, err);
}

enum status augment_apply(const struct augment *augment, const struct image_preproc *preproc,
                          const struct image_u8 *in, uint64_t seed, struct augment_scratch *scratch, float *out,
                          struct err *err) {
    int w = preproc->w, h = preproc->h;
    size_t plane = (size_t)w * (size_t)h;
    struct random random = random_stream(seed, 0, 0);
    bool flip = augment->flip && random_below(&random, 2);
    if (in->c != preproc->c)
        return err_set(err, STATUS_USAGE, "an image of %d channels for a network that takes %d", in->c, preproc->c);
    if (crops_at_random(augment)) {
        random_crop(augment, in, w, h, &random, out);
        if (flip) mirror(out, in->c * h, w);
    } else {
        int dx = random_below(&random, 2 * augment->pad + 1) - augment->pad;
        int dy = random_below(&random, 2 * augment->pad + 1) - augment->pad;
        if (in->w == w && in->h == h && !changes_colour(augment)) {
            shift_bytes(preproc, in, dx, dy, flip, out);
            return STATUS_OK;
        }
        enum status status = fit_unnormalised(preproc, in, scratch, err);
        if (status != STATUS_OK) return status;
        shift_floats(&scratch->fitted, dx, dy, flip, out);
    }
    if (changes_colour(augment)) change_colour(augment, &random, out, in->c, plane);
    for (int c = 0; c < in->c; c++) {
        float *p = out + (size_t)c * plane, mean = preproc->mean[c], std = preproc->std[c];
        for (size_t i = 0; i < plane; i++) p[i] = (p[i] - mean) / std;
    }
    return STATUS_OK;
}
