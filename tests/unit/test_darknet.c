/* Darknet's .weights: bit-exact round trips through our model file, and files of the wrong size. */
#include "common/bn.h"
#include "common/darknet.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char cfg_text[] = "[net]\nwidth=4\nheight=4\nchannels=3\nepochs=5\npolicy=onecycle\nlearning_rate=.1\nmean=.5\n"
                               "[prune]\nlevels=1,.5\nalign=1\n"
                               "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
                               "[batchnorm]\n"
                               "[convolutional]\nfilters=4\nsize=1\ngroups=2\nactivation=relu\n"
                               "[shortcut]\nfrom=0\nactivation=linear\n"
                               "[slice]\n"
                               "[connected]\nbatch_normalize=1\noutput=5\nactivation=relu\n"
                               "[connected]\noutput=2\nactivation=linear\n"
                               "[softmax]\n";
/* Floats of each layer in Darknet's order: conv 4+4+4+4+108, batchnorm 3*4,
 * conv 4+8, connected 5+320+15, connected 2+10. */
enum { FLOATS = 124 + 12 + 12 + 340 + 12, CONNECTED_AT = 124 + 12 + 12 + 5 };

static struct model *make_model(const char *text) {
    struct cfg *cfg;
    struct model *m;
    struct err err;
    if (cfg_parse(&cfg, "test.cfg", text, strlen(text), &err) || model_create(&m, cfg, 0, &err)) fail_msg("%s", err.text);
    return m;
}

struct temporary {
    char weights[40], model[40];
};
static struct temporary temporary_files(void) {
    struct temporary t = {"/tmp/espalier-weights-XXXXXX", "/tmp/espalier-model-XXXXXX"};
    close(mkstemp(t.weights));
    close(mkstemp(t.model));
    return t;
}
static void remove_files(const struct temporary *t) {
    unlink(t->weights);
    unlink(t->model);
}

static void write_bytes(const char *path, const void *bytes, size_t length) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, length, f), length);
    fclose(f);
}
static size_t read_bytes(const char *path, uint8_t *bytes, size_t room) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, room, f);
    fclose(f);
    return n;
}

/* A .weights file with that header; every float another, the odd one a NaN with a payload. */
static size_t make_weights(uint8_t *bytes, int32_t major, int32_t minor, size_t seen_size) {
    int32_t version[3] = {major, minor, 7};
    uint64_t seen = seen_size == 8 ? 0x123456789abcu : 0xfedcba98u;
    memcpy(bytes, version, 12);
    memcpy(bytes + 12, &seen, seen_size);
    uint8_t *p = bytes + 12 + seen_size;
    for (uint32_t i = 0; i < FLOATS; i++, p += 4) {
        float value = (float)(i + 1) / 64;
        uint32_t nan = 0x7fc01234u + i;
        memcpy(p, i % 97 == 96 ? (const void *)&nan : (const void *)&value, 4);
    }
    return (size_t)(p - bytes);
}

static void round_trip(int32_t major, int32_t minor, size_t seen_size, bool turned) {
    struct temporary t = temporary_files();
    uint8_t bytes[12 + 8 + FLOATS * 4], again[sizeof bytes + 8];
    size_t length = make_weights(bytes, major, minor, seen_size);
    write_bytes(t.weights, bytes, length);
    struct model *m = make_model(cfg_text), *loaded;
    struct err err;
    if (darknet_read(m, t.weights, &err)) fail_msg("%s", err.text);
    float at;
    memcpy(&at, bytes + 12 + seen_size + (CONNECTED_AT + (turned ? 5 : 1)) * 4, 4);
    assert_true(m->layers[4].weight[1] == at);
    if (model_save(m, t.model, &err) || model_load(&loaded, t.model, &err)) fail_msg("%s", err.text);
    write_bytes(t.weights, "", 0);
    if (darknet_write(loaded, t.weights, &err)) fail_msg("%s", err.text);
    assert_int_equal(read_bytes(t.weights, again, sizeof again), length);
    assert_memory_equal(bytes, again, length);
    model_destroy(&m);
    model_destroy(&loaded);
    remove_files(&t);
}

static void test_round_trip(void **state) {
    round_trip(0, 2, 8, false);
    round_trip(0, 5, 8, false);
    round_trip(1, 0, 8, false);
    round_trip(0, 1, 4, false); /* the first header version */
    round_trip(0, 0, 4, false);
    round_trip(1000, 0, 4, false);
    round_trip(0, 1001, 4, true); /* old files with transposed connected weights */
    round_trip(1001, 2, 4, true);
}

static void test_sizes(void **state) {
    struct temporary t = temporary_files();
    uint8_t bytes[12 + 8 + FLOATS * 4 + 1];
    size_t length = make_weights(bytes, 0, 2, 8);
    struct model *m = make_model(cfg_text);
    struct err err;
    for (size_t n = 0; n < length; n++) {
        write_bytes(t.weights, bytes, n);
        assert_int_equal(darknet_read(m, t.weights, &err), STATUS_FORMAT);
        assert_non_null(strstr(err.text, "too short"));
    }
    assert_non_null(strstr(err.text, "layer 5 (connected) of test.cfg needs it to byte 2020, it has 2019"));
    assert_true(m->layers[0].beta[0] == 0); /* untouched */
    write_bytes(t.weights, bytes, length + 1);
    assert_int_equal(darknet_read(m, t.weights, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "too long"));
    assert_int_equal(darknet_read(m, "/nonexistent.weights", &err), STATUS_IO);
    assert_int_equal(darknet_read(m, "/tmp", &err), STATUS_IO);
    model_destroy(&m);
    m = make_model("[net]\nwidth=4\nheight=4\nchannels=3\n[convolutional]\nflipped=1\nactivation=relu\n");
    assert_int_equal(darknet_read(m, t.weights, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "test.cfg:6: 'flipped'"));
    model_destroy(&m);
    remove_files(&t);
}

/* Another form of batch norm is converted; a normalised input becomes a layer. */
static void test_conversion(void **state) {
    struct temporary t = temporary_files();
    struct model *m = make_model(cfg_text);
    struct err err;
    for (int o = 0; o < 4; o++) m->layers[0].var[o] = (float)(o * o) * 0.37f;
    const struct bn_terms whole = bn_uniform(m, 0);
    float scale[4], shift[4], scale2[4], shift2[4];
    bn_affine(m, 0, &whole, scale, shift);
    if (darknet_write(m, t.weights, &err)) fail_msg("%s", err.text);
    char *text;
    if (darknet_cfg(m, &text, &err)) fail_msg("%s", err.text);
    struct model *back = make_model(text);
    if (darknet_read(back, t.weights, &err)) fail_msg("%s", err.text);
    bn_affine(back, 0, &whole, scale2, shift2);
    for (int o = 0; o < 4; o++) assert_true(fabsf(scale[o] - scale2[o]) <= 1e-6f * fabsf(scale[o]));
    assert_int_equal(back->darknet.minor, 2);
    assert_null(strstr(text, "batchnorm"));
    assert_true(back->layers[1].weight[3] == 1 && back->layers[1].beta[3] == 0);
    assert_null(strstr(text, "prune"));
    assert_null(strstr(text, "slice"));
    assert_null(strstr(text, "epochs"));
    assert_null(strstr(text, "mean"));
    assert_null(strstr(text, "policy"));
    assert_non_null(strstr(text, "learning_rate=.1\n"));
    assert_non_null(strstr(text, "from=-3\n"));
    assert_int_equal(back->net->nlayers, m->net->nlayers);
    free(text);
    if (darknet_cfg(back, &text, &err)) fail_msg("%s", err.text);
    free(text);

    m->preproc.mean[1] = 0.5f;
    m->preproc.std[1] = 0.25f;
    if (darknet_cfg(m, &text, &err) || darknet_write(m, t.weights, &err)) fail_msg("%s", err.text);
    struct model *longer = make_model(text);
    if (darknet_read(longer, t.weights, &err)) fail_msg("%s", err.text);
    assert_int_equal(longer->net->nlayers, m->net->nlayers + 1);
    assert_int_equal(longer->net->layers[4].inputs[1], 1);
    assert_true(longer->layers[0].weight[0] == 1 && longer->layers[0].weight[1] == 4);
    assert_true(longer->layers[0].bias[0] == 0 && longer->layers[0].bias[1] == -2);
    free(text);
    model_destroy(&longer);
    model_destroy(&back);
    model_destroy(&m);

    m = make_model("[net]\nwidth=4\nheight=4\nchannels=3\n[convolutional]\nactivation=relu6\n");
    assert_int_equal(darknet_cfg(m, &text, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "test.cfg:5: Darknet has no relu6"));
    model_destroy(&m);
    m = make_model("[net]\nwidth=4\nheight=4\nchannels=3\n[convolutional]\npadding=1\n");
    assert_int_equal(darknet_cfg(m, &text, &err), STATUS_FORMAT);
    model_destroy(&m);
    /* Darknet forgets the stride of a 1x1 convolution: a pooling does it. */
    m = make_model("[net]\nwidth=4\nheight=4\nchannels=3\n[convolutional]\n[convolutional]\nstride=2\nactivation=relu\n"
                   "[route]\nlayers=0,0\n");
    if (darknet_cfg(m, &text, &err)) fail_msg("%s", err.text);
    assert_non_null(strstr(text, "[maxpool]\nsize=1\nstride=2\n\n[convolutional]\nactivation=relu\n\n[route]\nlayers=-3,-3\n"));
    free(text);
    model_destroy(&m);
    remove_files(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_conversion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
