/* A fuzz target: bytes from outside go through one entry point, and whatever
 * that accepts is used as the programs would use it.
 *
 * Built twice. `make fuzz` links each target with libFuzzer (clang). `make
 * test` links it with replay.c, which needs no clang: it runs the corpus, and
 * a fixed number of seeded mutations of it. A target reports by crashing. */
#ifndef ESPALIER_TESTS_FUZZ_H
#define ESPALIER_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Never called with NULL, even for size 0. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* How many mutations replay.c makes: about half a second's worth. */
extern const int fuzz_mutations;

/* What must hold for every input. */
#define FUZZ_REQUIRE(condition)                                                             \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);  \
            abort();                                                                        \
        }                                                                                   \
    } while (0)

#endif
