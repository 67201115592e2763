/* The engine's outputs against the trainer's (oneDNN): every shipped network
 * small enough and a concatenating one, at every uniform level and on random
 * plans with random cuts and link caps. */
#include "deploy/engine.h"
#include "tests/reference.h"
#include "train/network.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { RANDOM_PLANS = 20 };

static const char concatenation[] =
    "[net]\nwidth=24\nheight=20\nchannels=3\n[prune]\nlevels=1,.75,.5,.25\nalign=4\n"
    "[convolutional]\nbatch_normalize=1\nfilters=24\nsize=3\npad=1\nactivation=leaky\n"
    "[convolutional]\nbatch_normalize=1\nfilters=20\nsize=3\npad=1\nactivation=relu\n"
    "[route]\nlayers=-1,-2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=32\nsize=1\nactivation=relu\n"
    "[maxpool]\nsize=2\nstride=2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=28\nsize=3\npad=1\nactivation=relu6\n"
    "[route]\nlayers=-1,-2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=40\nsize=3\nstride=2\npad=1\nactivation=relu\n"
    "[connected]\noutput=64\nactivation=relu\n[dropout]\nprobability=.5\n"
    "[connected]\noutput=12\nactivation=linear\n[softmax]\n";

static void compare(struct model *model, const char *name) {
    struct network *network = NULL;
    struct engine *engine = NULL;
    struct plan *plan = NULL;
    struct err err = {0};
    const struct engine_config config = engine_defaults();
    if (network_create(&network, model, 1, 1, &err)) fail_msg("%s", err.text);
    if (engine_create(&engine, model, &config, &err)) fail_msg("%s", err.text);
    assert_int_equal(plan_create(&plan, model->blocks->nblocks, 0, &err), STATUS_OK);
    const size_t classes = (size_t)model->net->classes, inputs = net_shape_size(model->net->input);
    float *input = malloc(inputs * sizeof *input), *output = malloc(engine_output_max(engine) * sizeof *output);
    float *logits = malloc(classes * sizeof *logits);
    assert_true(input && output && logits);
    struct random random = random_stream(4, 0, 0);
    for (size_t i = 0; i < inputs; i++) input[i] = (float)random_between(&random, -1, 1);
    double largest = 0;
    for (int i = 0; i < model->levels->nlevels + RANDOM_PLANS; i++) {
        for (int b = 0; b < plan->nblocks; b++) plan->level[b] = i;
        if (i >= model->levels->nlevels) reference_random_plan(plan, model, &random);
        if (network_forward(network, plan, NETWORK_INFERENCE, input, 1, 0, logits, &err)) fail_msg("%s", err.text);
        engine_set_plan(engine, plan);
        engine_run(engine, input, output);
        double worst;
        const bool agrees = reference_agrees(engine_logits(engine), logits, classes, &worst);
        if (worst > largest) largest = worst;
        if (!agrees) fail_msg("%s: plan %d differs by %g of the largest magnitude", name, i, worst);
    }
    printf("%s: %d plans agree, the largest difference is %.1e of the largest magnitude\n", name,
           model->levels->nlevels + RANDOM_PLANS, largest);
    free(input);
    free(output);
    free(logits);
    plan_destroy(&plan);
    engine_destroy(&engine);
    network_destroy(&network);
    model_destroy(&model);
}

static void compare_file(void **state) {
    struct model *model = NULL;
    struct err err = {0};
    if (reference_model_file(&model, *state, 3, &err)) fail_msg("%s", err.text);
    compare(model, *state);
}

static void test_concatenation(void **state) {
    (void)state;
    struct model *model = NULL;
    struct err err = {0};
    if (reference_model(&model, concatenation, 3, &err)) fail_msg("%s", err.text);
    compare(model, "concatenation");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(compare_file, "cfg/resnet20.cfg"),
        cmocka_unit_test_prestate(compare_file, "cfg/trap.cfg"),
        cmocka_unit_test_prestate(compare_file, "cfg/mobilenetv2-cifar.cfg"),
        cmocka_unit_test_prestate(compare_file, "cfg/resnext20-cifar.cfg"),
        cmocka_unit_test_prestate(compare_file, "cfg/vgg16-cifar.cfg"),
        cmocka_unit_test(test_concatenation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
