#include "train/synth/solid.h"

#include "train/synth/noise.h"

#include <math.h>
#include <stddef.h>

static float smooth_step(float low, float high, float v) {
    float t = (v - low) / (high - low);
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return t * t * (3 - 2 * t);
}

void solid_draw(struct canvas *canvas, float *depth, const struct solid *s, const struct light *light,
                uint32_t grain) {
    float dx = s->b.x - s->a.x, dy = s->b.y - s->a.y, length = sqrtf(dx * dx + dy * dy), length2 = length * length;
    float margin = fmaxf(s->ra, s->rb) + 1;
    int x0 = (int)fmaxf(fminf(s->a.x, s->b.x) - margin, 0);
    int x1 = (int)fminf(fmaxf(s->a.x, s->b.x) + margin, (float)(canvas->w - 1));
    int y0 = (int)fmaxf(fminf(s->a.y, s->b.y) - margin, 0);
    int y1 = (int)fminf(fmaxf(s->a.y, s->b.y) + margin, (float)(canvas->h - 1));
    for (int y = y0; y <= y1; y++) {
        for (int x = x0; x <= x1; x++) {
            float px = (float)x - s->a.x, py = (float)y - s->a.y, t = length2 > 0 ? (px * dx + py * dy) / length2 : 0;
            t = t < 0 ? 0 : t > 1 ? 1 : t;
            float qx = px - t * dx, qy = py - t * dy, r = s->ra + (s->rb - s->ra) * t, d2 = qx * qx + qy * qy;
            if (d2 >= (r + .5f) * (r + .5f)) continue;
            float cover = canvas_coverage(sqrtf(d2) - fmaxf(r, .5f)) * (r < .5f ? 2 * r : 1);
            float nx = qx / (r + .5f), ny = qy / (r + .5f), nz = sqrtf(fmaxf(0, 1 - nx * nx - ny * ny));
            size_t at = (size_t)y * (size_t)canvas->w + (size_t)x;
            if (depth) {
                float z = s->a.z + (s->b.z - s->a.z) * t + r * nz;
                if (z < depth[at]) continue;
                if (cover > .5f) depth[at] = z;
            }
            struct colour colour = colour_mix(s->under, s->top, smooth_step(-.5f, .4f, -ny));
            if (!s->shines) {
                float lit = light->direct *
                            fmaxf(0, nx * light->towards.x + ny * light->towards.y + nz * light->towards.z);
                float brightness = light->ambient * (.8f - .2f * ny) + lit;
                if (s->texture > 0) {
                    /* Grain runs along the limb. */
                    float along = t * length, across = length > 0 ? (qy * dx - qx * dy) / length : qx;
                    brightness *= 1 + s->texture * 2 * (noise_sum(grain, along * .3f, across * .9f, 2) - .5f);
                }
                colour = colour_scale(colour, brightness);
                colour = (struct colour){colour.r * light->tint.r, colour.g * light->tint.g, colour.b * light->tint.b};
            }
            canvas_blend(canvas, x, y, colour, cover);
        }
    }
}
