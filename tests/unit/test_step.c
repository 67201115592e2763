/* Training steps: parts add up to the whole, what no plan reached stays, one
 * batch can be learnt by heart at every level, and divergence is named. */
#include "tests/unit/training.h"
#include "train/step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { IMAGES = 20, SIDE = 8, CLASSES = 5 };

static const char plain_cfg[] = /* no batch norm, no dropout */
    "[net]\nwidth=8\nheight=8\nchannels=3\n"
    "[prune]\nlevels=1,.5\nalign=2\n"
    "[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
    "[convolutional]\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=leaky\n"
    "[connected]\noutput=5\nactivation=linear\n"
    "[softmax]\n";

struct fixture {
    struct model *model;
    struct network *network;
    struct step *step;
    struct dataset dataset;
    struct dataset_sample samples[IMAGES];
    uint8_t pixels[IMAGES][SIDE * SIDE * 3];
    struct loader *loader;
};

static void open_fixture(struct fixture *f, const char *cfg, struct robust_config robust, int subdivisions) {
    struct err err;
    struct random random = random_stream(6, 0, 0);
    struct augment none = augment_none();
    assert_int_equal(training_model(&f->model, cfg, &err), STATUS_OK);
    for (int i = 0; i < IMAGES; i++) {
        for (size_t k = 0; k < sizeof f->pixels[i]; k++) f->pixels[i][k] = (uint8_t)random_below(&random, 256);
        f->samples[i] = (struct dataset_sample){ .bytes = f->pixels[i], .label = i % CLASSES };
    }
    f->dataset = (struct dataset){ .name = "test", .nclasses = CLASSES, .n = IMAGES, .samples = f->samples,
                                   .c = 3, .h = SIDE, .w = SIDE };
    struct loader_config loading = { .dataset = &f->dataset, .preproc = f->model->preproc, .augment = &none,
                                     .batch = IMAGES / subdivisions, .seed = 3 };
    struct step_config config = { .robust = robust, .sgd = { .momentum = .9f, .nesterov = true }, .batch = IMAGES,
                                  .subdivisions = subdivisions, .seed = 4 };
    assert_int_equal(loader_create(&f->loader, &loading, &err), STATUS_OK);
    assert_int_equal(network_create(&f->network, f->model, IMAGES / subdivisions, 1, &err), STATUS_OK);
    network_init(f->network, 5);
    assert_int_equal(step_create(&f->step, &config, f->network, f->model, &err), STATUS_OK);
}

static void close_fixture(struct fixture *f) {
    step_destroy(&f->step);
    network_destroy(&f->network);
    loader_destroy(&f->loader);
    model_destroy(&f->model);
}

static void test_subdivisions(void **state) {
    struct fixture whole, parts;
    struct err err;
    open_fixture(&whole, plain_cfg, robust_defaults(ROBUST_DROP), 1);
    open_fixture(&parts, plain_cfg, robust_defaults(ROBUST_DROP), 4);
    for (int i = 0; i < 3; i++) {
        struct step_result a, b;
        assert_int_equal(step_run(whole.step, whole.loader, i, .05f, &a, &err), STATUS_OK);
        assert_int_equal(step_run(parts.step, parts.loader, i, .05f, &b, &err), STATUS_OK);
        assert_int_equal(a.images, IMAGES);
        assert_int_equal(b.images, IMAGES);
        assert_int_equal(a.correct, b.correct);
        assert_float_equal(a.loss, b.loss, 1e-4);
    }
    struct network_view a = network_view(whole.network), b = network_view(parts.network);
    for (size_t i = 0; i < a.size; i++) assert_true(fabsf(a.values[i] - b.values[i]) < 1e-4f);
    close_fixture(&whole);
    close_fixture(&parts);
}

static void test_untouched(void **state) {
    struct fixture f;
    struct err err;
    struct robust_config robust = robust_defaults(ROBUST_DROP);
    robust.plans = 1;
    robust.full = 0;
    robust.max_cuts = 0;
    open_fixture(&f, training_cfg, robust, 1);
    f.step->config.sgd.decay = .1f;
    struct network_view view = network_view(f.network);
    float *before = malloc(view.size * sizeof *before);
    int pruned = 0;
    for (int i = 0; i < 12; i++) {
        struct step_result result;
        memcpy(before, view.values, view.size * sizeof *before);
        assert_int_equal(step_run(f.step, f.loader, i, .01f, &result, &err), STATUS_OK);
        assert_int_equal(result.passes, 1);
        int level = f.step->passes[0].plan->level[0];
        if (level == 0) continue;
        pruned++;
        /* The second convolution: [8, 8, 3, 3], the same group on both sides. */
        int kept = f.model->levels->keep[level * f.model->groups->ngroups + f.model->groups->segment[1].group];
        for (int p = 0; p < view.nparams; p++) {
            if (view.params[p].layer != 1 || view.params[p].role != NETWORK_WEIGHT) continue;
            for (int o = 0; o < 8; o++)
                for (int c = 0; c < 8; c++) {
                    size_t at = view.params[p].offset + (size_t)(o * 8 + c) * 9;
                    bool same = !memcmp(before + at, view.values + at, 9 * sizeof *before);
                    assert_int_equal(same, o >= kept || c >= kept);
                }
        }
    }
    assert_true(pruned > 3);
    free(before);
    close_fixture(&f);
}

/* A shuffled pass is that of a network whose channels are in that order, and
 * leaves everything in its place. */
static void test_shuffled(void **state) {
    struct fixture f;
    struct err err;
    struct step_result result;
    struct robust_config robust = robust_defaults(ROBUST_DROP);
    robust.plans = 1;
    robust.channels = ROBUST_RANDOM;
    robust.groups = 1;
    open_fixture(&f, training_cfg, robust, 1);
    struct network_view view = network_view(f.network);
    float *before = malloc(view.size * sizeof *before);
    memcpy(before, view.values, view.size * sizeof *before);
    assert_int_equal(step_run(f.step, f.loader, 0, 0, &result, &err), STATUS_OK);
    assert_int_equal(result.passes, 2);
    assert_true(f.step->passes[1].shuffled);
    assert_memory_equal(before, view.values, view.size * sizeof *before);
    free(before);
    for (int i = 1; i < 150; i++) assert_int_equal(step_run(f.step, f.loader, i, .02f, &result, &err), STATUS_OK);
    assert_true(result.loss < .1);
    close_fixture(&f);
}

static void test_overfit(void **state) {
    for (int mode = 0; mode < ROBUST_COUNT; mode++) {
        struct fixture f;
        struct err err;
        struct step_result result;
        open_fixture(&f, training_cfg, robust_defaults((enum robust_mode)mode), 1);
        for (int i = 0; i < 150; i++)
            assert_int_equal(step_run(f.step, f.loader, i, .02f, &result, &err), STATUS_OK);
        assert_true(result.loss < .1);
        assert_int_equal(result.correct, IMAGES);
        close_fixture(&f);
    }
}

/* The first steps are plain: one full pass, whatever the mode. */
static void test_begins_plain(void **state) {
    struct fixture f;
    struct err err;
    struct step_result result;
    struct robust_config robust = robust_defaults(ROBUST_DROP);
    robust.plans = 1;
    robust.full = 0;
    open_fixture(&f, training_cfg, robust, 1);
    f.step->config.robust_begin = 3;
    for (int i = 0; i < 6; i++) {
        int wide = 0;
        assert_int_equal(step_run(f.step, f.loader, i, .02f, &result, &err), STATUS_OK);
        assert_int_equal(result.passes, 1);
        for (int b = 0; b < f.step->passes[0].plan->nblocks; b++) wide += f.step->passes[0].plan->level[b] == 0;
        if (i < 3) assert_int_equal(wide, f.step->passes[0].plan->nblocks);
    }
    f.step->config.robust.mode = ROBUST_SANDWICH;
    assert_int_equal(step_run(f.step, f.loader, 2, .02f, &result, &err), STATUS_OK);
    assert_int_equal(result.passes, 1);
    assert_int_equal(step_run(f.step, f.loader, 3, .02f, &result, &err), STATUS_OK);
    assert_int_equal(result.passes, 3);
    close_fixture(&f);
}

static void test_diverged(void **state) {
    struct fixture f;
    struct err err;
    struct step_result result;
    open_fixture(&f, plain_cfg, robust_defaults(ROBUST_NONE), 1);
    struct network_view view = network_view(f.network);
    size_t first = view.params[2].offset;
    assert_string_equal(view.params[2].name, "layers.1.weight");
    view.values[first] = NAN;
    assert_int_equal(step_run(f.step, f.loader, 6, .01f, &result, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "step 7"));
    assert_non_null(strstr(err.text, "layers.1.weight"));
    assert_non_null(strstr(err.hint, "learning_rate"));
    /* Weights that are finite, but too large for what comes out of them. */
    for (size_t i = 0; i < view.params[2].size; i++) view.values[first + i] = 1e38f;
    assert_int_equal(step_run(f.step, f.loader, 7, .01f, &result, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "the output of layer 1 (convolutional)"));
    for (size_t i = 0; i < view.size; i++) assert_true(view.grads[i] == 0);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subdivisions),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_shuffled),
        cmocka_unit_test(test_overfit),
        cmocka_unit_test(test_begins_plain),
        cmocka_unit_test(test_diverged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
