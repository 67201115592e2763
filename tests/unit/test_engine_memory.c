/* The engine's memory: none is allocated in a run or a level switch, a failed
 * allocation at any place in engine_create leaves nothing behind; and how long
 * a switch takes. */
#include "deploy/engine.h"
#include "deploy/selftest.h"
#include "tests/reference.h"

#include "common/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* Counts every allocation of the process, by taking the allocator's place;
 * sanitizers have taken it already. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { COUNTED = 0 };
static atomic_long allocations, alive, fail_at;
static size_t largest;
#else
enum { COUNTED = 1 };
static atomic_long allocations, alive;
static atomic_long fail_at; /* the how-manieth from now on fails; 0: none */

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static size_t largest; /* that was asked for */

static bool refused(size_t n) {
    allocations++;
    if (n > largest) largest = n;
    if (fail_at > 0 && --fail_at == 0) {
        errno = ENOMEM;
        return true;
    }
    return false;
}

static void *counted(void *p) {
    alive += p != NULL;
    return p;
}

void *malloc(size_t n) { return refused(n) ? NULL : counted(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return refused(n * size) ? NULL : counted(__libc_calloc(n, size)); }
void *aligned_alloc(size_t align, size_t n) { return refused(n) ? NULL : counted(__libc_memalign(align, n)); }
void *realloc(void *p, size_t n) {
    if (refused(n)) return NULL;
    return p ? __libc_realloc(p, n) : counted(__libc_realloc(p, n));
}
void free(void *p) {
    alive -= p != NULL;
    __libc_free(p);
}
#endif

struct fixture {
    struct model *model;
    struct plan *plan;
    float *input, *output;
};

/* Of the cfg, or (NULL) selftest's small network, which has every kind of layer. */
static struct fixture fixture_make(const char *cfg) {
    struct fixture f = {0};
    struct err err = {0};
    if (cfg ? reference_model_file(&f.model, cfg, 1, &err) : selftest_model(&f.model, &err)) fail_msg("%s", err.text);
    assert_int_equal(plan_create(&f.plan, f.model->blocks->nblocks, 0, &err), STATUS_OK);
    f.input = calloc(net_shape_size(f.model->net->input), sizeof *f.input);
    f.output = calloc(1000, sizeof *f.output);
    assert_true(f.input && f.output);
    return f;
}

static void fixture_free(struct fixture *f) {
    plan_destroy(&f->plan);
    model_destroy(&f->model);
    free(f->input);
    free(f->output);
}

static void skip_unless_counted(void) {
    if (COUNTED) return;
    print_message("SKIP: a sanitizer has its own allocator, so allocations cannot be counted\n");
    skip();
}

static void test_runs_and_switches_allocate_nothing(void **state) {
    (void)state;
    skip_unless_counted();
    struct fixture f = fixture_make(NULL);
    struct pool *pool = NULL;
    struct err err;
    assert_int_equal(pool_create(&pool, 2, &err), STATUS_OK);
    for (int threads = 1; threads <= 2; threads++) {
        struct engine_config config = engine_defaults();
        if (threads == 2) config.pool = pool;
        struct engine *engine = NULL;
        assert_int_equal(engine_create(&engine, f.model, &config, &err), STATUS_OK);
        struct random random = random_stream(1, 0, 0);
        const long before = allocations;
        for (int i = 0; i < 50; i++) {
            reference_random_plan(f.plan, f.model, &random);
            engine_set_plan(engine, f.plan);
            engine_run(engine, f.input, f.output);
        }
        assert_int_equal(allocations - before, 0);
        engine_destroy(&engine);
    }
    pool_destroy(&pool);
    fixture_free(&f);
}

static void test_failed_allocations_leave_nothing_behind(void **state) {
    (void)state;
    skip_unless_counted();
    struct fixture f = fixture_make(NULL);
    struct engine_config config = engine_defaults();
    struct err err;
    enum status status = STATUS_MEMORY;
    int n = 0;
    while (status == STATUS_MEMORY) {
        struct engine *engine = NULL;
        const long before = alive;
        fail_at = ++n;
        status = engine_create(&engine, f.model, &config, &err);
        fail_at = 0;
        assert_int_equal(status != STATUS_OK, engine == NULL);
        engine_destroy(&engine);
        assert_int_equal(alive, before);
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(n > 20);
    fixture_free(&f);
}

static void test_what_exceeds_the_limit_is_refused_before_it_is_taken(void **state) {
    (void)state;
    skip_unless_counted();
    struct fixture f = fixture_make(NULL);
    struct engine_config config = engine_defaults();
    struct engine *engine = NULL;
    struct err err;
    assert_int_equal(engine_create(&engine, f.model, &config, &err), STATUS_OK);
    const size_t bytes = engine_bytes(engine);
    engine_destroy(&engine);
    for (size_t limit = bytes; limit > 100; limit = limit == bytes ? bytes - 1 : limit / 2) {
        const long before = alive;
        config.max_bytes = limit;
        largest = 0;
        assert_int_equal(engine_create(&engine, f.model, &config, &err), limit == bytes ? STATUS_OK : STATUS_LIMIT);
        assert_true(largest <= limit || largest < 4096); /* what is small is not weights or maps */
        if (limit < bytes) assert_non_null(strstr(err.text, "needs more memory than the limit of"));
        engine_destroy(&engine);
        assert_int_equal(alive, before);
    }
    fixture_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_and_switches_allocate_nothing),
        cmocka_unit_test(test_failed_allocations_leave_nothing_behind),
        cmocka_unit_test(test_what_exceeds_the_limit_is_refused_before_it_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
