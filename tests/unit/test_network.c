/* The trainable network: every activation against naive loops under random
 * plans, batch statistics, determinism, and one batch learnt by heart. */
#include "common/bn.h"
#include "tests/reference.h"
#include "tests/unit/training.h"
#include "train/loss.h"
#include "train/network.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void ok(enum status status, const struct err *err) {
    if (status) fail_msg("%s", err->text);
}

static float *values(size_t n, uint64_t seed) {
    struct random random = random_stream(seed, 0, 0);
    float *p = malloc(n * sizeof *p);
    assert_non_null(p);
    training_fill(p, n, &random, -1, 1);
    return p;
}

/* ---- against naive loops ---- */

/* Image `image` of a pass: every layer's activation, and the logits. */
static void compare(struct network *network, const struct model *m, struct reference *r, const float *logits, int n,
                    int image, const char *name) {
    struct err err;
    int last = net_logits_layer(m->net);
    for (int i = 0; i <= last; i++) {
        size_t size = net_shape_size(m->net->layers[i].out);
        float *got = malloc((size_t)n * size * sizeof *got), *expected = malloc(size * sizeof *expected);
        int channels;
        assert_true(got && expected);
        ok(network_activation(network, i, got, &channels, &err), &err);
        size_t kept = reference_compact(r, i, expected);
        assert_int_equal(kept, channels * m->net->layers[i].out.h * m->net->layers[i].out.w);
        double worst;
        if (!reference_agrees(got + (size_t)image * kept, expected, kept, &worst))
            fail_msg("%s: layer %d [%s] differs by %g of the largest value", name, i,
                     net_kind_name(m->net->layers[i].kind), worst);
        if (i == last) assert_memory_equal(got + (size_t)image * kept, logits + (size_t)image * kept, kept * sizeof *got);
        free(got);
        free(expected);
    }
}

static void check_model(struct model *m, const char *name, int n, int plans) {
    struct err err;
    struct network *network;
    struct reference *r;
    struct plan *plan;
    ok(network_create(&network, m, n, 2, &err), &err);
    ok(reference_create(&r, m, &err), &err);
    ok(plan_create(&plan, m->blocks->nblocks, 0, &err), &err);
    size_t input = net_shape_size(m->net->input);
    float *images = values((size_t)n * input, 11), *logits = malloc((size_t)(n * m->net->classes) * sizeof *logits);
    struct random random = random_stream(12, 0, 0);
    for (int p = 0; p < plans; p++) {
        if (p > 0) reference_random_plan(plan, m, &random);
        int images_of_pass = p % 2 ? 1 : n;
        ok(network_forward(network, plan, NETWORK_INFERENCE, images, images_of_pass, 0, logits, &err), &err);
        int image = images_of_pass - 1;
        reference_run(r, plan, images + (size_t)image * input);
        compare(network, m, r, logits, images_of_pass, image, name);
    }
    free(images);
    free(logits);
    plan_destroy(&plan);
    reference_destroy(&r);
    network_destroy(&network);
}

#define NET(c, h, w) "[net]\nchannels=" #c "\nheight=" #h "\nwidth=" #w "\n[prune]\nlevels=1,.75,.5,.25\nalign=1\n"
#define CONV(filters, size, stride, act) \
    "[convolutional]\nbatch_normalize=1\nfilters=" #filters "\nsize=" #size "\nstride=" #stride "\npad=1\nactivation=" #act "\n"
#define HEAD "[avgpool]\n[connected]\noutput=5\nactivation=linear\n[softmax]\n[cost]\n"

static const struct {
    const char *name, *cfg;
} nets[] = {
    { "a little of everything", training_cfg },
    { "crop, pooling, rare activations",
      NET(3, 13, 12) "[crop]\ncrop_height=11\ncrop_width=9\nflip=1\n" CONV(9, 3, 1, selu)
      "[maxpool]\nsize=3\nstride=2\n[convolutional]\nfilters=7\nsize=5\nstride=1\npad=1\nactivation=hardtan\n"
      "[maxpool]\nsize=2\nstride=1\n[dropout]\nprobability=.3\n[connected]\noutput=11\nbatch_normalize=1\nactivation=plse\n"
      "[connected]\noutput=5\nactivation=linear\n[softmax]\n" },
    { "shortcuts of differing counts and sizes",
      NET(3, 12, 8) CONV(8, 3, 1, relu) CONV(14, 3, 2, leaky) "[shortcut]\nfrom=-2\nactivation=relu\n" CONV(6, 3, 1, linear)
      "[shortcut]\nfrom=-2\nactivation=leaky\n" CONV(10, 3, 1, relu) "[route]\nlayers=0\n"
      "[shortcut]\nfrom=-2\nbeta=2\nactivation=elu\n" HEAD },
    { "concatenations and groups",
      NET(2, 9, 9) CONV(12, 3, 1, relu) CONV(10, 3, 1, relu6) "[route]\nlayers=-1,-2\n[batchnorm]\n" CONV(12, 1, 1, linear)
      "[convolutional]\nfilters=12\ngroups=12\nsize=3\nstride=2\npad=1\nactivation=relie\n"
      "[convolutional]\nbatch_normalize=1\nfilters=24\ngroups=4\nsize=3\nstride=1\npad=1\nactivation=relu\n"
      "[route]\nlayers=-1,-2\n" CONV(9, 3, 1, tanh) HEAD },
};

static void small_networks(void **state) {
    struct err err;
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        struct model *m;
        ok(reference_model(&m, nets[i].cfg, i + 1, &err), &err);
        check_model(m, nets[i].name, 3, 12);
        model_destroy(&m);
    }
}

static void shipped_networks(void **state) {
    static const char *const paths[] = { "cfg/resnet20.cfg", "cfg/resnext20-cifar.cfg", "cfg/mobilenetv2-cifar.cfg" };
    struct err err;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct model *m;
        ok(reference_model_file(&m, paths[i], 1, &err), &err);
        check_model(m, paths[i], 2, 3);
        model_destroy(&m);
    }
}

/* Darknet's form of batch norm at inference. */
static void darknet_form(void **state) {
    struct err err;
    struct model *m;
    ok(reference_model(&m, nets[2].cfg, 4, &err), &err);
    m->bn_form = MODEL_BN_DARKNET;
    m->bn_eps = .05f;
    check_model(m, "Darknet's batch norm", 2, 4);
    model_destroy(&m);
}

/* ---- batch statistics ---- */

/* With a batch's statistics as the rows of its plan, inference gives what the
 * statistics pass gave. */
static void batch_statistics(void **state) {
    enum { N = 6 };
    struct err err;
    struct model *m;
    struct network *network;
    struct plan *plan;
    ok(reference_model(&m, training_cfg, 8, &err), &err);
    ok(network_create(&network, m, N, 2, &err), &err);
    ok(plan_create(&plan, m->blocks->nblocks, 0, &err), &err);
    size_t input = net_shape_size(m->net->input), classes = (size_t)m->net->classes;
    float *images = values(N * input, 3), *first = malloc(N * classes * sizeof *first);
    float *second = malloc(N * classes * sizeof *second);
    struct random random = random_stream(5, 0, 0);
    for (int i = 0; i < m->net->nlayers; i++)
        if (m->layers[i].mean) {
            size_t outputs = (size_t)model_outputs(m, i), levels = (size_t)bn_level_rows(m) * outputs;
            memset(m->layers[i].mean + levels, 0, ((size_t)m->nrows * outputs - levels) * sizeof(float));
            memset(m->layers[i].var + levels, 0, ((size_t)m->nrows * outputs - levels) * sizeof(float));
        }
    for (int p = 0; p < 8; p++) {
        /* Mixed plans, too: a layer's row of its level is this plan's, where nothing is corrected. */
        for (int b = 0; b < plan->nblocks; b++) plan->level[b] = p % m->levels->nlevels;
        if (p >= m->levels->nlevels) plan->level[random_below(&random, plan->nblocks)] = 0;
        ok(network_forward(network, plan, NETWORK_STATS, images, N, 0, first, &err), &err);
        for (int i = 0; i < m->net->nlayers; i++) {
            const float *mean, *var;
            int channels, block = m->blocks->of_layer[i];
            if (!m->layers[i].mean) continue;
            ok(network_batch_stats(network, i, &mean, &var, &channels, &err), &err);
            size_t row = (size_t)bn_row(m, plan->level[block]);
            memcpy(m->layers[i].mean + row * (size_t)model_outputs(m, i), mean, (size_t)channels * sizeof *mean);
            memcpy(m->layers[i].var + row * (size_t)model_outputs(m, i), var, (size_t)channels * sizeof *var);
        }
        ok(network_forward(network, plan, NETWORK_INFERENCE, images, N, 0, second, &err), &err);
        for (int i = 0; i < N; i++) {
            double worst;
            if (!reference_agrees(second + (size_t)i * classes, first + (size_t)i * classes, classes, &worst))
                fail_msg("plan %d, image %d: differs by %g", p, i, worst);
        }
    }
    free(images);
    free(first);
    free(second);
    plan_destroy(&plan);
    network_destroy(&network);
    model_destroy(&m);
}

/* The statistics themselves: far from zero, and over rows that fill no vector. */
static void statistics_of_known_values(void **state) {
    enum { N = 3, H = 5, W = 7, C = 5 };
    static const char text[] = "[net]\nchannels=5\nheight=5\nwidth=7\n[batchnorm]\n";
    struct err err;
    struct model *m;
    struct network *network;
    struct plan *plan;
    ok(training_model(&m, text, &err), &err);
    ok(network_create(&network, m, N, 2, &err), &err);
    ok(plan_create(&plan, m->blocks->nblocks, 0, &err), &err);
    float *x = values(N * C * H * W, 21), *y = malloc(N * C * H * W * sizeof *y);
    for (int i = 0; i < N * C * H * W; i++) x[i] = x[i] * .01f + 100 * (float)(i / (H * W) % C);
    ok(network_forward(network, plan, NETWORK_TRAIN, x, N, 0, y, &err), &err);
    const float *mean, *var;
    int channels;
    ok(network_batch_stats(network, 0, &mean, &var, &channels, &err), &err);
    assert_int_equal(channels, C);
    for (int c = 0; c < C; c++) {
        double sum = 0, square = 0, count = N * H * W;
        for (int n = 0; n < N; n++)
            for (int p = 0; p < H * W; p++) sum += (double)x[(n * C + c) * H * W + p];
        for (int n = 0; n < N; n++)
            for (int p = 0; p < H * W; p++) square += pow((double)x[(n * C + c) * H * W + p] - sum / count, 2);
        assert_true(fabs((double)mean[c] - sum / count) <= 1e-6 * fabs(sum / count) + 1e-7);
        assert_true(fabs((double)var[c] - square / count) <= 1e-3 * square / count);
    }
    free(x);
    free(y);
    plan_destroy(&plan);
    network_destroy(&network);
    model_destroy(&m);
}

/* ---- training ---- */

enum { BATCH = 8 };

struct trainee {
    struct model *model;
    struct network *network;
    struct plan *plan;
    float *images, *logits, *dlogits;
    int labels[BATCH];
};

static void trainee_init(struct trainee *t) {
    struct err err;
    ok(training_model(&t->model, training_cfg, &err), &err);
    ok(network_create(&t->network, t->model, BATCH, 2, &err), &err);
    ok(plan_create(&t->plan, t->model->blocks->nblocks, 0, &err), &err);
    network_init(t->network, 1);
    size_t classes = (size_t)t->model->net->classes;
    t->images = values(BATCH * net_shape_size(t->model->net->input), 31);
    t->logits = malloc(BATCH * classes * sizeof *t->logits);
    t->dlogits = malloc(BATCH * classes * sizeof *t->dlogits);
    for (int i = 0; i < BATCH; i++) t->labels[i] = i % (int)classes;
}

static void trainee_fini(struct trainee *t) {
    free(t->images);
    free(t->logits);
    free(t->dlogits);
    plan_destroy(&t->plan);
    network_destroy(&t->network);
    model_destroy(&t->model);
}

/* Gradients of one pass, from zero; returns the loss. */
static double pass(struct trainee *t, uint64_t seed) {
    struct err err;
    int correct;
    struct network_view view = network_view(t->network);
    memset(view.grads, 0, view.size * sizeof *view.grads);
    ok(network_forward(t->network, t->plan, NETWORK_TRAIN, t->images, BATCH, seed, t->logits, &err), &err);
    double loss = loss_labels(t->logits, t->labels, BATCH, t->model->net->classes, 0, 1, t->dlogits, &correct);
    ok(network_backward(t->network, t->dlogits, &err), &err);
    return loss;
}

static void descend(struct trainee *t, float rate) {
    struct network_view view = network_view(t->network);
    for (size_t i = 0; i < view.size; i++) view.values[i] -= rate * view.grads[i];
}

static void one_batch_by_heart(void **state) {
    struct trainee t;
    trainee_init(&t);
    double first = pass(&t, 0), last = first;
    for (int step = 0; step < 120; step++) {
        descend(&t, .05f);
        last = pass(&t, 0);
    }
    trainee_fini(&t);
    assert_true(first > 1);
    assert_true(last < .05);
}

/* The same seed twice: the same bits, whatever the plans. */
static void deterministic(void **state) {
    float *kept = NULL;
    size_t size = 0;
    for (int run = 0; run < 2; run++) {
        struct trainee t;
        trainee_init(&t);
        struct random random = random_stream(4, 0, 0);
        for (int step = 0; step < 10; step++) {
            reference_random_plan(t.plan, t.model, &random);
            pass(&t, (uint64_t)step);
            descend(&t, .05f);
        }
        struct network_view view = network_view(t.network);
        if (run == 0) {
            size = view.size * sizeof *kept;
            kept = malloc(size);
            memcpy(kept, view.values, size);
        } else {
            assert_memory_equal(kept, view.values, size);
        }
        trainee_fini(&t);
    }
    free(kept);
}

/* What a plan does not compute has a gradient of exactly zero, and what it does
 * has another. */
static void gradients_stay_inside(void **state) {
    struct trainee t;
    struct err err;
    struct counts *counts;
    trainee_init(&t);
    const struct model *m = t.model;
    ok(counts_create(&counts, m->groups, &err), &err);
    for (int b = 0; b < t.plan->nblocks; b++) t.plan->level[b] = 2;
    pass(&t, 0);
    counts_set(counts, m->net, m->blocks, m->groups, m->levels, t.plan);
    struct network_view view = network_view(t.network);
    for (int i = 0; i < view.nparams; i++) {
        const struct network_param *p = &view.params[i];
        size_t kept = (size_t)counts_total(counts, m->groups, p->layer), outputs = (size_t)model_outputs(m, p->layer);
        size_t row = p->size / outputs, inside = 0;
        for (size_t k = 0; k < p->size; k++) {
            float g = view.grads[p->offset + k];
            assert_true(isfinite(g));
            if (k / row >= kept && g != 0) fail_msg("%s[%zu] has a gradient, of %zu outputs kept", p->name, k, kept);
            inside += g != 0;
        }
        assert_true(inside > 0 && (kept == outputs || inside <= kept * row));
    }
    counts_destroy(&counts);
    trainee_fini(&t);
}

/* Gradients are added: twice the same pass is twice the gradient. */
static void gradients_add_up(void **state) {
    struct trainee t;
    struct err err;
    trainee_init(&t);
    pass(&t, 0);
    struct network_view view = network_view(t.network);
    float *once = malloc(view.size * sizeof *once);
    memcpy(once, view.grads, view.size * sizeof *once);
    ok(network_backward(t.network, t.dlogits, &err), &err);
    for (size_t i = 0; i < view.size; i++) assert_true(fabsf(view.grads[i] - 2 * once[i]) <= 1e-5f * fabsf(once[i]) + 1e-9f);
    free(once);
    trainee_fini(&t);
}

static void parameters(void **state) {
    struct trainee t;
    trainee_init(&t);
    struct network_view view = network_view(t.network);
    assert_string_equal(view.params[0].name, "layers.0.weight");
    float *before = malloc(view.size * sizeof *before);
    memcpy(before, view.values, view.size * sizeof *before);
    for (int i = 1; i < view.nparams; i++)
        assert_true(view.params[i].offset >= view.params[i - 1].offset + view.params[i - 1].size);
    assert_int_equal((uintptr_t)view.values % 64, 0);
    assert_int_equal((uintptr_t)view.grads % 64, 0);
    network_store(t.network, t.model);
    assert_memory_equal(t.model->layers[0].weight, view.values, view.params[0].size * sizeof(float));
    network_init(t.network, 2);
    assert_memory_not_equal(before, view.values, view.size * sizeof *before);
    network_load(t.network, t.model);
    assert_memory_equal(before, view.values, view.size * sizeof *before);
    free(before);
    trainee_fini(&t);
}

/* ---- misuse ---- */

static void misuse(void **state) {
    struct trainee t;
    struct err err;
    trainee_init(&t);
    struct plan *other;
    const float *mean, *var;
    int channels;
    float value;
    assert_int_equal(network_backward(t.network, t.dlogits, &err), STATUS_USAGE);
    assert_int_equal(network_batch_stats(t.network, 0, &mean, &var, &channels, &err), STATUS_USAGE);
    assert_int_equal(network_forward(t.network, t.plan, NETWORK_TRAIN, t.images, BATCH + 1, 0, t.logits, &err), STATUS_USAGE);
    assert_int_equal(network_forward(t.network, t.plan, NETWORK_TRAIN, t.images, 0, 0, t.logits, &err), STATUS_USAGE);
    ok(plan_create(&other, t.plan->nblocks + 1, 0, &err), &err);
    assert_int_equal(network_forward(t.network, other, NETWORK_TRAIN, t.images, 1, 0, t.logits, &err), STATUS_USAGE);
    plan_destroy(&other);
    t.plan->level[0] = t.model->levels->nlevels;
    assert_int_equal(network_forward(t.network, t.plan, NETWORK_TRAIN, t.images, 1, 0, t.logits, &err), STATUS_USAGE);
    t.plan->level[0] = 0;
    ok(network_forward(t.network, t.plan, NETWORK_INFERENCE, t.images, 1, 0, t.logits, &err), &err);
    assert_int_equal(network_backward(t.network, t.dlogits, &err), STATUS_USAGE);
    assert_int_equal(network_activation(t.network, t.model->net->nlayers, &value, &channels, &err), STATUS_USAGE);
    assert_int_equal(network_activation(t.network, -1, &value, &channels, &err), STATUS_USAGE);
    struct network *none = NULL;
    assert_int_equal(network_create(&none, t.model, 0, 1, &err), STATUS_USAGE);
    assert_null(none);
    trainee_fini(&t);
}

/* In bfloat16 the gradients point the same way; inference is single precision all the same. */
static void test_bf16(void **state) {
    struct trainee t;
    struct err err;
    if (!ops_has_bf16()) {
        printf("SKIP: this processor has no bfloat16 arithmetic\n");
        skip();
    }
    trainee_init(&t);
    struct network_view view = network_view(t.network);
    size_t classes = (size_t)t.model->net->classes;
    float *exact = malloc(view.size * sizeof *exact), *logits = malloc(BATCH * classes * sizeof *logits);
    pass(&t, 1);
    memcpy(exact, view.grads, view.size * sizeof *exact);
    ok(network_forward(t.network, t.plan, NETWORK_INFERENCE, t.images, BATCH, 0, logits, &err), &err);
    network_set_precision(t.network, OPS_BF16);
    pass(&t, 1);
    for (int i = 0; i < view.nparams; i++) {
        const struct network_param *p = &view.params[i];
        double both = 0, a = 0, b = 0;
        for (size_t k = p->offset; k < p->offset + p->size; k++) {
            both += (double)exact[k] * (double)view.grads[k];
            a += (double)exact[k] * (double)exact[k];
            b += (double)view.grads[k] * (double)view.grads[k];
        }
        if (!(both > .99 * sqrt(a * b))) fail_msg("%s: cosine %g", p->name, both / sqrt(a * b));
    }
    assert_memory_not_equal(exact, view.grads, view.size * sizeof *exact);
    ok(network_forward(t.network, t.plan, NETWORK_INFERENCE, t.images, BATCH, 0, t.logits, &err), &err);
    assert_memory_equal(logits, t.logits, BATCH * classes * sizeof *logits);
    free(exact);
    free(logits);
    trainee_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_networks),
        cmocka_unit_test(shipped_networks),
        cmocka_unit_test(darknet_form),
        cmocka_unit_test(batch_statistics),
        cmocka_unit_test(statistics_of_known_values),
        cmocka_unit_test(one_batch_by_heart),
        cmocka_unit_test(deterministic),
        cmocka_unit_test(gradients_stay_inside),
        cmocka_unit_test(gradients_add_up),
        cmocka_unit_test(parameters),
        cmocka_unit_test(misuse),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
