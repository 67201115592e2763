/* A portfolio served by real processes: every frame through the slices of one
 * variant, whose results are those of that variant on one device; another variant
 * when frames come faster than the present one can take; and back to the same run
 * after a worker was killed. */
#include "common/portfolio.h"
#include "deploy/engine.h"
#include "deploy/portfolio_model.h"
#include "tests/pipeline.h"
#include "tests/reference.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { VARIANTS = 3 };
static const int filters[VARIANTS] = { 160, 48, 8 };
static double expected[VARIANTS][PIPELINE_FRAMES][10];
static char portfolio[128];

static struct model *variant_model(int v) {
    char cfg[1200];
    struct model *model = NULL;
    struct err err;
    int n = snprintf(cfg, sizeof cfg, "[net]\nwidth=%d\nheight=%d\nchannels=3\n[prune]\nlevels=1\n", PIPELINE_SIDE, PIPELINE_SIDE);
    for (int i = 0; i < 5; i++)
        n += snprintf(cfg + n, sizeof cfg - (size_t)n,
                      "[convolutional]\nbatch_normalize=1\nfilters=%d\nsize=3\npad=1\nactivation=relu\n", filters[v]);
    snprintf(cfg + n, sizeof cfg - (size_t)n, "[avgpool]\n[connected]\noutput=10\nactivation=linear\n[softmax]\n");
    if (reference_model(&model, cfg, (uint64_t)(5 + v), &err)) fail_msg("%s", err.text);
    return model;
}

static void expect_of(const struct model *model, int v) {
    struct engine *engine = NULL;
    struct engine_config config = engine_defaults();
    float input[3 * PIPELINE_SIDE * PIPELINE_SIDE], output[10];
    assert_int_equal(engine_create(&engine, model, &config, NULL), STATUS_OK);
    for (int i = 0; i < PIPELINE_FRAMES; i++) {
        uint8_t bytes[2048];
        size_t length = pipeline_frame(i, bytes);
        assert_int_equal(image_preprocess(&model->preproc, "frame", bytes, length, input, NULL), STATUS_OK);
        engine_run(engine, input, output);
        /* All ants come first, then all foxes. */
        int seq = i % 2 ? PIPELINE_FRAMES / 2 + i / 2 : i / 2;
        for (int k = 0; k < 10; k++) expected[v][seq][k] = (double)output[k];
    }
    engine_destroy(&engine);
}

static int group_setup(void **state) {
    if (pipeline_group_setup(state)) return -1;
    struct portfolio p = { .nvariants = VARIANTS };
    struct model *models[VARIANTS];
    struct err err;
    for (int v = 0; v < VARIANTS; v++) {
        models[v] = variant_model(v);
        expect_of(models[v], v);
        p.variants[v] = (struct portfolio_variant){ .sparsity = .3 * v, .parameters = 1e6 / (v + 1), .accuracy = .9 - .1 * v,
                                                    .multiply_adds = 1e3 * filters[v] * filters[v] };
        snprintf(p.variants[v].name, sizeof p.variants[v].name, "v%d", v);
    }
    snprintf(portfolio, sizeof portfolio, "%s", pipeline_path("variants.portfolio"));
    if (portfolio_write(&p, models, portfolio, &err)) fail_msg("%s", err.text);
    for (int v = 0; v < VARIANTS; v++) model_destroy(&models[v]);
    return 0;
}

static int setup(void **state) {
    (void)state;
    pipeline.nworkers = 2;
    strcpy(pipeline.model, portfolio);
    for (int i = 0; i < 2; i++) pipeline.isa[i] = "sse2";
    return 0;
}

/* Every frame has a result, which is that of the variant that its levels name. Returns how many variants were used. */
static int expect_results(void) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    int rows = 0, used[VARIANTS] = { 0 };
    assert_int_equal(sqlite3_open(pipeline.results, &db), SQLITE_OK);
    const char *sql = "SELECT seq, label, prob, levels FROM results WHERE error IS NULL ORDER BY seq";
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    for (; sqlite3_step(s) == SQLITE_ROW; rows++) {
        int first, second, seq = sqlite3_column_int(s, 0), label = sqlite3_column_int(s, 1);
        assert_int_equal(sscanf((const char *)sqlite3_column_text(s, 3), "%d,%d", &first, &second), 2);
        assert_int_equal(first, second);
        assert_in_range(first, 0, VARIANTS - 1);
        used[first]++;
        const double *probs = expected[first][seq % PIPELINE_FRAMES];
        assert_true(fabs(sqlite3_column_double(s, 2) - probs[label]) <= 1e-4);
        for (int k = 0; k < 10; k++) assert_true(probs[k] <= probs[label] + 1e-4);
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    assert_int_equal(rows, pipeline_query("SELECT count(*) FROM frames"));
    int variants = 0;
    for (int v = 0; v < VARIANTS; v++) variants += used[v] > 0;
    return variants;
}

static void results_are_those_of_the_variant(void **state) {
    (void)state;
    pipeline_start_workers(NULL);
    for (int v = 0; v < VARIANTS; v++) {
        char options[32], levels[100];
        pipeline_remove_results();
        snprintf(options, sizeof options, "--portfolio --plan %d", v);
        pipeline_start_runner(pipeline.frames, options);
        pipeline_expect_exit(0);
        snprintf(levels, sizeof levels, "SELECT count(*) FROM results WHERE levels = '%d,%d'", v, v);
        assert_true(pipeline_query(levels) == PIPELINE_FRAMES);
        assert_int_equal(expect_results(), 1);
    }
}

#ifdef __SANITIZE_THREAD__
enum { TIMES = 10 }; /* slower is everything */
#else
enum { TIMES = 1 };
#endif

/* More frames than the largest variant can take: a smaller one, between two
 * frames, while frames of the other are still on their way. */
static void load_switches_variants(void **state) {
    (void)state;
    char sql[200];
    pipeline_start_workers(NULL);
    pipeline.policy = "exact";
    /* First slowly, then much faster than variant 0 (some 0.6 G multiply-adds) on any processor. */
    FILE *trace = fopen(pipeline_path("trace"), "w");
    assert_non_null(trace);
    for (int i = 0; i < 600; i++) fprintf(trace, "%.4f\n", i < 20 ? .1 * TIMES * i : 2 * TIMES + (i - 20) / 600.);
    fclose(trace);
    char options[200];
    snprintf(options, sizeof options, "--slo-ms %d --trace %s --frames 600", 200 * TIMES, pipeline_path("trace"));
    pipeline_start_runner(pipeline.frames, options);
    pipeline_expect_exit(0);
    assert_true(expect_results() > 1);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM results WHERE levels = '0,0' AND seq < 20");
    assert_true(pipeline_query(sql) > 0);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE levels != '0,0' AND seq >= 20") > 0);
}

static void a_killed_worker_costs_no_frame(void **state) {
    (void)state;
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 100 --plan 1");
    pipeline_wait_results(20);
    pipeline_kill_worker(1);
    pipeline_start_worker(1, pipeline.address[1], NULL);
    pipeline_expect_exit(0);
    assert_int_equal(expect_results(), 1);
    assert_true(pipeline_query("SELECT count(*) FROM results WHERE levels = '1,1'") == PIPELINE_FRAMES);
}

static void refused(const char *options, const char *text) {
    pipeline_start_runner(pipeline.frames, options);
    pipeline_expect_exit(2);
    pipeline_expect_said(text);
}

static void misuse_is_named(void **state) {
    (void)state;
    pipeline_start_workers(NULL);
    refused("--plan 0,1", "one variant throughout");
    refused("--plan 3", "3");
    refused("--steady nothing", "is a portfolio");
    strcpy(pipeline.model, pipeline_path("model.safetensors"));
    refused("--portfolio", "not a portfolio");
}

/* As levels: each variant, its work and what it costs of accuracy. */
static void a_portfolio_as_one_model(void **state) {
    (void)state;
    struct portfolio_model *p;
    struct err err;
    assert_int_equal(portfolio_model_open(&p, portfolio, &err), STATUS_OK);
    assert_int_equal(p->model->levels->nlevels, VARIANTS);
    assert_non_null(p->model->accuracy);
    struct plan *plan;
    assert_int_equal(plan_create(&plan, p->model->blocks->nblocks, 0, &err), STATUS_OK);
    for (int v = 0; v < VARIANTS; v++) {
        for (int b = 0; b < plan->nblocks; b++) plan->level[b] = v;
        assert_float_equal(accuracy_predict(p->model->accuracy, plan), .9 - .1 * v, 1e-9);
        assert_float_equal(p->model->levels->ratio[v], filters[v] / 160., 1e-6);
    }
    plan_destroy(&plan);
    portfolio_model_close(&p);
    assert_int_equal(portfolio_model_open(&p, pipeline_path("model.safetensors"), &err), STATUS_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_portfolio_as_one_model, setup, pipeline_teardown),
        cmocka_unit_test_setup_teardown(results_are_those_of_the_variant, setup, pipeline_teardown),
        cmocka_unit_test_setup_teardown(load_switches_variants, setup, pipeline_teardown),
        cmocka_unit_test_setup_teardown(a_killed_worker_costs_no_frame, setup, pipeline_teardown),
        cmocka_unit_test_setup_teardown(misuse_is_named, setup, pipeline_teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, pipeline_group_teardown);
}
