/* safetensors: round trips, and files that are not what they say. */
#include "common/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const float weights[6] = {1, 2, 3, -4, 5.5f, 1e-30f};
static const float bias[2] = {0.25f, -0.5f};
static const int8_t bytes_of[3] = {1, -2, 3};
static const struct safetensors_tensor tensors[] = {
    {.name = "layers.0.weight", .dtype = "F32", .ndims = 2, .shape = {2, 3}, .data = weights, .size = sizeof weights},
    {.name = "empty", .dtype = "F64", .ndims = 2, .shape = {0, 7}, .size = 0},
    {.name = "layers.0.bias", .dtype = "F32", .ndims = 1, .shape = {2}, .data = bias, .size = sizeof bias},
    {.name = "tail \"quoted\"", .dtype = "I8", .ndims = 1, .shape = {3}, .data = bytes_of, .size = sizeof bytes_of},
};
static const struct safetensors_pair metadata[] = {
    {"format", "espalier"}, {"cfg", "[net]\nwidth=8 # \"x\" \\ \t\n"}, {"latin", "caf\xE9 caf\xC3\xA9"}};

static void build(uint8_t **bytes, size_t *length) {
    struct err err;
    assert_int_equal(safetensors_serialize(tensors, 4, metadata, 3, bytes, length, &err), STATUS_OK);
}

static void check_content(const struct safetensors *file) {
    assert_int_equal(file->ntensors, 4);
    const float *data;
    struct err err;
    assert_int_equal(safetensors_f32(file, "layers.0.weight", 2, (int64_t[]){2, 3}, &data, &err), STATUS_OK);
    assert_memory_equal(data, weights, sizeof weights);
    assert_int_equal((uintptr_t)((const uint8_t *)data - file->bytes) % 64, 0);
    assert_int_equal(safetensors_f32(file, "layers.0.bias", 1, (int64_t[]){2}, &data, &err), STATUS_OK);
    assert_memory_equal(data, bias, sizeof bias);
    const struct safetensors_tensor *t = safetensors_find(file, "tail \"quoted\"");
    assert_non_null(t);
    assert_memory_equal(t->data, bytes_of, sizeof bytes_of);
    assert_int_equal(safetensors_find(file, "empty")->size, 0);
    assert_null(safetensors_find(file, "layers.0"));
    assert_string_equal(safetensors_metadata(file, "cfg"), metadata[1].value);
    assert_string_equal(safetensors_metadata(file, "latin"), "caf\xEF\xBF\xBD caf\xC3\xA9");
    assert_null(safetensors_metadata(file, "nothing"));
}

static void test_memory_round_trip(void **state) {
    uint8_t *bytes;
    size_t length;
    build(&bytes, &length);
    struct safetensors *file;
    struct err err;
    assert_int_equal(safetensors_parse(&file, "memory", bytes, length, &err), STATUS_OK);
    check_content(file);
    const float *data;
    assert_int_equal(safetensors_f32(file, "layers.0.weight", 2, (int64_t[]){3, 2}, &data, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "[2, 3]"));
    assert_non_null(strstr(err.text, "[3, 2]"));
    assert_int_equal(safetensors_f32(file, "missing", 1, (int64_t[]){1}, &data, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "missing"));
    assert_int_equal(safetensors_f32(file, "tail \"quoted\"", 1, (int64_t[]){3}, &data, &err), STATUS_FORMAT);
    safetensors_close(&file);
    assert_null(file);
    free(bytes);
}

static void test_file_round_trip(void **state) {
    char path[] = "/tmp/espalier-safetensors-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct err err;
    assert_int_equal(safetensors_write(path, tensors, 4, metadata, 3, &err), STATUS_OK);
    struct safetensors *file;
    assert_int_equal(safetensors_open(&file, path, &err), STATUS_OK);
    check_content(file);
    uint8_t *bytes;
    size_t length;
    build(&bytes, &length);
    assert_int_equal(file->length, length);
    assert_memory_equal(file->bytes, bytes, length);
    /* Writing over the file that is mapped leaves the mapping whole. */
    assert_int_equal(safetensors_write(path, tensors, 1, NULL, 0, &err), STATUS_OK);
    check_content(file);
    safetensors_close(&file);
    free(bytes);

    struct safetensors *none = NULL;
    assert_int_equal(safetensors_open(&none, "/nonexistent/model", &err), STATUS_IO);
    assert_int_equal(safetensors_open(&none, "/tmp", &err), STATUS_IO);
    assert_int_equal(safetensors_open(&none, "/dev/null", &err), STATUS_IO);
    assert_int_equal(safetensors_write("/nonexistent/model", tensors, 4, metadata, 3, &err), STATUS_IO);
    assert_null(none);
    unlink(path);
}

/* A reader that shares nothing with ours: the header by hand, the data by struct. */
static void test_python_reads_it(void **state) {
    if (system("python3 -c pass >/dev/null 2>&1") != 0) {
        print_message("SKIP: there is no python3 here\n");
        skip();
    }
    char path[] = "/tmp/espalier-safetensors-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct err err;
    assert_int_equal(safetensors_write(path, tensors, 4, metadata, 3, &err), STATUS_OK);
    char command[2000];
    snprintf(command, sizeof command,
             "python3 -c 'import json, struct, sys\n"
             "raw = open(sys.argv[1], \"rb\").read()\n"
             "n = struct.unpack(\"<Q\", raw[:8])[0]\n"
             "head = json.loads(raw[8:8 + n].decode(\"utf-8\"))\n"
             "data = raw[8 + n:]\n"
             "meta = head.pop(\"__metadata__\")\n"
             "assert meta[\"format\"] == \"espalier\" and all(isinstance(v, str) for v in meta.values())\n"
             "w = head[\"layers.0.weight\"]\n"
             "assert w[\"dtype\"] == \"F32\" and w[\"shape\"] == [2, 3]\n"
             "a, b = w[\"data_offsets\"]\n"
             "assert struct.unpack(\"<6f\", data[a:b])[:5] == (1, 2, 3, -4, 5.5)\n"
             "spans = sorted(t[\"data_offsets\"] for t in head.values())\n"
             "assert spans[0][0] == 0 and spans[-1][1] == len(data)\n"
             "assert all(x[1] == y[0] for x, y in zip(spans, spans[1:]))' %s",
             path);
    assert_int_equal(system(command), 0);
    unlink(path);
}

/* Parses a copy of exactly that size, so that a sanitizer sees every byte read too far. */
static enum status parse_copy(const uint8_t *bytes, size_t length, struct err *err) {
    uint8_t *copy = malloc(length ? length : 1);
    if (length) memcpy(copy, bytes, length);
    struct safetensors *file = NULL;
    enum status status = safetensors_parse(&file, "damaged", copy, length, err);
    if (status) {
        assert_null(file);
        assert_true(err->text[0] != '\0' && strchr(err->text, '\n') == NULL);
    } else {
        volatile uint8_t sink = 0;
        for (int i = 0; i < file->ntensors; i++)
            for (size_t k = 0; k < file->tensors[i].size; k++)
                sink ^= ((const uint8_t *)file->tensors[i].data)[k];
        safetensors_close(&file);
    }
    free(copy);
    return status;
}

static void test_every_truncation(void **state) {
    uint8_t *bytes;
    size_t length;
    build(&bytes, &length);
    for (size_t n = 0; n < length; n++) {
        struct err err;
        assert_int_not_equal(parse_copy(bytes, n, &err), STATUS_OK);
    }
    free(bytes);
}

static uint64_t next_random(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void test_mutations(void **state) {
    uint8_t *bytes;
    size_t length;
    build(&bytes, &length);
    uint64_t header;
    memcpy(&header, bytes, 8);
    size_t front = 8 + (size_t)header;
    uint64_t seed = 20240501;
    struct err err;
    for (size_t bit = 0; bit < front * 8; bit++) { /* every single bit of length field and header */
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)parse_copy(bytes, length, &err);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    static const char tokens[] = "{}[]\",:0123456789-+.eE\\u/ ntf";
    uint8_t *work = malloc(length + 16);
    for (int round = 0; round < 4000; round++) {
        memcpy(work, bytes, length);
        int changes = 1 + (int)(next_random(&seed) % 6);
        for (int c = 0; c < changes; c++) {
            size_t at = next_random(&seed) % front;
            uint64_t r = next_random(&seed);
            work[at] = r & 1 ? (uint8_t)tokens[(r >> 8) % (sizeof tokens - 1)] : (uint8_t)(r >> 16);
        }
        (void)parse_copy(work, length - next_random(&seed) % 3, &err);
    }
    free(work);
    free(bytes);
}

static enum status parse_text(const char *json, size_t data_length, struct err *err) {
    size_t n = strlen(json), length = 8 + n + data_length;
    uint8_t *bytes = calloc(1, length);
    uint64_t stated = n;
    memcpy(bytes, &stated, 8);
    memcpy(bytes + 8, json, n);
    enum status status = parse_copy(bytes, length, err);
    free(bytes);
    return status;
}

static void test_refusals(void **state) {
    static const struct {
        const char *json;
        size_t data;
        const char *says; /* NULL: it is in order */
    } cases[] = {
        {"{}", 0, NULL},
        {"{}   ", 0, NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, NULL},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 3, NULL},
        {"{}", 1, "behind the last tensor"},
        {"{} {}", 0, "not valid JSON"},
        {"[]", 0, "not a safetensors file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "does not begin"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "overlaps"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "twice"},
        {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "twice"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "must be a string"},
        {"{\"__metadata__\":[]}", 0, "must be an object"},
        {"{\"a\":7}", 0, "must have dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "no more"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no more"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "need 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]}}", 4, "ends at byte 5"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "impossible data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "impossible data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1e300],\"data_offsets\":[0,4]}}", 4, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "impossible shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "more than 8 dim"},
        {"{\"a\":[[[[[[]]]]]]}", 0, "nested deeper"},
        {"{\"a\\u0000b\":{}}", 0, "zero character"},
        {"{\"a\x01\":{}}", 0, "control character"},
        {"{\"a\xFF\":{}}", 0, "not UTF-8"},
        {"{\"a", 0, "not valid JSON"},
        {"{\"a\\", 0, "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        enum status status = parse_text(cases[i].json, cases[i].data, &err);
        if (!cases[i].says) assert_int_equal(status, STATUS_OK);
        else if (!status || !strstr(err.text, cases[i].says))
            fail_msg("%s: expected '%s', got '%s'", cases[i].json, cases[i].says, status ? err.text : "success");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_round_trip), cmocka_unit_test(test_file_round_trip),
        cmocka_unit_test(test_python_reads_it),   cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_mutations),         cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
