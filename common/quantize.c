#include "common/quantize.h"

void quantize_round(enum codec codec, float *x, int n, ptrdiff_t stride) {
    if (codec <= CODEC_F32Z) return;
    if (codec <= CODEC_F16Z) {
        for (int i = 0; i < n; i++) x[i * stride] = quantize_from_half(quantize_half(x[i * stride]));
        return;
    }
    const int top = codec <= CODEC_Q8Z ? 255 : 15;
    const struct quantize_affine a = quantize_fit(x, n, stride, top);
    for (int i = 0; i < n; i++) x[i * stride] = quantize_value(a, quantize_code(a, x[i * stride], top));
}
