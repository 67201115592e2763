/* Flip, pad-and-crop, Darknet's random crop and colour changes. */
#include "train/augment.h"

#include "common/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { W = 6, H = 5 };

static uint8_t pixels[H * W * 3];
static struct image_u8 image = {.c = 3, .h = H, .w = W, .data = pixels};
static struct image_preproc preproc = {
    .c = 3, .h = H, .w = W, .fit = IMAGE_STRETCH, .decode = IMAGE_FAST, .mean = {.1f, .2f, .3f}, .std = {.5f, 1, 2}};

static int make_pixels(void **state) {
    for (int i = 0; i < H * W * 3; i++) pixels[i] = (uint8_t)(i * 37 + 11);
    return 0;
}

static void apply(const struct augment *augment, uint64_t seed, float *out) {
    struct augment_scratch scratch = {0};
    struct err err = {0};
    if (augment_apply(augment, &preproc, &image, seed, &scratch, out, &err) != STATUS_OK) fail_msg("%s", err.text);
    augment_scratch_free(&scratch);
}

/* The value of source pixel (x, y), black outside, normalised. */
static float source(int x, int y, int c) {
    float v = x < 0 || y < 0 || x >= W || y >= H ? 0 : (float)pixels[(y * W + x) * 3 + c] / 255.0f;
    return (v - preproc.mean[c]) / preproc.std[c];
}

static bool is_shift(const float *out, int dx, int dy, bool flip) {
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                if (fabsf(out[(c * H + y) * W + x] - source((flip ? W - 1 - x : x) + dx, y + dy, c)) > 1e-6f)
                    return false;
    return true;
}

static void test_none(void **state) {
    struct augment none = augment_none();
    float out[3 * H * W];
    for (uint64_t seed = 0; seed < 5; seed++) {
        apply(&none, seed, out);
        assert_true(is_shift(out, 0, 0, false));
    }
}

/* Every seed gives one of the (2 pad + 1)^2 * 2 shifts, and all of them come. */
static void shifts_come(struct augment augment, int pad) {
    float out[3 * H * W];
    int met[7][7][2] = {0}, kinds = 0;
    for (uint64_t seed = 0; seed < 600; seed++) {
        int found = 0;
        apply(&augment, seed, out);
        for (int dy = -pad; dy <= pad; dy++)
            for (int dx = -pad; dx <= pad; dx++)
                for (int flip = 0; flip < 2; flip++)
                    if (is_shift(out, dx, dy, flip)) {
                        found++;
                        kinds += !met[dy + pad][dx + pad][flip]++;
                    }
        assert_int_equal(found, 1);
    }
    assert_int_equal(kinds, (2 * pad + 1) * (2 * pad + 1) * 2);
}

static void test_flip_and_shift(void **state) {
    struct augment augment = augment_none();
    augment.flip = true;
    shifts_come(augment, 0);
    augment.pad = 2;
    shifts_come(augment, 2);
    augment.exposure = 1 + 1e-7f; /* the way through floats must give the same */
    shifts_come(augment, 2);
    augment.exposure = 1;
    augment.pad = 40; /* mostly all black */
    float out[3 * H * W];
    for (uint64_t seed = 0; seed < 50; seed++) apply(&augment, seed, out);
}

static void test_same_seed_same_picture(void **state) {
    struct augment augment = {.flip = true,
                              .min_crop = 4,
                              .max_crop = 9,
                              .angle = 20,
                              .aspect = 1.3f,
                              .hue = .1f,
                              .saturation = 1.5f,
                              .exposure = 1.5f};
    float a[3 * H * W], b[3 * H * W];
    int differ = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        apply(&augment, seed, a);
        apply(&augment, seed, b);
        assert_memory_equal(a, b, sizeof a);
        apply(&augment, seed + 1, b);
        differ += memcmp(a, b, sizeof a) != 0;
        for (int i = 0; i < 3 * H * W; i++) {
            int c = i / (H * W);
            float v = a[i] * preproc.std[c] + preproc.mean[c];
            assert_true(v >= -1e-6f && v <= 1 + 1e-6f);
        }
    }
    assert_int_equal(differ, 20);
}

/* A crop of the image's own size and no turn is the image: Darknet's CIFAR setting. */
static void test_crop_of_own_size(void **state) {
    struct augment augment = augment_none();
    float out[3 * H * W];
    augment.min_crop = augment.max_crop = H;
    for (uint64_t seed = 0; seed < 20; seed++) {
        apply(&augment, seed, out);
        assert_true(is_shift(out, 0, 0, false));
    }
}

/* Twice the size: the window lies within the picture, so black comes in by half a pixel at most. */
static void test_crop_within(void **state) {
    struct augment augment = augment_none();
    float out[3 * H * W];
    augment.min_crop = augment.max_crop = 2 * H;
    memset(pixels, 255, sizeof pixels);
    for (uint64_t seed = 0; seed < 50; seed++) {
        int black = 0;
        apply(&augment, seed, out);
        for (int i = 0; i < H * W; i++) black += out[i] * .5f + .1f < .249f;
        assert_int_equal(black, 0);
    }
    make_pixels(NULL);
}

static void test_colour(void **state) {
    struct augment augment = augment_none();
    float out[3 * H * W], plain[3 * H * W];
    for (int c = 0; c < 3; c++) preproc.mean[c] = 0, preproc.std[c] = 1;
    struct augment none = augment_none();
    apply(&none, 0, plain);

    augment.hue = 1e-6f; /* to HSV and back */
    apply(&augment, 1, out);
    for (int i = 0; i < 3 * H * W; i++) assert_true(fabsf(out[i] - plain[i]) < 1e-4f);

    augment.hue = .5f; /* hue keeps value and the smallest channel */
    apply(&augment, 1, out);
    int moved = 0;
    for (int i = 0; i < H * W; i++) {
        float max = 0, min = 1, max0 = 0, min0 = 1;
        for (int c = 0; c < 3; c++) {
            max = fmaxf(max, out[c * H * W + i]);
            min = fminf(min, out[c * H * W + i]);
            max0 = fmaxf(max0, plain[c * H * W + i]);
            min0 = fminf(min0, plain[c * H * W + i]);
        }
        float change = 0;
        for (int c = 0; c < 3; c++) change = fmaxf(change, fabsf(out[c * H * W + i] - plain[c * H * W + i]));
        moved += change > .01f;
        assert_true(fabsf(max - max0) < 1e-5f && fabsf(min - min0) < 1e-5f);
    }
    assert_true(moved > H * W / 2);

    augment = augment_none();
    augment.exposure = 2; /* one factor for the whole picture, in [.5, 2] */
    for (uint64_t seed = 0; seed < 20; seed++) {
        float factor = -1;
        apply(&augment, seed, out);
        for (int i = 0; i < 3 * H * W; i++) {
            if (plain[i] < .05f || out[i] > .999f) continue;
            float f = out[i] / plain[i];
            if (factor < 0) factor = f;
            assert_true(f > .499f && f < 2.001f);
        }
    }
    make_pixels(NULL);
}

static struct augment parse(const char *text, enum status expected, const char *message) {
    struct cfg *cfg;
    struct augment augment = augment_none();
    struct err err = {0};
    assert_int_equal(cfg_parse(&cfg, "x.cfg", text, strlen(text), NULL), STATUS_OK);
    assert_int_equal(augment_from_cfg(&augment, cfg, &err), expected);
    if (message && !strstr(err.text, message)) fail_msg("'%s', not '%s'", err.text, message);
    cfg_destroy(&cfg);
    return augment;
}

static void test_cfg(void **state) {
    struct augment a = parse("[net]\nwidth=224\n", STATUS_OK, NULL);
    assert_true(a.flip && a.pad == 0 && a.min_crop == 224 && a.max_crop == 448 && a.aspect == 1 && a.exposure == 1);
    a = parse("[net]\nwidth=28\nmin_crop=32\nmax_crop=32\nhue=.1\nsaturation=.75\n", STATUS_OK, NULL);
    assert_true(a.min_crop == 32 && a.max_crop == 32 && a.hue == .1f && a.saturation == .75f);
    a = parse("[network]\nwidth=32\npad_crop=4\nflip=0\n", STATUS_OK, NULL);
    assert_true(!a.flip && a.pad == 4 && a.max_crop == 0);
    parse("[net]\nwidth=32\n\nmin_crop=60\nmax_crop=50\n", STATUS_FORMAT, "x.cfg:5: min_crop=60 is above max_crop=50");
    parse("[net]\nwidth=32\nsaturation=0\n", STATUS_FORMAT, "x.cfg:3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_flip_and_shift),
        cmocka_unit_test(test_same_seed_same_picture),
        cmocka_unit_test(test_crop_of_own_size),
        cmocka_unit_test(test_crop_within),
        cmocka_unit_test(test_colour),
        cmocka_unit_test(test_cfg),
    };
    return cmocka_run_group_tests(tests, make_pixels, NULL);
}
