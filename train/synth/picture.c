#include "train/synth/picture.h"

#include "train/synth/animal.h"
#include "train/synth/camera.h"
#include "train/synth/scene.h"

#include <math.h>
#include <stdlib.h>

/* Most of the animal that what stands before it may hide, and how often another arrangement is tried. */
#define HIDDEN_AT_MOST .3f
enum { ARRANGEMENTS = 4, THINGS_BEHIND = 34, THINGS_BEFORE = 14 };

enum status painter_init(struct painter *painter, int w, int h, struct err *err) {
    struct painter p = {0};
    enum status status = canvas_init(&p.picture, w, h, false, err);
    if (status == STATUS_OK) status = canvas_init(&p.animal, w, h, true, err);
    if (status == STATUS_OK) status = canvas_init(&p.cover, w, h, true, err);
    if (status == STATUS_OK) status = canvas_init(&p.scratch, w, h, true, err);
    p.depth = calloc((size_t)w * (size_t)h, sizeof *p.depth);
    p.bytes = malloc((size_t)w * (size_t)h * 3);
    if (status == STATUS_OK && (!p.depth || !p.bytes)) status = err_memory(err, "canvas");
    if (status != STATUS_OK) {
        painter_fini(&p);
        return status;
    }
    *painter = p;
    return STATUS_OK;
}

void painter_fini(struct painter *painter) {
    canvas_fini(&painter->picture);
    canvas_fini(&painter->animal);
    canvas_fini(&painter->cover);
    canvas_fini(&painter->scratch);
    free(painter->depth);
    free(painter->bytes);
    *painter = (struct painter){0};
}

static float between(struct random *random, float low, float high) {
    return (float)random_between(random, low, high);
}

/* Where the animal stands, and how large it appears. */
struct place {
    float x, y, size, nearness;
};

static struct place choose_place(const struct scene *scene, struct random *random, float ground) {
    struct place p = {.size = scene->h * .5f * powf(2.f, between(random, 0, 1))};
    float n = .2f + .75f * p.size / scene->h + between(random, -.14f, .14f);
    n = n < .15f ? .15f : n > 1 ? 1 : n;
    p.y = scene->horizon + n * (ground - scene->horizon);
    p.nearness = scene_nearness(scene, p.y);
    p.x = between(random, 0, 1);
    return p;
}

/* Into the animal's layer, at p->x, which from a share of the width becomes a column. */
static void draw_animal(struct painter *painter, const struct scene *scene, const struct species *species,
                        struct place *p, struct random *random) {
    struct animal animal;
    animal_choose(&animal, species, random, p->size, scene->night);
    float width = animal.right - animal.left, beyond = .12f * width; /* it may be cut off at a side */
    p->x = p->x * (scene->w - width + 2 * beyond) - beyond - animal.left;
    struct light light = scene_light(scene, p->nearness);
    if (scene->night) light.direct *= between(random, 1.1f, 2); /* fur throws infrared back */
    size_t n = (size_t)painter->picture.w * (size_t)painter->picture.h;
    for (size_t i = 0; i < n; i++) painter->depth[i] = -1e9f;
    uint32_t grain = (uint32_t)random_next(random);
    float shadow = scene->night ? .3f : .25f + .4f * scene->light.direct;
    canvas_ellipse(&painter->picture, p->x, p->y, width * .5f, fmaxf(1, width * .09f), 0, (struct colour){0, 0, 0},
                   shadow);
    for (int i = 0; i < animal.nparts; i++) {
        struct solid s = animal.parts[i];
        s.a.x += p->x;
        s.b.x += p->x;
        s.a.y += p->y;
        s.b.y += p->y;
        if (!s.shines) {
            s.top = scene_haze(scene, p->nearness, s.top);
            s.under = scene_haze(scene, p->nearness, s.under);
        }
        solid_draw(&painter->animal, painter->depth, &s, &light, grain);
    }
    if (random_uniform(random) < (scene->night ? .4 : .25))
        canvas_smear(&painter->animal, &painter->scratch, animal.heading * between(random, .02f, .09f) * p->size,
                     between(random, -.03f, .03f) * p->size);
}

static float hidden_share(const struct painter *painter) {
    float all = 0, hidden = 0;
    size_t n = (size_t)painter->animal.w * (size_t)painter->animal.h;
    for (size_t i = 0; i < n; i++) {
        all += painter->animal.alpha[i];
        hidden += painter->animal.alpha[i] * painter->cover.alpha[i];
    }
    return all > 0 ? hidden / all : 0;
}

void painter_draw(struct painter *painter, const struct species *species, struct random random) {
    struct canvas *picture = &painter->picture;
    struct scene scene = scene_choose(&random, picture->w, picture->h);
    float ground = (float)(picture->h - camera_caption_height(picture->w)) - 1;
    struct place place = choose_place(&scene, &random, ground);
    canvas_clear(picture);
    scene_draw_backdrop(&scene, picture);
    scene_draw_things(&scene, picture, &random, .02f, place.nearness, THINGS_BEHIND);
    canvas_clear(&painter->animal);
    if (species) draw_animal(painter, &scene, species, &place, &random);
    else place.x *= scene.w;
    for (int i = 0; i < ARRANGEMENTS; i++) {
        canvas_clear(&painter->cover);
        scene_draw_things(&scene, &painter->cover, &random, place.nearness, 1.1f, THINGS_BEFORE);
        scene_draw_cover(&scene, &painter->cover, &random, place.x, place.y, place.size);
        if (hidden_share(painter) <= HIDDEN_AT_MOST) break;
        if (i == ARRANGEMENTS - 1) canvas_clear(&painter->cover);
    }
    canvas_compose(picture, &painter->animal);
    canvas_compose(picture, &painter->cover);
    camera_expose(picture, &painter->scratch, &scene, &random);
    canvas_bytes(picture, painter->bytes);
}
