/* Threads that share a core keep each other waiting, and that is told. */
#include "deploy/contention.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static double cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *compute(void *unused) {
    for (double from = cpu_s(); cpu_s() - from < 0.03;) {}
    return NULL;
}

static void test_sharing_a_core(void **state) {
    if (access("/proc/self/schedstat", R_OK) != 0) {
        print_message("SKIP: this kernel does not tell how long threads wait\n");
        skip();
    }
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    int core = 0;
    while (!CPU_ISSET(core, &all)) core++;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    uint64_t before = contention_us();
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, compute, NULL), 0);
    compute(NULL); /* one computes for 30 ms while the other waits, or they take turns */
    uint64_t waited = contention_us() - before;
    pthread_join(other, NULL);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_true(waited >= 15000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sharing_a_core)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
