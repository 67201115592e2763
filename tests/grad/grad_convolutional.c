/* [convolutional]: every option, every activation. */
#include "tests/grad/gradcheck.h"

static const char *const all_levels[] = { "0", "2", NULL };

#define CONV(options) "[convolutional]\n" options "\n"
#define NET(options) GRADCHECK_NET(3, 6, 5) GRADCHECK_STEM CONV(options) GRADCHECK_HEAD

static void plain(void **state) {
    gradcheck(NET("filters=10\nsize=3\nstride=1\npad=1\nactivation=leaky"), 3, all_levels);
    gradcheck(NET("filters=10\nsize=3\nstride=2\npad=1\nactivation=relu"), 3, all_levels);
    gradcheck(NET("filters=10\nsize=1\nstride=1\nactivation=linear"), 3, all_levels);
    gradcheck(NET("filters=10\nsize=2\nstride=2\nactivation=leaky"), 3, all_levels);
    gradcheck(NET("filters=10\nsize=5\nstride=3\npadding=2\nactivation=leaky"), 3, all_levels);
    gradcheck(NET("filters=33\nsize=3\nstride=1\npadding=0\nactivation=leaky"), 3, all_levels);
}

static void batch_norm(void **state) {
    gradcheck(NET("batch_normalize=1\nfilters=10\nsize=3\nstride=1\npad=1\nactivation=relu"), 4, all_levels);
    gradcheck(NET("batch_normalize=1\nfilters=10\nsize=3\nstride=2\npad=1\nactivation=linear"), 4, all_levels);
    gradcheck(NET("batch_normalize=1\nfilters=10\nsize=1\nstride=1\nactivation=leaky"), 4, all_levels);
    gradcheck(NET("batch_normalize=1\nfilters=10\nsize=1\nstride=1\nactivation=relu6"), 4, all_levels);
    gradcheck(NET("batch_normalize=1\nfilters=10\nsize=3\nstride=1\npad=1\nactivation=elu"), 4, all_levels);
}

static void groups(void **state) {
    gradcheck(NET("filters=8\ngroups=2\nsize=3\nstride=1\npad=1\nactivation=leaky"), 3, all_levels);
    gradcheck(NET("filters=12\ngroups=4\nsize=3\nstride=2\npad=1\nactivation=leaky"), 3, all_levels);
    gradcheck(NET("batch_normalize=1\nfilters=16\ngroups=4\nsize=1\nstride=1\nactivation=relu"), 4, all_levels);
}

static void depthwise(void **state) {
    gradcheck(NET("filters=8\ngroups=8\nsize=3\nstride=1\npad=1\nactivation=leaky"), 3, all_levels);
    gradcheck(NET("batch_normalize=1\nfilters=8\ngroups=8\nsize=3\nstride=2\npad=1\nactivation=relu6"), 4, all_levels);
    gradcheck(NET("filters=16\ngroups=8\nsize=3\nstride=1\npad=1\nactivation=leaky"), 3, all_levels);
}

/* Few positions and many channels: computed by patches. */
#define WIDE(options) GRADCHECK_NET(3, 4, 3) CONV("filters=40\nsize=1\nstride=1\nactivation=linear") CONV(options) GRADCHECK_HEAD
static void small_maps(void **state) {
    gradcheck(WIDE("filters=10\nsize=3\nstride=1\npad=1\nactivation=leaky"), 3, all_levels);
    gradcheck(WIDE("filters=10\nsize=3\nstride=2\npad=1\nactivation=relu"), 3, all_levels);
    gradcheck(WIDE("filters=10\nsize=2\nstride=1\nactivation=leaky"), 3, all_levels);
    gradcheck(WIDE("batch_normalize=1\nfilters=33\nsize=3\nstride=1\npad=1\nactivation=relu"), 4, all_levels);
}

static void activations(void **state) {
    for (int a = 0; a < ACTIVATION_COUNT; a++)
        for (int norm = 0; norm < 2; norm++) {
            char text[1024];
            snprintf(text, sizeof text,
                     GRADCHECK_NET(3, 5, 5) GRADCHECK_STEM
                     "[convolutional]\nbatch_normalize=%d\nfilters=6\nsize=3\nstride=1\npad=1\nactivation=%s\n" GRADCHECK_HEAD,
                     norm, activation_name((enum activation)a));
            gradcheck(text, 4, (const char *const[]){ "1", NULL });
        }
}

/* The Darknet form of batch norm has a derivative of its own. */
static void darknet_form(void **state) {
    struct gradcheck g;
    gradcheck_init(&g, NET("batch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=leaky"), 4, "1");
    g.model->bn_form = MODEL_BN_DARKNET;
    g.model->bn_eps = 0.1f; /* large enough to tell the forms apart */
    assert_int_equal(gradcheck_run(&g, 0.02f), 0);
    gradcheck_fini(&g);
}

/* Values beyond relu6's cap, with and without batch norm. */
static void capped(void **state) {
    for (int norm = 0; norm < 2; norm++) {
        struct gradcheck g;
        gradcheck_init(&g, norm ? NET("batch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=relu6")
                                : NET("filters=8\nsize=3\nstride=1\npad=1\nactivation=relu6"), 4, "1");
        struct network_view view = network_view(g.network);
        for (int i = 0; i < view.nparams; i++)
            if (view.params[i].layer == 1 && view.params[i].role != NETWORK_BIAS)
                for (size_t k = 0; k < view.params[i].size; k++) view.values[view.params[i].offset + k] *= 6;
        assert_int_equal(gradcheck_run(&g, 0.02f), 0);
        gradcheck_fini(&g);
    }
}

/* Levels that differ from block to block: a consumer narrower than what
 * arrives, one that is wider, and both in a row. */
static void uneven_plans(void **state) {
    static const char text[] = GRADCHECK_NET(3, 6, 6)
        CONV("filters=12\nsize=3\nstride=1\npad=1\nactivation=leaky")
        CONV("batch_normalize=1\nfilters=12\nsize=3\nstride=1\npad=1\nactivation=leaky")
        CONV("filters=12\ngroups=12\nsize=3\nstride=1\npad=1\nactivation=leaky")
        CONV("filters=8\nsize=1\nstride=1\nactivation=leaky") GRADCHECK_HEAD;
    gradcheck(text, 3, (const char *const[]){ "02020", "20202", "31230", "01232", NULL });
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),       cmocka_unit_test(batch_norm),   cmocka_unit_test(groups),
        cmocka_unit_test(depthwise),   cmocka_unit_test(activations),  cmocka_unit_test(darknet_form),
        cmocka_unit_test(capped),      cmocka_unit_test(uneven_plans), cmocka_unit_test(small_maps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
