/* Losses against central differences of their own definition in double. */
#include "common/random.h"
#include "train/loss.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { N = 5, CLASSES = 7 };

static double entropy(const double *logits, const double *target) {
    double loss = 0;
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int c = 0; c < CLASSES; c++) sum += exp(logits[i * CLASSES + c]);
        for (int c = 0; c < CLASSES; c++)
            loss -= target[i * CLASSES + c] * (logits[i * CLASSES + c] - log(sum)) / N;
    }
    return loss;
}

static void check(const float *logits, const double *target, double loss, const float *gradient, double weight) {
    double x[N * CLASSES];
    for (int i = 0; i < N * CLASSES; i++) x[i] = (double)logits[i];
    assert_float_equal(loss, entropy(x, target), 1e-5);
    for (int i = 0; i < N * CLASSES; i++) {
        double kept = x[i], up, down;
        x[i] = kept + 1e-4;
        up = entropy(x, target);
        x[i] = kept - 1e-4;
        down = entropy(x, target);
        x[i] = kept;
        assert_float_equal(gradient[i], weight * (up - down) / 2e-4, 1e-6);
    }
}

static void test_labels(void **state) {
    float logits[N * CLASSES], gradient[N * CLASSES];
    double target[N * CLASSES];
    int labels[N], correct, expected = 0;
    struct random random = random_stream(1, 0, 0);
    for (int smoothing = 0; smoothing < 2; smoothing++) {
        double s = .1 * smoothing;
        expected = 0;
        for (int i = 0; i < N; i++) {
            int best = 0;
            labels[i] = random_below(&random, CLASSES);
            for (int c = 0; c < CLASSES; c++) {
                logits[i * CLASSES + c] = (float)random_normal(&random) * 3;
                if (logits[i * CLASSES + c] > logits[i * CLASSES + best]) best = c;
                target[i * CLASSES + c] = s / CLASSES + (c == labels[i] ? 1 - s : 0);
            }
            expected += best == labels[i];
        }
        double loss = loss_labels(logits, labels, N, CLASSES, (float)s, .5f, gradient, &correct);
        assert_int_equal(correct, expected);
        assert_int_equal(loss_correct(logits, labels, N, CLASSES), expected);
        check(logits, target, loss, gradient, .5);
    }
}

static void test_targets(void **state) {
    float logits[N * CLASSES], teacher[N * CLASSES], gradient[N * CLASSES];
    double target[N * CLASSES];
    struct random random = random_stream(2, 0, 0);
    for (int i = 0; i < N * CLASSES; i++) {
        logits[i] = (float)random_normal(&random);
        teacher[i] = (float)random_normal(&random) * 50; /* far apart: no overflow */
    }
    loss_softmax(teacher, N, CLASSES, teacher);
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int c = 0; c < CLASSES; c++) sum += teacher[i * CLASSES + c];
        assert_float_equal(sum, 1, 1e-6);
    }
    for (int i = 0; i < N * CLASSES; i++) target[i] = (double)teacher[i];
    double loss = loss_targets(logits, teacher, N, CLASSES, 2, gradient);
    check(logits, target, loss, gradient, 2);
}

static void test_not_finite(void **state) {
    float logits[CLASSES] = { 0, NAN, 1 }, gradient[CLASSES];
    int label = 2, correct;
    assert_false(isfinite(loss_labels(logits, &label, 1, CLASSES, 0, 1, gradient, &correct)));
    assert_int_equal(correct, 0);
    logits[1] = INFINITY;
    assert_false(isfinite(loss_labels(logits, &label, 1, CLASSES, 0, 1, gradient, &correct)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
