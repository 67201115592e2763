/* Batch-norm rows: combined over batches as if they had been one, corrections that
 * foretell mixed plans, and what they are worth: accuracy counted by hand. */
#include "common/bn.h"
#include "tests/unit/training.h"
#include "train/calibrate.h"
#include "train/loss.h"
#include "train/measure.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { BATCH = 8, IMAGES = 2 * BATCH, SIDE = 8 };

struct fixture {
    struct model *model;
    struct network *network;
    struct dataset dataset;
    struct dataset_sample samples[IMAGES];
    uint8_t pixels[IMAGES][SIDE * SIDE * 3];
    struct loader *loader;
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct err err;
    struct random random = random_stream(6, 0, 0);
    if (training_model(&f->model, training_cfg, &err)) return -1;
    training_randomize(f->model, 2);
    for (int i = 0; i < IMAGES; i++) {
        /* Images differ in brightness, so that batches differ in their means. */
        int bright = random_below(&random, 200);
        for (size_t k = 0; k < sizeof f->pixels[i]; k++) f->pixels[i][k] = (uint8_t)(bright + random_below(&random, 56));
        f->samples[i] = (struct dataset_sample){ .bytes = f->pixels[i], .label = i % 5 };
    }
    f->dataset = (struct dataset){ .name = "test", .nclasses = 5, .n = IMAGES, .samples = f->samples,
                                   .c = 3, .h = SIDE, .w = SIDE };
    struct augment none = augment_none();
    struct loader_config config = { .dataset = &f->dataset, .preproc = f->model->preproc, .augment = &none,
                                    .batch = BATCH, .seed = 3 };
    if (loader_create(&f->loader, &config, &err) || network_create(&f->network, f->model, IMAGES, 1, &err)) return -1;
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    loader_destroy(&f->loader);
    network_destroy(&f->network);
    model_destroy(&f->model);
    free(f);
    return 0;
}

/* The first layer's input does not depend on batch norm: two batches of half
 * the images must give what one of all gives. */
static void test_two_batches_as_one(void **state) {
    struct fixture *f = *state;
    struct err err;
    struct plan *plan;
    struct loader_batch batch;
    size_t pixels = net_shape_size(f->model->net->input);
    float *input = malloc(IMAGES * pixels * sizeof *input), logits[IMAGES * 5];
    assert_int_equal(plan_create(&plan, f->model->blocks->nblocks, 1, &err), STATUS_OK);
    assert_int_equal(calibrate_uniform(f->network, f->model, f->loader, 1, 2, &err), STATUS_OK);
    assert_int_equal(loader_seek(f->loader, 0, 0, &err), STATUS_OK);
    for (int b = 0; b < 2; b++) {
        assert_int_equal(loader_next(f->loader, &batch, &err), STATUS_OK);
        assert_int_equal(batch.n, BATCH);
        memcpy(input + (size_t)(b * BATCH) * pixels, batch.input, BATCH * pixels * sizeof *input);
    }
    assert_int_equal(network_forward(f->network, plan, NETWORK_STATS, input, IMAGES, 0, logits, &err), STATUS_OK);
    const float *mean, *var;
    int channels;
    assert_int_equal(network_batch_stats(f->network, 0, &mean, &var, &channels, &err), STATUS_OK);
    assert_int_equal(channels, 6);
    const float *row_mean = f->model->layers[0].mean + 8, *row_var = f->model->layers[0].var + 8;
    for (int c = 0; c < channels; c++) {
        assert_true(fabsf(row_mean[c] - mean[c]) <= 1e-5f);
        assert_true(fabsf(row_var[c] - var[c]) <= 1e-4f * var[c] + 1e-6f);
    }
    plan_destroy(&plan);
    free(input);
}

/* Sum of squared deviations of what is predicted of a plan's statistics from what they are, in units of
 * their own: mean against sigma, and 1/sigma relatively. */
static double deviation(const struct fixture *f, const struct plan *plan, bool corrected) {
    const struct model *m = f->model;
    double sum = 0;
    for (int i = 0; i < m->net->nlayers; i++) {
        const float *mean, *var;
        float expected[64], spread[64];
        int channels, block = m->blocks->of_layer[i];
        struct err err;
        if (!m->layers[i].mean) continue;
        assert_int_equal(network_batch_stats(f->network, i, &mean, &var, &channels, &err), STATUS_OK);
        struct bn_terms terms = bn_planned(m, plan, block);
        if (!corrected) terms.n = 0;
        assert_in_range(model_outputs(m, i), 1, 64);
        bn_stats(m, i, &terms, expected, spread);
        for (int o = 0; o < channels; o++) {
            double rate = bn_inverse_sigma(m, var[o]);
            sum += pow((expected[o] - mean[o]) * rate, 2) + pow(bn_inverse_sigma(m, spread[o]) / rate - 1, 2);
        }
    }
    return sum;
}

static void test_rows(void **state) {
    struct fixture *f = *state;
    struct err err;
    struct calibrate_config config = { .uniform = 2, .mixed = 20, .seed = 1 };
    const struct model *m = f->model;
    int nlevels = m->levels->nlevels, differ = 0;
    for (int i = 0; i < m->net->nlayers; i++)
        for (int k = 0; m->layers[i].var && k < m->nrows * model_outputs(m, i); k++) m->layers[i].var[k] = -1;
    assert_int_equal(calibrate_run(f->network, f->model, f->loader, &config, &err), STATUS_OK);
    for (int i = 0; i < m->net->nlayers; i++) {
        int outputs = m->layers[i].var ? model_outputs(m, i) : 0;
        for (int k = 0; k < m->nrows * outputs; k++) {
            assert_true(isfinite(m->layers[i].var[k]) && isfinite(m->layers[i].mean[k]));
            if (k < nlevels * outputs) assert_true(m->layers[i].var[k] >= 0);
        }
        for (int k = 0; k < nlevels; k++) /* other widths, other statistics */
            differ += outputs && m->layers[i].mean[k * outputs] != m->layers[i].mean[0];
    }
    assert_true(differ > 0);

    /* Under plans that it has not seen, corrections foretell the statistics better than the levels' rows. */
    struct measure_set plans = { 0 };
    struct loader_batch batch;
    float logits[BATCH * 5];
    double plain = 0, corrected = 0;
    assert_int_equal(measure_set_random(&plans, m, 40, 77, &err), STATUS_OK);
    for (int p = 0; p < plans.n; p++) {
        assert_int_equal(loader_next(f->loader, &batch, &err), STATUS_OK);
        assert_int_equal(network_forward(f->network, plans.plans[p], NETWORK_STATS, batch.input, batch.n, 0, logits, &err), STATUS_OK);
        plain += deviation(f, plans.plans[p], false);
        corrected += deviation(f, plans.plans[p], true);
    }
    measure_set_free(&plans);
    assert_true(corrected < .5 * plain);
}

static void test_measure(void **state) {
    struct fixture *f = *state;
    struct err err;
    struct measure_set plans = { 0 };
    struct measure_test test = { 0 };
    struct loader *images;
    struct loader_batch batch;
    struct loader_config loading = { .dataset = &f->dataset, .preproc = f->model->preproc, .batch = 3 };
    double accuracy[16], uniform[PLAN_MAX_LEVELS];
    int measured;
    assert_int_equal(loader_create(&images, &loading, &err), STATUS_OK);
    assert_int_equal(measure_set_uniform(&plans, f->model, &err), STATUS_OK);
    assert_int_equal(measure_set_random(&plans, f->model, 6, 1, &err), STATUS_OK);
    assert_int_equal(plans.n, 10);
    assert_int_equal(measure_plans(f->network, f->model, images, plans.plans, plans.n, 1, NULL, accuracy, &measured, &err),
                     STATUS_OK);
    assert_int_equal(measured, IMAGES);
    for (int p = 0; p < plans.n; p++) {
        int correct = 0;
        float logits[5];
        assert_int_equal(loader_seek(images, 0, 0, &err), STATUS_OK);
        for (int i = 0; i < measured; i++) {
            if (i % 3 == 0) assert_int_equal(loader_next(images, &batch, &err), STATUS_OK);
            const float *input = batch.input + (size_t)(i % 3) * net_shape_size(f->model->net->input);
            assert_int_equal(network_forward(f->network, plans.plans[p], NETWORK_INFERENCE, input, 1, 0, logits, &err),
                             STATUS_OK);
            correct += loss_correct(logits, &batch.labels[i % 3], 1, 5);
        }
        assert_float_equal(accuracy[p], (double)correct / measured, 1e-9);
    }
    assert_int_equal(measure_model(f->network, f->model, images, 20, 1, uniform, &test, &err), STATUS_OK);
    assert_non_null(f->model->accuracy);
    assert_int_equal(f->model->accuracy->samples, IMAGES);
    assert_true(f->model->accuracy->links && f->model->accuracy->codecs);
    assert_true(f->model->accuracy->held_out_worst >= f->model->accuracy->held_out_error);
    /* The test's plans and what was measured of them are those that the error was told from. */
    double off = 0;
    assert_int_equal(test.plans.n, 20);
    for (int i = 0; i < 20; i++) off += fabs(accuracy_predict(f->model->accuracy, test.plans.plans[i]) - test.accuracy[i]) / 20;
    assert_true(fabs(off - f->model->accuracy->held_out_error) < 1e-12);
    measure_test_free(&test);
    measure_set_free(&plans);
    loader_destroy(&images);
}

/* At inference what crosses a cut is coded. */
static void test_coded_links(void **state) {
    struct fixture *f = *state;
    struct err err;
    struct plan *plan;
    struct random random = random_stream(3, 0, 0);
    size_t size = net_shape_size(f->model->net->input);
    float logits[CODEC_COUNT][5], *input = malloc(size * sizeof *input);
    for (size_t i = 0; i < size; i++) input[i] = (float)random_uniform(&random);
    assert_int_equal(plan_create(&plan, f->model->blocks->nblocks, 0, &err), STATUS_OK);
    for (int c = 0; c < CODEC_COUNT; c++) {
        plan->codec[1] = (enum codec)c;
        assert_int_equal(network_forward(f->network, plan, NETWORK_INFERENCE, input, 1, 0, logits[c], &err), STATUS_OK);
        if (c % 2) assert_memory_equal(logits[c], logits[c - 1], sizeof *logits);
    }
    assert_true(memcmp(logits[CODEC_Q8], logits[CODEC_F32], sizeof *logits) != 0);
    assert_true(memcmp(logits[CODEC_Q4], logits[CODEC_Q8], sizeof *logits) != 0);
    for (int i = 0; i < 5; i++) /* finer is closer */
        assert_true(fabsf(logits[CODEC_F16][i] - logits[CODEC_F32][i]) < 0.01f + fabsf(logits[CODEC_Q4][i] - logits[CODEC_F32][i]));
    plan_destroy(&plan);
    free(input);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_two_batches_as_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_measure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_coded_links, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
