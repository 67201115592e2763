#include "deploy/recode.h"

#include "deploy/codec.h"

#include <stdlib.h>

struct recoder {
    struct codec_state *codec;
    float *map;
    size_t room; /* floats in it */
    struct wire_message message; /* here because it is large */
};

enum status recoder_create(struct recoder **out, struct err *err) {
    struct recoder *r = calloc(1, sizeof *r);
    if (!r) return err_memory(err, "recoder");
    enum status status = codec_create(&r->codec, err);
    if (status) recoder_destroy(&r);
    else *out = r;
    return status;
}

void recoder_destroy(struct recoder **recoder) {
    struct recoder *r = *recoder;
    if (!r) return;
    codec_destroy(&r->codec);
    free(r->map);
    free(r);
    *recoder = NULL;
}

static bool make_room(struct recoder *r, size_t floats) {
    if (floats <= r->room) return true;
    free(r->map);
    r->map = malloc(floats * sizeof *r->map);
    r->room = r->map ? floats : 0;
    return r->map;
}

bool recode(struct recoder *r, struct packet *packet, enum codec codec) {
    struct wire_message *m = &r->message;
    struct wire_frame *f = &m->frame;
    size_t length;
    const uint8_t *bytes = packet_bytes(packet, &length);
    if (wire_read(m, bytes, length, NULL) || m->kind != WIRE_FRAME || f->format != WIRE_MAP || f->stage >= f->nstages)
        return false;
    uint8_t *used = &f->choice[f->stage].codec;
    int c = (int)f->c, area = (int)(f->h * f->w); /* wire_read has bounded them */
    if (!codec_is_smaller(codec, (enum codec)*used) || !make_room(r, (size_t)c * (size_t)area)) return false;
    if (codec_decode(r->codec, (enum codec)*used, m->payload, m->payload_length, c, area, r->map, NULL)) return false;
    *used = (uint8_t)codec;
    uint8_t *payload, *buffer = packet_buffer(m, codec_raw_size(codec, c, area), &payload, NULL);
    if (!buffer) return false;
    if (codec_encode(r->codec, codec, r->map, c, area, payload, &m->payload_length, NULL)) {
        free(buffer);
        return false;
    }
    struct packet smaller = { 0 };
    if (packet_seal(&smaller, m, buffer, NULL)) return false;
    packet_free(packet);
    packet_move(packet, &smaller);
    return true;
}
