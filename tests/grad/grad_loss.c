/* Softmax and cross entropy behind a network: the gradient that training uses,
 * against labels and against soft targets. */
#include "tests/grad/gradcheck.h"
#include "train/loss.h"

static const char text[] = GRADCHECK_NET(3, 5, 5) GRADCHECK_STEM
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=leaky\n"
    "[shortcut]\nfrom=-2\nactivation=relu\n[avgpool]\n[connected]\noutput=4\nactivation=linear\n[softmax]\n[cost]\n";

enum { N = 5, CLASSES = 4 };
static const int labels[N] = { 0, 3, 1, 2, 3 };

static double loss(struct gradcheck *g, const float *target, float *dlogits) {
    struct err err;
    int correct;
    gradcheck_ok(network_forward(g->network, g->plan, NETWORK_TRAIN, g->input, g->n, 1, g->logits, &err), &err);
    return target ? loss_targets(g->logits, target, g->n, CLASSES, 1, dlogits)
                  : loss_labels(g->logits, labels, g->n, CLASSES, 0.1f, 1, dlogits, &correct);
}

static void check(const char *levels, const float *target) {
    struct gradcheck g;
    struct err err;
    gradcheck_init(&g, text, N, levels);
    struct network_view view = network_view(g.network);
    memset(view.grads, 0, view.size * sizeof(float));
    float unused[N * CLASSES];
    loss(&g, target, g.dlogits);
    gradcheck_ok(network_backward(g.network, g.dlogits, &err), &err);
    int failed = 0, checked = 0;
    for (int i = 0; i < view.nparams; i++)
        for (size_t k = 0; k < view.params[i].size; k += 7) {
            float *value = view.values + view.params[i].offset + k, kept = *value;
            double analytic = (double)view.grads[view.params[i].offset + k], numeric = 0;
            bool agrees = false;
            for (float h = 1e-2f; h > 1e-4f && !agrees; h /= 3) {
                *value = kept + h;
                double above = loss(&g, target, unused);
                *value = kept - h;
                numeric = (above - loss(&g, target, unused)) / (2 * (double)h);
                agrees = fabs(analytic - numeric) <= 0.02 * fabs(numeric) + 5e-4;
            }
            *value = kept;
            checked++;
            if (agrees) continue;
            failed++;
            print_error("%s[%zu]: gradient %.6g, central difference %.6g\n", view.params[i].name, k, analytic, numeric);
        }
    gradcheck_fini(&g);
    assert_in_range(checked, 100, 100000);
    assert_int_equal(failed, 0);
}

static void against_labels(void **state) {
    check("0", NULL);
    check("2", NULL);
}

static void against_targets(void **state) {
    float target[N * CLASSES];
    struct random random = random_stream(1, 2, 3);
    gradcheck_fill(target, N * CLASSES, &random, -2, 2);
    loss_softmax(target, N, CLASSES, target);
    check("0", target);
    check("1", target);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(against_labels), cmocka_unit_test(against_targets) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
