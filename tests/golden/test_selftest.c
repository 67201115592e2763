/* The golden outputs of selftest are those of naive loops. Run with --print to
 * make deploy/selftest_golden.c anew:
 *   build/release/tests/golden/test_selftest --print >deploy/selftest_golden.c */
#include "deploy/selftest.h"
#include "tests/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void evaluate(float out[SELFTEST_PLANS][SELFTEST_CLASSES]) {
    struct model *model = NULL;
    struct reference *reference = NULL;
    struct plan *plan = NULL;
    struct err err = {0};
    if (selftest_model(&model, &err) || reference_create(&reference, model, &err) ||
        plan_create(&plan, model->blocks->nblocks, 0, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    float *input = malloc(net_shape_size(model->net->input) * sizeof *input);
    if (!input) exit(1);
    selftest_input(model, input);
    for (int i = 0; i < SELFTEST_PLANS; i++) {
        selftest_plan(model, i, plan);
        reference_run(reference, plan, input);
        reference_compact(reference, net_logits_layer(model->net), out[i]);
    }
    free(input);
    plan_destroy(&plan);
    reference_destroy(&reference);
    model_destroy(&model);
}

static void print(void) {
    float values[SELFTEST_PLANS][SELFTEST_CLASSES];
    evaluate(values);
    printf("/* Made by tests/golden/test_selftest.c --print. */\n#include \"deploy/selftest.h\"\n\n");
    printf("const float selftest_golden[SELFTEST_PLANS][SELFTEST_CLASSES] = {\n");
    for (int i = 0; i < SELFTEST_PLANS; i++) {
        printf("    {");
        for (int k = 0; k < SELFTEST_CLASSES; k++)
            printf("%.8ef%s", (double)values[i][k], k + 1 < SELFTEST_CLASSES ? k == 4 ? ",\n     " : ", " : "},\n");
    }
    printf("};\n");
}

static void test_goldens_are_the_references(void **state) {
    (void)state;
    float values[SELFTEST_PLANS][SELFTEST_CLASSES];
    evaluate(values);
    for (int i = 0; i < SELFTEST_PLANS; i++) {
        double worst;
        assert_true(reference_agrees(selftest_golden[i], values[i], SELFTEST_CLASSES, &worst));
        assert_true(worst < 1e-6);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--print") == 0) {
        print();
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_goldens_are_the_references)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
