/* Learning rates against the formulas written out, and how [net] is read. */
#include "train/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct schedule read_net(const char *options) {
    char text[512];
    struct cfg *cfg;
    struct err err;
    struct schedule s;
    snprintf(text, sizeof text, "[net]\n%s", options);
    assert_int_equal(cfg_parse(&cfg, "t.cfg", text, strlen(text), &err), STATUS_OK);
    assert_int_equal(schedule_init(&s, cfg, &err), STATUS_OK);
    cfg_destroy(&cfg);
    return s;
}

static void check(const struct schedule *s, int batch, double expected) {
    assert_float_equal(schedule_rate(s, batch), expected, 1e-6 * fabs(expected) + 1e-12);
}

static void test_defaults(void **state) {
    struct schedule s = read_net("");
    assert_int_equal(s.policy, SCHEDULE_CONSTANT);
    assert_float_equal(s.momentum, .9f, 0);
    assert_float_equal(s.decay, .0001f, 0);
    assert_false(s.nesterov);
    check(&s, 1, .001);
    check(&s, 100000, .001);
    schedule_fini(&s);
}

static void test_step(void **state) {
    struct schedule s = read_net("learning_rate=.2\npolicy=step\nstep=10\nscale=.5\n");
    check(&s, 9, .2);
    check(&s, 10, .1);
    check(&s, 39, .2 * .125);
    schedule_fini(&s);
}

static void test_steps(void **state) {
    struct schedule s = read_net("learning_rate=.1\npolicy=steps\nsteps=100,150\nscales=.1,.5\n");
    check(&s, 99, .1);
    check(&s, 100, .01);
    check(&s, 149, .01);
    check(&s, 150, .005);
    schedule_fini(&s);
}

static void test_exp_poly_sig(void **state) {
    struct schedule s = read_net("learning_rate=.3\npolicy=exp\ngamma=.99\n");
    check(&s, 7, .3 * pow(.99, 7));
    schedule_fini(&s);
    s = read_net("learning_rate=.3\npolicy=poly\npower=4\nmax_batches=200\n");
    check(&s, 50, .3 * pow(.75, 4));
    check(&s, 200, 0);
    schedule_fini(&s);
    s = read_net("learning_rate=.3\npolicy=sig\ngamma=.05\nstep=100\n");
    check(&s, 100, .15);
    check(&s, 120, .3 / (1 + exp(1)));
    schedule_fini(&s);
}

static void test_cosine(void **state) {
    struct schedule s = read_net("learning_rate=.4\npolicy=cosine\nmax_batches=100\n");
    check(&s, 1, .4);
    check(&s, 51, .2);
    check(&s, 76, .2 * (1 - sqrt(.5)));
    assert_true(schedule_rate(&s, 100) > 0);
    schedule_fini(&s);
}

static void test_onecycle(void **state) {
    struct schedule s = read_net("learning_rate=.5\npolicy=onecycle\nwarmup=.2\nmax_batches=100\n");
    check(&s, 1, .02);
    check(&s, 11, (.02 + .5) / 2);
    check(&s, 21, .5);
    check(&s, 61, (.5 + .02e-4) / 2);
    for (int b = 22; b <= 100; b++) assert_true(schedule_rate(&s, b) < schedule_rate(&s, b - 1));
    schedule_fini(&s);
}

static void test_burn_in(void **state) {
    struct schedule s = read_net("learning_rate=.1\nburn_in=10\npower=2\n");
    check(&s, 1, .1 * .01);
    check(&s, 5, .1 * .25);
    check(&s, 10, .1);
    schedule_fini(&s);
}

static void test_errors(void **state) {
    static const struct {
        const char *options, *text, *hint;
    } cases[] = {
        { "policy=cosin\n", "t.cfg:2: ", "cosine" },
        { "policy=steps\nsteps=1,2\nscales=.1\n", "t.cfg:3: ", "" },
        { "policy=steps\nsteps=2,1\nscales=.1,.1\n", "t.cfg:3: ", "" },
        { "policy=steps\n", "t.cfg:1: ", "" },
        { "momentum=2\n", "t.cfg:2: ", "" },
        { "learning_rate=fast\n", "t.cfg:2: ", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        struct cfg *cfg;
        struct err err;
        struct schedule s, untouched;
        memset(&s, 7, sizeof s);
        untouched = s;
        snprintf(text, sizeof text, "[net]\n%s", cases[i].options);
        assert_int_equal(cfg_parse(&cfg, "t.cfg", text, strlen(text), &err), STATUS_OK);
        assert_int_equal(schedule_init(&s, cfg, &err), STATUS_FORMAT);
        assert_non_null(strstr(err.text, cases[i].text));
        assert_non_null(strstr(err.hint, cases[i].hint));
        assert_memory_equal(&s, &untouched, sizeof s);
        cfg_destroy(&cfg);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_step),     cmocka_unit_test(test_steps),
        cmocka_unit_test(test_exp_poly_sig), cmocka_unit_test(test_cosine), cmocka_unit_test(test_onecycle),
        cmocka_unit_test(test_burn_in),  cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
