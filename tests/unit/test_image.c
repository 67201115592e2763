/* Decoding, limits and damage, EXIF, fitting, the preprocessing's text form. */
#include "common/image.h"

#include "common/image_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jpeglib.h>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#include <stb/stb_image_write.h>

struct buffer {
    uint8_t *bytes;
    size_t length;
};

/* A picture whose quarters differ: red, green / blue, white. */
static uint8_t *quarters(int w, int h) {
    uint8_t *p = malloc((size_t)w * (size_t)h * 3);
    assert_non_null(p);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            static const uint8_t colour[4][3] = {{220, 20, 20}, {20, 200, 20}, {20, 20, 210}, {250, 250, 250}};
            memcpy(p + (y * w + x) * 3, colour[(y >= h / 2) * 2 + (x >= w / 2)], 3);
        }
    return p;
}

static struct buffer make_jpeg(int w, int h, bool progressive) {
    struct jpeg_compress_struct cinfo;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long length = 0;
    uint8_t *pixels = quarters(w, h);
    cinfo.err = jpeg_std_error(&errors);
    jpeg_create_compress(&cinfo);
    jpeg_mem_dest(&cinfo, &bytes, &length);
    cinfo.image_width = (JDIMENSION)w;
    cinfo.image_height = (JDIMENSION)h;
    cinfo.input_components = 3;
    cinfo.in_color_space = JCS_RGB;
    jpeg_set_defaults(&cinfo);
    jpeg_set_quality(&cinfo, 95, TRUE);
    if (progressive) jpeg_simple_progression(&cinfo);
    jpeg_start_compress(&cinfo, TRUE);
    while (cinfo.next_scanline < cinfo.image_height) {
        JSAMPROW row = pixels + (size_t)cinfo.next_scanline * (size_t)w * 3;
        jpeg_write_scanlines(&cinfo, &row, 1);
    }
    jpeg_finish_compress(&cinfo);
    jpeg_destroy_compress(&cinfo);
    free(pixels);
    return (struct buffer){bytes, length};
}

/* The JPEG with an EXIF segment behind its first marker. */
static struct buffer with_orientation(struct buffer jpeg, int orientation, bool big_endian) {
    uint8_t little[36] = {0xff,
                          0xe1,
                          0,
                          34,
                          'E',
                          'x',
                          'i',
                          'f',
                          0,
                          0,
                          'I',
                          'I',
                          '*',
                          0,
                          8,
                          0,
                          0,
                          0,
                          1,
                          0,
                          0x12,
                          1,
                          3,
                          0,
                          1,
                          0,
                          0,
                          0,
                          (uint8_t)orientation,
                          0,
                          0,
                          0};
    uint8_t big[36] = {0xff, 0xe1, 0, 34, 'E', 'x', 'i',  'f', 0, 0, 'M', 'M', 0, '*', 0,
                       0,    0,    8, 0,  1,   1,   0x12, 0,   3, 0, 0,   0,   1, 0,   (uint8_t)orientation,
                       0,    0};
    struct buffer out = {malloc(jpeg.length + 36), jpeg.length + 36};
    assert_non_null(out.bytes);
    memcpy(out.bytes, jpeg.bytes, 2);
    memcpy(out.bytes + 2, big_endian ? big : little, 36);
    memcpy(out.bytes + 38, jpeg.bytes + 2, jpeg.length - 2);
    free(jpeg.bytes);
    return out;
}

static void append(void *context, void *data, int size) {
    struct buffer *b = context;
    b->bytes = realloc(b->bytes, b->length + (size_t)size);
    assert_non_null(b->bytes);
    memcpy(b->bytes + b->length, data, (size_t)size);
    b->length += (size_t)size;
}

static struct buffer make_png(int w, int h) {
    struct buffer b = {0};
    uint8_t *pixels = quarters(w, h);
    assert_true(stbi_write_png_to_func(append, &b, w, h, 3, pixels, w * 3));
    free(pixels);
    return b;
}

static struct image_u8 decode(struct buffer b, int channels, enum image_decode how, int want_side) {
    struct image_u8 image;
    struct err err = {0};
    if (image_decode_u8(&image, "test", b.bytes, b.length, channels, how, want_side, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return image;
}

/* Which quarter's colour is at a corner (0 top left, 1 top right, 2, 3): 'r', 'g', 'b', 'w'. */
static char corner(const struct image_u8 *image, int which) {
    int x = which & 1 ? image->w - 3 : 2, y = which & 2 ? image->h - 3 : 2;
    const uint8_t *p = image->data + (y * image->w + x) * 3;
    bool r = p[0] > 128, g = p[1] > 128, b = p[2] > 128;
    return r && g && b ? 'w' : r ? 'r' : g ? 'g' : b ? 'b' : '?';
}

static void test_formats_agree(void **state) {
    struct buffer files[] = {make_jpeg(40, 24, false), make_jpeg(40, 24, true), make_png(40, 24)};
    for (int i = 0; i < 3; i++) {
        for (int how = IMAGE_EXACT; how <= IMAGE_FAST; how++) {
            struct image_u8 image = decode(files[i], 3, how, 0);
            assert_int_equal(image.w, 40);
            assert_int_equal(image.h, 24);
            char corners[5] = {corner(&image, 0), corner(&image, 1), corner(&image, 2), corner(&image, 3), 0};
            assert_string_equal(corners, "rgbw");
            image_u8_free(&image);
            image = decode(files[i], 1, how, 0);
            assert_int_equal(image.c, 1);
            assert_in_range(image.data[2 * 40 + 2], 70, 90); /* luma of the red */
            image_u8_free(&image);
        }
        free(files[i].bytes);
    }
}

static void test_encoding(void **state) {
    struct image_u8 image = {.c = 3, .h = 24, .w = 40, .data = quarters(40, 24)}, again;
    struct buffer jpeg;
    assert_int_equal(image_encode_jpeg(&image, 90, &jpeg.bytes, &jpeg.length, NULL), STATUS_OK);
    again = decode(jpeg, 3, IMAGE_EXACT, 0);
    for (int i = 0; i < 4; i++) assert_int_equal(corner(&again, i), corner(&image, i));
    image_u8_free(&again);
    free(jpeg.bytes);
    image.w = 70000; /* beyond what a JPEG can hold; nothing is read */
    assert_int_not_equal(image_encode_jpeg(&image, 90, &jpeg.bytes, &jpeg.length, NULL), STATUS_OK);
    image.c = 2;
    assert_int_equal(image_encode_jpeg(&image, 90, &jpeg.bytes, &jpeg.length, NULL), STATUS_USAGE);
    image_u8_free(&image);
}

static void test_reduced_decoding(void **state) {
    struct buffer jpeg = make_jpeg(800, 600, false), large = make_jpeg(2000, 1500, false);
    const struct {
        bool large;
        int want, w, h;
    } cases[] = {
        {false, 0, 800, 600}, {false, 600, 800, 600}, {false, 76, 800, 600}, {false, 75, 400, 300},
        {false, 32, 200, 150}, {false, 18, 100, 75}, {false, 1, 100, 75},
        /* More than a million pixels: without that margin. */
        {true, 800, 2000, 1500}, {true, 600, 1000, 750}, {true, 224, 1000, 750}, {true, 93, 500, 375}, {true, 1, 250, 188},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct image_u8 image = decode(cases[i].large ? large : jpeg, 3, IMAGE_FAST, cases[i].want);
        assert_int_equal(image.w, cases[i].w);
        assert_int_equal(image.h, cases[i].h);
        assert_int_equal(corner(&image, 1), 'g');
        image_u8_free(&image);
    }
    struct image_u8 exact = decode(jpeg, 3, IMAGE_EXACT, 32);
    assert_int_equal(exact.w, 800);
    image_u8_free(&exact);
    free(jpeg.bytes);
    free(large.bytes);
}

static void test_orientation(void **state) {
    /* Corner colours once upright, for each of EXIF's eight. */
    static const char *const upright[9] = {"rgbw", "rgbw", "grwb", "wbgr", "bwrg", "rbgw", "brwg", "wgbr", "gwrb"};
    for (int orientation = 0; orientation <= 8; orientation++) {
        struct buffer jpeg = with_orientation(make_jpeg(48, 32, false), orientation, orientation & 1);
        struct image_u8 image = decode(jpeg, 3, IMAGE_FAST, 0);
        char corners[5] = {corner(&image, 0), corner(&image, 1), corner(&image, 2), corner(&image, 3), 0};
        assert_string_equal(corners, upright[orientation]);
        assert_int_equal(image.w, orientation >= 5 ? 32 : 48);
        image_u8_free(&image);
        image = decode(jpeg, 3, IMAGE_EXACT, 0);
        assert_int_equal(image.w, 48);
        assert_int_equal(corner(&image, 0), 'r');
        image_u8_free(&image);
        free(jpeg.bytes);
    }
}

static void test_exif_bounds(void **state) {
    /* Every byte of the EXIF segment, set to the extremes: never out of bounds, always a picture or an error. */
    struct buffer jpeg = with_orientation(make_jpeg(16, 16, false), 6, false);
    for (size_t i = 4; i < 38; i++) {
        for (int value = 0; value < 256; value += 51) {
            uint8_t was = jpeg.bytes[i], *copy = malloc(jpeg.length);
            assert_non_null(copy);
            jpeg.bytes[i] = (uint8_t)value;
            memcpy(copy, jpeg.bytes, jpeg.length); /* its own allocation, so that a sanitizer sees the end */
            struct jpeg_markers markers = image_jpeg_markers(copy, jpeg.length);
            assert_in_range(markers.orientation, 1, 8);
            markers = image_jpeg_markers(copy, i);
            assert_non_null(markers.damage);
            free(copy);
            jpeg.bytes[i] = was;
        }
    }
    free(jpeg.bytes);
}

static void expect_error(const uint8_t *bytes, size_t length, enum status status, const char *text) {
    for (int how = IMAGE_EXACT; how <= IMAGE_FAST; how++) {
        struct image_u8 image = {.w = 77};
        struct err err = {0};
        assert_int_equal(image_decode_u8(&image, "x.jpg", bytes, length, 3, how, 32, &err), status);
        if (!strstr(err.text, "x.jpg: ") || !strstr(err.text, text)) fail_msg("'%s', not '%s'", err.text, text);
        assert_int_equal(image.w, 77);
    }
}

static void test_bad_files(void **state) {
    const char *text = "this is no picture at all, whatever its name says\n";
    expect_error((const uint8_t *)text, strlen(text), STATUS_FORMAT, "not an image");
    expect_error((const uint8_t *)"", 0, STATUS_FORMAT, "empty");
    struct buffer jpeg = make_jpeg(64, 48, false), progressive = make_jpeg(64, 48, true), png = make_png(64, 48);
    for (size_t length = 1; length < jpeg.length; length += 13)
        expect_error(jpeg.bytes, length, STATUS_FORMAT, length < 3 ? "not an image" : "");
    expect_error(jpeg.bytes, jpeg.length - 1, STATUS_FORMAT, "damaged JPEG");
    expect_error(progressive.bytes, progressive.length * 2 / 3, STATUS_FORMAT, "");
    expect_error(png.bytes, png.length / 2, STATUS_FORMAT, "damaged image");

    /* Sizes are refused before anything is decoded. */
    for (size_t i = 0; i + 8 < jpeg.length; i++) {
        if (jpeg.bytes[i] != 0xff || jpeg.bytes[i + 1] != 0xc0) continue;
        jpeg.bytes[i + 5] = jpeg.bytes[i + 7] = 60000 >> 8;
        jpeg.bytes[i + 6] = jpeg.bytes[i + 8] = 60000 & 255;
        break;
    }
    expect_error(jpeg.bytes, jpeg.length, STATUS_LIMIT, "60000 x 60000 pixels are more than the limit of 100 million");
    free(jpeg.bytes);
    free(progressive.bytes);
    free(png.bytes);
}

static void test_flipped_bits(void **state) {
    struct buffer files[] = {make_jpeg(40, 24, false), make_jpeg(40, 24, true), make_png(40, 24)};
    uint32_t random = 1;
    for (int i = 0; i < 3; i++) {
        for (int round = 0; round < 300; round++) {
            uint8_t *copy = malloc(files[i].length);
            assert_non_null(copy);
            memcpy(copy, files[i].bytes, files[i].length);
            for (int flips = 0; flips < 1 + round % 4; flips++) {
                random = random * 1664525u + 1013904223u;
                copy[(random >> 8) % files[i].length] ^= (uint8_t)(1u << (random >> 5 & 7));
            }
            for (int how = IMAGE_EXACT; how <= IMAGE_FAST; how++) {
                struct image_u8 image;
                if (image_decode_u8(&image, "x", copy, files[i].length, 3, how, 8, NULL) == STATUS_OK)
                    image_u8_free(&image);
            }
            free(copy);
        }
        free(files[i].bytes);
    }
}

static void test_load(void **state) {
    struct image image;
    struct err err = {0};
    char path[] = "/tmp/espalier_image_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    struct buffer png = make_png(5, 4);
    assert_int_equal(write(fd, png.bytes, png.length), (ssize_t)png.length);
    close(fd);
    assert_int_equal(image_load(&image, path, 3, IMAGE_EXACT, 0, &err), STATUS_OK);
    assert_int_equal(image.c, 3);
    assert_true(image.data[0] == 220 / 255.0f && image.data[20] == 20 / 255.0f && image.data[4] == 20 / 255.0f);
    image_free(&image);
    unlink(path);
    free(png.bytes);
    assert_int_equal(image_load(&image, path, 3, IMAGE_EXACT, 0, &err), STATUS_IO);
    assert_int_equal(image_load(&image, "/tmp", 3, IMAGE_FAST, 0, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "/tmp"));
}

/* The one-pass fit equals the same steps one by one on floats. */
static void test_fit(void **state) {
    static const int sizes[][4] = {{40, 24, 16, 16}, {24, 40, 16, 16}, {7, 5, 20, 13},
                                   {1, 1, 4, 4},     {300, 2, 9, 9},   {33, 32, 12, 8}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int iw = sizes[i][0], ih = sizes[i][1], w = sizes[i][2], h = sizes[i][3];
        struct buffer png = make_png(iw, ih);
        struct image full, fitted = {0}, window;
        assert_int_equal(image_decode(&full, "x", png.bytes, png.length, 3, IMAGE_EXACT, 0, NULL), STATUS_OK);
        for (int fit = IMAGE_LETTERBOX; fit <= IMAGE_STRETCH; fit++) {
            struct image_preproc preproc = {.c = 3,
                                            .h = h,
                                            .w = w,
                                            .fit = fit,
                                            .decode = IMAGE_EXACT,
                                            .mean = {.1f, .2f, .3f},
                                            .std = {.5f, 1, 2}};
            float *input = malloc(sizeof *input * 3 * (size_t)h * (size_t)w);
            assert_non_null(input);
            assert_int_equal(image_preprocess(&preproc, "x", png.bytes, png.length, input, NULL), STATUS_OK);
            if (fit == IMAGE_LETTERBOX) {
                assert_int_equal(image_letterbox(&fitted, &full, w, h, NULL), STATUS_OK);
            } else if (fit == IMAGE_STRETCH) {
                assert_int_equal(image_resize(&fitted, &full, w, h, NULL), STATUS_OK);
            } else {
                int cw = iw * h > ih * w ? ih * w / h : iw, ch = iw * h > ih * w ? ih : iw * h / w;
                cw = cw < 1 ? 1 : cw;
                ch = ch < 1 ? 1 : ch;
                assert_int_equal(image_crop(&window, &full, (iw - cw) / 2, (ih - ch) / 2, cw, ch, NULL), STATUS_OK);
                assert_int_equal(image_resize(&fitted, &window, w, h, NULL), STATUS_OK);
                image_free(&window);
            }
            for (int k = 0; k < 3; k++)
                for (int p = 0; p < h * w; p++) {
                    float expected = (fitted.data[k * h * w + p] - preproc.mean[k]) / preproc.std[k];
                    if (input[k * h * w + p] != expected)
                        fail_msg("%d x %d to %d x %d, fit %d: channel %d pixel %d is %g, not %g", iw, ih, w, h, fit, k,
                                 p, (double)input[k * h * w + p], (double)expected);
                }
            image_free(&fitted);
            free(input);
        }
        image_free(&full);
        free(png.bytes);
    }
}

/* 32 rows to 8: Darknet's rounding leaves the last row dark; models trained here get it whole. */
static void test_last_row(void **state) {
    uint8_t white[32 * 8];
    float input[8 * 8];
    memset(white, 255, sizeof white);
    struct image_u8 image = {.c = 1, .h = 32, .w = 8, .data = white};
    struct image_preproc preproc = {.c = 1, .h = 8, .w = 8, .fit = IMAGE_STRETCH, .decode = IMAGE_EXACT, .std = {1}};
    assert_int_equal(image_fit(&preproc, &image, input, NULL), STATUS_OK);
    assert_true(input[63] < 1e-3f);
    preproc.decode = IMAGE_FAST;
    assert_int_equal(image_fit(&preproc, &image, input, NULL), STATUS_OK);
    for (int i = 0; i < 64; i++) assert_true(input[i] > 0.999f);
}

/* The antialiased resize (its values: tests/golden/test_torchvision.c) of pictures
 * of every proportion: weights sum to one, and nothing beyond the picture is read. */
static void test_resize_crop(void **state) {
    static const int sizes[][2] = {{1, 1}, {1, 5000}, {7000, 1}, {2, 3}, {11, 300}, {256, 256}, {999, 13}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int w = sizes[i][0], h = sizes[i][1];
        uint8_t *grey = malloc((size_t)w * (size_t)h);
        memset(grey, 51, (size_t)w * (size_t)h);
        const struct image_u8 image = {.c = 1, .h = h, .w = w, .data = grey};
        for (int resize = 9; resize <= 16384; resize = resize * 7 + 1) {
            float out[8 * 9];
            assert_int_equal(image_resize_crop(&image, resize, 9, 8, out, NULL), STATUS_OK);
            for (int k = 0; k < 72; k++) assert_float_equal(out[k], .2f, 1e-5);
        }
        free(grey);
    }
}

static void test_preproc_text(void **state) {
    struct image_preproc in = {.c = 3,
                               .h = 48,
                               .w = 64,
                               .fit = IMAGE_CROP,
                               .decode = IMAGE_FAST,
                               .mean = {.4914f, 1 / 3.0f, 0},
                               .std = {.2023f, 1, 1e-3f}},
                         out = {0};
    char *text = image_preproc_json(&in);
    assert_string_equal(text, "{\"channels\":3,\"height\":48,\"width\":64,\"fit\":\"crop\",\"decode\":\"fast\","
                              "\"mean\":[0.4914,0.33333334,0],\"std\":[0.2023,1,0.001]}");
    assert_int_equal(image_preproc_parse(&out, text, NULL), STATUS_OK);
    assert_memory_equal(&in, &out, sizeof in);
    free(text);
    in.resize = 73;
    text = image_preproc_json(&in);
    assert_non_null(strstr(text, "\"decode\":\"fast\",\"resize\":73,\"mean\""));
    assert_int_equal(image_preproc_parse(&out, text, NULL), STATUS_OK);
    assert_memory_equal(&in, &out, sizeof in);
    free(text);
    static const char *const bad[] = {
        "{\"channels\":1,\"height\":4,\"width\":4,\"fit\":\"crop\",\"decode\":\"fast\",\"resize\":3,\"mean\":[0],\"std\":[1]}",
        "{\"channels\":1,\"height\":4,\"width\":4,\"fit\":\"crop\",\"decode\":\"fast\",\"resize\":-1,\"mean\":[0],\"std\":[1]}",
        "{\"channels\":1,\"height\":4,\"width\":4,\"fit\":\"stretch\",\"decode\":\"fast\",\"resize\":5,\"mean\":[0],\"std\":[1]}",
        "",
        "[]",
        "nonsense",
        "{\"channels\":2}",
        "{\"channels\":1,\"height\":0,\"width\":4,\"fit\":\"crop\",\"decode\":\"fast\",\"mean\":[0],\"std\":[1]}",
        "{\"channels\":1,\"height\":1e9,\"width\":4,\"fit\":\"crop\",\"decode\":\"fast\",\"mean\":[0],\"std\":[1]}",
        "{\"channels\":1,\"height\":4,\"width\":4,\"fit\":\"cut\",\"decode\":\"fast\",\"mean\":[0],\"std\":[1]}",
        "{\"channels\":1,\"height\":4,\"width\":4,\"fit\":\"crop\",\"decode\":7,\"mean\":[0],\"std\":[1]}",
        "{\"channels\":1,\"height\":4,\"width\":4,\"fit\":\"crop\",\"decode\":\"fast\",\"mean\":[0],\"std\":[0]}",
        "{\"channels\":1,\"height\":4,\"width\":4,\"fit\":\"crop\",\"decode\":\"fast\",\"mean\":[0,0],\"std\":[1]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {0};
        assert_int_equal(image_preproc_parse(&out, bad[i], &err), STATUS_FORMAT);
        assert_non_null(strstr(err.text, "preprocessing"));
        assert_memory_equal(&in, &out, sizeof in);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats_agree), cmocka_unit_test(test_reduced_decoding),
        cmocka_unit_test(test_encoding),      cmocka_unit_test(test_orientation),
        cmocka_unit_test(test_exif_bounds),   cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_flipped_bits),  cmocka_unit_test(test_load),
        cmocka_unit_test(test_fit),           cmocka_unit_test(test_last_row),
        cmocka_unit_test(test_resize_crop),   cmocka_unit_test(test_preproc_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
