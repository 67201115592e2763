/* The machine's limits, measured: what the other kernels are held against. */
#ifndef ESPALIER_KERNELS_PEAK_H
#define ESPALIER_KERNELS_PEAK_H

#include <stddef.h>

/* `rounds` of independent multiply-adds in registers; returns how many floating-point
 * operations (two per lane) one round is. *sink keeps the compiler honest. */
typedef double peak_fma_fn(long rounds, float *sink);
peak_fma_fn peak_fma_ref, peak_fma_sse2, peak_fma_avx2, peak_fma_avx512, peak_fma_neon;

/* The sum of n floats (a multiple of 128), for read bandwidth. */
typedef float peak_read_fn(const float *x, size_t n);
peak_read_fn peak_read_ref, peak_read_sse2, peak_read_avx2, peak_read_avx512, peak_read_neon;

#endif
