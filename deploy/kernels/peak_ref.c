#include "deploy/kernels/peak.h"

double peak_fma_ref(long rounds, float *sink) {
    float a[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (long i = 0; i < rounds; i++)
        for (int k = 0; k < 8; k++) a[k] = a[k] * 0.999f + 0.5f;
    for (int k = 0; k < 8; k++) *sink += a[k];
    return 2 * 8;
}

float peak_read_ref(const float *x, size_t n) {
    float sum[4] = {0};
    for (size_t i = 0; i < n; i += 4)
        for (int k = 0; k < 4; k++) sum[k] += x[i + (size_t)k];
    return sum[0] + sum[1] + sum[2] + sum[3];
}
