/* The drawn dataset: whole, the same from the same seed, readable, and never
 * written over something else. */
#include "train/synth.h"

#include "common/file.h"
#include "common/image.h"
#include "train/dataset.h"
#include "train/synth/animal.h"
#include "train/synth/picture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static const char *at(const char *name) {
    static char full[2][256];
    static int next;
    next = !next;
    snprintf(full[next], sizeof full[next], "%s/%s", root, name);
    return full[next];
}

static int make_root(void **state) {
    strcpy(root, "/tmp/espalier_synth_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state) {
    char command[96];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static struct synth_config small(int threads) {
    struct synth_config config = synth_defaults();
    config.images = 160;
    config.size = 64;
    config.threads = threads;
    config.seed = 3;
    return config;
}

static void write_good(const char *name, struct synth_config config) {
    struct err err = {0};
    if (synth_write(at(name), &config, &err) != STATUS_OK) fail_msg("%s", err.text);
}

static void expect_refusal(const char *name, struct synth_config config, const char *text) {
    struct err err = {0};
    assert_int_equal(synth_write(at(name), &config, &err), STATUS_USAGE);
    if (!strstr(err.text, text)) fail_msg("'%s', not '%s'", err.text, text);
}

static void test_whole_and_the_same(void **state) {
    write_good("one", small(1));
    write_good("three", small(3));
    for (int split = DATASET_TRAIN; split <= DATASET_TEST; split++) {
        struct dataset *a, *b;
        char path[256];
        snprintf(path, sizeof path, "%s/synth.data", at("one"));
        assert_int_equal(dataset_open(&a, path, split, NULL), STATUS_OK);
        assert_int_equal(dataset_open(&b, at("three"), split, NULL), STATUS_OK); /* as class folders */
        assert_int_equal(a->n, split == DATASET_TRAIN ? 128 : 16);
        assert_int_equal(b->n, a->n);
        assert_int_equal(a->nclasses, 8);
        int count[8] = {0};
        for (int i = 0; i < a->n; i++) {
            uint8_t *x, *y;
            size_t nx, ny;
            struct image_u8 image;
            char other[256];
            snprintf(other, sizeof other, "%s/three%s", root, a->samples[i].path + strlen(root) + strlen("/one"));
            assert_int_equal(file_read(a->samples[i].path, 1 << 20, &x, &nx, NULL), STATUS_OK);
            assert_int_equal(file_read(other, 1 << 20, &y, &ny, NULL), STATUS_OK);
            assert_int_equal(nx, ny);
            assert_memory_equal(x, y, nx);
            assert_int_equal(image_decode_u8(&image, other, x, nx, 3, IMAGE_FAST, 0, NULL), STATUS_OK);
            assert_int_equal(image.w, 64);
            assert_int_equal(image.h, 48);
            image_u8_free(&image);
            free(x);
            free(y);
            count[a->samples[i].label]++;
        }
        for (int c = 0; c < 8; c++) {
            assert_int_equal(count[c], a->n / 8);
            assert_string_equal(a->labels[c], b->labels[c]);
        }
        dataset_close(&a);
        dataset_close(&b);
    }
}

static void test_refusals(void **state) {
    struct synth_config config = small(1);
    write_good("again", config);
    write_good("again", config); /* the same once more is no harm */
    config.seed = 4;
    expect_refusal("again", config, "holds another dataset: espalier-train synth --images 160 --size 64 --seed 3");
    assert_int_equal(mkdir(at("mine"), 0777), 0);
    assert_int_equal(mkdir(at("mine/photos"), 0777), 0);
    expect_refusal("mine", config, "is not empty");
    assert_int_not_equal(access(at("mine/.synth"), F_OK), 0);
    config.images = 79;
    expect_refusal("new", config, "at least ten per class");
    config = small(1);
    config.size = 20;
    expect_refusal("new", config, "20 pixels");
    config = small(1);
    config.classes = "fox,dear";
    expect_refusal("new", config, "no class 'dear'");
    config.classes = "fox";
    expect_refusal("new", config, "two classes");
    assert_int_not_equal(access(at("new"), F_OK), 0);
    config.classes = "fox,empty,deer";
    write_good("new", config);
    struct dataset *d;
    assert_int_equal(dataset_open(&d, at("new"), DATASET_TRAIN, NULL), STATUS_OK);
    assert_int_equal(d->nclasses, 3);
    assert_string_equal(d->labels[1], "empty");
    dataset_close(&d);
}

/* Every animal in many poses: finite, on its feet, of about the size asked for. */
static void test_poses(void **state) {
    for (int s = 0; s < species_count; s++) {
        for (int i = 0; i < 300; i++) {
            struct animal animal;
            struct random random = random_stream(9, (uint64_t)s, (uint64_t)i);
            animal_choose(&animal, &species_table[s], &random, 100, i & 1);
            float w = animal.right - animal.left, h = animal.bottom - animal.top;
            assert_in_range(animal.nparts, 10, ANIMAL_MAX_PARTS - 1);
            assert_true(isfinite(w) && isfinite(h));
            assert_true(w > 20 && w < 130 && h > 20 && h < 130);
            assert_true(fabsf(animal.left + animal.right) < .01f);
            assert_true(animal.bottom >= 0 && animal.bottom < 30);
            for (int p = 0; p < animal.nparts; p++) assert_true(animal.parts[p].ra > 0 && animal.parts[p].rb > 0);
        }
    }
}

/* Sizes other than the usual, and a picture drawn after others is the same as one drawn first. */
static void test_painter(void **state) {
    static const int widths[] = {64, 161, 320};
    for (int k = 0; k < 3; k++) {
        int w = widths[k], h = w * 3 / 4;
        struct painter a, b;
        assert_int_equal(painter_init(&a, w, h, NULL), STATUS_OK);
        assert_int_equal(painter_init(&b, w, h, NULL), STATUS_OK);
        for (uint64_t i = 0; i < 6; i++) painter_draw(&a, i ? &species_table[i] : NULL, random_stream(1, 2, i));
        painter_draw(&b, &species_table[5], random_stream(1, 2, 5));
        assert_memory_equal(a.bytes, b.bytes, (size_t)w * (size_t)h * 3);
        painter_draw(&b, NULL, random_stream(1, 2, 5));
        assert_memory_not_equal(a.bytes, b.bytes, (size_t)w * (size_t)h * 3);
        painter_fini(&a);
        painter_fini(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_and_the_same), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_poses),              cmocka_unit_test(test_painter),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
