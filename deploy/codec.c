/* zlib runs at level 1: on a Pi, higher levels cost more time than the few per
 * cent of bytes that they save are worth on any link fast enough to use. Streams
 * have no zlib header and checksum: of a small map they would be a tenth. */
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
enum { RAW_DEFLATE = -15, MEMORY_LEVEL = 8 }; /* windowBits and memLevel of zlib.h */

struct codec_state {
    z_stream deflate, inflate;
    uint8_t *scratch;
    size_t capacity;
};

enum status codec_create(struct codec_state **state, struct err *err) {
    struct codec_state *s = calloc(1, sizeof *s);
    if (!s) return err_memory(err, "codec");
    if (deflateInit2(&s->deflate, 1, Z_DEFLATED, RAW_DEFLATE, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(s);
        return err_memory(err, "deflate");
    }
    if (inflateInit2(&s->inflate, RAW_DEFLATE) != Z_OK) {
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

/* Affine: what has a scale of its own, `spans` of `values` each. */
struct affine {
    int spans, values, bits;
};

static struct affine affine_of(struct quantize_form form, int c, int hw) {
    return form.tensor ? (struct affine){ 1, c * hw, form.bits } : (struct affine){ c, hw, form.bits };
}

static size_t span_bytes(struct affine a) {
    return ((size_t)a.values * (size_t)a.bits + 7) / 8;
}

size_t codec_raw_size(enum codec codec, int c, int hw) {
    const struct quantize_form form = quantize_form(codec);
    if (form.bits >= 16) return (size_t)c * (size_t)hw * (size_t)form.bits / 8;
    const struct affine a = affine_of(form, c, hw);
    return (size_t)a.spans * (AFFINE_HEADER + span_bytes(a));
}

bool codec_is_smaller(enum codec codec, enum codec other) {
    size_t size = codec_raw_size(codec, 1, 1024), before = codec_raw_size(other, 1, 1024);
    return size < before || (size == before && quantize_form(codec).zlib && !quantize_form(other).zlib);
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

static void encode_affine(const float *map, struct affine form, uint8_t *out) {
    const int top = (1 << form.bits) - 1, n = form.values;
    uint8_t *header = out, *codes = out + (size_t)form.spans * AFFINE_HEADER;
    for (int k = 0; k < form.spans; k++, map += n, header += AFFINE_HEADER, codes += span_bytes(form)) {
        struct quantize_affine a = quantize_fit(map, n, 1, top);
        memcpy(header, &a.lo, 4);
        memcpy(header + 4, &a.step, 4);
        if (form.bits == 8) {
            for (int i = 0; i < n; i++) codes[i] = (uint8_t)quantize_code(a, map[i], top);
        } else {
            for (int i = 0; i + 1 < n; i += 2)
                codes[i / 2] = (uint8_t)(quantize_code(a, map[i], top) | quantize_code(a, map[i + 1], top) << 4);
            if (n & 1) codes[n / 2] = (uint8_t)quantize_code(a, map[n - 1], top);
        }
    }
}

static bool decode_affine(const uint8_t *bytes, struct affine form, float *map) {
    const int n = form.values;
    const uint8_t *header = bytes, *codes = bytes + (size_t)form.spans * AFFINE_HEADER;
    for (int k = 0; k < form.spans; k++, map += n, header += AFFINE_HEADER, codes += span_bytes(form)) {
        float lo, step;
        memcpy(&lo, header, 4);
        memcpy(&step, header + 4, 4);
        if (!isfinite(lo) || !isfinite(step)) return false;
        if (form.bits == 8) {
            for (int i = 0; i < n; i++) map[i] = lo + (float)codes[i] * step;
        } else {
            for (int i = 0; i < n; i++) map[i] = lo + (float)(codes[i / 2] >> (i & 1) * 4 & 15) * step;
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

static void encode_raw(struct quantize_form form, const float *map, int c, int hw, uint8_t *out) {
    const size_t n = (size_t)c * (size_t)hw;
    if (form.bits == 32) memcpy(out, map, 4 * n);
    else if (form.bits == 16) encode_f16(map, n, out);
    else encode_affine(map, affine_of(form, c, hw), out);
}

static bool decode_raw(struct quantize_form form, const uint8_t *bytes, int c, int hw, float *map) {
    const size_t n = (size_t)c * (size_t)hw;
    if (form.bits < 16) return decode_affine(bytes, affine_of(form, c, hw), map);
    if (form.bits == 16) decode_f16(bytes, n, map);
    else memcpy(map, bytes, 4 * n);
    return true;
}

enum status codec_encode(struct codec_state *s, enum codec codec, const float *map, int c, int hw, uint8_t *out,
                         size_t *length, struct err *err) {
    assert(c > 0 && hw > 0);
    size_t raw = codec_raw_size(codec, c, hw);
    const struct quantize_form form = quantize_form(codec);
    if (!form.zlib) {
        encode_raw(form, map, c, hw, out);
        *length = raw;
        return STATUS_OK;
    }
    enum status status = reserve(s, raw, err);
    if (status) return status;
    encode_raw(form, map, c, hw, s->scratch);
    deflateReset(&s->deflate);
    s->deflate.next_in = s->scratch;
    s->deflate.avail_in = (uInt)raw;
    s->deflate.next_out = out;
    s->deflate.avail_out = (uInt)raw - 1;
    bool shorter = deflate(&s->deflate, Z_FINISH) == Z_STREAM_END;
    if (!shorter) memcpy(out, s->scratch, raw);
    *length = shorter ? s->deflate.total_out : raw;
    return STATUS_OK;
}

enum status codec_decode(struct codec_state *s, enum codec codec, const uint8_t *bytes, size_t length, int c, int hw,
                         float *map, struct err *err) {
    assert(c > 0 && hw > 0);
    size_t raw = codec_raw_size(codec, c, hw);
    const struct quantize_form form = quantize_form(codec);
    if (form.zlib && length < raw) {
        enum status status = reserve(s, raw, err);
        if (status) return status;
        inflateReset(&s->inflate);
        s->inflate.next_in = (Bytef *)(uintptr_t)bytes;
        s->inflate.avail_in = (uInt)length;
        s->inflate.next_out = s->scratch;
        s->inflate.avail_out = (uInt)raw;
        if (inflate(&s->inflate, Z_FINISH) != Z_STREAM_END || s->inflate.avail_in || s->inflate.avail_out)
            return err_set(err, STATUS_FORMAT, "feature map of %d x %d values: damaged deflate stream", c, hw);
        bytes = s->scratch;
    } else if (length != raw) {
        return err_set(err, STATUS_FORMAT, "feature map of %d x %d values as %s has %zu bytes, not %zu", c, hw,
                       codec_name(codec), length, raw);
    }
    if (!decode_raw(form, bytes, c, hw, map))
        return err_set(err, STATUS_FORMAT, "feature map of %d x %d values: scale is not finite", c, hw);
    return STATUS_OK;
}
