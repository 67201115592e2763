/* Coding feature maps for a link: float32, float16, 8-bit and 4-bit affine per
 * channel or per tensor, each with or without zlib.
 *
 * A map is planar f32 [c, hw]. Affine: value = lo + q * step, for each channel
 * or for the tensor, with lo and step chosen so that 0 is hit exactly whenever
 * it lies in that range, for what a ReLU zeroed must stay zero. The error of a value
 * is at most half a step: (max - min) / 510 or / 30, or where 0 lies inside of
 * the range (max - min) / 508 or / 28. float16 saturates at +-65504 and rounds
 * to nearest even. NaN becomes 0 in all but float32; values beyond +-1e37 are
 * clamped there.
 *
 * Layout, little-endian: f32: c*hw floats. f16: c*hw halves. q8, q4: per
 * channel lo and step (f32), then per channel the values, a q4 channel in
 * (hw+1)/2 bytes, low nibble first. q8t, q4t: the same, as if the tensor were
 * one channel. With z: a raw deflate stream (RFC 1951) of that, or that itself
 * where the stream is no shorter. The length of the uncompressed form follows
 * from the shape alone, so a decoder knows what it must find, and which. */
#ifndef ESPALIER_CODEC_H
#define ESPALIER_CODEC_H

#include "common/err.h"
#include "common/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* zlib states and scratch memory, reused from call to call. One thread at a time. */
struct codec_state;

enum status codec_create(struct codec_state **state, struct err *err) MUST_CHECK;
void codec_destroy(struct codec_state **state);

/* Whether `codec` makes less of a map than `other`: fewer bits a value, or the same with zlib. */
bool codec_is_smaller(enum codec codec, enum codec other);
/* Bytes of the uncompressed form; no encoding of a map of this shape is longer. */
size_t codec_raw_size(enum codec codec, int c, int hw);
/* Encodes map [c, hw] into `out` of at least codec_raw_size() bytes. */
enum status codec_encode(struct codec_state *state, enum codec codec, const float *map, int c, int hw, uint8_t *out,
                         size_t *length, struct err *err) MUST_CHECK;
/* Decodes exactly c*hw floats. STATUS_FORMAT if the bytes are not the encoding
 * of a map of this shape; `map` may then hold anything. */
enum status codec_decode(struct codec_state *state, enum codec codec, const uint8_t *bytes, size_t length, int c,
                         int hw, float *map, struct err *err) MUST_CHECK;

#endif
