#include "deploy/kernels/peak.h"
#include "deploy/kernels/vec.h"

enum { CHAINS = 12 };

double VEC_NAME(peak_fma)(long rounds, float *sink) {
    vec a[CHAINS];
    const vec factor = vec_set1(0.999f), term = vec_set1(0.5f);
    _Pragma("GCC unroll 12") for (int k = 0; k < CHAINS; k++) a[k] = vec_set1((float)k);
    for (long i = 0; i < rounds; i++)
        _Pragma("GCC unroll 12") for (int k = 0; k < CHAINS; k++) a[k] = vec_fma(a[k], factor, term);
    float out[VEC_LANES];
    _Pragma("GCC unroll 12") for (int k = 1; k < CHAINS; k++) a[0] = vec_add(a[0], a[k]);
    vec_store(out, a[0]);
    *sink += out[0];
    return 2.0 * CHAINS * VEC_LANES;
}

float VEC_NAME(peak_read)(const float *x, size_t n) {
    vec a[8];
    _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++) a[k] = vec_zero();
    for (size_t i = 0; i < n; i += 8 * VEC_LANES) {
        _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++) a[k] = vec_add(a[k], vec_load(x + i + (size_t)k * VEC_LANES));
    }
    _Pragma("GCC unroll 8") for (int k = 1; k < 8; k++) a[0] = vec_add(a[0], a[k]);
    float out[VEC_LANES], sum = 0;
    vec_store(out, a[0]);
    for (int k = 0; k < VEC_LANES; k++) sum += out[k];
    return sum;
}
