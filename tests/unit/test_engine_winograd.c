/* Rounding errors of Winograd's transforms over a whole deep network: what it
 * puts out is the direct convolution's, at the widest and the narrowest level. */
#include "deploy/engine.h"
#include "tests/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static struct engine *engine_make(const struct model *model, bool low_memory) {
    struct engine_config config = engine_defaults();
    config.low_memory = low_memory; /* which does without Winograd */
    struct engine *engine = NULL;
    struct err err = {0};
    if (engine_create(&engine, model, &config, &err)) fail_msg("%s", err.text);
    return engine;
}

static int winograd_layers(const struct engine *engine, const struct model *model) {
    int n = 0;
    for (int i = 0; i < model->net->nlayers; i++) n += strncmp(engine_layer(engine, i).kernel, "winograd", 8) == 0;
    return n;
}

static void agrees(const char *cfg, int least) {
    struct model *model = NULL;
    struct plan *plan = NULL;
    struct err err = {0};
    if (reference_model_file(&model, cfg, 3, &err)) fail_msg("%s", err.text);
    assert_int_equal(plan_create(&plan, model->blocks->nblocks, 0, &err), STATUS_OK);
    struct engine *fast = engine_make(model, false), *direct = engine_make(model, true);
    float *input = malloc(engine_input_max(fast) * sizeof *input), *output = malloc(engine_output_max(fast) * sizeof *output);
    assert_true(input && output);
    struct random random = random_stream(4, 0, 0);
    for (size_t i = 0; i < engine_input_max(fast); i++) input[i] = (float)random_uniform(&random);
    assert_true(winograd_layers(fast, model) >= least);
    assert_int_equal(winograd_layers(direct, model), 0);
    for (int k = 0; k < 2; k++) {
        for (int b = 0; b < plan->nblocks; b++) plan->level[b] = k ? model->levels->nlevels - 1 : 0;
        engine_set_plan(fast, plan);
        engine_set_plan(direct, plan);
        engine_run(fast, input, output);
        engine_run(direct, input, output);
        const size_t n = net_shape_size(net_shape_of(model->net, net_logits_layer(model->net)));
        double worst;
        if (!reference_agrees(engine_logits(fast), engine_logits(direct), n, &worst))
            fail_msg("%s, level %d: differs by %g of the largest magnitude", cfg, plan->level[0], worst);
    }
    free(input);
    free(output);
    engine_destroy(&fast);
    engine_destroy(&direct);
    plan_destroy(&plan);
    model_destroy(&model);
}

static void test_plain(void **state) {
    (void)state;
    agrees("cfg/vgg16-cifar.cfg", 5);
}

static void test_residual(void **state) {
    (void)state;
    agrees("cfg/resnet20.cfg", 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plain), cmocka_unit_test(test_residual)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
