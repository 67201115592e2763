#include "common/quantize.h"
#include "deploy/codec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { C = 5, HW = 37 }; /* odd, for the half-filled nibble */

static struct codec_state *state;

static int setup(void **unused) {
    return codec_create(&state, NULL);
}
static int teardown(void **unused) {
    codec_destroy(&state);
    return 0;
}

static uint32_t random_state = 1;
static float uniform(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / 16777216.0f;
}

/* Channel 0 like a ReLU's, 1 signed, 2 constant, 3 all zero, 4 far from zero. */
static void fill(float map[C * HW]) {
    for (int i = 0; i < HW; i++) {
        float signed_value = uniform() * 6 - 3;
        map[i] = signed_value > 0 ? signed_value : 0;
        map[HW + i] = i % 7 == 0 ? 0 : uniform() * 10 - 3;
        map[2 * HW + i] = 1.7f;
        map[3 * HW + i] = 0;
        map[4 * HW + i] = 1000 + uniform();
    }
}

static void round_trip(enum codec codec, const float *map, int c, int hw, float *back) {
    struct err err;
    size_t bound = codec_raw_size(codec, c, hw), length = 0;
    uint8_t *bytes = malloc(bound);
    assert_int_equal(codec_encode(state, codec, map, c, hw, bytes, &length, &err), STATUS_OK);
    assert_true(length <= bound);
    uint8_t *exact = malloc(length ? length : 1); /* so that a sanitizer sees reads past the end */
    memcpy(exact, bytes, length);
    assert_int_equal(codec_decode(state, codec, exact, length, c, hw, back, &err), STATUS_OK);
    free(bytes);
    free(exact);
}

static void error_is_bounded(void **unused) {
    float map[C * HW], back[C * HW];
    for (int round = 0; round < 20; round++) {
        fill(map);
        for (enum codec codec = 0; codec < CODEC_COUNT; codec++) {
            round_trip(codec, map, C, HW, back);
            for (int k = 0; k < C; k++) {
                float lo = INFINITY, hi = -INFINITY;
                int first = quantize_form(codec).tensor ? -k * HW : 0, last = quantize_form(codec).tensor ? (C - k) * HW : HW;
                for (int i = first; i < last; i++) lo = fminf(lo, map[k * HW + i]), hi = fmaxf(hi, map[k * HW + i]);
                for (int i = 0; i < HW; i++) {
                    float x = map[k * HW + i], y = back[k * HW + i], bound = 0;
                    if (codec == CODEC_F16 || codec == CODEC_F16Z) bound = fabsf(x) / 2048;
                    if (quantize_form(codec).bits == 8) bound = (hi - lo) / 508 + fabsf(x) * 1e-6f;
                    if (quantize_form(codec).bits == 4) bound = (hi - lo) / 28 + fabsf(x) * 1e-6f;
                    assert_true(fabsf(y - x) <= bound);
                    if (x == 0) assert_true(y == 0);
                }
            }
        }
    }
}

/* What the trainer takes a link to do is what it does, whatever the layout. */
static void rounding_is_coding(void **unused) {
    float map[C * HW], back[C * HW], apart[HW * C];
    fill(map);
    for (enum codec codec = 0; codec < CODEC_COUNT; codec++) {
        round_trip(codec, map, C, HW, back);
        for (int k = 0; k < C; k++)
            for (int i = 0; i < HW; i++) apart[i * C + k] = map[k * HW + i];
        quantize_round(codec, apart, HW, C);
        for (int k = 0; k < C; k++)
            for (int i = 0; i < HW; i++) assert_true(apart[i * C + k] == back[k * HW + i]);
    }
}

static void single_values(void **unused) {
    for (enum codec codec = 0; codec < CODEC_COUNT; codec++) {
        float one = -2.5f, back = 0;
        round_trip(codec, &one, 1, 1, &back);
        assert_true(back == one);
    }
}

static void float16_is_ieee(void **unused) {
    static const struct {
        float in, out;
    } cases[] = {
        { 1, 1 }, { -0.0f, -0.0f }, { 65504, 65504 }, { 65519, 65504 }, { 1e9f, 65504 }, { -INFINITY, -65504 },
        { 0x1p-24f, 0x1p-24f }, { 0x1p-25f, 0 }, { 0x1.8p-24f, 0x1p-23f }, { 0x1p-14f, 0x1p-14f },
        { 1 + 0x1p-11f, 1 }, { 1 + 0x1.8p-10f, 1 + 0x1p-9f }, { 0x1.ffcp15f, 65504 }, { 1e-30f, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float back;
        round_trip(CODEC_F16, &cases[i].in, 1, 1, &back);
        assert_memory_equal(&back, &cases[i].out, 4);
    }
}

static void extremes_stay_finite(void **unused) {
    float map[8] = { NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-44f, 0, 5 }, back[8];
    for (enum codec codec = CODEC_F16; codec < CODEC_COUNT; codec++) {
        round_trip(codec, map, 1, 8, back);
        for (int i = 0; i < 8; i++) assert_true(isfinite(back[i]));
        assert_true(back[0] == 0 && back[6] == 0);
    }
    float tiny[4] = { -1e-40f, 1e-40f, 0, 1e-41f }; /* a step would be subnormal */
    round_trip(CODEC_Q8, tiny, 1, 4, back);
    assert_true(back[2] == 0 && fabsf(back[1]) <= 2e-40f);
}

static void sparse_maps_shrink(void **unused) {
    static float map[16 * 256];
    for (int i = 0; i < 16 * 256; i++) map[i] = i % 5 == 0 ? uniform() : 0;
    uint8_t *bytes = malloc(codec_raw_size(CODEC_F32Z, 16, 256));
    size_t length;
    static const enum codec z[] = { CODEC_F32Z, CODEC_F16Z, CODEC_Q8Z, CODEC_Q8TZ, CODEC_Q4Z, CODEC_Q4TZ };
    for (size_t i = 0; i < sizeof z / sizeof *z; i++) {
        assert_int_equal(codec_encode(state, z[i], map, 16, 256, bytes, &length, NULL), STATUS_OK);
        assert_true(length < codec_raw_size(z[i], 16, 256) * 6 / 10);
    }
    free(bytes);
}

/* Of a few values a stream is no shorter than they are, and so not used. */
static void small_maps_do_not_grow(void **unused) {
    float map[128], back[128];
    uint8_t bytes[4 * 128];
    for (int n = 1; n <= 128; n++) {
        for (int i = 0; i < n; i++) map[i] = uniform();
        for (enum codec codec = 0; codec < CODEC_COUNT; codec++) {
            size_t length = 0, raw = codec_raw_size(codec, n, 1);
            if (raw > sizeof bytes) continue;
            assert_int_equal(codec_encode(state, codec, map, n, 1, bytes, &length, NULL), STATUS_OK);
            assert_true(length <= raw);
            round_trip(codec, map, n, 1, back);
        }
    }
}

/* Whatever arrives: an error or a map, never a read or write out of bounds. */
static void damage_is_refused(void **unused) {
    struct err err;
    float map[C * HW], back[C * HW];
    fill(map);
    for (enum codec codec = 0; codec < CODEC_COUNT; codec++) {
        uint8_t *bytes = malloc(codec_raw_size(codec, C, HW));
        size_t length = 0;
        assert_int_equal(codec_encode(state, codec, map, C, HW, bytes, &length, &err), STATUS_OK);
        for (size_t cut = 0; cut < length; cut++) {
            uint8_t *part = malloc(cut + 1);
            memcpy(part, bytes, cut);
            assert_int_equal(codec_decode(state, codec, part, cut, C, HW, back, &err), STATUS_FORMAT);
            free(part);
        }
        uint8_t *longer = malloc(length + 1);
        memcpy(longer, bytes, length);
        longer[length] = 0;
        assert_int_equal(codec_decode(state, codec, longer, length + 1, C, HW, back, &err), STATUS_FORMAT);
        free(longer);
        for (int round = 0; round < 300; round++) {
            size_t at = (size_t)(uniform() * (float)length) % length;
            uint8_t old = bytes[at];
            bytes[at] ^= (uint8_t)(1 << round % 8);
            enum status status = codec_decode(state, codec, bytes, length, C, HW, back, &err);
            assert_true(status == STATUS_OK || status == STATUS_FORMAT);
            bytes[at] = old;
        }
        /* The state still works after failures. */
        assert_int_equal(codec_decode(state, codec, bytes, length, C, HW, back, &err), STATUS_OK);
        free(bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_is_bounded),     cmocka_unit_test(single_values),
        cmocka_unit_test(rounding_is_coding),
        cmocka_unit_test(float16_is_ieee),      cmocka_unit_test(extremes_stay_finite),
        cmocka_unit_test(sparse_maps_shrink),   cmocka_unit_test(small_maps_do_not_grow),
        cmocka_unit_test(damage_is_refused),
    };
    return cmocka_run_group_tests_name("codec", tests, setup, teardown);
}
