/* The importance of channels, against signed central differences of the loss
 * under the mask of a level: through tiers, depthwise convolutions, concatenations and
 * layers without batch norm; and the weights' own gradients under a mask. */
#include "tests/grad/gradcheck.h"
#include "tests/unit/training.h"
#include "train/soft_mask.h"

/* No kinks, so that differences of all sizes agree. */
static const char smooth_cfg[] =
    "[net]\nwidth=6\nheight=6\nchannels=3\n"
    "[prune]\nlevels=1,.75,.5,.25\nalign=2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=tanh\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=linear\n"
    "[shortcut]\nfrom=-2\nactivation=tanh\n"
    "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\nstride=2\npad=1\nactivation=tanh\n"
    "[convolutional]\nbatch_normalize=1\nfilters=16\ngroups=16\nsize=3\nstride=1\npad=1\nactivation=tanh\n"
    "[shortcut]\nfrom=-3\nactivation=tanh\n"
    "[convolutional]\nfilters=6\nsize=1\nstride=1\nactivation=tanh\n"
    "[route]\nlayers=-1,-3\n"
    "[convolutional]\nbatch_normalize=1\nfilters=12\nsize=3\nstride=1\npad=1\nactivation=tanh\n"
    "[connected]\noutput=20\nactivation=tanh\n"
    "[connected]\noutput=5\nactivation=linear\n"
    "[softmax]\n";

struct masked {
    struct gradcheck g;
    struct soft_mask *mask;
    int level;
};

static double loss(struct masked *m) {
    struct network_view view = network_view(m->g.network);
    float *grads = malloc(view.size * sizeof *grads);
    memcpy(grads, view.grads, view.size * sizeof *grads);
    assert_int_equal(soft_mask_set(m->mask, m->level), 0); /* warm: no channel is left out */
    soft_mask_apply(m->mask, &view);
    double sum = gradcheck_loss(&m->g);
    soft_mask_collect(m->mask, &view);
    memcpy(view.grads, grads, view.size * sizeof *grads);
    free(grads);
    return sum;
}

static void open_masked(struct masked *m, int level, double temperature) {
    struct err err;
    gradcheck_init(&m->g, smooth_cfg, 3, "0");
    struct network_view view = network_view(m->g.network);
    m->level = level;
    gradcheck_ok(soft_mask_create(&m->mask, m->g.model, &view, &err), &err);
    m->mask->temperature = temperature;
    struct random random = random_stream(9, 0, 0);
    gradcheck_fill(m->mask->importance, (size_t)m->mask->nunits, &random, 0, 1);
}

static void close_masked(struct masked *m) {
    soft_mask_destroy(&m->mask);
    gradcheck_fini(&m->g);
}

/* Gradients of all under the mask. */
static void backward(struct masked *m) {
    struct err err;
    struct network_view view = network_view(m->g.network);
    memset(view.grads, 0, view.size * sizeof(float));
    soft_mask_set(m->mask, m->level);
    soft_mask_apply(m->mask, &view);
    gradcheck_loss(&m->g);
    memcpy(m->g.dlogits, m->g.mix, (size_t)m->g.n * m->g.classes * sizeof(float));
    gradcheck_ok(network_backward(m->g.network, m->g.dlogits, &err), &err);
    soft_mask_collect(m->mask, &view);
}

static double difference(struct masked *m, float *value, float h) {
    float kept = *value, above = kept + h, below = kept - h;
    *value = above;
    double high = loss(m);
    *value = below;
    double low = loss(m);
    *value = kept;
    return (high - low) / ((double)above - (double)below);
}

static void agree(struct masked *m, float *values, const float *grads, size_t n, size_t stride, const char *name) {
    double square = 0;
    for (size_t i = 0; i < n; i++) square += (double)grads[i] * (double)grads[i];
    double typical = sqrt(square / (double)n);
    assert_true(typical > 1e-6);
    for (size_t i = 0; i < n; i += stride) {
        double numeric = difference(m, &values[i], 3e-3f);
        if (!(fabs((double)grads[i] - numeric) <= .02 * (typical + fabs(numeric))))
            fail_msg("%s[%zu] at level %d: gradient %.6g, central difference %.6g", name, i, m->level, (double)grads[i], numeric);
    }
}

static void test_importance(void **state) {
    for (int level = 1; level < 4; level++) {
        struct masked m;
        open_masked(&m, level, .4);
        backward(&m);
        agree(&m, m.mask->importance, soft_mask_gradient(m.mask), (size_t)m.mask->nunits, 1, "importance");
        close_masked(&m);
    }
}

static void test_weights(void **state) {
    struct masked m;
    open_masked(&m, 2, .4);
    struct network_view view = network_view(m.g.network);
    float *before = malloc(view.size * sizeof *before);
    memcpy(before, view.values, view.size * sizeof *before);
    backward(&m);
    assert_memory_equal(before, view.values, view.size * sizeof *before);
    for (int i = 0; i < view.nparams; i++) {
        const struct network_param *p = &view.params[i];
        double largest = 0;
        for (size_t k = 0; k < p->size; k++) largest = fmax(largest, fabs((double)view.grads[p->offset + k]));
        /* gamma and beta have rows for other levels; a bias in front of no batch norm is small */
        if (largest > 1e-5) agree(&m, view.values + p->offset, view.grads + p->offset, p->size, p->size / 7 + 1, p->name);
    }
    free(before);
    close_masked(&m);
}

/* Two passes add up. */
static void test_adds(void **state) {
    struct masked m;
    struct err err;
    open_masked(&m, 1, .4);
    struct network_view view = network_view(m.g.network);
    backward(&m);
    float *once = malloc(view.size * sizeof *once);
    memcpy(once, view.grads, view.size * sizeof *once);
    float first = soft_mask_gradient(m.mask)[0];
    soft_mask_apply(m.mask, &view);
    gradcheck_loss(&m.g);
    memcpy(m.g.dlogits, m.g.mix, (size_t)m.g.n * m.g.classes * sizeof(float));
    gradcheck_ok(network_backward(m.g.network, m.g.dlogits, &err), &err);
    soft_mask_collect(m.mask, &view);
    for (size_t i = 0; i < view.size; i++) assert_float_equal(view.grads[i], 2 * once[i], 1e-4f * (1 + fabsf(once[i])));
    assert_float_equal(soft_mask_gradient(m.mask)[0], 2 * first, 1e-4f * (1 + fabsf(first)));
    free(once);
    close_masked(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_importance),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_adds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
