/* [dropout] with one seed, and [crop], which draws from it too. */
#include "tests/grad/gradcheck.h"

static const char *const all_levels[] = { "0", "2", NULL };

static void dropout(void **state) {
    gradcheck(GRADCHECK_NET(3, 5, 4) GRADCHECK_STEM "[dropout]\nprobability=.4\n" GRADCHECK_HEAD, 3, all_levels);
    /* Behind a rectifier, and with another reader of what it reads. */
    gradcheck(GRADCHECK_NET(3, 5, 4) GRADCHECK_STEM
              "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=relu\n"
              "[dropout]\nprobability=.5\n[shortcut]\nfrom=-2\nactivation=leaky\n" GRADCHECK_HEAD,
              4, all_levels);
}

static void crop(void **state) {
    gradcheck(GRADCHECK_NET(3, 8, 7) "[crop]\ncrop_height=5\ncrop_width=4\nflip=1\n" GRADCHECK_STEM GRADCHECK_HEAD, 4,
              all_levels);
    gradcheck(GRADCHECK_NET(3, 8, 7) "[crop]\ncrop_height=8\ncrop_width=7\nnoadjust=1\n" GRADCHECK_STEM GRADCHECK_HEAD, 4,
              all_levels);
}

/* The draw is of the share asked for, and leaves the mean where it was. */
static void share(void **state) {
    struct gradcheck g;
    struct err err;
    gradcheck_init(&g, "[net]\nchannels=4\nheight=50\nwidth=50\n[dropout]\nprobability=.3\n", 2, "0");
    for (size_t i = 0; i < g.inputs; i++) g.input[i] = 1;
    gradcheck_ok(network_forward(g.network, g.plan, NETWORK_TRAIN, g.input, g.n, 9, g.logits, &err), &err);
    size_t kept = 0;
    for (size_t i = 0; i < g.inputs; i++) {
        kept += g.logits[i] != 0;
        if (g.logits[i] != 0) assert_float_equal(g.logits[i], 1 / 0.7f, 1e-6);
    }
    assert_in_range(kept, (size_t)(0.68 * (double)g.inputs), (size_t)(0.72 * (double)g.inputs));
    gradcheck_ok(network_forward(g.network, g.plan, NETWORK_STATS, g.input, g.n, 9, g.logits, &err), &err);
    for (size_t i = 0; i < g.inputs; i++) assert_true(g.logits[i] == 1);
    gradcheck_fini(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(dropout), cmocka_unit_test(crop), cmocka_unit_test(share) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
