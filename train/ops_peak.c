/* Independent chains of multiply-adds in registers, on all threads at once: as
 * many as hide the latency of the units, few enough not to spill. */
#include "train/ops_onednn.h"

#include <time.h>

enum { CHAINS = 12, REPEATS = 16 };
static const double LONG_ENOUGH_S = 2e-3; /* for a repeat */

typedef double peak_loop(long rounds, float *sink);

/* The loop on vectors of so many bytes; returns its floating-point operations. */
#define PEAK_LOOP(name, attributes, bytes)                                                        \
    attributes __attribute__((noinline, optimize("fp-contract=fast"))) static double name(        \
        long rounds, float *sink) {                                                               \
        typedef float lanes __attribute__((vector_size(bytes)));                                  \
        lanes a[CHAINS];                                                                          \
        _Pragma("GCC unroll 12") for (int k = 0; k < CHAINS; k++) a[k] = (lanes){ 0 } + (float)k; \
        for (long i = 0; i < rounds; i++)                                                         \
            _Pragma("GCC unroll 12") for (int k = 0; k < CHAINS; k++) a[k] = a[k] * .999f + .5f;  \
        _Pragma("GCC unroll 12") for (int k = 0; k < CHAINS; k++) *sink += a[k][0];               \
        return 2.0 * CHAINS * ((bytes) / sizeof(float)) * (double)rounds;                         \
    }

#if defined __x86_64__
PEAK_LOOP(peak_512, __attribute__((target("avx512f"))), 64)
PEAK_LOOP(peak_256, __attribute__((target("avx2,fma"))), 32)
#endif
PEAK_LOOP(peak_128, , 16)

static peak_loop *widest(void) {
#if defined __x86_64__
    if (__builtin_cpu_supports("avx512f")) return peak_512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return peak_256;
#endif
    return peak_128;
}

static double own_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of one thread, in operations per second of its own time: that others take
 * turns on the processor does not count. */
static double best_rate(peak_loop *loop, float *sink) {
    double best = 0;
    long rounds = 1 << 10;
    for (int i = 0; i < REPEATS;) {
        double began = own_s(), operations = loop(rounds, sink), seconds = own_s() - began;
        if (seconds < LONG_ENOUGH_S) {
            rounds *= 2;
            continue;
        }
        if (operations / seconds > best) best = operations / seconds;
        i++;
    }
    return best;
}

double ops_peak_flops(struct ops *ops) {
    peak_loop *loop = widest();
    double sum = 0;
    float sink = 0;
#pragma omp parallel for schedule(static, 1) num_threads(ops->nthreads) reduction(+ : sum, sink)
    for (int t = 0; t < ops->nthreads; t++) sum += best_rate(loop, &sink);
    __asm__ volatile("" : : "g"(&sink) : "memory"); /* the chains are wanted */
    return sum;
}
