/* A picture while it is painted: f32 RGB, and the few shapes that everything
 * is made of, with soft edges. Pixel centres are at whole coordinates. */
#ifndef ESPALIER_SYNTH_CANVAS_H
#define ESPALIER_SYNTH_CANVAS_H

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct colour {
    float r, g, b;
};

static inline struct colour colour_mix(struct colour a, struct colour b, float share_of_b) {
    return (struct colour){a.r + (b.r - a.r) * share_of_b, a.g + (b.g - a.g) * share_of_b,
                           a.b + (b.b - a.b) * share_of_b};
}

static inline struct colour colour_scale(struct colour a, float factor) {
    return (struct colour){a.r * factor, a.g * factor, a.b * factor};
}

struct canvas {
    int w, h;
    struct colour *pixels; /* [h, w], 0 to 1 unless overexposed */
    float *alpha;          /* [h, w], of a layer that is to be laid over another; NULL: opaque */
};

/* Black; with `layer`, transparent. */
enum status canvas_init(struct canvas *canvas, int w, int h, bool layer, struct err *err) MUST_CHECK;
void canvas_fini(struct canvas *canvas);
void canvas_clear(struct canvas *canvas);

/* Lays `colour` over a pixel; outside of the canvas nothing happens. */
void canvas_blend(struct canvas *canvas, int x, int y, struct colour colour, float alpha);
/* Lays a layer over the canvas of the same size. */
void canvas_compose(struct canvas *canvas, const struct canvas *layer);

/* A stroke whose radius runs from ra at a to rb at b, ends round. */
void canvas_stroke(struct canvas *canvas, float ax, float ay, float bx, float by, float ra, float rb,
                   struct colour colour, float alpha);
/* How much of a pixel lies inside an edge that is `distance` pixels outwards. */
float canvas_coverage(float distance);
/* An ellipse, turned by `angle`. */
void canvas_ellipse(struct canvas *canvas, float x, float y, float rx, float ry, float angle, struct colour colour,
                    float alpha);
/* Smears along (dx, dy) pixels. `scratch`: another canvas of the same size and kind. */
void canvas_smear(struct canvas *canvas, struct canvas *scratch, float dx, float dy);
/* Softens an opaque canvas: a 3x3 kernel of weights share/8 around 1 - share. */
void canvas_soften(struct canvas *canvas, struct canvas *scratch, float share);
/* [h, w, 3] bytes. */
void canvas_bytes(const struct canvas *canvas, uint8_t *bytes);

#endif
