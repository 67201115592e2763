/* Vectors of floats, one vocabulary for every instruction set.
 *
 * Included by *_simd.c only, which are compiled once per set with -DISA=name
 * and -DISA_name. Nothing here has a linkable symbol. VEC_LANES floats make a
 * vector; a panel of 16 channels is PANEL_VECS of them. Loads and stores need
 * no alignment (data aligned to 64 bytes is faster). */
#ifndef ESPALIER_KERNELS_VEC_H
#define ESPALIER_KERNELS_VEC_H

#include <stddef.h>

#define VEC_PASTE_(op, isa) op##_##isa
#define VEC_PASTE(op, isa) VEC_PASTE_(op, isa)
/* The name of an operation's version for this set: VEC_NAME(conv) is conv_avx2, ... */
#define VEC_NAME(op) VEC_PASTE(op, ISA)
#define VEC_INLINE static inline __attribute__((always_inline))

/* Asks for a cache line to read or to write. The builtin wants literals; a test of a literal costs nothing. */
VEC_INLINE void vec_ask(const void *at, const int write) {
    if (write) __builtin_prefetch(at, 1);
    else __builtin_prefetch(at, 0);
}

/* vec_quad: four consecutive floats, to be broadcast one at a time:
 * vec_fma_lane(a, w, quad, L) = a + w * quad[L], L a literal 0 to 3.
 * vec_load_n loads the first n < VEC_LANES lanes and zeroes the others. */

#if defined(ISA_avx512)
#include <immintrin.h>
enum { VEC_LANES = 16 };
typedef __m512 vec;
typedef const float *vec_quad;
VEC_INLINE vec vec_zero(void) { return _mm512_setzero_ps(); }
VEC_INLINE vec vec_set1(float x) { return _mm512_set1_ps(x); }
VEC_INLINE vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_INLINE vec vec_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
VEC_INLINE void vec_store(float *p, vec a) { _mm512_storeu_ps(p, a); }
VEC_INLINE vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
VEC_INLINE vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
VEC_INLINE vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
VEC_INLINE vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
VEC_INLINE vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }
VEC_INLINE vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }

#elif defined(ISA_avx2)
#include <immintrin.h>
enum { VEC_LANES = 8 };
typedef __m256 vec;
typedef const float *vec_quad;
VEC_INLINE vec vec_zero(void) { return _mm256_setzero_ps(); }
VEC_INLINE vec vec_set1(float x) { return _mm256_set1_ps(x); }
VEC_INLINE vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
VEC_INLINE vec vec_load_n(const float *p, int n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
}
VEC_INLINE void vec_store(float *p, vec a) { _mm256_storeu_ps(p, a); }
VEC_INLINE vec vec_add(vec a, vec b) { return _mm256_add_ps(a, b); }
VEC_INLINE vec vec_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
VEC_INLINE vec vec_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
VEC_INLINE vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
VEC_INLINE vec vec_min(vec a, vec b) { return _mm256_min_ps(a, b); }
VEC_INLINE vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }

#elif defined(ISA_sse2)
#include <emmintrin.h>
enum { VEC_LANES = 4 };
typedef __m128 vec;
typedef const float *vec_quad;
VEC_INLINE vec vec_zero(void) { return _mm_setzero_ps(); }
VEC_INLINE vec vec_set1(float x) { return _mm_set1_ps(x); }
VEC_INLINE vec vec_load(const float *p) { return _mm_loadu_ps(p); }
VEC_INLINE vec vec_load_n(const float *p, int n)
{
    return _mm_setr_ps(n > 0 ? p[0] : 0, n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0);
}
VEC_INLINE void vec_store(float *p, vec a) { _mm_storeu_ps(p, a); }
VEC_INLINE vec vec_add(vec a, vec b) { return _mm_add_ps(a, b); }
VEC_INLINE vec vec_sub(vec a, vec b) { return _mm_sub_ps(a, b); }
VEC_INLINE vec vec_mul(vec a, vec b) { return _mm_mul_ps(a, b); }
VEC_INLINE vec vec_max(vec a, vec b) { return _mm_max_ps(a, b); }
VEC_INLINE vec vec_min(vec a, vec b) { return _mm_min_ps(a, b); }
VEC_INLINE vec vec_fma(vec a, vec b, vec c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }

#elif defined(ISA_neon)
#include <arm_neon.h>
enum { VEC_LANES = 4 };
typedef float32x4_t vec;
typedef float32x4_t vec_quad;
VEC_INLINE vec vec_zero(void) { return vdupq_n_f32(0); }
VEC_INLINE vec vec_set1(float x) { return vdupq_n_f32(x); }
VEC_INLINE vec vec_load(const float *p) { return vld1q_f32(p); }
VEC_INLINE vec vec_load_n(const float *p, int n)
{
    float t[4] = {n > 0 ? p[0] : 0, n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0};
    return vld1q_f32(t);
}
VEC_INLINE void vec_store(float *p, vec a) { vst1q_f32(p, a); }
VEC_INLINE vec vec_add(vec a, vec b) { return vaddq_f32(a, b); }
VEC_INLINE vec vec_sub(vec a, vec b) { return vsubq_f32(a, b); }
VEC_INLINE vec vec_mul(vec a, vec b) { return vmulq_f32(a, b); }
VEC_INLINE vec vec_max(vec a, vec b) { return vmaxnmq_f32(a, b); }
VEC_INLINE vec vec_min(vec a, vec b) { return vminnmq_f32(a, b); }
VEC_INLINE vec vec_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }

#else
#error "compile with -DISA_sse2, -DISA_avx2, -DISA_avx512 or -DISA_neon"
#endif

#if defined(ISA_neon)
VEC_INLINE vec_quad vec_quad_load(const float *p) { return vld1q_f32(p); }
#define vec_fma_lane(a, w, quad, L) vfmaq_laneq_f32(a, w, quad, L)
#else
/* Sets with cheap broadcasting loads keep the address. */
VEC_INLINE vec_quad vec_quad_load(const float *p) { return p; }
#define vec_fma_lane(a, w, quad, L) vec_fma(w, vec_set1((quad)[L]), a)
#endif

enum { PANEL_VECS = 16 / VEC_LANES };

#endif
