#include "common/quantize.h"

struct quantize_form quantize_form(enum codec codec) {
    static const struct quantize_form forms[CODEC_COUNT] = {
        [CODEC_F32] = { 32, false, false }, [CODEC_F32Z] = { 32, false, true },
        [CODEC_F16] = { 16, false, false }, [CODEC_F16Z] = { 16, false, true },
        [CODEC_Q8] = { 8, false, false },   [CODEC_Q8Z] = { 8, false, true },
        [CODEC_Q8T] = { 8, true, false },   [CODEC_Q8TZ] = { 8, true, true },
        [CODEC_Q4] = { 4, false, false },   [CODEC_Q4Z] = { 4, false, true },
        [CODEC_Q4T] = { 4, true, false },   [CODEC_Q4TZ] = { 4, true, true },
    };
    return forms[codec];
}

/* n > 0 values of one scale, `stride` apart. */
static void round_affine(float *x, int n, ptrdiff_t stride, int bits) {
    const int top = (1 << bits) - 1;
    const struct quantize_affine a = quantize_fit(x, n, stride, top);
    for (int i = 0; i < n; i++) x[i * stride] = quantize_value(a, quantize_code(a, x[i * stride], top));
}

void quantize_round(enum codec codec, float *map, int positions, int channels) {
    const struct quantize_form form = quantize_form(codec);
    const int n = positions * channels;
    if (form.bits == 16)
        for (int i = 0; i < n; i++) map[i] = quantize_from_half(quantize_half(map[i]));
    if (form.bits > 8) return;
    if (form.tensor) round_affine(map, n, 1, form.bits);
    for (int c = 0; c < channels && !form.tensor; c++) round_affine(map + c, positions, channels, form.bits);
}
