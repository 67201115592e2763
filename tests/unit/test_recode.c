/* Frames that wait for a slow link: coded anew, and still the same frames. */
#include "common/random.h"
#include "deploy/codec.h"
#include "deploy/recode.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { C = 5, H = 6, W = 7, AREA = H * W };

static void make_map(float *map) {
    struct random r = random_stream(3, 0, 0);
    for (int i = 0; i < C * AREA; i++) map[i] = fmaxf(0, (float)random_normal(&r));
}

/* A frame for stage 1 of 2, its map in `codec`. */
static void make_frame(struct packet *packet, struct codec_state *coder, enum codec codec, const float *map) {
    static struct wire_message m;
    m = (struct wire_message){ .kind = WIRE_FRAME, .session = 77 };
    m.frame = (struct wire_frame){ .seq = 5, .attempt = 2, .layout = 3, .stage = 1, .nstages = 2, .format = WIRE_MAP,
                                   .incoming = 2, .c = C, .h = H, .w = W, .nsegments = 2, .counts = { 2, 3 } };
    m.frame.choice[0].level = 2;
    m.frame.choice[1] = (struct wire_choice){ .level = 1, .link = 2, .codec = (uint8_t)codec };
    m.frame.time[0].compute_us = 1234;
    uint8_t payload[C * AREA * 8];
    assert_true(codec_raw_size(codec, C, AREA) <= sizeof payload);
    assert_int_equal(codec_encode(coder, codec, map, C, AREA, payload, &m.payload_length, NULL), STATUS_OK);
    m.payload = payload;
    assert_int_equal(packet_make(packet, &m, NULL), STATUS_OK);
}

static void every_codec_from_every_other(void **unused) {
    struct codec_state *coder = NULL;
    struct recoder *recoder = NULL;
    float map[C * AREA], decoded[C * AREA], direct[C * AREA];
    assert_int_equal(codec_create(&coder, NULL), STATUS_OK);
    assert_int_equal(recoder_create(&recoder, NULL), STATUS_OK);
    make_map(map);
    for (int from = 0; from < CODEC_COUNT; from++)
        for (int to = 0; to < CODEC_COUNT; to++) {
            struct packet packet = { 0 };
            make_frame(&packet, coder, (enum codec)from, map);
            size_t before, after;
            packet_bytes(&packet, &before);
            bool smaller = codec_is_smaller((enum codec)to, (enum codec)from);
            assert_int_equal(recode(recoder, &packet, (enum codec)to), smaller);
            const uint8_t *bytes = packet_bytes(&packet, &after);
            static struct wire_message m;
            assert_int_equal(wire_read(&m, bytes, after, NULL), STATUS_OK);
            enum codec codec = smaller ? (enum codec)to : (enum codec)from;
            assert_int_equal(m.frame.choice[1].codec, codec);
            assert_true(m.session == 77 && m.frame.seq == 5 && m.frame.attempt == 2 && m.frame.incoming == 2);
            assert_true(m.frame.counts[1] == 3 && m.frame.time[0].compute_us == 1234 && m.frame.choice[1].link == 2);
            assert_int_equal(codec_decode(coder, codec, m.payload, m.payload_length, C, AREA, decoded, NULL), STATUS_OK);
            /* No further from the map than coding at once, but for what the codec before had lost. */
            if (from / 2 == 0 || !smaller) {
                struct packet straight = { 0 };
                make_frame(&straight, coder, codec, map);
                bytes = packet_bytes(&straight, &before);
                assert_int_equal(wire_read(&m, bytes, before, NULL), STATUS_OK);
                assert_int_equal(codec_decode(coder, codec, m.payload, m.payload_length, C, AREA, direct, NULL), STATUS_OK);
                assert_memory_equal(decoded, direct, sizeof direct);
                packet_free(&straight);
            }
            for (int i = 0; i < C * AREA; i++) assert_true(fabsf(decoded[i] - map[i]) < 0.25f);
            packet_free(&packet);
        }
    recoder_destroy(&recoder);
    codec_destroy(&coder);
}

static void what_is_no_map_stays(void **unused) {
    struct recoder *recoder = NULL;
    struct wire_message m = { .kind = WIRE_ACK, .session = 1, .ack = { .seq = 4 } };
    struct packet packet = { 0 };
    size_t before, after;
    assert_int_equal(recoder_create(&recoder, NULL), STATUS_OK);
    assert_int_equal(packet_make(&packet, &m, NULL), STATUS_OK);
    packet_bytes(&packet, &before);
    assert_false(recode(recoder, &packet, CODEC_Q4));
    packet_bytes(&packet, &after);
    assert_int_equal(before, after);
    packet_free(&packet);
    recoder_destroy(&recoder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_codec_from_every_other),
        cmocka_unit_test(what_is_no_map_stays),
    };
    return cmocka_run_group_tests_name("recode", tests, NULL, NULL);
}
