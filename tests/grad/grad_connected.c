/* [connected]: behind a map and behind another, with and without batch norm. */
#include "tests/grad/gradcheck.h"

static const char *const all_levels[] = { "0", "2", NULL };

#define NET(options) \
    GRADCHECK_NET(3, 4, 5) GRADCHECK_STEM "[connected]\n" options "\n" \
    "[connected]\noutput=9\nactivation=tanh\n" GRADCHECK_HEAD

static void bias(void **state) {
    gradcheck(NET("output=12\nactivation=leaky"), 4, all_levels);
    gradcheck(NET("output=12\nactivation=logistic"), 4, all_levels);
    gradcheck(NET("output=7\nactivation=linear"), 1, all_levels);
}

static void batch_norm(void **state) {
    gradcheck(NET("batch_normalize=1\noutput=12\nactivation=leaky"), 6, all_levels);
    gradcheck(NET("batch_normalize=1\noutput=12\nactivation=selu"), 6, all_levels);
}

/* Columns of a map's channels: fewer arrive, fewer are read. */
static void uneven_plans(void **state) {
    gradcheck(NET("output=12\nactivation=leaky"), 4, (const char *const[]){ "0200", "2020", "3130", "1300", NULL });
}

/* The network's only layer: its input is the image. */
static void alone(void **state) {
    gradcheck(GRADCHECK_NET(2, 3, 3) "[connected]\noutput=4\nactivation=linear\n[softmax]\n", 3,
              (const char *const[]){ "0", NULL });
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bias),
        cmocka_unit_test(batch_norm),
        cmocka_unit_test(uneven_plans),
        cmocka_unit_test(alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
