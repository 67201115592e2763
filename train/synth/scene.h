/* The wood: hour, weather, backdrop, ground, and what grows and lies on it. */
#ifndef ESPALIER_SYNTH_SCENE_H
#define ESPALIER_SYNTH_SCENE_H

#include "common/random.h"
#include "train/synth/canvas.h"
#include "train/synth/solid.h"

#include <stdbool.h>
#include <stdint.h>

struct scene {
    float w, h;      /* of the picture, in pixels */
    float horizon;   /* row */
    bool night;      /* infrared flash: no colour, light from the camera */
    bool wood;       /* closed backdrop, or open sky */
    int hour, month; /* 0 to 23, 1 to 12 */
    struct light light;
    struct colour sky, haze, grass, leaves, soil, bark;
    float haze_share; /* at the horizon */
    uint32_t textures;
};

/* How near something that stands on row `y` is: 0 at the horizon, 1 at the bottom. */
float scene_nearness(const struct scene *scene, float y);
/* What light is left there, and what the haze makes of a colour. */
struct light scene_light(const struct scene *scene, float nearness);
struct colour scene_haze(const struct scene *scene, float nearness, struct colour colour);

struct scene scene_choose(struct random *random, int w, int h);
void scene_draw_backdrop(const struct scene *scene, struct canvas *canvas);
/* Trunks, bushes, rocks, logs and grass whose foot lies between two nearnesses, far ones first; `density` of them if
 * that were from 0 to 1. */
void scene_draw_things(const struct scene *scene, struct canvas *canvas, struct random *random, float from, float to,
                       int density);
/* What stands before an animal at (x, y) of `size` pixels: grass, and now and then a bush, a trunk or a twig. */
void scene_draw_cover(const struct scene *scene, struct canvas *canvas, struct random *random, float x, float y,
                      float size);

#endif
