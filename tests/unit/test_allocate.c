/* Allocation: tables that fall, cost no more than uniform ones, spend channels
 * where the loss says so, and lose less than uniform ones. */
#include "tests/unit/training.h"
#include "train/allocate.h"
#include "train/loss.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { IMAGES = 64, SIDE = 8, CLASSES = 5, BATCH = 16, IDLE = 1 };

static const char cfg[] =
    "[net]\nwidth=8\nheight=8\nchannels=3\n[prune]\nlevels=1,.75,.5,.25\nalign=2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\nstride=1\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\nstride=1\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\nstride=1\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\nstride=2\npad=1\nactivation=relu\n"
    "[connected]\noutput=5\nactivation=linear\n[softmax]\n";

static double work(const struct model *m, const struct levels *levels, int level) {
    struct plan *plan;
    struct counts *counts;
    struct err err;
    assert_int_equal(plan_create(&plan, m->blocks->nblocks, level, &err), STATUS_OK);
    assert_int_equal(counts_create(&counts, m->groups, &err), STATUS_OK);
    counts_set(counts, m->net, m->blocks, m->groups, levels, plan);
    double sum = counts_multiply_adds(counts, m->net, m->blocks, m->groups, levels, plan, 0, m->net->nlayers - 1);
    counts_destroy(&counts);
    plan_destroy(&plan);
    return sum;
}

static double loss(struct network *network, const struct model *m, struct loader *images, const struct levels *levels,
                   int level) {
    struct plan *plan;
    struct err err;
    struct loader_batch batch;
    float logits[BATCH * CLASSES], dlogits[BATCH * CLASSES];
    double sum = 0;
    int correct;
    assert_int_equal(plan_create(&plan, m->blocks->nblocks, level, &err), STATUS_OK);
    assert_int_equal(loader_seek(images, 0, 0, &err), STATUS_OK);
    network_set_levels(network, levels);
    for (int b = 0; b < IMAGES / BATCH; b++) {
        assert_int_equal(loader_next(images, &batch, &err), STATUS_OK);
        assert_int_equal(network_forward(network, plan, NETWORK_STATS, batch.input, batch.n, 0, logits, &err), STATUS_OK);
        sum += loss_labels(logits, batch.labels, batch.n, CLASSES, 0, 1, dlogits, &correct);
    }
    network_set_levels(network, NULL);
    plan_destroy(&plan);
    return sum;
}

static void test_sensitivity(void **state) {
    struct err err;
    struct model *model;
    struct network *network;
    struct loader *loader;
    struct levels *uniform;
    struct dataset_sample samples[IMAGES];
    uint8_t pixels[IMAGES][SIDE * SIDE * 3];
    struct random random = random_stream(6, 0, 0);
    assert_int_equal(training_model(&model, cfg, &err), STATUS_OK);
    training_randomize(model, 2);
    for (int c = 4; c < 16; c++) model->layers[IDLE].gamma[c] = model->layers[IDLE].beta[c] = 0;
    for (int i = 0; i < IMAGES; i++) {
        for (size_t k = 0; k < sizeof pixels[i]; k++) pixels[i][k] = (uint8_t)random_below(&random, 256);
        samples[i] = (struct dataset_sample){ .bytes = pixels[i], .label = i % CLASSES };
    }
    struct dataset dataset = { .name = "test", .nclasses = CLASSES, .n = IMAGES, .samples = samples,
                               .c = 3, .h = SIDE, .w = SIDE };
    struct loader_config loading = { .dataset = &dataset, .preproc = model->preproc, .batch = BATCH };
    assert_int_equal(loader_create(&loader, &loading, &err), STATUS_OK);
    assert_int_equal(network_create(&network, model, BATCH, 1, &err), STATUS_OK);
    assert_int_equal(levels_copy(&uniform, model->levels, &err), STATUS_OK);
    assert_int_equal(allocate_by_sensitivity(network, model, loader, &err), STATUS_OK);

    const struct levels *chosen = model->levels;
    double lost = 0, lost_uniform = 0;
    for (int l = 0; l < chosen->nlevels; l++) {
        assert_true(work(model, chosen, l) <= work(model, uniform, l));
        for (int g = 0; g < chosen->ngroups; g++) {
            bool whole = levels_keep(uniform, chosen->nlevels - 1, g) == model->groups->group[g].units;
            if (whole) assert_int_equal(levels_keep(chosen, l, g), levels_keep(uniform, l, g));
            else assert_true(levels_keep(chosen, l, g) >= 2 && levels_keep(chosen, l, g) % 2 == 0);
            if (l > 0) assert_true(levels_keep(chosen, l, g) <= levels_keep(chosen, l - 1, g));
            if (l == 0) assert_int_equal(levels_keep(chosen, l, g), levels_keep(uniform, l, g));
        }
        lost += loss(network, model, loader, chosen, l);
        lost_uniform += loss(network, model, loader, uniform, l);
    }
    assert_true(lost < lost_uniform);
    int nsegments, idle = groups_segments(model->groups, IDLE, &nsegments)->group;
    assert_true(levels_keep(chosen, 1, idle) < levels_keep(uniform, 1, idle));
    levels_destroy(&uniform);
    network_destroy(&network);
    loader_destroy(&loader);
    model_destroy(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_sensitivity) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
