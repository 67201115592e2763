/* [maxpool] with Darknet's padding, and [avgpool]. */
#include "tests/grad/gradcheck.h"

static const char *const all_levels[] = { "0", "2", NULL };

#define NET(pooling) \
    GRADCHECK_NET(3, 7, 6) GRADCHECK_STEM pooling \
    "[convolutional]\nfilters=6\nsize=3\nstride=1\npad=1\nactivation=tanh\n" GRADCHECK_HEAD

static void maxpool(void **state) {
    gradcheck(NET("[maxpool]\nsize=2\nstride=2\n"), 3, all_levels);
    gradcheck(NET("[maxpool]\nsize=2\nstride=1\n"), 3, all_levels);
    gradcheck(NET("[maxpool]\nsize=3\nstride=2\n"), 3, all_levels);
    gradcheck(NET("[maxpool]\nsize=3\nstride=2\npadding=1\n"), 3, all_levels);
    gradcheck(NET("[maxpool]\nsize=3\nstride=1\n"), 3, all_levels);
    gradcheck(NET("[maxpool]\nsize=2\nstride=3\npadding=0\n"), 3, all_levels);
    gradcheck(NET("[maxpool]\nsize=4\nstride=2\n"), 3, all_levels);
}

static void avgpool(void **state) {
    gradcheck(GRADCHECK_NET(3, 5, 6) GRADCHECK_STEM "[avgpool]\n" GRADCHECK_HEAD, 3, all_levels);
    /* As the networks of the field end: the classes are a convolution's. */
    gradcheck(GRADCHECK_NET(3, 5, 6) GRADCHECK_STEM
              "[convolutional]\nfilters=4\nsize=1\nstride=1\nactivation=linear\n[avgpool]\n[softmax]\n", 3, all_levels);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(maxpool), cmocka_unit_test(avgpool) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
