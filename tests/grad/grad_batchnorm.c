/* [batchnorm]: a layer of its own, also behind a concatenation of pruned maps. */
#include "tests/grad/gradcheck.h"

static void alone(void **state) {
    gradcheck(GRADCHECK_NET(3, 5, 4) GRADCHECK_STEM "[batchnorm]\n" GRADCHECK_HEAD, 4,
              (const char *const[]){ "0", "2", NULL });
    /* Another reader of what it reads: nothing may be done in place. */
    gradcheck(GRADCHECK_NET(3, 5, 4) GRADCHECK_STEM "[batchnorm]\n[shortcut]\nfrom=-2\nactivation=leaky\n" GRADCHECK_HEAD,
              4, (const char *const[]){ "0", "2", NULL });
}

static void concatenation(void **state) {
    static const char text[] = GRADCHECK_NET(3, 4, 4) GRADCHECK_STEM
        "[convolutional]\nfilters=6\nsize=1\nstride=1\nactivation=leaky\n"
        "[route]\nlayers=-1,-2\n[batchnorm]\n"
        "[convolutional]\nfilters=6\nsize=3\nstride=1\npad=1\nactivation=leaky\n" GRADCHECK_HEAD;
    gradcheck(text, 4, (const char *const[]){ "0", "1", "3", NULL });
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(alone), cmocka_unit_test(concatenation) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
