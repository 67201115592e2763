/* Checkpoints: what comes back is what went in, to the bit; anything else is
 * refused and changes nothing. */
#include "tests/unit/training.h"
#include "train/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static const char settings[] = "{\"seed\":5,\"robust\":\"drop\"}";

struct run {
    struct model *model;
    struct network_param params[128];
    struct network_view view;
    struct sgd *sgd;
};

static void run_init(struct run *r, const char *cfg, uint64_t seed) {
    struct err err;
    size_t size;
    struct random random = random_stream(seed, 0, 0);
    assert_int_equal(training_model(&r->model, cfg, &err), STATUS_OK);
    int n = training_params(r->model, r->params, &size);
    r->view = (struct network_view){ n, r->params, malloc(size * sizeof(float)), NULL, size };
    assert_int_equal(sgd_create(&r->sgd, size, &err), STATUS_OK);
    training_fill(r->view.values, size, &random, -1, 1);
    training_fill(r->sgd->velocity, size, &random, -1, 1);
}

static void run_fini(struct run *r) {
    free(r->view.values);
    sgd_destroy(&r->sgd);
    model_destroy(&r->model);
}

struct fixture {
    char path[64];
    struct run a;
    struct checkpoint saved;
    float extra[3];
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct err err;
    snprintf(f->path, sizeof f->path, "/tmp/test_checkpoint.%d", getpid());
    run_init(&f->a, training_cfg, 1);
    f->saved = (struct checkpoint){ .step = 123, .preproc = f->a.model->preproc, .levels = f->a.model->levels,
                                     .settings = settings };
    f->saved.preproc.mean[1] = .1f;
    f->extra[0] = .1f, f->extra[1] = -.2f, f->extra[2] = .3f;
    f->saved.extras[1] = (struct checkpoint_extra){ "extra.test", f->extra, 3 };
    f->saved.levels->keep[f->saved.levels->ngroups] = 1; /* of level 1, as if it had been allocated */
    if (checkpoint_save(f->path, &f->a.view, f->a.sgd, &f->saved, &err)) return -1;
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    unlink(f->path);
    run_fini(&f->a);
    free(f);
    return 0;
}

static void test_round_trip(void **state) {
    struct fixture *f = *state;
    struct run b;
    struct err err;
    float extra[3] = { 0 };
    run_init(&b, training_cfg, 2);
    struct checkpoint read = { .levels = b.model->levels, .settings = "{\"robust\":\"drop\",\"seed\":5}",
                               .extras = { { "extra.test", extra, 3 } } };
    const struct levels *levels = b.model->levels;
    size_t counts = (size_t)levels->nlevels * (size_t)levels->ngroups * sizeof *levels->keep;
    assert_memory_not_equal(levels->keep, f->saved.levels->keep, counts);
    assert_int_equal(checkpoint_load(f->path, &b.view, b.sgd, &read, &err), STATUS_OK);
    assert_int_equal(read.step, 123);
    for (int c = 0; c < 3; c++) {
        assert_true(read.preproc.mean[c] == f->saved.preproc.mean[c]);
        assert_true(read.preproc.std[c] == f->saved.preproc.std[c]);
    }
    assert_memory_equal(extra, f->extra, sizeof extra);
    assert_int_equal(read.preproc.fit, f->saved.preproc.fit);
    assert_int_equal(read.preproc.decode, f->saved.preproc.decode);
    assert_memory_equal(levels->keep, f->saved.levels->keep, counts);
    assert_memory_equal(b.view.values, f->a.view.values, b.view.size * sizeof(float));
    assert_memory_equal(b.sgd->velocity, f->a.sgd->velocity, b.view.size * sizeof(float));
    run_fini(&b);
}

/* Loads into a run that must stay as it is; returns the status. */
static enum status refused(const char *path, const char *cfg, const char *with, struct err *err) {
    struct run b;
    run_init(&b, cfg, 2);
    struct checkpoint read = { .step = -1, .levels = b.model->levels, .settings = with };
    size_t bytes = b.view.size * sizeof(float);
    float *values = malloc(bytes), *velocity = malloc(bytes);
    memcpy(values, b.view.values, bytes);
    memcpy(velocity, b.sgd->velocity, bytes);
    enum status status = checkpoint_load(path, &b.view, b.sgd, &read, err);
    assert_int_not_equal(status, STATUS_OK);
    assert_int_equal(read.step, -1);
    assert_memory_equal(values, b.view.values, bytes);
    assert_memory_equal(velocity, b.sgd->velocity, bytes);
    free(values);
    free(velocity);
    run_fini(&b);
    return status;
}

static void test_other_settings(void **state) {
    struct fixture *f = *state;
    struct err err;
    assert_int_equal(refused(f->path, training_cfg, "{\"seed\":6,\"robust\":\"drop\"}", &err), STATUS_USAGE);
    assert_non_null(strstr(err.text, "seed 5, not 6"));
    assert_int_equal(refused(f->path, training_cfg, "{\"seed\":5,\"robust\":\"none\"}", &err), STATUS_USAGE);
    assert_non_null(strstr(err.text, "\"drop\", not \"none\""));
}

static void test_other_network(void **state) {
    struct fixture *f = *state;
    struct err err;
    static const char other[] = "[net]\nwidth=8\nheight=8\nchannels=3\n[connected]\noutput=5\nactivation=linear\n";
    assert_int_equal(refused(f->path, other, settings, &err), STATUS_FORMAT);
}

/* More, or less, is learnt than the run that wrote it learnt. */
static void test_other_extras(void **state) {
    struct fixture *f = *state;
    struct err err;
    const struct {
        const char *name;
        size_t n;
    } others[] = { { "extra.other", 3 }, { "extra.test", 4 } };
    for (int i = 0; i < 2; i++) {
        float extra[4] = { 0 };
        struct run b;
        run_init(&b, training_cfg, 2);
        struct checkpoint read = { .levels = b.model->levels, .settings = settings,
                                   .extras = { { others[i].name, extra, others[i].n } } };
        float before = b.view.values[0];
        assert_int_equal(checkpoint_load(f->path, &b.view, b.sgd, &read, &err), STATUS_FORMAT);
        assert_true(b.view.values[0] == before && extra[0] == 0);
        run_fini(&b);
    }
}

static void test_damaged(void **state) {
    struct fixture *f = *state;
    struct err err;
    assert_int_equal(truncate(f->path, 3000), 0);
    assert_int_equal(refused(f->path, training_cfg, settings, &err), STATUS_FORMAT);
    assert_int_equal(truncate(f->path, 0), 0);
    assert_int_equal(refused(f->path, training_cfg, settings, &err), STATUS_FORMAT);
    unlink(f->path);
    assert_int_equal(refused(f->path, training_cfg, settings, &err), STATUS_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_settings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_network, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_extras, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
