#include "train/synth/scene.h"

#include "train/synth/noise.h"

#include <math.h>
#include <stddef.h>

static float between(struct random *random, float low, float high) {
    return (float)random_between(random, low, high);
}

static bool happens(struct random *random, double probability) {
    return random_uniform(random) < probability;
}

/* ---- the hour and the place ----------------------------------------------------- */

static struct colour shade(struct random *random, float r, float g, float b) {
    float factor = between(random, .75f, 1.25f);
    return (struct colour){r * factor * between(random, .9f, 1.1f), g * factor,
                           b * factor * between(random, .9f, 1.1f)};
}

static void choose_colours(struct scene *s, struct random *random) {
    if (s->month >= 4 && s->month <= 9) { /* green */
        s->grass = shade(random, .30f, .40f, .17f);
        s->leaves = shade(random, .22f, .34f, .14f);
        s->soil = shade(random, .34f, .29f, .20f);
    } else if (s->month >= 10 && s->month <= 11) { /* brown */
        s->grass = shade(random, .45f, .40f, .22f);
        s->leaves = shade(random, .48f, .32f, .14f);
        s->soil = shade(random, .42f, .30f, .18f);
    } else { /* bare; sometimes snow */
        bool snow = happens(random, .35);
        s->grass = shade(random, .45f, .42f, .30f);
        s->leaves = shade(random, .26f, .27f, .20f);
        s->soil = snow ? shade(random, .74f, .76f, .80f) : shade(random, .38f, .33f, .26f);
    }
    s->bark = happens(random, .15) ? shade(random, .62f, .60f, .56f) : shade(random, .30f, .25f, .20f);
}

static void choose_light(struct scene *s, struct random *random) {
    struct light *l = &s->light;
    if (s->night) {
        l->towards = (struct point){0, -.1f, .995f};
        l->ambient = .35f;
        l->direct = between(random, .9f, 1.3f);
        l->tint = (struct colour){1, 1, 1};
        s->sky = s->haze = (struct colour){.03f, .03f, .03f};
        s->haze_share = happens(random, .15) ? .25f : .05f;
        return;
    }
    float side = between(random, -.8f, .8f), up = between(random, .3f, .9f), front = between(random, -.2f, .8f);
    float length = sqrtf(side * side + up * up + front * front), sun = between(random, 0, .9f);
    bool low = s->hour < 8 || s->hour > 17;
    l->towards = (struct point){side / length, -up / length, front / length};
    l->ambient = 1.05f - .55f * sun;
    l->direct = sun;
    if (low) l->ambient *= .75f;
    float warm = low ? between(random, .05f, .2f) : between(random, -.06f, .08f);
    l->tint = (struct colour){1 + warm, 1, 1 - warm};
    s->sky = colour_mix((struct colour){.80f, .84f, .88f}, (struct colour){.52f, .68f, .90f}, sun);
    s->haze = colour_mix(s->sky, (struct colour){.6f, .62f, .62f}, .5f);
    s->haze_share = happens(random, .2) ? between(random, .3f, .6f) : between(random, .05f, .25f);
}

struct scene scene_choose(struct random *random, int w, int h) {
    struct scene s = {.w = (float)w, .h = (float)h};
    s.night = happens(random, .42);
    s.wood = happens(random, .7);
    s.month = 1 + random_below(random, 12);
    s.hour = s.night ? (21 + random_below(random, 9)) % 24 : 6 + random_below(random, 14);
    s.horizon = s.h * between(random, .22f, .48f);
    s.textures = (uint32_t)random_next(random);
    choose_colours(&s, random);
    choose_light(&s, random);
    return s;
}

float scene_nearness(const struct scene *s, float y) {
    float n = (y - s->horizon) / (s->h - s->horizon);
    return n < 0 ? 0 : n > 1.2f ? 1.2f : n;
}

struct light scene_light(const struct scene *s, float nearness) {
    struct light light = s->light;
    if (s->night) { /* the flash fades with distance */
        float reach = .16f + .84f * powf(nearness, .8f);
        light.ambient *= reach;
        light.direct *= reach;
    }
    return light;
}

struct colour scene_haze(const struct scene *s, float nearness, struct colour colour) {
    float share = s->haze_share * (1 - nearness);
    return colour_mix(colour, s->haze, share < 0 ? 0 : share);
}

/* A colour as it looks there under open light. */
static struct colour seen(const struct scene *s, float nearness, struct colour colour, float brightness) {
    struct light light = scene_light(s, nearness);
    brightness *= light.ambient + .6f * light.direct;
    colour = (struct colour){colour.r * light.tint.r, colour.g * light.tint.g, colour.b * light.tint.b};
    return scene_haze(s, nearness, colour_scale(colour, brightness));
}

/* ---- backdrop ------------------------------------------------------------------- */

void scene_draw_backdrop(const struct scene *s, struct canvas *canvas) {
    uint32_t t = s->textures;
    for (int x = 0; x < canvas->w; x++) {
        float fx = (float)x, unit = 30 / s->h; /* textures keep their size relative to the picture */
        float ridge = s->wood ? -1 : s->horizon - s->h * (.04f + .16f * noise_sum(t + 1, fx * unit * .12f, 0, 3));
        float edge = s->horizon + s->h * .03f * (noise_at(t + 2, fx * unit * .1f, 9) - .5f);
        for (int y = 0; y < canvas->h; y++) {
            float fy = (float)y;
            struct colour c;
            if (fy < ridge) {
                c = s->night ? s->sky : colour_mix(s->sky, (struct colour){1, 1, 1}, .3f * fy / s->horizon);
            } else if (fy < edge) {
                float leaf = noise_sum(t + 3, fx * unit * .45f, fy * unit * .35f, 3);
                float depth = fy / edge;
                c = seen(s, .04f, s->leaves, .35f + 1.1f * leaf * (1.1f - .5f * depth));
                if (s->wood && !s->night) { /* light through the leaves */
                    float gap = noise_sum(t + 4, fx * unit * .3f, fy * unit * .3f, 3) - .62f - .12f * depth;
                    if (gap > 0) c = colour_mix(c, s->sky, fminf(1, gap * 14) * .8f);
                }
            } else {
                float n = scene_nearness(s, fy), far = 1 / (.12f + n);
                float gx = (fx - s->w / 2) * unit * far * .22f, gy = far * 5;
                float patch = noise_sum(t + 5, gx * .35f, gy * .35f, 2),
                      grain = noise_sum(t + 6, gx * 2.2f, gy * 2.2f, 3);
                c = colour_mix(s->soil, s->grass, patch < .35f ? 0 : patch > .6f ? 1 : (patch - .35f) / .25f);
                float brightness = .55f + .8f * grain;
                if (!s->night && s->wood) brightness *= .8f + .4f * noise_at(t + 7, gx * .6f, gy * .6f); /* dapples */
                c = seen(s, n, c, brightness);
            }
            canvas_blend(canvas, x, y, c, 1);
        }
    }
}

/* ---- things --------------------------------------------------------------------- */

static void draw_solid(const struct scene *s, struct canvas *canvas, float nearness, struct solid solid) {
    struct light light = scene_light(s, nearness);
    solid.top = scene_haze(s, nearness, solid.top);
    solid.under = scene_haze(s, nearness, solid.under);
    solid_draw(canvas, NULL, &solid, &light, s->textures + 8);
}

static void draw_shadow(const struct scene *s, struct canvas *canvas, float x, float y, float rx, float ry) {
    float share = s->night ? .25f : .2f + .35f * s->light.direct;
    canvas_ellipse(canvas, x, y, rx, ry, 0, (struct colour){0, 0, 0}, share * .6f);
    canvas_ellipse(canvas, x, y, rx * .7f, ry * .7f, 0, (struct colour){0, 0, 0}, share * .6f);
}

static void draw_trunk(const struct scene *s, struct canvas *canvas, struct random *random, float x, float y,
                       float r) {
    enum { PIECES = 4 };
    float n = scene_nearness(s, y), lean = between(random, -.12f, .12f), top = -s->h * .1f;
    struct colour bark = colour_scale(s->bark, between(random, .7f, 1.2f));
    struct solid root = {.a = {x, y - r * 1.2f, 0},
                         .b = {x, y, 0},
                         .ra = r,
                         .rb = r * 1.35f,
                         .top = bark,
                         .under = bark,
                         .texture = .5f};
    draw_shadow(s, canvas, x, y, r * 2.2f, r * .7f);
    draw_solid(s, canvas, n, root);
    float px = x, py = y;
    for (int i = 1; i <= PIECES; i++) {
        float qx = x + lean * (y - top) * (float)i / PIECES + between(random, -.3f, .3f) * r;
        float qy = y + (top - y) * (float)i / PIECES;
        struct solid piece = {.a = {px, py, 0},
                              .b = {qx, qy, 0},
                              .ra = r * (1 - .08f * (float)(i - 1)),
                              .rb = r * (1 - .08f * (float)i),
                              .top = bark,
                              .under = bark,
                              .texture = .5f};
        draw_solid(s, canvas, n, piece);
        if (i < PIECES && happens(random, .5)) { /* a branch */
            float side = happens(random, .5) ? 1.f : -1.f, length = r * between(random, 2, 7);
            struct solid branch = {.a = {qx, qy, 0},
                                   .b = {qx + side * length, qy - length * between(random, .1f, .8f), 0},
                                   .ra = r * .3f,
                                   .rb = r * .1f,
                                   .top = bark,
                                   .under = bark,
                                   .texture = .3f};
            draw_solid(s, canvas, n, branch);
        }
        px = qx;
        py = qy;
    }
}

static void draw_bush(const struct scene *s, struct canvas *canvas, struct random *random, float x, float y, float r) {
    float n = scene_nearness(s, y), leaf = fmaxf(1, r * between(random, .07f, .14f));
    int leaves = 30 + (int)(r * 5);
    struct colour tone = colour_mix(s->leaves, s->grass, between(random, 0, .5f));
    draw_shadow(s, canvas, x, y, r * 1.1f, r * .3f);
    for (int i = 0; i < 4; i++) /* stems */
        canvas_stroke(canvas, x + between(random, -.2f, .2f) * r, y, x + between(random, -.8f, .8f) * r,
                      y - between(random, .5f, 1.3f) * r, fmaxf(.5f, r * .04f), .4f, seen(s, n, s->bark, .7f), 1);
    for (int i = 0; i < leaves; i++) {
        float angle = between(random, 0, 6.2832f), away = sqrtf(between(random, 0, 1));
        float lx = x + cosf(angle) * away * r * 1.1f, ly = y - r * .75f + sinf(angle) * away * r * .8f;
        float up = (y - ly) / (1.6f * r), turn = between(random, 0, 3.14f);
        struct colour c = seen(s, n, tone, (.35f + .9f * up) * between(random, .7f, 1.3f));
        canvas_ellipse(canvas, lx, fminf(ly, y), leaf, leaf * .55f, turn, c, 1);
    }
}

static void draw_grass(const struct scene *s, struct canvas *canvas, struct random *random, float x, float y,
                       float height, float spread, int blades) {
    float n = scene_nearness(s, y);
    struct colour tone = colour_mix(s->grass, s->leaves, between(random, 0, .4f));
    for (int i = 0; i < blades; i++) {
        float bx = x + between(random, -spread, spread), by = y + between(random, -.15f, .15f) * height;
        float tall = height * between(random, .5f, 1.1f), bend = between(random, -.5f, .5f) * tall;
        float width = fmaxf(.35f, height * .035f), mx = bx + bend * .3f, my = by - tall * .6f;
        struct colour c = seen(s, n, tone, between(random, .6f, 1.35f));
        canvas_stroke(canvas, bx, by, mx, my, width, width * .8f, colour_scale(c, .8f), 1);
        canvas_stroke(canvas, mx, my, bx + bend, by - tall, width * .8f, .2f, c, 1);
    }
}

static void draw_rock(const struct scene *s, struct canvas *canvas, struct random *random, float x, float y, float r) {
    float n = scene_nearness(s, y);
    struct colour tone = happens(random, .5) ? shade(random, .42f, .41f, .39f) : shade(random, .40f, .31f, .22f);
    draw_shadow(s, canvas, x, y, r * 1.5f, r * .35f);
    for (int i = 0; i < 3; i++) {
        float ax = x + between(random, -.7f, .3f) * r, bx = ax + between(random, .2f, .9f) * r;
        struct solid lump = {.a = {ax, y - r * between(random, .2f, .6f), 0},
                             .b = {bx, y - r * between(random, .1f, .5f), 0},
                             .ra = r * between(random, .35f, .65f),
                             .rb = r * between(random, .3f, .6f),
                             .top = tone,
                             .under = colour_scale(tone, .5f),
                             .texture = .45f};
        draw_solid(s, canvas, n, lump);
    }
}

static void draw_log(const struct scene *s, struct canvas *canvas, struct random *random, float x, float y, float r) {
    float n = scene_nearness(s, y), length = r * between(random, 2, 7), tilt = between(random, -.25f, .25f);
    struct colour bark = colour_scale(s->bark, between(random, .8f, 1.5f));
    struct solid log = {.a = {x - length, y - r + tilt * length, 0},
                        .b = {x + length, y - r - tilt * length, 0},
                        .ra = r,
                        .rb = r * between(random, .5f, 1),
                        .top = bark,
                        .under = colour_scale(bark, .5f),
                        .texture = .5f};
    draw_shadow(s, canvas, x, y, length * 1.1f, r * .5f);
    draw_solid(s, canvas, n, log);
    if (happens(random, .5)) {
        struct solid stub = {.a = {x, y - r, 0},
                             .b = {x + between(random, -2, 2) * r, y - r * between(random, 2, 4), 0},
                             .ra = r * .35f,
                             .rb = r * .12f,
                             .top = bark,
                             .under = bark,
                             .texture = .4f};
        draw_solid(s, canvas, n, stub);
    }
}

static void draw_thing(const struct scene *s, struct canvas *canvas, struct random *random, float nearness) {
    float y = s->horizon + nearness * (s->h - s->horizon), x = between(random, -.05f, 1.05f) * s->w;
    float scale = s->h *
                  (.08f + .92f * nearness); /* how large a thing of the picture's height at the bottom appears */
    double kind = random_uniform(random);
    if (kind < (s->wood ? .24 : .05))
        draw_trunk(s, canvas, random, x, y, fmaxf(.8f, scale * between(random, .02f, .075f)));
    else if (kind < .38) draw_bush(s, canvas, random, x, y, scale * between(random, .08f, .22f));
    else if (kind < .44) draw_rock(s, canvas, random, x, y, scale * between(random, .05f, .16f));
    else if (kind < .49) draw_log(s, canvas, random, x, y, scale * between(random, .02f, .07f));
    else
        draw_grass(s, canvas, random, x, y, scale * between(random, .06f, .16f), scale * between(random, .1f, .3f),
                   18);
}

void scene_draw_things(const struct scene *s, struct canvas *canvas, struct random *random, float from, float to,
                       int density) {
    int n = (int)((float)density * (to - from) + .5f);
    for (int i = 0; i < n; i++) {
        float share = ((float)i + between(random, 0, 1)) / (float)n;
        draw_thing(s, canvas, random, from + (to - from) * share);
    }
}

void scene_draw_cover(const struct scene *s, struct canvas *canvas, struct random *random, float x, float y,
                      float size) {
    int tufts = random_below(random, 5);
    for (int i = 0; i < tufts; i++)
        draw_grass(s, canvas, random, x + between(random, -.7f, .7f) * size, y + size * between(random, 0, .1f),
                   size * between(random, .12f, .38f), size * between(random, .1f, .3f), 14);
    double kind = random_uniform(random);
    float side = x + between(random, -.55f, .55f) * size, front = y + size * between(random, .04f, .14f);
    if (kind < .18) draw_bush(s, canvas, random, side, front, size * between(random, .15f, .34f));
    else if (kind < .28) draw_trunk(s, canvas, random, side, front, size * between(random, .03f, .09f));
    else if (kind < .33) draw_rock(s, canvas, random, side, front, size * between(random, .1f, .22f));
    if (happens(random, .12)) { /* a twig across the view */
        float ty = y - size * between(random, .1f, .8f), slope = between(random, -.4f, .4f);
        struct colour c = seen(s, 1, s->bark, between(random, .6f, 1.1f));
        canvas_stroke(canvas, x - size, ty - slope * size, x + size, ty + slope * size, fmaxf(.6f, size * .015f),
                      fmaxf(.4f, size * .008f), c, 1);
    }
}
