/* [shortcut]: equal and differing channels and sizes, activations, weights,
 * and plans that leave the two branches with different counts. */
#include "tests/grad/gradcheck.h"

#define CONV(filters, stride) \
    "[convolutional]\nbatch_normalize=1\nfilters=" #filters "\nsize=3\nstride=" #stride "\npad=1\nactivation=leaky\n"
#define SHORTCUT(options) "[shortcut]\n" options "\n"

static const char *const all_levels[] = { "0", "2", NULL };

static void equal(void **state) {
    gradcheck(GRADCHECK_NET(3, 6, 5) GRADCHECK_STEM CONV(8, 1) SHORTCUT("from=-2\nactivation=relu") GRADCHECK_HEAD, 4,
              all_levels);
    gradcheck(GRADCHECK_NET(3, 6, 5) GRADCHECK_STEM CONV(8, 1) CONV(8, 1) SHORTCUT("from=-3\nactivation=linear")
              SHORTCUT("from=-2\nactivation=leaky") GRADCHECK_HEAD, 4, all_levels);
    gradcheck(GRADCHECK_NET(3, 6, 5) GRADCHECK_STEM CONV(8, 1) SHORTCUT("from=-2\nactivation=logistic") GRADCHECK_HEAD, 4,
              all_levels);
    gradcheck(GRADCHECK_NET(3, 6, 5) GRADCHECK_STEM CONV(8, 1) SHORTCUT("from=-2\nalpha=.7\nbeta=-1.3\nactivation=relu")
              GRADCHECK_HEAD, 4, all_levels);
}

/* A layer added to itself. */
static void twice(void **state) {
    gradcheck(GRADCHECK_NET(3, 4, 4) GRADCHECK_STEM SHORTCUT("from=-1\nactivation=leaky") GRADCHECK_HEAD, 3, all_levels);
}

static void channels(void **state) {
    gradcheck(GRADCHECK_NET(3, 6, 5) GRADCHECK_STEM CONV(12, 1) SHORTCUT("from=-2\nactivation=leaky") GRADCHECK_HEAD, 4,
              all_levels);
    gradcheck(GRADCHECK_NET(3, 6, 5) GRADCHECK_STEM CONV(5, 1) SHORTCUT("from=-2\nactivation=leaky") GRADCHECK_HEAD, 4,
              all_levels);
    gradcheck(GRADCHECK_NET(3, 6, 5) GRADCHECK_STEM CONV(5, 1)
              SHORTCUT("from=-2\nalpha=.5\nbeta=2\nactivation=leaky") GRADCHECK_HEAD, 4, all_levels);
}

static void sizes(void **state) {
    gradcheck(GRADCHECK_NET(3, 6, 4) GRADCHECK_STEM CONV(12, 2) SHORTCUT("from=-2\nactivation=leaky") GRADCHECK_HEAD, 4,
              all_levels);
    /* The other way round: a smaller map joins a larger one. */
    gradcheck(GRADCHECK_NET(3, 6, 4) GRADCHECK_STEM CONV(12, 2) "[route]\nlayers=-2\n"
              SHORTCUT("from=-2\nbeta=.6\nactivation=leaky") GRADCHECK_HEAD, 4, all_levels);
    gradcheck(GRADCHECK_NET(3, 7, 5) GRADCHECK_STEM CONV(6, 2) SHORTCUT("from=-2\nactivation=relu") GRADCHECK_HEAD, 4,
              all_levels);
}

/* Residual blocks at levels of their own: in front of one fewer or more
 * channels arrive than it computes itself. */
static void uneven_plans(void **state) {
    static const char text[] = GRADCHECK_NET(3, 6, 6) GRADCHECK_STEM
        CONV(8, 1) CONV(8, 1) SHORTCUT("from=-3\nactivation=relu")
        CONV(8, 1) CONV(8, 1) SHORTCUT("from=-3\nalpha=.8\nactivation=relu")
        CONV(12, 2) CONV(12, 1) SHORTCUT("from=-3\nactivation=leaky") GRADCHECK_HEAD;
    gradcheck(text, 4, (const char *const[]){ "02020", "20200", "31310", "02130", NULL });
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal), cmocka_unit_test(twice),        cmocka_unit_test(channels),
        cmocka_unit_test(sizes), cmocka_unit_test(uneven_plans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
