/* zlib runs at level 1: on a Pi, higher levels cost more time than the few per
 * cent of bytes that they save are worth on any link fast enough to use. */
#include "deploy/codec.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "maps are copied as they lie in memory");

enum { AFFINE_HEADER = 8 }; /* lo, step */
static const float LARGEST = 1e37f; /* differences of clamped values stay finite */

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

static uint16_t half_from_float(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7fffffff;
    if (u > 0x7f800000) return 0; /* NaN */
    if (u >= 0x477fe000) return sign | 0x7bff;
    if (u >= 0x38800000) { /* normal as a half: round to even at bit 13 */
        u += 0xfff + (u >> 13 & 1);
        return sign | (uint16_t)((u - 0x38000000) >> 13);
    }
    /* Subnormal: 0.5's last place is the half's smallest step, so the addition rounds. */
    float magnitude;
    memcpy(&magnitude, &u, 4);
    magnitude += 0.5f;
    memcpy(&u, &magnitude, 4);
    return sign | (uint16_t)(u - 0x3f000000);
}

/* The half's bits read as a float's are the value times 2^-112. Infinities,
 * which the encoder never makes, become 65536 and more. */
static float half_to_float(uint16_t h) {
    uint32_t u = (uint32_t)(h & 0x7fff) << 13;
    float x;
    memcpy(&x, &u, 4);
    x *= 0x1p112f;
    return h & 0x8000 ? -x : x;
}

static void encode_f16(const float *map, size_t n, uint8_t *out) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = half_from_float(map[i]);
        memcpy(out + 2 * i, &h, 2);
    }
}

static void decode_f16(const uint8_t *bytes, size_t n, float *map) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, bytes + 2 * i, 2);
        map[i] = half_to_float(h);
    }
}

/* ---- affine ---- */

static float clean(float x) {
    if (x != x) return 0;
    return x > LARGEST ? LARGEST : x < -LARGEST ? -LARGEST : x;
}

struct affine {
    float lo, step, inverse; /* step 0: all values are lo */
};

static struct affine affine_fit(const float *x, int n, int top) {
    float lo = clean(x[0]), hi = lo;
    for (int i = 1; i < n; i++) {
        float v = clean(x[i]);
        lo = v < lo ? v : lo;
        hi = v > hi ? v : hi;
    }
    bool straddles = lo < 0 && hi >= 0;
    struct affine a = { lo, (hi - lo) / (float)(straddles ? top - 1 : top), 0 };
    if (a.step < 0x1p-120f) { /* too close to tell apart: 1/step would overflow */
        a.step = 0;
        if (lo <= 0 && hi >= 0) a.lo = 0;
        return a;
    }
    a.inverse = 1 / a.step;
    /* One step is kept spare so that lo can move down to a whole number of steps below 0. */
    if (straddles) a.lo = -(ceilf(-lo * a.inverse) * a.step);
    return a;
}

static int affine_code(struct affine a, float x, int top) {
    float q = (clean(x) - a.lo) * a.inverse + 0.5f;
    return q < 0 ? 0 : q > (float)top ? top : (int)q;
}

static void encode_affine(const float *map, int c, int hw, int bits, uint8_t *out) {
    int top = (1 << bits) - 1;
    uint8_t *header = out;
    uint8_t *values = out + (size_t)c * AFFINE_HEADER;
    for (int k = 0; k < c; k++, map += hw, header += AFFINE_HEADER) {
        struct affine a = affine_fit(map, hw, top);
        memcpy(header, &a.lo, 4);
        memcpy(header + 4, &a.step, 4);
        if (bits == 8) {
            for (int i = 0; i < hw; i++) values[i] = (uint8_t)affine_code(a, map[i], top);
            values += hw;
        } else {
            for (int i = 0; i + 1 < hw; i += 2)
                *values++ = (uint8_t)(affine_code(a, map[i], top) | affine_code(a, map[i + 1], top) << 4);
            if (hw & 1) *values++ = (uint8_t)affine_code(a, map[hw - 1], top);
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
