/* The library for other programs: results, errors, and engines in several
 * threads at once. */
#include "common/model.h"
#include "deploy/espalier.h"
#include "deploy/selftest.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { VALUES = 20 * 18 * 3, LEVELS = 4 };

static char path[64];
static float input[VALUES], expected[LEVELS][SELFTEST_CLASSES];

static struct espalier *load(int threads) {
    struct espalier *net = NULL;
    struct espalier_error error;
    const struct espalier_options options = {.threads = threads};
    if (espalier_load(&net, path, &options, &error)) fail_msg("%s", error.text);
    return net;
}

static int save_model(void **state) {
    (void)state;
    struct model *model = NULL;
    struct err err;
    snprintf(path, sizeof path, "/tmp/espalier-test-%ld.safetensors", (long)getpid());
    if (selftest_model(&model, &err) || model_save(model, path, &err)) return -1;
    selftest_input(model, input);
    model_destroy(&model);
    struct espalier *net = load(1);
    for (int level = 0; level < LEVELS; level++) {
        if (espalier_set_level(net, level, NULL)) return -1;
        espalier_run(net, input, expected[level]);
    }
    espalier_free(&net);
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    return unlink(path);
}

/* Softmax of selftest's golden values. */
static void test_results_are_the_golden_ones(void **state) {
    (void)state;
    for (int level = 0; level < LEVELS; level++) {
        const float *logits = selftest_golden[level];
        float largest = logits[0], probs[SELFTEST_CLASSES];
        double sum = 0;
        for (int i = 1; i < SELFTEST_CLASSES; i++) largest = logits[i] > largest ? logits[i] : largest;
        for (int i = 0; i < SELFTEST_CLASSES; i++) sum += exp((double)logits[i] - (double)largest);
        for (int i = 0; i < SELFTEST_CLASSES; i++) {
            probs[i] = (float)(exp((double)logits[i] - (double)largest) / sum);
            assert_true(fabs((double)expected[level][i] - (double)probs[i]) < 1e-4);
        }
    }
}

static void test_describes_the_model(void **state) {
    (void)state;
    struct espalier *net = load(0);
    int c, h, w;
    espalier_input(net, &c, &h, &w);
    assert_true(c == 3 && h == 18 && w == 20);
    assert_int_equal(espalier_classes(net), SELFTEST_CLASSES);
    assert_int_equal(espalier_levels(net), LEVELS);
    assert_null(espalier_label(net, 0));
    assert_null(espalier_label(net, -1));
    assert_true(espalier_accuracy(net, 0) < 0);
    assert_true(espalier_bytes(net) > 1000);
    espalier_free(&net);
    assert_null(net);
    espalier_free(&net);
}

static void test_plans_are_those_of_the_command_line(void **state) {
    (void)state;
    struct espalier *net = load(1);
    struct espalier_error error;
    float output[SELFTEST_CLASSES];
    for (int level = 0; level < LEVELS; level++) {
        const char text[] = {(char)('0' + level), '\0'};
        assert_int_equal(espalier_set_plan(net, text, &error), ESPALIER_OK);
        espalier_run(net, input, output);
        assert_memory_equal(output, expected[level], sizeof output);
    }
    espalier_free(&net);
}

static void test_errors_are_told_and_change_nothing(void **state) {
    (void)state;
    struct espalier *net = NULL;
    struct espalier_error error;
    const struct espalier_options small = {.threads = 1, .max_bytes = 1000};
    assert_int_equal(espalier_load(&net, "/nonexistent/model", NULL, &error), ESPALIER_IO);
    assert_non_null(strstr(error.text, "/nonexistent/model"));
    assert_int_equal(espalier_load(&net, "/nonexistent/model", NULL, NULL), ESPALIER_IO);
    assert_int_equal(espalier_load(&net, path, &small, &error), ESPALIER_LIMIT);
    assert_null(net);
    net = load(1);
    float output[SELFTEST_CLASSES];
    assert_int_equal(espalier_set_level(net, 1, &error), ESPALIER_OK);
    assert_int_equal(espalier_set_level(net, LEVELS, &error), ESPALIER_USAGE);
    assert_non_null(strstr(error.text, "0 to 3"));
    assert_int_equal(espalier_set_plan(net, "7", &error), ESPALIER_USAGE);
    assert_int_equal(espalier_run_image(net, "nothing", 7, output, &error), ESPALIER_FORMAT);
    espalier_run(net, input, output);
    assert_memory_equal(output, expected[1], sizeof output);
    espalier_free(&net);
}

/* Loads, switches and runs on its own; counts what differs. */
static void *work_alone(void *context) {
    int *wrong = context;
    for (int round = 0; round < 3; round++) {
        struct espalier *net = NULL;
        const struct espalier_options options = {.threads = 2};
        if (espalier_load(&net, path, &options, NULL)) {
            ++*wrong;
            continue;
        }
        for (int i = 0; i < 40; i++) {
            float output[SELFTEST_CLASSES];
            const int level = (i + round) % LEVELS;
            *wrong += espalier_set_level(net, level, NULL) != ESPALIER_OK;
            espalier_run(net, input, output);
            *wrong += memcmp(output, expected[level], sizeof output) != 0;
        }
        espalier_free(&net);
    }
    return NULL;
}

static void test_engines_are_independent_of_each_other(void **state) {
    (void)state;
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    int wrong[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, work_alone, &wrong[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(wrong[i], 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results_are_the_golden_ones),
        cmocka_unit_test(test_describes_the_model),
        cmocka_unit_test(test_plans_are_those_of_the_command_line),
        cmocka_unit_test(test_errors_are_told_and_change_nothing),
        cmocka_unit_test(test_engines_are_independent_of_each_other),
    };
    return cmocka_run_group_tests(tests, save_model, remove_model);
}
