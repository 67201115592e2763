#include "deploy/profile_measure.h"
#include "tests/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static const char cfg[] =
    "[net]\nwidth=12\nheight=12\nchannels=3\n[prune]\nlevels=1,.75,.5,.25\nalign=4\n"
    "[convolutional]\nbatch_normalize=1\nfilters=32\nsize=3\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=32\nsize=3\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=32\nsize=3\npad=1\nactivation=relu\n"
    "[avgpool]\n[connected]\noutput=4\nactivation=linear\n[softmax]\n";

static struct profile *measured(void) {
    struct model *model = NULL;
    struct profile *profile = NULL;
    struct err err = {0};
    if (reference_model(&model, cfg, 1, &err)) fail_msg("%s", err.text);
    if (profile_measure(&profile, model, NULL, 5, &err)) fail_msg("%s", err.text);
    assert_int_equal(profile->nblocks, model->blocks->nblocks);
    assert_int_equal(profile->nlevels, 4);
    model_destroy(&model);
    return profile;
}

static void test_every_pair_has_a_time(void **state) {
    (void)state;
    struct profile *p = measured();
    for (int b = 0; b < p->nblocks; b++)
        for (int own = 0; own < p->nlevels; own++)
            for (int incoming = 0; incoming < p->nlevels; incoming++) assert_true(profile_ms(p, b, own, incoming) > 0);
    for (int c = 0; c < CODEC_COUNT; c++) assert_true(p->encode_ns[c] > 0 && p->decode_ns[c] > 0);
    profile_destroy(&p);
}

/* Numbers are printed to 15 digits. */
static void expect_near(const double *a, const double *b, int n) {
    for (int i = 0; i < n; i++) assert_true(fabs(a[i] - b[i]) <= 1e-14 * fabs(a[i]));
}

static void test_json_round_trip(void **state) {
    (void)state;
    struct profile *p = measured(), *q = NULL;
    struct err err;
    p->nclocks = 2;
    p->clocks[0] = (struct profile_clock){600, {9, 7, 5, 3}};
    p->clocks[1] = (struct profile_clock){1200, {4.5, 3.5, 2.5, 1.5}};
    char *text = profile_json(p);
    assert_non_null(text);
    assert_int_equal(profile_parse(&q, "p", text, &err), STATUS_OK);
    assert_string_equal(p->device, q->device);
    assert_int_equal(p->threads, q->threads);
    expect_near(p->ms, q->ms, p->nblocks * 16);
    expect_near(p->encode_ns, q->encode_ns, CODEC_COUNT);
    expect_near(p->decode_ns, q->decode_ns, CODEC_COUNT);
    assert_int_equal(q->nclocks, 2);
    for (int i = 0; i < 2; i++) {
        assert_true(q->clocks[i].mhz == p->clocks[i].mhz);
        expect_near(p->clocks[i].frame_ms, q->clocks[i].frame_ms, 4);
    }
    free(text);
    profile_destroy(&q);
    /* Clocks rise, and have a time for every level. */
    p->clocks[1].mhz = 600;
    text = profile_json(p);
    assert_int_equal(profile_parse(&q, "p", text, &err), STATUS_FORMAT);
    free(text);
    p->clocks[1].mhz = 1200;
    p->clocks[1].frame_ms[3] = 0;
    text = profile_json(p);
    assert_int_equal(profile_parse(&q, "p", text, &err), STATUS_FORMAT);
    free(text);
    profile_destroy(&p);
}

static void refuse(const char *text) {
    struct profile *p = NULL;
    struct err err = {0};
    assert_int_equal(profile_parse(&p, "profile.json", text, &err), STATUS_FORMAT);
    assert_null(p);
    assert_non_null(strstr(err.text, "profile.json"));
}

static void test_bad_json(void **state) {
    (void)state;
    static const char tail[] = "\"encode_ns\":{\"f32\":1,\"f32z\":1,\"f16\":1,\"f16z\":1,\"q8\":1,\"q8z\":1,\"q8t\":1,"
                               "\"q8tz\":1,\"q4\":1,\"q4z\":1,\"q4t\":1,\"q4tz\":1}}";
    char text[400];
    refuse("");
    refuse("{");
    refuse("[]");
    refuse("{\"nblocks\":1,\"nlevels\":1}");
    refuse("{\"nblocks\":1e9,\"nlevels\":1}");
    refuse("{\"nblocks\":1,\"nlevels\":17}");
    snprintf(text, sizeof text, "{\"nblocks\":1,\"nlevels\":2,\"device\":\"x\",\"threads\":1,\"ms\":[[[1,2],[3]]],%s", tail);
    refuse(text);
    snprintf(text, sizeof text, "{\"nblocks\":1,\"nlevels\":1,\"device\":\"x\",\"threads\":1,\"ms\":[[[-1]]],%s", tail);
    refuse(text);
    snprintf(text, sizeof text, "{\"nblocks\":1,\"nlevels\":1,\"device\":\"x\",\"threads\":1,\"ms\":[[[1]]],%s", tail);
    refuse(text); /* no decode_ns */
}

/* Every text cut short is refused, and leaks nothing. */
static void test_truncated_json(void **state) {
    (void)state;
    struct profile *p = measured();
    char *text = profile_json(p);
    assert_non_null(text);
    for (size_t n = strlen(text); n-- > 0;) {
        struct profile *q = NULL;
        struct err err;
        text[n] = '\0';
        assert_int_equal(profile_parse(&q, "p", text, &err), STATUS_FORMAT);
    }
    free(text);
    profile_destroy(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair_has_a_time),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_truncated_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
