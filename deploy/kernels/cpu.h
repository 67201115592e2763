/* What the processor and the operating system support. */
#ifndef ESPALIER_KERNELS_CPU_H
#define ESPALIER_KERNELS_CPU_H

enum cpu_feature {
    CPU_SSE2 = 1 << 0,
    CPU_AVX2 = 1 << 1,   /* and FMA; the system saves 256-bit registers */
    CPU_AVX512 = 1 << 2, /* F, BW, DQ, VL; the system saves 512-bit registers */
    CPU_NEON = 1 << 3,
    CPU_DOTPROD = 1 << 4, /* Armv8.2 */
    CPU_FP16 = 1 << 5,    /* Armv8.2 half-precision arithmetic */
};

/* A set of cpu_feature. */
unsigned cpu_features(void);
/* Their names with blanks between: "neon dotprod fp16". */
void cpu_describe(char text[64]);

#endif
