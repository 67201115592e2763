#include "deploy/kernels/cpu.h"

#include <string.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdint.h>

/* The register state that the operating system saves (XCR0). */
static uint64_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

unsigned cpu_features(void) {
    const uint64_t ymm = 0x6, zmm = 0xe6; /* XMM+YMM; and opmask, ZMM's upper halves, upper ZMM */
    unsigned features = CPU_SSE2; /* part of x86-64 */
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX) || !(c & bit_FMA)) return features;
    const uint64_t state = saved_state();
    if ((state & ymm) != ymm || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return features;
    features |= CPU_AVX2;
    const unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((state & zmm) == zmm && (b & avx512) == avx512) features |= CPU_AVX512;
    return features;
}

#elif defined(__aarch64__)

#include <asm/hwcap.h>
#include <sys/auxv.h>

unsigned cpu_features(void) {
    const unsigned long hwcap = getauxval(AT_HWCAP);
    unsigned features = 0;
    if (hwcap & HWCAP_ASIMD) features |= CPU_NEON;
    if (hwcap & HWCAP_ASIMDDP) features |= CPU_DOTPROD;
    if (hwcap & HWCAP_ASIMDHP) features |= CPU_FP16;
    return features;
}

#else

unsigned cpu_features(void) { return 0; }

#endif

void cpu_describe(char text[64]) {
    static const char *const names[] = {"sse2", "avx2", "avx512", "neon", "dotprod", "fp16"};
    const unsigned features = cpu_features();
    text[0] = '\0';
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (features >> i & 1) {
            if (text[0]) strcat(text, " ");
            strcat(text, names[i]);
        }
}
