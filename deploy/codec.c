/* zlib runs at level 1: on a Pi, higher levels cost more time than the few per
 * cent of bytes that they save are worth on any link fast enough to use. */
#include "deploy/codec.h"

#include "common/quantize.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "maps are copied as they lie in memory");

enum { AFFINE_HEADER = 8 }; /* lo, step */

struct codec_state {
    z_stream deflate, inflate;
    uint8_t *scratch;
    size_t capacity;
};

enum status codec_create(struct codec_state **state, struct err *err) {
    struct codec_state *s = calloc(1, sizeof *s);
    if (!s) return err_memory(err, "codec");
    if (deflateInit(&s->deflate, 1) != Z_OK) {
        free(s);
        return err_memory(err, "deflate");
    }
    if (inflateInit(&s->inflate) != Z_OK) {
        deflateEnd(&s->deflate);
        free(s);
        return err_memory(err, "inflate");
    }
    *state = s;
    return STATUS_OK;
}

void codec_destroy(struct codec_state **state) {
    struct codec_state *s = *state;
    if (!s) return;
    deflateEnd(&s->deflate);
    inflateEnd(&s->inflate);
    free(s->scratch);
    free(s);
    *state = NULL;
}

static bool zipped(enum codec codec) {
    return codec == CODEC_F32Z || codec == CODEC_F16Z || codec == CODEC_Q8Z || codec == CODEC_Q4Z;
}

size_t codec_raw_size(enum codec codec, int c, int hw) {
    size_t channels = (size_t)c, size = (size_t)hw;
    switch (codec) {
    case CODEC_F32:
    case CODEC_F32Z: return channels * size * 4;
    case CODEC_F16:
    case CODEC_F16Z: return channels * size * 2;
    case CODEC_Q8:
    case CODEC_Q8Z: return channels * (AFFINE_HEADER + size);
    case CODEC_Q4:
    case CODEC_Q4Z: return channels * (AFFINE_HEADER + (size + 1) / 2);
    case CODEC_COUNT: break;
    }
    assert(!"codec");
    return 0;
}

size_t codec_bound(enum codec codec, int c, int hw) {
    size_t raw = codec_raw_size(codec, c, hw);
    return zipped(codec) ? compressBound(raw) : raw;
}

/* ---- float16 ---- */

static void encode_f16(const float *map, size_t n, uint8_t *out) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = quantize_half(map[i]);
        memcpy(out + 2 * i, &h, 2);
    }
}

static void decode_f16(const uint8_t *bytes, size_t n, float *map) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, bytes + 2 * i, 2);
        map[i] = quantize_from_half(h);
    }
}

/* ---- affine ---- */

static void encode_affine(const float *map, int c, int hw, int bits, uint8_t *out) {
    int top = (1 << bits) - 1;
    uint8_t *header = out;
    uint8_t *values = out + (size_t)c * AFFINE_HEADER;
    for (int k = 0; k < c; k++, map += hw, header += AFFINE_HEADER) {
        struct quantize_affine a = quantize_fit(map, hw, 1, top);
        memcpy(header, &a.lo, 4);
        memcpy(header + 4, &a.step, 4);
        if (bits == 8) {
            for (int i = 0; i < hw; i++) values[i] = (uint8_t)quantize_code(a, map[i], top);
            values += hw;
        } else {
            for (int i = 0; i + 1 < hw; i += 2)
                *values++ = (uint8_t)(quantize_code(a, map[i], top) | quantize_code(a, map[i + 1], top) << 4);
            if (hw & 1) *values++ = (uint8_t)quantize_code(a, map[hw - 1], top);
        }
    }
}

static bool decode_affine(const uint8_t *bytes, int c, int hw, int bits, float *map) {
    const uint8_t *header = bytes;
    const uint8_t *values = bytes + (size_t)c * AFFINE_HEADER;
    for (int k = 0; k < c; k++, map += hw, header += AFFINE_HEADER) {
        float lo, step;
        memcpy(&lo, header, 4);
        memcpy(&step, header + 4, 4);
        if (!isfinite(lo) || !isfinite(step)) return false;
        if (bits == 8) {
            for (int i = 0; i < hw; i++) map[i] = lo + (float)values[i] * step;
            values += hw;
        } else {
            for (int i = 0; i < hw; i++) map[i] = lo + (float)(values[i / 2] >> (i & 1) * 4 & 15) * step;
            values += (hw + 1) / 2;
        }
    }
    return true;
}

/* ---- all ---- */

static enum status reserve(struct codec_state *s, size_t size, struct err *err) {
    if (size <= s->capacity) return STATUS_OK;
    uint8_t *scratch = realloc(s->scratch, size);
    if (!scratch) return err_memory(err, "feature map");
    s->scratch = scratch;
    s->capacity = size;
    return STATUS_OK;
}

static void encode_raw(enum codec codec, const float *map, int c, int hw, uint8_t *out) {
    switch (codec) {
    case CODEC_F32:
    case CODEC_F32Z: memcpy(out, map, (size_t)c * (size_t)hw * 4); break;
    case CODEC_F16:
    case CODEC_F16Z: encode_f16(map, (size_t)c * (size_t)hw, out); break;
    case CODEC_Q8:
    case CODEC_Q8Z: encode_affine(map, c, hw, 8, out); break;
    default: encode_affine(map, c, hw, 4, out); break;
    }
}

static bool decode_raw(enum codec codec, const uint8_t *bytes, int c, int hw, float *map) {
    switch (codec) {
    case CODEC_F32:
    case CODEC_F32Z: memcpy(map, bytes, (size_t)c * (size_t)hw * 4); return true;
    case CODEC_F16:
    case CODEC_F16Z: decode_f16(bytes, (size_t)c * (size_t)hw, map); return true;
    case CODEC_Q8:
    case CODEC_Q8Z: return decode_affine(bytes, c, hw, 8, map);
    default: return decode_affine(bytes, c, hw, 4, map);
    }
}

enum status codec_encode(struct codec_state *s, enum codec codec, const float *map, int c, int hw, uint8_t *out,
                         size_t *length, struct err *err) {
    assert(c > 0 && hw > 0);
    size_t raw = codec_raw_size(codec, c, hw);
    if (!zipped(codec)) {
        encode_raw(codec, map, c, hw, out);
        *length = raw;
        return STATUS_OK;
    }
    enum status status = reserve(s, raw, err);
    if (status) return status;
    encode_raw(codec, map, c, hw, s->scratch);
    deflateReset(&s->deflate);
    s->deflate.next_in = s->scratch;
    s->deflate.avail_in = (uInt)raw;
    s->deflate.next_out = out;
    s->deflate.avail_out = (uInt)codec_bound(codec, c, hw);
    if (deflate(&s->deflate, Z_FINISH) != Z_STREAM_END) return err_memory(err, "deflate");
    *length = s->deflate.total_out;
    return STATUS_OK;
}

enum status codec_decode(struct codec_state *s, enum codec codec, const uint8_t *bytes, size_t length, int c, int hw,
                         float *map, struct err *err) {
    assert(c > 0 && hw > 0);
    size_t raw = codec_raw_size(codec, c, hw);
    if (zipped(codec)) {
        if (length > codec_bound(codec, c, hw))
            return err_set(err, STATUS_FORMAT, "feature map of %d x %d values has %zu bytes", c, hw, length);
        enum status status = reserve(s, raw, err);
        if (status) return status;
        inflateReset(&s->inflate);
        s->inflate.next_in = (Bytef *)(uintptr_t)bytes;
        s->inflate.avail_in = (uInt)length;
        s->inflate.next_out = s->scratch;
        s->inflate.avail_out = (uInt)raw;
        if (inflate(&s->inflate, Z_FINISH) != Z_STREAM_END || s->inflate.avail_in || s->inflate.avail_out)
            return err_set(err, STATUS_FORMAT, "feature map of %d x %d values: damaged zlib stream", c, hw);
        bytes = s->scratch;
    } else if (length != raw) {
        return err_set(err, STATUS_FORMAT, "feature map of %d x %d values as %s has %zu bytes, not %zu", c, hw,
                       codec_name(codec), length, raw);
    }
    if (!decode_raw(codec, bytes, c, hw, map))
        return err_set(err, STATUS_FORMAT, "feature map of %d x %d values: scale is not finite", c, hw);
    return STATUS_OK;
}
