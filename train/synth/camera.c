#include "train/synth/camera.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { GLYPH_W = 5, GLYPH_H = 7, ADVANCE = 6, BAR = 10 };

/* One byte a row, bit 4 the leftmost pixel. */
static const struct {
    char character;
    unsigned char rows[GLYPH_H];
} glyphs[] = {
    {'0', {0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e}}, {'1', {0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e}},
    {'2', {0x0e, 0x11, 0x01, 0x06, 0x08, 0x10, 0x1f}}, {'3', {0x0e, 0x11, 0x01, 0x06, 0x01, 0x11, 0x0e}},
    {'4', {0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02}}, {'5', {0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e}},
    {'6', {0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e}}, {'7', {0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08}},
    {'8', {0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e}}, {'9', {0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c}},
    {'-', {0x00, 0x00, 0x00, 0x1f, 0x00, 0x00, 0x00}}, {':', {0x00, 0x04, 0x04, 0x00, 0x04, 0x04, 0x00}},
    {'*', {0x06, 0x09, 0x06, 0x00, 0x00, 0x00, 0x00}}, /* degree */
    {'C', {0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e}},
};

static int caption_scale(int w) {
    return w < 320 ? 1 : w / 160;
}

int camera_caption_height(int w) {
    return BAR * caption_scale(w);
}

static void print_glyph(struct canvas *picture, char character, int x, int y, int scale, struct colour ink) {
    for (size_t g = 0; g < sizeof glyphs / sizeof *glyphs; g++) {
        if (glyphs[g].character != character) continue;
        for (int j = 0; j < GLYPH_H * scale; j++)
            for (int i = 0; i < GLYPH_W * scale; i++)
                if (glyphs[g].rows[j / scale] >> (GLYPH_W - 1 - i / scale) & 1)
                    canvas_blend(picture, x + i, y + j, ink, 1);
    }
}

static void print_caption(struct canvas *picture, const struct scene *scene, struct random *random) {
    int scale = caption_scale(picture->w), top = picture->h - camera_caption_height(picture->w);
    bool black = random_uniform(random) < .75;
    struct colour bar = black ? (struct colour){0, 0, 0} : (struct colour){.92f, .92f, .92f};
    struct colour ink = black ? (struct colour){.95f, .95f, .95f} : (struct colour){0, 0, 0};
    for (int y = top; y < picture->h; y++)
        for (int x = 0; x < picture->w; x++) canvas_blend(picture, x, y, bar, 1);
    char text[64];
    int warmth = 10 - 12 * (scene->month < 7 ? 7 - scene->month : scene->month - 7) / 6 + (scene->night ? 0 : 6);
    snprintf(text, sizeof text, "%d-%02d-%02d %02d:%02d %d*C C%d", 2019 + random_below(random, 7), scene->month,
             1 + random_below(random, 28), scene->hour, random_below(random, 60), warmth + random_below(random, 9),
             1 + random_below(random, 9));
    int length = (int)strlen(text);
    for (int i = 0; i < length; i++)
        print_glyph(picture, text[i], (3 + i * ADVANCE) * scale, top + (BAR - GLYPH_H) / 2 * scale, scale, ink);
}

/* The gain that brings the picture to a usual brightness, as a camera's exposure does, within its limits. */
static float exposure(const struct canvas *picture, struct random *random, bool night) {
    double sum = 0;
    size_t n = (size_t)picture->w * (size_t)picture->h;
    for (size_t i = 0; i < n; i++) {
        struct colour c = picture->pixels[i];
        sum += .3f * c.r + .6f * c.g + .1f * c.b;
    }
    float wanted = (float)random_between(random, night ? .16 : .34, night ? .36 : .55),
          gain = wanted / ((float)(sum / (double)n) + .01f);
    return gain < .6f ? .6f : gain > 2.2f ? 2.2f : gain;
}

/* About normal, variance 1: a sum of four even draws. */
static float grain(struct random *random) {
    uint64_t r = random_next(random);
    float sum = (float)(r & 0xffff) + (float)(r >> 16 & 0xffff) + (float)(r >> 32 & 0xffff) + (float)(r >> 48);
    return (sum / 65536.0f - 2) * 1.7320508f;
}

void camera_expose(struct canvas *picture, struct canvas *scratch, const struct scene *scene, struct random *random) {
    bool night = scene->night;
    if (random_uniform(random) < .12) { /* a shaken camera */
        float by = (float)random_between(random, .006, .018) * scene->w,
              angle = (float)random_between(random, 0, 3.14159);
        canvas_smear(picture, scratch, by * cosf(angle), by * sinf(angle));
    }
    canvas_soften(picture, scratch, (float)random_between(random, .15, night ? .75 : .6));
    float gain = exposure(picture, random, night), lift = (float)random_between(random, 0, night ? .06 : .08);
    float read_noise = (float)random_between(random, .004, night ? .025 : .012);
    float shot_noise = (float)random_between(random, .01, night ? .04 : .025);
    float edge = (float)random_between(random, night ? .35 : 0, night ? .8 : .3); /* light lost in the corners */
    float red = (float)random_between(random, .93, 1.07), blue = (float)random_between(random, .93, 1.07);
    bool grey = night || random_uniform(random) < .05;
    for (int y = 0; y < picture->h; y++) {
        for (int x = 0; x < picture->w; x++) {
            struct colour *p = &picture->pixels[(size_t)y * (size_t)picture->w + (size_t)x];
            float u = 2 * (float)x / scene->w - 1, v = 2 * (float)y / scene->h - 1;
            float light = gain * fmaxf(0, 1 - edge * .5f * (u * u + v * v));
            *p = (struct colour){p->r * light * red, p->g * light, p->b * light * blue};
            if (grey) p->r = p->g = p->b = .45f * p->r + .40f * p->g + .15f * p->b;
            float n = grain(random), level = .3f * p->r + .6f * p->g + .1f * p->b;
            float strength = read_noise + shot_noise * sqrtf(fmaxf(0, level));
            float nr = grey ? n : .6f * n + .8f * grain(random), nb = grey ? n : .6f * n + .8f * grain(random);
            *p = (struct colour){lift + (1 - lift) * p->r + strength * nr, lift + (1 - lift) * p->g + strength * n,
                                 lift + (1 - lift) * p->b + strength * nb};
        }
    }
    print_caption(picture, scene, random);
}
