/* Scores of weights at initialisation, what they leave, and the networks that
 * come of it. */
#include "tests/nets.h"
#include "tests/unit/training.h"
#include "train/loss.h"
#include "train/pai.h"
#include "train/saliency.h"
#include "train/sparsity.h"
#include "train/step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { IMAGES = 24, SIDE = 8, CLASSES = 5 };

static const char cfg[] = "[net]\nwidth=8\nheight=8\nchannels=3\n[prune]\nlevels=1,.5\nalign=2\n"
                          "[convolutional]\nbatch_normalize=1\nfilters=6\nsize=3\nstride=1\npad=1\nactivation=logistic\n"
                          "[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=logistic\n"
                          "[connected]\noutput=5\nactivation=linear\n[softmax]\n";

static void must(enum status status, const struct err *err) {
    if (status) fail_msg("%s", err->text);
}

struct fixture {
    struct model *model;
    struct network *network;
    struct plan *plan;
    struct dataset dataset;
    struct dataset_sample samples[IMAGES];
    uint8_t pixels[IMAGES][SIDE * SIDE * 3];
    struct loader *loader;
};

static void open_fixture(struct fixture *f, const char *text) {
    struct err err;
    struct random random = random_stream(6, 0, 0);
    struct augment none = augment_none();
    must(training_model(&f->model, text, &err), &err);
    for (int i = 0; i < IMAGES; i++) {
        for (size_t k = 0; k < sizeof f->pixels[i]; k++) f->pixels[i][k] = (uint8_t)random_below(&random, 256);
        f->samples[i] = (struct dataset_sample){ .bytes = f->pixels[i], .label = i % CLASSES };
    }
    f->dataset = (struct dataset){ .name = "test", .nclasses = CLASSES, .n = IMAGES, .samples = f->samples,
                                   .c = 3, .h = SIDE, .w = SIDE };
    struct loader_config loading = { .dataset = &f->dataset, .preproc = f->model->preproc, .augment = &none,
                                     .batch = IMAGES / 2, .seed = 3 };
    must(loader_create(&f->loader, &loading, &err), &err);
    must(network_create(&f->network, f->model, IMAGES / 2, 1, &err), &err);
    must(plan_create(&f->plan, f->model->blocks->nblocks, 0, &err), &err);
    network_init(f->network, 5);
    network_store(f->network, f->model);
}

static void close_fixture(struct fixture *f) {
    plan_destroy(&f->plan);
    network_destroy(&f->network);
    loader_destroy(&f->loader);
    model_destroy(&f->model);
}

/* Mean loss over both batches, logits divided; the squared norm of its gradient by the weights, too. */
static double loss(struct fixture *f, float temperature, double *square) {
    struct err err;
    struct network_view view = network_view(f->network);
    double sum = 0;
    int correct;
    float logits[IMAGES * CLASSES], dlogits[IMAGES * CLASSES];
    must(loader_seek(f->loader, 0, 0, &err), &err);
    memset(view.grads, 0, view.size * sizeof *view.grads);
    for (int b = 0; b < 2; b++) {
        struct loader_batch batch;
        must(loader_next(f->loader, &batch, &err), &err);
        must(network_forward(f->network, f->plan, NETWORK_TRAIN, batch.input, batch.n, 0, logits, &err), &err);
        for (int i = 0; i < batch.n * CLASSES; i++) logits[i] /= temperature;
        sum += loss_labels(logits, batch.labels, batch.n, CLASSES, 0, .5f, dlogits, &correct) / 2;
        for (int i = 0; i < batch.n * CLASSES; i++) dlogits[i] /= temperature;
        must(network_backward(f->network, dlogits, &err), &err);
    }
    *square = 0;
    for (int i = 0; i < view.nparams; i++)
        for (size_t k = 0; view.params[i].role == NETWORK_WEIGHT && k < view.params[i].size; k++) {
            double g = (double)view.grads[view.params[i].offset + k];
            *square += g * g;
        }
    memset(view.grads, 0, view.size * sizeof *view.grads);
    return sum;
}

static float *scores_of(struct fixture *f, enum saliency method, double density, int rounds) {
    struct err err;
    struct network_view view = network_view(f->network);
    struct saliency_config config = { method, density, rounds, 2, 1, 7 };
    float *scores = calloc(view.size, sizeof *scores), *before = malloc(view.size * sizeof *before);
    memcpy(before, view.values, view.size * sizeof *before);
    must(saliency_scores(f->network, f->model, f->loader, &config, scores, &err), &err);
    assert_memory_equal(before, view.values, view.size * sizeof *before);
    free(before);
    return scores;
}

/* Scaling a weight by 1 + h moves the loss by w dL/dw h, and half the squared
 * norm of its gradient by w (H g) h. */
static void test_differences(void **state) {
    struct fixture f;
    open_fixture(&f, cfg);
    struct network_view view = network_view(f.network);
    float *snip = scores_of(&f, SALIENCY_SNIP, .5, 1), *grasp = scores_of(&f, SALIENCY_GRASP, .5, 1);
    const float h = .05f;
    for (int i = 0; i < view.nparams; i++) {
        const struct network_param *p = &view.params[i];
        if (p->role != NETWORK_WEIGHT) continue;
        double most[2] = { 0, 0 };
        for (size_t k = 0; k < p->size; k++) {
            most[0] = fmax(most[0], (double)snip[p->offset + k]);
            most[1] = fmax(most[1], fabs((double)grasp[p->offset + k]));
        }
        assert_true(most[0] > 0 && most[1] > 0);
        for (size_t k = 0; k < p->size; k += 7) {
            float *w = &view.values[p->offset + k], was = *w;
            double square[2], losses[2], tempered[2];
            for (int side = 0; side < 2; side++) {
                *w = was * (side ? 1 - h : 1 + h);
                losses[side] = loss(&f, 1, &square[side]);
                loss(&f, 200, &tempered[side]);
            }
            *w = was;
            double first = fabs(losses[0] - losses[1]) / (2 * (double)h);
            double second = (tempered[0] - tempered[1]) / 2 / (2 * (double)h);
            if (!(fabs(first - (double)snip[p->offset + k]) <= .02 * most[0]))
                fail_msg("snip, %s [%zu]: %g, differences %g", p->name, k, (double)snip[p->offset + k], first);
            if (!(fabs(second - (double)grasp[p->offset + k]) <= .03 * most[1]))
                fail_msg("grasp, %s [%zu]: %g, differences %g", p->name, k, (double)grasp[p->offset + k], second);
        }
    }
    free(snip);
    free(grasp);
    close_fixture(&f);
}

/* R on an image of one pixel, by hand: a layer, a residual branch, the classes. */
static const char flow_cfg[] =
    "[net]\nwidth=1\nheight=1\nchannels=3\n[prune]\nlevels=1\n"
    "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=1\nstride=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=1\nstride=1\nactivation=linear\n"
    "[shortcut]\nfrom=-2\nactivation=relu\n[connected]\noutput=2\nactivation=linear\n[softmax]\n";

static double flow(const float *w0, const float *w1, const float *w3) {
    double a[4], b[4], r = 0;
    for (int o = 0; o < 4; o++) {
        a[o] = 0;
        for (int c = 0; c < 3; c++) a[o] += fabs((double)w0[o * 3 + c]);
    }
    for (int o = 0; o < 4; o++) {
        b[o] = a[o];
        for (int c = 0; c < 4; c++) b[o] += fabs((double)w1[o * 4 + c]) * a[c];
    }
    for (int o = 0; o < 2; o++)
        for (int c = 0; c < 4; c++) r += fabs((double)w3[o * 4 + c]) * b[c];
    return r;
}

static void test_synflow(void **state) {
    struct fixture f = { 0 };
    struct err err;
    must(training_model(&f.model, flow_cfg, &err), &err);
    must(network_create(&f.network, f.model, 4, 1, &err), &err);
    network_init(f.network, 5);
    network_store(f.network, f.model);
    float *scores = scores_of(&f, SALIENCY_SYNFLOW, .5, 1);
    struct network_view view = network_view(f.network);
    float *w[3];
    const struct network_param *params[3];
    for (int i = 0, n = 0; i < view.nparams; i++)
        if (view.params[i].role == NETWORK_WEIGHT) {
            params[n] = &view.params[i];
            w[n++] = view.values + view.params[i].offset;
        }
    double scale = 0, whole = flow(w[0], w[1], w[2]);
    for (int n = 0; n < 3; n++)
        for (size_t k = 0; k < params[n]->size; k++) {
            float was = w[n][k];
            w[n][k] = 0;
            double expected = whole - flow(w[0], w[1], w[2]); /* R is linear in each weight */
            w[n][k] = was;
            double got = (double)scores[params[n]->offset + k];
            if (scale == 0) scale = got / expected; /* all are scaled alike */
            if (!(fabs(got - scale * expected) <= 1e-4 * scale * whole)) fail_msg("layer %d [%zu]: %g, not %g", n, k, got, scale * expected);
        }
    free(scores);
    network_destroy(&f.network);
    model_destroy(&f.model);
}

/* Each round takes out some; what is left is what was asked for. */
static void test_synflow_rounds(void **state) {
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = { 0 };
        struct err err;
        must(training_model(&f.model, nets[k].cfg, &err), &err);
        must(network_create(&f.network, f.model, 2, 1, &err), &err);
        network_init(f.network, 5);
        network_store(f.network, f.model);
        struct network_view view = network_view(f.network);
        size_t all = sparsity_weights(&view), positive = 0;
        float *scores = scores_of(&f, SALIENCY_SYNFLOW, .2, 8);
        for (int i = 0; i < view.nparams; i++)
            for (size_t j = 0; view.params[i].role == NETWORK_WEIGHT && j < view.params[i].size; j++)
                positive += scores[view.params[i].offset + j] > 0;
        assert_true(positive <= (size_t)((double)all * pow(.2, 7. / 8) + 1) && positive >= all / 5);
        pai_sparse(f.network, scores, .2);
        assert_int_equal(sparsity_left(&view), (size_t)((double)all * .2 + .5));
        free(scores);
        network_destroy(&f.network);
        model_destroy(&f.model);
    }
}

/* The highest ones, whatever their signs; among equals the first. */
static void test_keep(void **state) {
    struct network_param params[] = { { .role = NETWORK_WEIGHT, .offset = 0, .size = 5 },
                                      { .role = NETWORK_GAMMA, .offset = 5, .size = 2 },
                                      { .role = NETWORK_WEIGHT, .offset = 7, .size = 3 } };
    const float scores[] = { -3, 2, -1e-20f, 2, 0, 9, 9, 2, 1e-20f, -4 };
    const int expected[][10] = { { 0, 0, 0, 0, 0, 1, 1, 0, 0, 0 }, { 0, 1, 0, 1, 0, 1, 1, 0, 0, 0 },
                                 { 0, 1, 0, 1, 0, 1, 1, 1, 1, 0 }, { 0, 1, 1, 1, 1, 1, 1, 1, 1, 0 },
                                 { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 } };
    const size_t keeps[] = { 0, 2, 4, 6, 8 };
    for (int t = 0; t < 5; t++) {
        float values[10];
        struct network_view view = { .nparams = 3, .params = params, .values = values, .size = 10 };
        for (int i = 0; i < 10; i++) values[i] = 1;
        sparsity_keep(&view, scores, keeps[t]);
        for (int i = 0; i < 10; i++) assert_int_equal(values[i] != 0, expected[t][i]);
    }
}

/* What is zero stays zero while the rest learns. */
static void test_zeros_stay(void **state) {
    struct fixture f;
    struct err err;
    struct step *step;
    open_fixture(&f, cfg);
    struct network_view view = network_view(f.network);
    float *scores = scores_of(&f, SALIENCY_MAGNITUDE, 1, 1);
    pai_sparse(f.network, scores, .3);
    float *before = malloc(view.size * sizeof *before);
    memcpy(before, view.values, view.size * sizeof *before);
    struct step_config config = { .robust = robust_defaults(ROBUST_NONE), .sgd = { .momentum = .9f, .decay = .01f },
                                  .batch = IMAGES / 2, .subdivisions = 1, .seed = 4 };
    must(step_create(&step, &config, f.network, f.model, &err), &err);
    must(step_keep_zeros(step, &err), &err);
    for (int i = 0; i < 3; i++) {
        struct step_result result;
        must(step_run(step, f.loader, i, .05f, &result, &err), &err);
    }
    for (int i = 0; i < view.nparams; i++)
        for (size_t k = view.params[i].offset; k < view.params[i].offset + view.params[i].size; k++) {
            if (view.params[i].role != NETWORK_WEIGHT) continue;
            if (before[k] == 0) assert_true(view.values[k] == 0);
            else assert_true(view.values[k] != before[k]);
        }
    free(before);
    free(scores);
    step_destroy(&step);
    close_fixture(&f);
}

/* As many weights as the counterpart has, at most; layers that lost no inputs keep
 * the rows of their best units; a network that runs. */
static void test_structured(void **state) {
    for (int k = 0; k < NNETS; k++)
        for (int d = 0; d < 3; d++) {
            const double densities[] = { .5, .25, 1 };
            struct model *model;
            struct network *network, *small;
            struct plan *plan;
            struct err err;
            struct pai_result result;
            must(training_model(&model, nets[k].cfg, &err), &err);
            must(network_create(&network, model, 2, 1, &err), &err);
            network_init(network, 5);
            network_store(network, model);
            struct network_view view = network_view(network);
            float *scores = malloc(view.size * sizeof *scores);
            for (size_t i = 0; i < view.size; i++) scores[i] = fabsf(view.values[i]);
            must(pai_structured(network, model, scores, densities[d], 9, &result, &err), &err);
            size_t left = 0, all = sparsity_weights(&view);
            for (int i = 0; i < model->net->nlayers; i++) {
                const struct net_layer *a = &model->net->layers[i], *b = &result.small->net->layers[i];
                left += net_weight_count(b);
                if (!net_weight_count(a) || a->in.c != b->in.c || a->groups > 1) continue;
                size_t row = net_weight_count(a) / (size_t)a->filters; /* its rows are some of the old ones, in order */
                for (int o = 0, at = 0; o < b->filters; o++, at++) {
                    while (at < a->filters && memcmp(model->layers[i].weight + (size_t)at * row,
                                                     result.small->layers[i].weight + (size_t)o * row, row * sizeof(float)) != 0)
                        at++;
                    assert_true(at < a->filters);
                }
            }
            assert_true((double)left <= (double)all * densities[d] + 1);
            if (d == 2) assert_int_equal(left, all);
            else assert_true(left * 8 > (size_t)((double)all * densities[d])); /* steps are coarse in nets so small */
            must(network_create(&small, result.small, 2, 1, &err), &err);
            must(plan_create(&plan, result.small->blocks->nblocks, 0, &err), &err);
            float *input = calloc(2 * net_shape_size(model->net->input), sizeof *input), logits[64];
            must(network_forward(small, plan, NETWORK_TRAIN, input, 2, 0, logits, &err), &err);
            free(input);
            plan_destroy(&plan);
            network_destroy(&small);
            pai_result_free(&result);
            free(scores);
            network_destroy(&network);
            model_destroy(&model);
        }
}

/* The units with the highest scores stay, and the layer that needs fewer loses more. */
static void test_choice(void **state) {
    static const char text[] = "[net]\nwidth=4\nheight=4\nchannels=3\n[prune]\nlevels=1\nalign=2\n"
                               "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=relu\n"
                               "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=relu\n"
                               "[avgpool]\n[connected]\noutput=4\nactivation=linear\n[softmax]\n";
    struct model *model;
    struct network *network;
    struct err err;
    struct pai_result result;
    must(training_model(&model, text, &err), &err);
    must(network_create(&network, model, 2, 1, &err), &err);
    network_init(network, 5);
    network_store(network, model);
    struct network_view view = network_view(network);
    float *scores = calloc(view.size, sizeof *scores);
    for (int i = 0; i < view.nparams; i++) {
        const struct network_param *p = &view.params[i];
        for (size_t k = 0; p->role == NETWORK_WEIGHT && p->layer == 0 && k < p->size; k++)
            scores[p->offset + k] = 10 + (float)(k / 27); /* all of the first layer matters, its last channels most */
        for (size_t k = 0; p->role == NETWORK_WEIGHT && p->layer == 1 && k < p->size; k++)
            scores[p->offset + k] = 1e-3f + (k / 72 == 3 || k / 72 == 6 ? 1 : 0);
    }
    must(pai_structured(network, model, scores, .5, 9, &result, &err), &err);
    assert_true(result.layers[1].channels < result.layers[0].channels);
    assert_true(result.layers[0].channels < 8);
    for (int o = 0; o < result.layers[0].channels; o++)
        assert_memory_equal(result.small->layers[0].weight + o * 27,
                            model->layers[0].weight + (8 - result.layers[0].channels + o) * 27, 27 * sizeof(float));
    pai_result_free(&result);
    free(scores);
    network_destroy(&network);
    model_destroy(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences), cmocka_unit_test(test_synflow),    cmocka_unit_test(test_synflow_rounds),
        cmocka_unit_test(test_keep),        cmocka_unit_test(test_zeros_stay), cmocka_unit_test(test_structured),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
