/* [route]: concatenations, read by convolutions, connected layers, shortcuts
 * and further concatenations, under plans that prune each part. */
#include "tests/grad/gradcheck.h"

#define CONV(filters, size) \
    "[convolutional]\nfilters=" #filters "\nsize=" #size "\nstride=1\npad=1\nactivation=leaky\n"
#define ROUTE(layers) "[route]\nlayers=" layers "\n"

static const char *const all_levels[] = { "0", "1", "2", "3", NULL };

static void convolution_reads(void **state) {
    gradcheck(GRADCHECK_NET(3, 5, 5) GRADCHECK_STEM CONV(6, 1) ROUTE("-1,-2") CONV(6, 3) GRADCHECK_HEAD, 4, all_levels);
    gradcheck(GRADCHECK_NET(3, 5, 5) GRADCHECK_STEM CONV(6, 1) CONV(4, 3) ROUTE("-2,-1,-3")
              "[convolutional]\nbatch_normalize=1\nfilters=7\nsize=1\nstride=1\nactivation=relu\n" GRADCHECK_HEAD, 4, all_levels);
}

static void connected_reads(void **state) {
    gradcheck(GRADCHECK_NET(3, 4, 3) GRADCHECK_STEM CONV(6, 1) ROUTE("-1,-2") GRADCHECK_HEAD, 4, all_levels);
}

static void one_layer(void **state) {
    gradcheck(GRADCHECK_NET(3, 5, 5) GRADCHECK_STEM CONV(6, 1) ROUTE("-2") CONV(4, 3) GRADCHECK_HEAD, 4, all_levels);
    gradcheck(GRADCHECK_NET(3, 5, 5) GRADCHECK_STEM ROUTE("-1,-1") CONV(4, 3) GRADCHECK_HEAD, 4, all_levels);
}

/* Dense connections: each concatenation holds the one before. */
static void nested(void **state) {
    gradcheck(GRADCHECK_NET(3, 5, 4) GRADCHECK_STEM CONV(4, 3) ROUTE("-1,-2") CONV(4, 3) ROUTE("-1,-2") CONV(4, 3)
              ROUTE("-1,-2") "[maxpool]\nsize=2\nstride=2\n" CONV(6, 1) GRADCHECK_HEAD, 4, all_levels);
}

static void shortcut_adds(void **state) {
    gradcheck(GRADCHECK_NET(3, 5, 4) GRADCHECK_STEM CONV(8, 3) ROUTE("-1,-2") CONV(16, 3)
              "[shortcut]\nfrom=-2\nactivation=leaky\n" CONV(5, 3) GRADCHECK_HEAD, 4, all_levels);
    gradcheck(GRADCHECK_NET(3, 5, 4) GRADCHECK_STEM CONV(8, 3) ROUTE("-1,-2") "[route]\nlayers=-2,-3\n"
              "[shortcut]\nfrom=-2\nactivation=leaky\n" CONV(5, 3) GRADCHECK_HEAD, 4, all_levels);
}

/* A concatenation crosses cuts: each part is capped on its own. */
static void uneven_plans(void **state) {
    static const char text[] = GRADCHECK_NET(3, 5, 5) GRADCHECK_STEM
        CONV(6, 1) ROUTE("-1,-2") CONV(8, 3) CONV(6, 3) ROUTE("-1,-2")
        "[convolutional]\nfilters=7\nsize=1\nstride=1\nactivation=leaky\n" GRADCHECK_HEAD;
    struct gradcheck g;
    gradcheck_init(&g, text, 3, "0");
    int blocks = g.plan->nblocks;
    gradcheck_fini(&g);
    assert_in_range(blocks, 3, 8);
    char plans[6][9] = { "02020202", "20202020", "01230123", "32103210", "30303030", "03123021" };
    const char *list[7] = { NULL };
    for (int i = 0; i < 6; i++) {
        plans[i][blocks] = '\0';
        plans[i][blocks - 1] = '0';
        list[i] = plans[i];
    }
    gradcheck(text, 4, list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolution_reads), cmocka_unit_test(connected_reads), cmocka_unit_test(one_layer),
        cmocka_unit_test(nested),            cmocka_unit_test(shortcut_adds),   cmocka_unit_test(uneven_plans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
