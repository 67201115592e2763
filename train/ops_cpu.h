/* Loops of the processor backend: split over the threads, compiled for several
 * vector widths. Private to ops_*.c. */
#ifndef ESPALIER_TRAIN_OPS_CPU_H
#define ESPALIER_TRAIN_OPS_CPU_H

#include <stddef.h>
#include <stdint.h>

/* A function that is compiled for each of these and picked when the program
 * starts. (Not under the thread sanitizer, which is not up yet by then.) */
#if defined __x86_64__ && !defined __SANITIZE_THREAD__
#define OPS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define OPS_CLONES
#endif

struct ops;

/* Part `thread` of a loop: elements [first, last). */
typedef void ops_loop(const void *args, size_t first, size_t last, int thread);
/* Splits [0, count) evenly, in multiples of `grain`, `cost` being the work of
 * an element in units of a value read: small loops stay on one thread, as does
 * everything inside of a part. */
void ops_parallel(const struct ops *ops, size_t count, size_t grain, size_t cost, ops_loop *loop, const void *args);
/* To bfloat16, the nearest, ties to even; a NaN stays one. */
void ops_round_bf16(const struct ops *ops, const float *x, size_t count, uint16_t *y);

#endif
