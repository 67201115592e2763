/* The main function of a kernel check: all instruction sets, and --bench. */
#ifndef ESPALIER_TESTS_CHECK_MAIN_H
#define ESPALIER_TESTS_CHECK_MAIN_H

#include "deploy/kernels/check.h"

#include <string.h>

/* Prints what cmocka would, so that the runner can count; a set that this
 * processor lacks is one skipped test. */
static inline int check_main(check_fn *run, int argc, char **argv) {
    const bool bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
    int passed = 0, failed = 0, skipped = 0;
    for (int i = 0; kernels_at(i); i++) {
        struct check check = {.kernels = kernels_at(i), .cases = 300, .seed = 20240, .out = stdout, .bench = bench && i > 0};
        if (!kernels_runnable(check.kernels)) {
            printf("SKIP: this processor has no %s\n", check.kernels->isa);
            skipped++;
            continue;
        }
        run(&check);
        printf("%-7s %d shapes agree, %d differ\n", check.kernels->isa, check.passed, check.failed);
        if (check.failed || check.passed != check.cases) failed++;
        else passed++;
    }
    printf("[  PASSED  ] %d test(s).\n", passed);
    if (skipped) printf("[  SKIPPED ] %d test(s).\n", skipped);
    if (failed) printf("[  FAILED  ] %d test(s).\n", failed);
    return failed > 0;
}

#endif
