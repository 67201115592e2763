/* Resize, letterbox and crop against Darknet's own, value for value
 * (tests/golden/image_darknet.txt, made by image_darknet.py). */
#include "common/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct image pattern(int c, int h, int w) {
    struct image image;
    assert_int_equal(image_create(&image, c, h, w, NULL), STATUS_OK);
    for (int i = 0; i < c * h * w; i++) image.data[i] = (float)((uint32_t)i * 2654435761u >> 8) / 16777216.0f;
    return image;
}

static void next_values(FILE *file, const char *operation, const struct image *out) {
    for (int i = 0; i < out->c * out->h * out->w; i++) {
        double expected;
        assert_int_equal(fscanf(file, "%lf", &expected), 1);
        if (out->data[i] != (float)expected)
            fail_msg("%s to %d x %d: value %d is %.9g, Darknet's %.9g", operation, out->w, out->h, i,
                     (double)out->data[i], expected);
    }
}

static void test_against_darknet(void **state) {
    FILE *file = fopen("tests/golden/image_darknet.txt", "r");
    assert_non_null(file);
    char operation[32];
    int c, h, w, cases = 0;
    for (; fscanf(file, "%31s %d %d %d", operation, &c, &h, &w) == 4; cases++) {
        struct image in = pattern(c, h, w), out;
        int x = 0, y = 0, ow, oh;
        if (strcmp(operation, "crop_image") == 0) assert_int_equal(fscanf(file, "%d %d", &x, &y), 2);
        assert_int_equal(fscanf(file, "%d %d", &ow, &oh), 2);
        if (strcmp(operation, "resize_image") == 0) {
            assert_int_equal(image_resize(&out, &in, ow, oh, NULL), STATUS_OK);
        } else if (strcmp(operation, "letterbox_image") == 0) {
            assert_int_equal(image_letterbox(&out, &in, ow, oh, NULL), STATUS_OK);
        } else if (strcmp(operation, "crop_image") == 0) {
            assert_int_equal(image_crop(&out, &in, x, y, ow, oh, NULL), STATUS_OK);
        } else {
            struct image square;
            int side = w < h ? w : h;
            assert_string_equal(operation, "center_crop_image");
            assert_int_equal(image_crop(&square, &in, (w - side) / 2, (h - side) / 2, side, side, NULL), STATUS_OK);
            assert_int_equal(image_resize(&out, &square, ow, oh, NULL), STATUS_OK);
            image_free(&square);
        }
        next_values(file, operation, &out);
        image_free(&in);
        image_free(&out);
    }
    assert_int_equal(cases, 10);
    fclose(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_darknet)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
