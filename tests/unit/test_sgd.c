/* SGD against the update rule written out per element, and what a plan reaches
 * against a mask computed by the definition. */
#include "tests/unit/training.h"
#include "train/sgd.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct fixture {
    struct model *model;
    struct network_param params[128];
    struct network_view view;
    struct sgd *sgd;
    struct reach *reach;
    struct plan *plan;
};

static void fixture_init(struct fixture *f) {
    struct err err;
    size_t size;
    assert_int_equal(training_model(&f->model, training_cfg, &err), STATUS_OK);
    int n = training_params(f->model, f->params, &size);
    f->view = (struct network_view){ n, f->params, malloc(size * sizeof(float)), malloc(size * sizeof(float)), size };
    assert_int_equal(sgd_create(&f->sgd, size, &err), STATUS_OK);
    assert_int_equal(reach_create(&f->reach, f->model, &err), STATUS_OK);
    assert_int_equal(plan_create(&f->plan, f->model->blocks->nblocks, 0, &err), STATUS_OK);
}

static void fixture_fini(struct fixture *f) {
    free(f->view.values);
    free(f->view.grads);
    sgd_destroy(&f->sgd);
    reach_destroy(&f->reach);
    plan_destroy(&f->plan);
    model_destroy(&f->model);
}

/* 1 for every element whose output channel is computed and whose input channel
 * is read under the plan. */
static void mask_param(const struct fixture *f, const struct network_param *p, const struct counts *counts,
                       unsigned char *mask) {
    const struct model *m = f->model;
    const struct net_layer *layer = &m->net->layers[p->layer];
    int nout, nin;
    const struct segment *out = groups_segments(m->groups, p->layer, &nout);
    const struct segment *in = groups_segments(m->groups, layer->inputs[0], &nin);
    bool columns = p->role == NETWORK_WEIGHT && layer->groups <= 1;
    size_t row = p->size / (size_t)model_outputs(m, p->layer), inner = row / (size_t)layer->in.c;
    for (size_t i = 0; i < p->size; i++) {
        int o = (int)(i / row), c = columns ? (int)(i % row / inner) : 0;
        bool computed = false, read = !columns;
        for (int s = 0; s < nout; s++) {
            int kept = counts->out[m->groups->first_segment[p->layer + 1] + s];
            computed |= o >= out[s].first && o < out[s].first + kept;
        }
        for (int s = 0; s < nin && columns; s++) {
            int kept = counts_read(counts, m->net, m->blocks, m->groups, m->levels, f->plan, p->layer, 0, s);
            read |= c >= in[s].first && c < in[s].first + kept;
        }
        mask[p->offset + i] |= computed && read;
    }
}

static void add_mask(const struct fixture *f, unsigned char *mask) {
    struct counts *counts;
    struct err err;
    const struct model *m = f->model;
    assert_int_equal(counts_create(&counts, m->groups, &err), STATUS_OK);
    counts_set(counts, m->net, m->blocks, m->groups, m->levels, f->plan);
    for (int i = 0; i < f->view.nparams; i++) mask_param(f, &f->params[i], counts, mask);
    counts_destroy(&counts);
}

static void count_run(void *context, size_t first, size_t count) {
    unsigned char *seen = context;
    for (size_t i = first; i < first + count; i++) seen[i]++;
}

static void test_reach(void **state) {
    struct fixture f;
    fixture_init(&f);
    unsigned char *mask = malloc(f.view.size), *seen = malloc(f.view.size);
    struct random random = random_stream(3, 0, 0);
    size_t reached = 0;
    for (int round = 0; round < 30; round++) {
        memset(mask, 0, f.view.size);
        memset(seen, 0, f.view.size);
        for (int b = 0; b < f.plan->nblocks; b++) {
            f.plan->level[b] = random_below(&random, f.model->levels->nlevels);
            f.plan->link[b] = random_below(&random, 3) ? 0 : random_below(&random, f.model->levels->nlevels);
        }
        f.plan->link[0] = 0;
        reach_clear(f.reach);
        reach_add(f.reach, f.model->levels, f.plan);
        add_mask(&f, mask);
        for (int i = 0; i < f.view.nparams; i++) reach_each(f.reach, &f.params[i], count_run, seen);
        for (size_t i = 0; i < f.view.size; i++) {
            assert_int_equal(seen[i], mask[i]);
            reached += mask[i];
        }
    }
    assert_in_range(reached, f.view.size, 30 * f.view.size);
    /* Several plans: at least what each of them reaches. */
    memset(mask, 0, f.view.size);
    memset(seen, 0, f.view.size);
    reach_clear(f.reach);
    for (int level = 1; level < 4; level++) {
        for (int b = 0; b < f.plan->nblocks; b++) f.plan->level[b] = (b + level) % 4;
        reach_add(f.reach, f.model->levels, f.plan);
        add_mask(&f, mask);
    }
    for (int i = 0; i < f.view.nparams; i++) reach_each(f.reach, &f.params[i], count_run, seen);
    for (size_t i = 0; i < f.view.size; i++) assert_true(seen[i] <= 1 && seen[i] >= mask[i]);
    free(mask);
    free(seen);
    fixture_fini(&f);
}

static void check_steps(bool nesterov) {
    struct fixture f;
    fixture_init(&f);
    size_t size = f.view.size;
    double *w = malloc(size * sizeof *w), *v = calloc(size, sizeof *v);
    unsigned char *mask = malloc(size);
    struct random random = random_stream(4, 0, 0);
    for (size_t i = 0; i < size; i++) w[i] = f.view.values[i] = (float)random_between(&random, -1, 1);
    const struct sgd_config config = { .rate = .1f, .momentum = .9f, .decay = .01f, .nesterov = nesterov };
    for (int step = 0; step < 6; step++) {
        for (int b = 0; b < f.plan->nblocks; b++) f.plan->level[b] = (b + step) % 4;
        memset(mask, 0, size);
        add_mask(&f, mask);
        reach_clear(f.reach);
        reach_add(f.reach, f.model->levels, f.plan);
        for (int k = 0; k < f.view.nparams; k++) {
            const struct network_param *p = &f.params[k];
            for (size_t i = p->offset; i < p->offset + p->size; i++) {
                f.view.grads[i] = mask[i] ? (float)random_normal(&random) : 0;
                if (!mask[i]) continue;
                double g = f.view.grads[i] + (p->role == NETWORK_WEIGHT ? .01 * w[i] : 0);
                v[i] = .9 * v[i] + g;
                w[i] -= .1 * (nesterov ? g + .9 * v[i] : v[i]);
            }
        }
        sgd_step(f.sgd, &config, &f.view, f.reach);
        for (size_t i = 0; i < size; i++) {
            assert_true(f.view.grads[i] == 0);
            assert_true(fabs(f.view.values[i] - w[i]) < 1e-5);
            assert_true(fabs(f.sgd->velocity[i] - v[i]) < 1e-5);
        }
    }
    free(w);
    free(v);
    free(mask);
    fixture_fini(&f);
}

static void test_momentum(void **state) { check_steps(false); }
static void test_nesterov(void **state) { check_steps(true); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reach),
        cmocka_unit_test(test_momentum),
        cmocka_unit_test(test_nesterov),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
