/* The model file: round trip, rows of batch norm, and files that are not what they say. */
#include "common/bn.h"
#include "common/bn_rows.h"
#include "common/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char cfg_text[] =
    "[net]\nwidth=8\nheight=8\nchannels=3\n# caf\xE9\n"
    "[prune]\nlevels=1,.5,.25\nalign=2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\ngroups=8\nactivation=relu\n"
    "[shortcut]\nfrom=-2\nactivation=relu\n"
    "[batchnorm]\n"
    "[convolutional]\nfilters=6\nsize=1\nactivation=leaky\n"
    "[avgpool]\n"
    "[connected]\noutput=4\nactivation=linear\n"
    "[softmax]\n";

static struct cfg *make_cfg(const char *text) {
    struct cfg *cfg;
    struct err err;
    if (cfg_parse(&cfg, "test.cfg", text, strlen(text), &err)) fail_msg("%s", err.text);
    return cfg;
}

static void fill(float *data, size_t n, float *next) {
    for (size_t i = 0; data && i < n; i++) data[i] = *next += 0.125f;
}

/* A model in which every value differs from every other. */
static struct model *make_model(int nrows) {
    struct model *m;
    struct err err;
    if (model_create(&m, make_cfg(cfg_text), nrows, &err)) fail_msg("%s", err.text);
    float next = 0;
    for (int i = 0; i < m->net->nlayers; i++) {
        struct model_layer *l = &m->layers[i];
        if (!net_has_weights(&m->net->layers[i])) continue;
        size_t o = (size_t)model_outputs(m, i);
        fill(l->weight, net_weight_count(&m->net->layers[i]), &next);
        fill(l->bias, o, &next);
        fill(l->gamma, o, &next);
        fill(l->beta, o, &next);
        fill(l->mean, (size_t)m->nrows * o, &next);
        fill(l->var, (size_t)m->nrows * o, &next);
    }
    m->labels = calloc(4, sizeof *m->labels);
    static const char *const names[] = {"fox", "h\xC3\xA4her \"x\"", "roe deer", "empty"};
    for (m->nlabels = 0; m->nlabels < 4; m->nlabels++) m->labels[m->nlabels] = strdup(names[m->nlabels]);
    m->training = strdup("{\"seed\":1}");
    m->bn_form = MODEL_BN_DARKNET;
    m->bn_eps = 1e-6f;
    bn_rows_round(m);
    m->darknet.seen = 18446744073709551615u;
    assert_int_equal(accuracy_create(&m->accuracy, m->blocks->nblocks, m->levels->nlevels, &err), STATUS_OK);
    m->accuracy->base = 0.875;
    return m;
}

static void serialize(const struct model *m, uint8_t **bytes, size_t *length) {
    struct err err;
    if (model_serialize(m, bytes, length, &err)) fail_msg("%s", err.text);
}

static void test_round_trip(void **state) {
    struct model *m = make_model(0), *loaded;
    struct err err;
    char path[] = "/tmp/espalier-model-XXXXXX";
    close(mkstemp(path));
    assert_int_equal(m->nrows, 17); /* 3 levels, 4 slots of 3 corrections, 2 more */
    assert_int_equal(model_save(m, path, &err), STATUS_OK);
    if (model_load(&loaded, path, &err)) fail_msg("%s", err.text);
    assert_int_equal(loaded->nrows, 17);
    assert_int_equal(loaded->net->nlayers, 8);
    assert_int_equal(loaded->nlabels, 4);
    assert_string_equal(loaded->labels[1], m->labels[1]);
    assert_string_equal(loaded->training, m->training);
    assert_true(loaded->bn_eps == 1e-6f && loaded->bn_form == MODEL_BN_DARKNET);
    assert_true(loaded->darknet.seen == m->darknet.seen && loaded->darknet.minor == 2);
    assert_true(loaded->accuracy->base == 0.875);
    assert_int_equal(levels_keep(loaded->levels, 2, 1), levels_keep(m->levels, 2, 1));
    assert_memory_equal(loaded->layers[0].weight, m->layers[0].weight, 8 * 27 * sizeof(float));
    assert_memory_equal(loaded->layers[3].var, m->layers[3].var, 9 * 8 * sizeof(float));
    assert_null(loaded->layers[3].beta);
    assert_null(loaded->layers[0].bias);
    assert_non_null(loaded->file); /* the weights lie in the mapping */
    assert_true((const uint8_t *)loaded->layers[6].bias > loaded->file->bytes);

    uint8_t *a, *b;
    size_t na, nb;
    serialize(m, &a, &na);
    serialize(loaded, &b, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na);
    assert_int_equal(loaded->file->length, na);
    assert_memory_equal(loaded->file->bytes, a, na);
    free(a);
    free(b);
    model_destroy(&loaded);
    model_destroy(&m);
    unlink(path);
}

static void test_slice_round_trip(void **state) {
    static const char text[] = "[net]\nwidth=4\nheight=4\nchannels=12\n[prune]\nlevels=1,.5\nalign=2\n"
                               "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\nactivation=relu\n";
    struct groups_ends ends = {.nincoming = 2, .incoming = (struct groups_incoming[]){{8, 2}, {4, 1}}, .outgoing = true};
    struct model *m, *loaded;
    struct err err;
    if (model_create_slice(&m, make_cfg(text), 0, &ends, &err)) fail_msg("%s", err.text);
    m->first_layer = 9;
    m->first_block = 3;
    m->preproc = (struct image_preproc){.c = 3, .h = 32, .w = 32, .std = {1, 1, 1, 1}};
    model_hash("abc", 3, m->parent);
    assert_string_equal(m->parent, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    uint8_t *bytes;
    size_t length;
    serialize(m, &bytes, &length);
    struct safetensors *file;
    assert_int_equal(safetensors_parse(&file, "slice", bytes, length, &err), STATUS_OK);
    if (model_from_safetensors(&loaded, file, &err)) fail_msg("%s", err.text);
    assert_int_equal(loaded->first_layer, 9);
    assert_int_equal(loaded->first_block, 3);
    assert_int_equal(loaded->ends.nincoming, 2);
    assert_int_equal(loaded->ends.incoming[0].unit, 2);
    assert_true(loaded->ends.outgoing);
    assert_string_equal(loaded->parent, m->parent);
    assert_int_equal(loaded->preproc.h, 32);
    assert_int_equal(loaded->groups->ngroups, m->groups->ngroups);
    model_destroy(&loaded);
    model_destroy(&m);
    free(bytes);
}

static void test_rows(void **state) {
    struct model *m = make_model(0);
    float scale[8], shift[8], mean[8], var[8];
    const struct model_layer *l = &m->layers[0];
    struct bn_terms terms = bn_uniform(m, 1);
    assert_int_equal(terms.row, 1);
    bn_affine(m, 0, &terms, scale, shift);
    for (int o = 0; o < 8; o++) {
        double s = l->gamma[o] / (sqrt(l->var[8 + o]) + 1e-6);
        assert_true(fabs(scale[o] - s) < 1e-6 && fabs(shift[o] - (l->beta[o] - s * l->mean[8 + o])) < 1e-4);
    }
    /* Corrections: the statistics and the affine form say the same, in both forms. */
    assert_int_equal(bn_level_rows(m), 3);
    assert_int_equal(bn_missing(m, 1, 2), 7);
    assert_int_equal(bn_wider(m, 3), 14);
    assert_int_equal(bn_outside(m, true), 16);
    for (int form = 0; form < 2; form++) {
        m->bn_form = form ? MODEL_BN_TORCH : MODEL_BN_DARKNET;
        terms = (struct bn_terms){.row = 1, .n = 2, .term = {{6, .5f}, {3, -.25f}}};
        for (int o = 0; o < 8; o++) {
            m->layers[0].mean[6 * 8 + o] = .3f, m->layers[0].mean[3 * 8 + o] = -.2f;
            m->layers[0].var[6 * 8 + o] = .4f, m->layers[0].var[3 * 8 + o] = .2f;
        }
        bn_stats(m, 0, &terms, mean, var);
        bn_affine(m, 0, &terms, scale, shift);
        for (int o = 0; o < 8; o++) {
            double sigma = 1 / bn_inverse_sigma(m, l->var[8 + o]), s = l->gamma[o] / sigma * 1.15;
            double moved = l->mean[8 + o] + sigma * .2;
            assert_true(fabs(scale[o] - s) <= 1e-5 * fabs(s) && fabs(mean[o] - moved) <= 1e-5 * (fabs(moved) + sigma));
            assert_true(fabs(bn_inverse_sigma(m, var[o]) - 1.15 / sigma) <= 1e-4 / sigma);
            assert_true(fabs(shift[o] - (l->beta[o] - s * moved)) <= 1e-4 * (1 + fabs(s * moved)));
        }
    }
    m->bn_form = MODEL_BN_TORCH;
    m->bn_eps = 0.5f;
    terms = bn_uniform(m, 2);
    bn_affine(m, 3, &terms, scale, shift); /* no beta here */
    double s = m->layers[3].gamma[2] / sqrt(m->layers[3].var[2 * 8 + 2] + 0.5);
    assert_true(fabs(scale[2] - s) < 1e-6 && fabs(shift[2] + s * m->layers[3].mean[2 * 8 + 2]) < 1e-4);
    model_destroy(&m);

    m = make_model(1);
    assert_int_equal(m->nrows, 1);
    assert_int_equal(bn_uniform(m, 2).row, 0);
    model_destroy(&m);
}

/* Loads a copy of exactly that size. */
static enum status load_copy(const uint8_t *bytes, size_t length, struct err *err) {
    uint8_t *copy = aligned_alloc(64, (length + 64) / 64 * 64), *exact = copy + ((length + 64) / 64 * 64 - length);
    exact = copy + (exact - copy) / 8 * 8;
    memcpy(exact, bytes, length);
    struct safetensors *file = NULL;
    struct model *m = NULL;
    enum status status = safetensors_parse(&file, "damaged", exact, length, err);
    if (!status) {
        status = model_from_safetensors(&m, file, err);
        if (status) {
            assert_null(m);
            safetensors_close(&file);
        }
    }
    if (status) assert_true(err->text[0] != '\0' && strchr(err->text, '\n') == NULL);
    model_destroy(&m);
    free(copy);
    return status;
}

static void test_damage(void **state) {
    struct model *m = make_model(1);
    uint8_t *bytes;
    size_t length;
    serialize(m, &bytes, &length);
    struct err err;
    assert_int_equal(load_copy(bytes, length, &err), STATUS_OK);
    for (size_t n = 0; n < length; n += n < 4000 ? 37 : 911) assert_int_not_equal(load_copy(bytes, n, &err), STATUS_OK);
    uint64_t header;
    memcpy(&header, bytes, 8);
    uint32_t seed = 11;
    const uint8_t *key = memmem(bytes, length, "\"crc32\"", 7); /* no checksum without its name */
    assert_non_null(key);
    for (int round = 0; round < 3000; round++) {
        seed = seed * 1664525u + 1013904223u;
        size_t where = round % 3 ? (size_t)(8 + header) : length;
        size_t at = (seed >> 4) % where;
        uint8_t bit = (uint8_t)(1u << round % 8);
        if (bytes + at > key && bytes + at < key + 6) continue;
        bytes[at] ^= bit;
        if (load_copy(bytes, length, &err) == STATUS_OK) fail_msg("bit flip at byte %zu went unnoticed", at);
        bytes[at] ^= bit;
    }
    free(bytes);
    model_destroy(&m);
}

/* A file of the model's parts with one of them changed; without a checksum. */
struct change {
    const char *key, *value;            /* metadata to replace; value NULL: left out */
    const char *drop, *rename, *renamed; /* tensors */
};
static enum status load_changed(const struct model *m, const struct change *change, struct err *err) {
    uint8_t *bytes, *again;
    size_t length;
    serialize(m, &bytes, &length);
    struct safetensors *file;
    assert_int_equal(safetensors_parse(&file, "x", bytes, length, err), STATUS_OK);
    struct safetensors_pair pairs[32];
    struct safetensors_tensor tensors[64];
    int npairs = 0, ntensors = 0;
    for (int i = 0; i < file->nmetadata; i++) {
        struct safetensors_pair p = file->metadata[i];
        if (strcmp(p.key, "crc32") == 0) continue;
        if (change->key && strcmp(p.key, change->key) == 0) p.value = change->value;
        if (p.value) pairs[npairs++] = p;
    }
    for (int i = 0; i < file->ntensors; i++) {
        struct safetensors_tensor t = file->tensors[i];
        if (change->drop && strcmp(t.name, change->drop) == 0) continue;
        if (change->rename && strcmp(t.name, change->rename) == 0) t.name = change->renamed;
        tensors[ntensors++] = t;
    }
    assert_int_equal(safetensors_serialize(tensors, ntensors, pairs, npairs, &again, &length, err), STATUS_OK);
    enum status status = load_copy(again, length, err);
    safetensors_close(&file);
    free(bytes);
    free(again);
    return status;
}

static void test_refusals(void **state) {
    static const struct {
        struct change change;
        const char *says; /* NULL: in order */
    } cases[] = {
        {{0}, NULL},
        {{.drop = "layers.4.bias"}, "'layers.4.bias' is missing"},
        {{.rename = "layers.0.bn.mean", .renamed = "layers.0.mean"}, "'layers.0.bn.mean' is missing"},
        {{.key = "format", .value = "pt"}, "not a model of Espalier's"},
        {{.key = "version", .value = "3"}, "reads up to 2"},
        {{.key = "version", .value = "1x"}, "not a number"},
        {{.key = "cfg", .value = NULL}, "'cfg' is missing"},
        {{.key = "cfg", .value = "[net]\nwidth=8\nheight=8\nchannels=3\n[convolutionl]\n"}, "its cfg:5"},
        {{.key = "cfg", .value = "[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\nfilters=4\nactivation=relu\n"},
         "levels"},
        {{.key = "levels", .value = NULL}, "levels"},
        {{.key = "levels", .value = "[]"}, "levels"},
        {{.key = "levels", .value = "{\"ratio\":[1,0.5],\"keep\":[[3,8,6,4],[3,4]]}"}, "level 1 needs"},
        {{.key = "levels", .value = "{\"ratio\":[1,2],\"keep\":[[3,8,6,4],[3,4,4,4]]}"}, "levels"},
        {{.key = "levels", .value = "{\"ratio\":[1,0.5],\"keep\":[[3,8,6,4],[3,9,4,4]]}"}, "fall from level"},
        {{.key = "levels", .value = "{\"ratio\":[1,0.5],\"keep\":[[3,7,6,4],[3,4,4,4]]}"}, "begin with all"},
        {{.key = "bn_rows", .value = "17"}, "layers.0.bn"},
        {{.key = "bn_rows", .value = "9"}, "'bn_rows' is neither 1 nor"},
        {{.key = "bn_rows", .value = "99999999999999999999"}, "'bn_rows' is neither 1 nor"},
        {{.key = "bn_rows", .value = "[[0,0,0]]"}, "'bn_rows' is neither 1 nor"},
        {{.key = "bn_rows", .value = NULL}, "'bn_rows' is missing"},
        {{.key = "bn_eps", .value = "nan"}, "bn_eps"},
        {{.key = "bn_form", .value = "caffe"}, "bn_form"},
        {{.key = "labels", .value = "[\"a\"]"}, "1 labels for 4 classes"},
        {{.key = "labels", .value = "[1,2,3,4]"}, "list of strings"},
        {{.key = "labels", .value = NULL}, NULL},
        {{.key = "preproc", .value = "{}"}, "preprocessing"},
        {{.key = "preproc", .value = NULL}, "'preproc' is missing"},
        {{.key = "preproc", .value = "{\"channels\":3,\"height\":8,\"width\":9,\"fit\":\"crop\",\"decode\":\"fast\","
                                     "\"mean\":[0,0,0],\"std\":[1,1,1]}"}, "3x8x9"},
        {{.key = "accuracy", .value = "{}"}, "accuracy"},
        {{.key = "training", .value = "x"}, "not valid JSON"},
        {{.key = "darknet", .value = "0 2 0"}, "darknet"},
        {{.key = "darknet", .value = "0 2 0 1 1"}, "darknet"},
    };
    struct model *m = make_model(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        enum status status = load_changed(m, &cases[i].change, &err);
        if (cases[i].says ? !status || !strstr(err.text, cases[i].says) : status != STATUS_OK)
            fail_msg("case %zu: expected '%s', got '%s'", i, cases[i].says ? cases[i].says : "success",
                     status ? err.text : "success");
    }
    /* A tensor too many. */
    uint8_t *bytes, *again;
    size_t length;
    serialize(m, &bytes, &length);
    struct safetensors *file;
    struct err err;
    assert_int_equal(safetensors_parse(&file, "x", bytes, length, &err), STATUS_OK);
    struct safetensors_tensor tensors[64], extra = {.name = "layers.7.bias", .dtype = "F32", .ndims = 1, .shape = {1},
                                                    .data = (float[]){1}, .size = 4};
    memcpy(tensors, file->tensors, (size_t)file->ntensors * sizeof *tensors);
    tensors[file->ntensors] = extra;
    struct safetensors_pair pairs[32];
    int n = 0;
    for (int i = 0; i < file->nmetadata; i++)
        if (strcmp(file->metadata[i].key, "crc32") != 0) pairs[n++] = file->metadata[i];
    assert_int_equal(safetensors_serialize(tensors, file->ntensors + 1, pairs, n, &again, &length, &err), STATUS_OK);
    assert_int_equal(load_copy(again, length, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "'layers.7.bias' belongs to no layer"));
    safetensors_close(&file);
    free(bytes);
    free(again);
    model_destroy(&m);
}

/* The model's file without checksum, its last tensor, the rows, replaced; mean and var have `shape` rows. */
static enum status load_rows(const struct model *m, const struct safetensors_tensor *rows, int shape, struct err *err) {
    uint8_t *bytes, *again;
    size_t length;
    struct safetensors *file;
    struct safetensors_tensor tensors[64];
    struct safetensors_pair pairs[32];
    int n = 0, ntensors = 0;
    serialize(m, &bytes, &length);
    assert_int_equal(safetensors_parse(&file, "rows", bytes, length, err), STATUS_OK);
    assert_string_equal(file->tensors[file->ntensors - 1].name, BN_ROWS_TENSOR);
    for (; ntensors < file->ntensors - 1; ntensors++) {
        struct safetensors_tensor *t = &tensors[ntensors];
        *t = file->tensors[ntensors];
        const char *dot = strrchr(t->name, '.');
        if (shape == 1 || (strcmp(dot, ".mean") != 0 && strcmp(dot, ".var") != 0)) continue;
        const struct model_layer *l = &m->layers[atoi(strchr(t->name, '.') + 1)];
        t->data = dot[1] == 'm' ? l->mean : l->var;
        t->shape[0] = shape;
        t->size *= (size_t)shape;
    }
    if (rows) tensors[ntensors++] = *rows;
    for (int i = 0; i < file->nmetadata; i++)
        if (strcmp(file->metadata[i].key, "crc32") != 0) pairs[n++] = file->metadata[i];
    assert_int_equal(safetensors_serialize(tensors, ntensors, pairs, n, &again, &length, err), STATUS_OK);
    enum status status = load_copy(again, length, err);
    safetensors_close(&file);
    free(bytes);
    free(again);
    return status;
}

static void test_stored_rows(void **state) {
    (void)state;
    struct model *m = make_model(0);
    struct err err;
    uint8_t *bytes;
    size_t n;
    assert_int_equal(bn_rows_pack(m, &bytes, &n, &err), STATUS_OK);
    uint8_t *damaged = malloc(n + 1);
    const struct safetensors_tensor good = {.name = BN_ROWS_TENSOR, .dtype = "U8", .ndims = 1, .shape = {(int64_t)n},
                                            .data = bytes, .size = n};
    assert_int_equal(load_rows(m, &good, 1, &err), STATUS_OK);
    assert_int_equal(load_rows(m, NULL, m->nrows, &err), STATUS_OK); /* as version 1 had them */
    assert_int_equal(load_rows(m, NULL, 1, &err), STATUS_FORMAT);
    assert_int_equal(load_rows(m, &good, m->nrows, &err), STATUS_FORMAT);
    for (size_t length = 0; length <= n + 1; length += length < n - 8 ? 7 : 1) { /* cut off, and with a byte more */
        struct safetensors_tensor t = good;
        memcpy(damaged, bytes, n);
        damaged[n] = 0;
        t.data = damaged, t.size = length, t.shape[0] = (int64_t)length;
        const enum status status = load_rows(m, &t, 1, &err);
        if (status != (length == n ? STATUS_OK : STATUS_FORMAT)) fail_msg("%zu of %zu bytes: status %d", length, n, status);
    }
    struct safetensors_tensor t = good;
    memcpy(damaged, bytes, n);
    damaged[n / 2] ^= 16;
    t.data = damaged;
    assert_int_equal(load_rows(m, &t, 1, &err), STATUS_FORMAT);
    t = good;
    t.dtype = "F32", t.shape[0] /= 4, t.size = 4 * (size_t)t.shape[0];
    assert_int_equal(load_rows(m, &t, 1, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "is F32"));
    struct model *one = make_model(1); /* has no such rows */
    assert_int_equal(bn_rows_unpack(one, bytes, n, "one", &err), STATUS_FORMAT);
    model_destroy(&one);
    free(damaged);
    free(bytes);
    model_destroy(&m);
}

/* Whatever the values, what is stored is near, and comes back. */
static void test_rounding(void **state) {
    (void)state;
    for (int darknet = 0; darknet < 2; darknet++) {
        struct model *m = make_model(0), *again = make_model(0);
        struct err err;
        uint32_t seed = 5;
        m->bn_form = again->bn_form = darknet ? MODEL_BN_DARKNET : MODEL_BN_TORCH;
        struct model_layer *l = &m->layers[0], *a = &again->layers[0];
        const size_t all = 17 * 8, levels = 3 * 8;
        for (size_t k = 0; k < all; k++) {
            const float x = (float)((seed = seed * 1664525u + 1013904223u) >> 8) / (1 << 24);
            l->mean[k] = 3 * x - 1;
            l->var[k] = k < levels ? powf(10, 8 * x - 6) : x - .5f;
        }
        l->mean[2] = 1e30f, l->var[3] = 0, l->var[8 + 4] = 0, l->mean[8 + 5] = NAN, l->var[8 + 6] = -1; /* what nobody trained */
        float mean[17 * 8], var[17 * 8];
        memcpy(mean, l->mean, sizeof mean);
        memcpy(var, l->var, sizeof var);
        bn_rows_round(m);
        for (size_t k = 8; k < all; k++) {
            const size_t o = k % 8;
            if (o >= 2 && o <= 6) continue;
            if (k >= levels) {
                assert_true(fabsf(l->mean[k] - mean[k]) <= .501f / 256 && fabsf(l->var[k] - var[k]) <= .501f / 256);
                continue;
            }
            const float sigma = 1 / bn_inverse_sigma(m, var[k]), ratio = sigma * bn_inverse_sigma(m, l->var[k]);
            assert_true(fabsf(logf(ratio)) <= .501f / 64 && fabsf(l->mean[k] - mean[k]) <= .51f / 64 * sigma);
        }
        uint8_t *bytes;
        size_t n;
        assert_int_equal(bn_rows_pack(m, &bytes, &n, &err), STATUS_OK);
        memcpy(a->mean, l->mean, 8 * sizeof *a->mean);
        memcpy(a->var, l->var, 8 * sizeof *a->var);
        assert_int_equal(bn_rows_unpack(again, bytes, n, "again", &err), STATUS_OK);
        for (size_t k = 0; k < all; k++)
            if (memcmp(&a->mean[k], &l->mean[k], sizeof(float)) != 0 || memcmp(&a->var[k], &l->var[k], sizeof(float)) != 0)
                fail_msg("value %zu: %g %g, from the file %g %g", k, (double)l->mean[k], (double)l->var[k], (double)a->mean[k],
                         (double)a->var[k]);
        free(bytes);
        model_destroy(&m);
        model_destroy(&again);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored_rows), cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_slice_round_trip), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_damage),     cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
