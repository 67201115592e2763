/* Importance by Taylor expansion against finite differences: how the loss
 * moves when a channel is scaled up or down. */
#include "tests/unit/training.h"
#include "train/loss.h"
#include "train/taylor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { IMAGES = 24, SIDE = 8, CLASSES = 5 };

static const char cfg[] = /* a layer with batch norm, one without, a connected one */
    "[net]\nwidth=8\nheight=8\nchannels=3\n[prune]\nlevels=1,.5\nalign=2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=6\nsize=3\nstride=1\npad=1\nactivation=leaky\n"
    "[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=logistic\n"
    "[connected]\noutput=5\nactivation=linear\n[softmax]\n";

struct fixture {
    struct model *model;
    struct network *network;
    struct plan *plan;
    struct loader *loader;
    struct loader_batch batch;
};

static double loss(struct fixture *f) {
    struct err err;
    int correct;
    float logits[IMAGES * CLASSES], dlogits[IMAGES * CLASSES];
    assert_int_equal(network_forward(f->network, f->plan, NETWORK_TRAIN, f->batch.input, f->batch.n, 0, logits, &err),
                     STATUS_OK);
    return loss_labels(logits, f->batch.labels, f->batch.n, CLASSES, 0, 1, dlogits, &correct);
}

/* Scales what a channel puts out. */
static void scale(struct fixture *f, int layer, int channel, float factor) {
    struct network_view view = network_view(f->network);
    for (int i = 0; i < view.nparams; i++) {
        const struct network_param *p = &view.params[i];
        if (p->layer != layer || (f->model->layers[layer].gamma && p->role == NETWORK_WEIGHT)) continue;
        size_t inner = p->size / (size_t)model_outputs(f->model, layer);
        for (size_t k = 0; k < inner; k++) view.values[p->offset + (size_t)channel * inner + k] *= factor;
    }
}

static void test_importance(void **state) {
    struct fixture f = { 0 };
    struct err err;
    struct dataset_sample samples[IMAGES];
    uint8_t pixels[IMAGES][SIDE * SIDE * 3];
    struct random random = random_stream(6, 0, 0);
    assert_int_equal(training_model(&f.model, cfg, &err), STATUS_OK);
    for (int i = 0; i < IMAGES; i++) {
        for (size_t k = 0; k < sizeof pixels[i]; k++) pixels[i][k] = (uint8_t)random_below(&random, 256);
        samples[i] = (struct dataset_sample){ .bytes = pixels[i], .label = i % CLASSES };
    }
    struct dataset dataset = { .name = "test", .nclasses = CLASSES, .n = IMAGES, .samples = samples,
                               .c = 3, .h = SIDE, .w = SIDE };
    struct augment none = augment_none();
    struct loader_config loading = { .dataset = &dataset, .preproc = f.model->preproc, .augment = &none,
                                     .batch = IMAGES, .seed = 3 };
    training_randomize(f.model, 2);
    assert_int_equal(loader_create(&f.loader, &loading, &err), STATUS_OK);
    assert_int_equal(network_create(&f.network, f.model, IMAGES, 1, &err), STATUS_OK);
    assert_int_equal(plan_create(&f.plan, f.model->blocks->nblocks, 0, &err), STATUS_OK);
    struct taylor *taylor;
    assert_int_equal(taylor_create(&taylor, f.network, f.model, f.loader, 1, &err), STATUS_OK);
    assert_int_equal(loader_seek(f.loader, 0, 0, &err), STATUS_OK);
    assert_int_equal(loader_next(f.loader, &f.batch, &err), STATUS_OK);
    const float h = 1e-2f;
    for (int layer = 0; layer < 3; layer++) {
        double largest = 0;
        int channels = model_outputs(f.model, layer);
        for (int c = 0; c < channels; c++) largest = fmax(largest, sqrt(taylor->importance[layer][c]));
        assert_true(largest > 0);
        for (int c = 0; c < channels; c++) {
            scale(&f, layer, c, 1 + h);
            double above = loss(&f);
            scale(&f, layer, c, (1 - h) / (1 + h));
            double below = loss(&f);
            scale(&f, layer, c, 1 / (1 - h));
            double expected = fabs(above - below) / (2 * (double)h), got = sqrt(taylor->importance[layer][c]);
            if (!(fabs(got - expected) <= .02 * largest))
                fail_msg("layer %d, channel %d: %g, finite differences %g", layer, c, got, expected);
        }
    }
    taylor_destroy(&taylor);
    plan_destroy(&f.plan);
    network_destroy(&f.network);
    loader_destroy(&f.loader);
    model_destroy(&f.model);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_importance) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
