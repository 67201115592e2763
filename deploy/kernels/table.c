#include "deploy/kernels/table.h"

#include "deploy/kernels/cpu.h"

#include <string.h>

/* Ascending: a later entry that runs is better. */
static const struct {
    unsigned needs;
    struct kernels kernels;
} sets[] = {
    {0,
     {"ref", PANEL, conv_ref, winograd_input_ref, winograd_output_ref, depthwise_ref, pooling_max_ref,
      pooling_mean_ref, pointwise_affine_ref, pointwise_add_ref, peak_fma_ref, peak_read_ref}},
#if defined(__x86_64__)
    {CPU_SSE2,
     {"sse2", 4, conv_sse2, winograd_input_sse2, winograd_output_sse2, depthwise_sse2, pooling_max_sse2,
      pooling_mean_sse2, pointwise_affine_sse2, pointwise_add_sse2, peak_fma_sse2, peak_read_sse2}},
    {CPU_AVX2,
     {"avx2", 8, conv_avx2, winograd_input_avx2, winograd_output_avx2, depthwise_avx2, pooling_max_avx2,
      pooling_mean_avx2, pointwise_affine_avx2, pointwise_add_avx2, peak_fma_avx2, peak_read_avx2}},
    {CPU_AVX512,
     {"avx512", 16, conv_avx512, winograd_input_avx512, winograd_output_avx512, depthwise_avx512, pooling_max_avx512,
      pooling_mean_avx512, pointwise_affine_avx512, pointwise_add_avx512, peak_fma_avx512, peak_read_avx512}},
#elif defined(__aarch64__)
    {CPU_NEON,
     {"neon", 4, conv_neon, winograd_input_neon, winograd_output_neon, depthwise_neon, pooling_max_neon,
      pooling_mean_neon, pointwise_affine_neon, pointwise_add_neon, peak_fma_neon, peak_read_neon}},
#endif
};
enum { NSETS = sizeof sets / sizeof sets[0] };

static bool runs(int i) { return (cpu_features() & sets[i].needs) == sets[i].needs; }

const struct kernels *kernels_at(int index) { return index < NSETS ? &sets[index].kernels : NULL; }

bool kernels_runnable(const struct kernels *kernels) {
    for (int i = 0; i < NSETS; i++)
        if (&sets[i].kernels == kernels) return runs(i);
    return false;
}

/* The best among the first n sets. */
static const struct kernels *best_of(int n) {
    const struct kernels *best = &sets[0].kernels;
    for (int i = 1; i < n; i++)
        if (runs(i)) best = &sets[i].kernels;
    return best;
}

static int limit = NSETS;

const struct kernels *kernels_best(void) { return best_of(limit); }

enum status kernels_limit(const char *mask, struct err *err) {
    for (int i = 0; i < NSETS; i++)
        if (strcmp(sets[i].kernels.isa, mask) == 0) {
            limit = i + 1;
            return STATUS_OK;
        }
    char names[64] = "";
    for (int i = 0; i < NSETS; i++) {
        if (i) strcat(names, ", ");
        strcat(names, sets[i].kernels.isa);
    }
    err_set(err, STATUS_USAGE, "unknown instruction set '%.40s'", mask);
    err_hint(err, "the kernels here are: %s", names);
    return STATUS_USAGE;
}
