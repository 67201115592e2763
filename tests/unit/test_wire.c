#include "deploy/wire.h"

#include "common/file.h"
#include "deploy/codec.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define HASH64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* One good message of each kind. */
static struct wire_message example(enum wire_kind kind) {
    static const uint8_t payload[96] = { 1, 2, 3 };
    struct wire_message m = { .kind = kind, .session = 0x1122334455667788 };
    switch (kind) {
    case WIRE_HELLO: m.hello = (struct wire_hello){ .run = 7, .token = 9, .oldest = 3, .name = "runner" }; break;
    case WIRE_STATUS:
        m.status = (struct wire_status){ .incarnation = 1, .token = 2, .nposts = 2,
                                         .post = { { .layout = 4, .state = WIRE_READY, .stage = 3, .links = 5,
                                                     .hash = HASH64, .text = "well", .link_bytes = 65536, .link_us = 40000 },
                                                   { .layout = 5, .state = WIRE_LOADING } },
                                         .device = "Raspberry Pi", .threads = 4, .queued = 5,
                                         .frames = 6, .dropped = 7, .breaks = 8, .unacked_us = 9, .contention_us = 10, .text = "fine" };
        break;
    case WIRE_ASSIGN:
        m.assign = (struct wire_assign){ .layout = 4, .stage = 0, .nstages = 2, .window = 4, .size = 1000, .hash = HASH64,
                                         .nnext = 2, .next = { { "tcp://10.0.0.2:7700", HASH64 }, { "ipc://a", "" } } };
        break;
    case WIRE_WANT: m.want = (struct wire_want){ .hash = HASH64, .offset = 5, .length = 100 }; break;
    case WIRE_CHUNK:
        m.chunk = (struct wire_chunk){ .hash = HASH64, .offset = 5 };
        m.payload_length = 10;
        break;
    case WIRE_MEASURED:
        m.measure = (struct wire_measure){ .layout = 4 };
        m.payload_length = 10;
        break;
    case WIRE_FRAME:
        m.frame = (struct wire_frame){ .seq = 1, .attempt = 2, .layout = 4, .stage = 1, .nstages = 2, .format = WIRE_MAP,
                                       .incoming = 3, .before = { 2, 1, { { 5, 6 }, { 4, 4 } } }, .c = 6, .h = 2, .w = 2, .nsegments = 2, .counts = { 2, 4 },
                                       .choice = { { 1, 0, 0 }, { 2, 1, CODEC_F32, 7 } },
                                       .time = { { 1, 2, 3, 4, 5, 6, 7 } } };
        m.payload_length = 96;
        break;
    case WIRE_ACK: m.ack = (struct wire_ack){ .seq = 1, .attempt = 2 }; break;
    case WIRE_FAILED: m.failed = (struct wire_failed){ .seq = 1, .attempt = 2, .stage = 1, .text = "bad" }; break;
    case WIRE_MEASURE: m.measure = (struct wire_measure){ .layout = 4 }; break;
    case WIRE_RELIEVE: m.relieve = (struct wire_relieve){ .layout = 2, .before = 9, .level = 3, .codec = CODEC_Q8 }; break;
    case WIRE_BYE:
    case WIRE_KINDS: break;
    }
    m.payload = payload;
    return m;
}

static uint8_t *bytes_of(struct wire_message *m, size_t *length) {
    size_t head = wire_head_size(m);
    assert_true(head <= WIRE_MAX_HEAD);
    *length = head + m->payload_length;
    uint8_t *bytes = malloc(*length);
    wire_write_head(m, bytes);
    if (m->payload_length) memcpy(bytes + head, m->payload, m->payload_length);
    return bytes;
}

static void what_is_written_is_read(void **unused) {
    for (enum wire_kind kind = 1; kind < WIRE_KINDS; kind++) {
        struct wire_message m = example(kind), back = { 0 };
        struct err err;
        size_t length;
        uint8_t *bytes = bytes_of(&m, &length);
        if (wire_read(&back, bytes, length, &err)) fail_msg("%s", err.text);
        assert_int_equal(back.kind, kind);
        assert_true(back.session == m.session && back.payload_length == m.payload_length);
        assert_memory_equal(back.payload, m.payload, m.payload_length);
        size_t again_length; /* equal bytes mean equal fields */
        uint8_t *again = bytes_of(&back, &again_length);
        assert_int_equal(again_length, length);
        assert_memory_equal(again, bytes, length);
        free(again);
        free(bytes);
    }
    struct wire_message m = example(WIRE_FRAME), back;
    size_t length;
    uint8_t *bytes = bytes_of(&m, &length);
    assert_int_equal(wire_read(&back, bytes, length, NULL), STATUS_OK);
    assert_true(back.frame.counts[1] == 4 && back.frame.choice[1].level == 2 && back.frame.time[0].link_us == 7);
    free(bytes);
}

static void truncation_is_refused(void **unused) {
    for (enum wire_kind kind = 1; kind < WIRE_KINDS; kind++) {
        struct wire_message m = example(kind), back;
        size_t length;
        uint8_t *bytes = bytes_of(&m, &length);
        for (size_t cut = 0; cut < length; cut++) {
            uint8_t *part = malloc(cut + 1);
            memcpy(part, bytes, cut);
            assert_int_equal(wire_read(&back, part, cut, NULL), STATUS_FORMAT);
            if (cut >= 16) { /* even if the length field agrees */
                for (int i = 0; i < 8; i++) part[8 + i] = (uint8_t)((uint64_t)cut >> 8 * i);
                enum status status = wire_read(&back, part, cut, NULL);
                bool payload_only = cut >= wire_head_size(&m);
                assert_true(status == STATUS_FORMAT || (payload_only && status == STATUS_OK));
            }
            free(part);
        }
        free(bytes);
    }
}

/* A changed message is refused or reads as one that is in range. */
static void mutations_stay_in_range(void **unused) {
    uint32_t random = 1;
    for (enum wire_kind kind = 1; kind < WIRE_KINDS; kind++) {
        struct wire_message m = example(kind), back;
        size_t length;
        uint8_t *bytes = bytes_of(&m, &length);
        for (int round = 0; round < 20000; round++) {
            uint8_t *changed = malloc(length);
            memcpy(changed, bytes, length);
            for (int n = round % 3; n >= 0; n--) {
                random = random * 1664525u + 1013904223u;
                size_t at = (random >> 8) % (length > 24 && round & 1 ? length - 24 : length);
                if (length > 24 && round & 1) at += 24;
                changed[at] = (uint8_t)(round & 2 ? 0xff : random >> 24);
            }
            if (wire_read(&back, changed, length, NULL) == STATUS_OK) {
                size_t again_length;
                uint8_t *again = bytes_of(&back, &again_length); /* asserts all ranges */
                assert_int_equal(again_length, length);
                free(again);
                if (back.kind == WIRE_FRAME) {
                    assert_true(back.frame.stage <= back.frame.nstages);
                    assert_true(back.frame.nstages <= WIRE_MAX_STAGES);
                    assert_true(back.frame.nsegments <= WIRE_MAX_SEGMENTS);
                }
            }
            free(changed);
        }
        free(bytes);
    }
}

static void expect_bad(struct wire_message *m, const char *field) {
    size_t length;
    struct wire_message back;
    struct err err = { 0 };
    uint8_t *bytes = bytes_of(m, &length);
    assert_int_equal(wire_read(&back, bytes, length, &err), STATUS_FORMAT);
    if (!strstr(err.text, field)) fail_msg("expected '%s' in '%s'", field, err.text);
    free(bytes);
}

static void fields_must_agree(void **unused) {
    struct wire_message m = example(WIRE_FRAME);
    m.frame.counts[1] = 5;
    expect_bad(&m, "bad counts");
    m = example(WIRE_FRAME), m.frame.nsegments = 0, m.frame.c = 0;
    expect_bad(&m, "bad counts");
    m = example(WIRE_FRAME), m.frame.h = 0;
    expect_bad(&m, "bad shape");
    m = example(WIRE_FRAME), m.frame.h = m.frame.w = 1 << 20;
    expect_bad(&m, "bad shape");
    m = example(WIRE_FRAME), m.frame.h = 1; /* payload longer than any encoding of it */
    expect_bad(&m, "bad payload");
    m = example(WIRE_FRAME), m.frame.stage = 3;
    expect_bad(&m, "bad stage");
    m = example(WIRE_FRAME), m.frame.format = WIRE_IMAGE;
    expect_bad(&m, "bad format");
    m = example(WIRE_FRAME), m.frame.format = WIRE_IMAGE, m.frame.stage = 0;
    expect_bad(&m, "bad shape");
    m = example(WIRE_FRAME), m.payload_length = 0;
    expect_bad(&m, "bad payload");
    m = example(WIRE_ACK), m.payload_length = 1;
    expect_bad(&m, "bad length");
    m = example(WIRE_ASSIGN), m.assign.stage = 1;
    expect_bad(&m, "bad nnext");
    m = example(WIRE_ASSIGN), m.assign.next[1].address[0] = '\0';
    expect_bad(&m, "bad next");
    m = example(WIRE_ASSIGN), m.assign.hash[0] = '\0';
    expect_bad(&m, "bad hash");
    m = example(WIRE_ASSIGN), m.assign.hash[3] = 'X';
    expect_bad(&m, "bad hash");
    m = example(WIRE_WANT), m.want.length = 0;
    expect_bad(&m, "bad length");
}

static void versions_are_told_apart(void **unused) {
    struct wire_message m = example(WIRE_ACK), back;
    struct err err = { 0 };
    size_t length;
    uint8_t *bytes = bytes_of(&m, &length);
    bytes[4] = WIRE_VERSION + 1;
    assert_int_equal(wire_read(&back, bytes, length, &err), STATUS_FORMAT);
    char version[32];
    snprintf(version, sizeof version, "protocol version %d", WIRE_VERSION + 1);
    assert_non_null(strstr(err.text, version));
    bytes[0] = 'X';
    assert_int_equal(wire_read(&back, bytes, length, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "not one of Espalier's"));
    free(bytes);
}

static void text_is_printable(void **unused) {
    struct wire_message m = example(WIRE_FAILED), back;
    strcpy(m.failed.text, "a\x1b[2Jb\nc");
    size_t length;
    uint8_t *bytes = bytes_of(&m, &length);
    assert_int_equal(wire_read(&back, bytes, length, NULL), STATUS_OK);
    assert_string_equal(back.failed.text, "a?[2Jb?c");
    free(bytes);
}

/* What fuzzing begins with has a message of each kind, and none that is left from another version. */
static void fuzzing_begins_with_every_kind(void **unused) {
    static const char folder[] = "tests/fuzz/corpus/wire";
    int read[WIRE_KINDS] = { 0 };
    DIR *list = opendir(folder);
    assert_non_null(list);
    for (struct dirent *entry; (entry = readdir(list));) {
        char path[400];
        uint8_t *bytes;
        size_t length;
        struct wire_message m;
        struct err err;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] == '.') continue;
        assert_int_equal(file_read(path, WIRE_MAX_MESSAGE, &bytes, &length, NULL), STATUS_OK);
        if (!wire_read(&m, bytes, length, &err)) read[m.kind]++;
        else if (strstr(err.text, "version")) fail_msg("%s: %s", path, err.text);
        free(bytes);
    }
    closedir(list);
    for (int kind = WIRE_HELLO; kind < WIRE_KINDS; kind++)
        if (!read[kind]) fail_msg("%s has no message of kind %d", folder, kind);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read), cmocka_unit_test(truncation_is_refused),
        cmocka_unit_test(mutations_stay_in_range), cmocka_unit_test(fields_must_agree),
        cmocka_unit_test(versions_are_told_apart), cmocka_unit_test(text_is_printable),
        cmocka_unit_test(fuzzing_begins_with_every_kind),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
