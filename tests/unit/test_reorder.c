/* An order restored. */
#include "deploy/reorder.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static void any_order_comes_out_in_order(void **unused) {
    enum { N = 1000 };
    static int64_t seq[N];
    struct reorder r = { 0 };
    struct random random = random_stream(3, 0, 0);
    assert_null(reorder_take(&r));
    int64_t expected = 0, taken = 0, value = 0;
    for (int done = 0; done < N;) { /* at most 40 apart, as frames in flight are */
        while (expected < N && expected < taken + 40) {
            seq[expected] = value += 1 + random_below(&random, 3); /* with gaps */
            assert_int_equal(reorder_expect(&r, seq[expected++], NULL), STATUS_OK);
        }
        int64_t i = taken + random_below(&random, (int)(expected - taken));
        done += reorder_done(&r, seq[i], &seq[i]);
        assert_false(reorder_done(&r, seq[i], &seq[i])); /* once */
        for (int64_t *item; (item = reorder_take(&r)); taken++) assert_ptr_equal(item, &seq[taken]);
    }
    assert_true(taken == N && r.count == 0);
    assert_false(reorder_done(&r, 5, &seq[0]));
    reorder_free(&r);
}

static void what_is_left_can_be_had(void **unused) {
    struct reorder r = { 0 };
    int a, b;
    for (int64_t i = 0; i < 5; i++) assert_int_equal(reorder_expect(&r, i, NULL), STATUS_OK);
    assert_true(reorder_done(&r, 1, &a) && reorder_done(&r, 3, &b));
    assert_null(reorder_take(&r));
    assert_ptr_equal(reorder_drain(&r), &a);
    assert_ptr_equal(reorder_drain(&r), &b);
    assert_null(reorder_drain(&r));
    reorder_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_comes_out_in_order),
        cmocka_unit_test(what_is_left_can_be_had),
    };
    return cmocka_run_group_tests_name("reorder", tests, NULL, NULL);
}
