#include "train/synth/canvas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum status canvas_init(struct canvas *canvas, int w, int h, bool layer, struct err *err) {
    size_t n = (size_t)w * (size_t)h;
    struct canvas c = {.w = w, .h = h, .pixels = calloc(n, sizeof *c.pixels)};
    if (layer) c.alpha = calloc(n, sizeof *c.alpha);
    if (!c.pixels || (layer && !c.alpha)) {
        canvas_fini(&c);
        return err_memory(err, "canvas");
    }
    *canvas = c;
    return STATUS_OK;
}

void canvas_fini(struct canvas *canvas) {
    free(canvas->pixels);
    free(canvas->alpha);
    *canvas = (struct canvas){0};
}

void canvas_clear(struct canvas *canvas) {
    size_t n = (size_t)canvas->w * (size_t)canvas->h;
    memset(canvas->pixels, 0, n * sizeof *canvas->pixels);
    if (canvas->alpha) memset(canvas->alpha, 0, n * sizeof *canvas->alpha);
}

/* A layer keeps its colours multiplied with alpha. */
static void blend_at(struct canvas *canvas, size_t at, struct colour colour, float alpha) {
    struct colour *p = &canvas->pixels[at];
    *p = colour_mix(*p, colour, alpha);
    if (canvas->alpha) canvas->alpha[at] += (1 - canvas->alpha[at]) * alpha;
}

void canvas_blend(struct canvas *canvas, int x, int y, struct colour colour, float alpha) {
    if (x < 0 || y < 0 || x >= canvas->w || y >= canvas->h) return;
    blend_at(canvas, (size_t)y * (size_t)canvas->w + (size_t)x, colour, alpha);
}

void canvas_compose(struct canvas *canvas, const struct canvas *layer) {
    size_t n = (size_t)canvas->w * (size_t)canvas->h;
    for (size_t i = 0; i < n; i++) {
        float rest = 1 - layer->alpha[i];
        struct colour *p = &canvas->pixels[i], q = layer->pixels[i];
        *p = (struct colour){p->r * rest + q.r, p->g * rest + q.g, p->b * rest + q.b};
    }
}

static int at_least(float v, int low) {
    return v > (float)low ? (int)v : low;
}

static int at_most(float v, int high) {
    return v < (float)high ? (int)v : high;
}

float canvas_coverage(float distance) {
    return distance <= -.5f ? 1 : distance >= .5f ? 0 : .5f - distance;
}

void canvas_stroke(struct canvas *canvas, float ax, float ay, float bx, float by, float ra, float rb,
                   struct colour colour, float alpha) {
    float margin = fmaxf(ra, rb) + 1, dx = bx - ax, dy = by - ay, length2 = dx * dx + dy * dy;
    int x0 = at_least(fminf(ax, bx) - margin, 0), x1 = at_most(fmaxf(ax, bx) + margin, canvas->w - 1);
    int y0 = at_least(fminf(ay, by) - margin, 0), y1 = at_most(fmaxf(ay, by) + margin, canvas->h - 1);
    for (int y = y0; y <= y1; y++) {
        for (int x = x0; x <= x1; x++) {
            float px = (float)x - ax, py = (float)y - ay, t = length2 > 0 ? (px * dx + py * dy) / length2 : 0;
            t = t < 0 ? 0 : t > 1 ? 1 : t;
            float qx = px - t * dx, qy = py - t * dy, r = ra + (rb - ra) * t, d2 = qx * qx + qy * qy;
            if (d2 > (r + .5f) * (r + .5f)) continue;
            /* thinner than a pixel: a share of it */
            float cover = canvas_coverage(sqrtf(d2) - fmaxf(r, .5f)) * (r < .5f ? 2 * r : 1);
            blend_at(canvas, (size_t)y * (size_t)canvas->w + (size_t)x, colour, cover * alpha);
        }
    }
}

void canvas_ellipse(struct canvas *canvas, float cx, float cy, float rx, float ry, float angle, struct colour colour,
                    float alpha) {
    float margin = fmaxf(rx, ry) + 1, c = cosf(angle), s = sinf(angle), small = fminf(rx, ry);
    int x0 = at_least(cx - margin, 0), x1 = at_most(cx + margin, canvas->w - 1);
    int y0 = at_least(cy - margin, 0), y1 = at_most(cy + margin, canvas->h - 1);
    for (int y = y0; y <= y1; y++) {
        for (int x = x0; x <= x1; x++) {
            float px = (float)x - cx, py = (float)y - cy, u = (px * c + py * s) / rx, v = (py * c - px * s) / ry;
            float r2 = u * u + v * v;
            if (r2 > 4 && (sqrtf(r2) - 1) * small > .5f) continue;
            float cover = canvas_coverage((sqrtf(r2) - 1) * small);
            if (cover > 0) blend_at(canvas, (size_t)y * (size_t)canvas->w + (size_t)x, colour, cover * alpha);
        }
    }
}

static int within(int v, int n) {
    return v < 0 ? 0 : v >= n ? n - 1 : v;
}

void canvas_smear(struct canvas *canvas, struct canvas *scratch, float dx, float dy) {
    int steps = (int)ceilf(fmaxf(fabsf(dx), fabsf(dy))) + 1;
    if (steps < 2) return;
    canvas_clear(scratch);
    for (int k = 0; k < steps; k++) {
        float share = (float)k / (float)(steps - 1) - .5f;
        int sx = (int)lroundf(dx * share), sy = (int)lroundf(dy * share);
        for (int y = 0; y < canvas->h; y++) {
            size_t row = (size_t)within(y + sy, canvas->h) * (size_t)canvas->w;
            for (int x = 0; x < canvas->w; x++) {
                size_t to = (size_t)y * (size_t)canvas->w + (size_t)x, from = row + (size_t)within(x + sx, canvas->w);
                struct colour c = canvas->pixels[from], *sum = &scratch->pixels[to];
                *sum = (struct colour){sum->r + c.r, sum->g + c.g, sum->b + c.b};
                if (canvas->alpha) scratch->alpha[to] += canvas->alpha[from];
            }
        }
    }
    size_t n = (size_t)canvas->w * (size_t)canvas->h;
    for (size_t i = 0; i < n; i++) {
        canvas->pixels[i] = colour_scale(scratch->pixels[i], 1 / (float)steps);
        if (canvas->alpha) canvas->alpha[i] = scratch->alpha[i] / (float)steps;
    }
}

void canvas_soften(struct canvas *canvas, struct canvas *scratch, float share) {
    memcpy(scratch->pixels, canvas->pixels, (size_t)canvas->w * (size_t)canvas->h * sizeof *canvas->pixels);
    for (int y = 1; y + 1 < canvas->h; y++) {
        for (int x = 1; x + 1 < canvas->w; x++) {
            struct colour sum = {0};
            for (int dy = -1; dy <= 1; dy++)
                for (int dx = -1; dx <= 1; dx++) {
                    struct colour c = scratch->pixels[(y + dy) * canvas->w + x + dx];
                    float weight = dx == 0 && dy == 0 ? 1 - share : share / 8;
                    sum = (struct colour){sum.r + weight * c.r, sum.g + weight * c.g, sum.b + weight * c.b};
                }
            canvas->pixels[y * canvas->w + x] = sum;
        }
    }
}

static uint8_t byte(float v) {
    return v <= 0 ? 0 : v >= 1 ? 255 : (uint8_t)(v * 255 + .5f);
}

void canvas_bytes(const struct canvas *canvas, uint8_t *bytes) {
    size_t n = (size_t)canvas->w * (size_t)canvas->h;
    for (size_t i = 0; i < n; i++) {
        *bytes++ = byte(canvas->pixels[i].r);
        *bytes++ = byte(canvas->pixels[i].g);
        *bytes++ = byte(canvas->pixels[i].b);
    }
}
