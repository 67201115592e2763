/* The engine against naive loops: small networks of every layer kind and tie,
 * every uniform level and random plans, every instruction set, one and two
 * threads, whole and cut into slices. */
#include "deploy/engine_internal.h"
#include "tests/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define NET(w, h, c) "[net]\nwidth=" #w "\nheight=" #h "\nchannels=" #c "\n"
#define PRUNE "[prune]\nlevels=1,.75,.5,.25\nalign=2\n"
#define CONV(filters, size, stride, act)                                                                      \
    "[convolutional]\nbatch_normalize=1\nfilters=" #filters "\nsize=" #size "\nstride=" #stride "\npad=1\n" \
    "activation=" #act "\n"
#define GROUPED(filters, size, stride, groups, act) CONV(filters, size, stride, act) "groups=" #groups "\n"
#define HEAD "[avgpool]\n[connected]\noutput=10\nactivation=linear\n[softmax]\n"

static const struct {
    const char *name, *cfg;
} nets[] = {
    {"plain with connected layers and biases",
     NET(13, 11, 3) PRUNE "[convolutional]\nfilters=20\nsize=5\nstride=2\npadding=1\nactivation=leaky\n"
                          "[maxpool]\nsize=2\nstride=1\n[convolutional]\nfilters=24\nsize=3\npad=1\nactivation=elu\n"
                          "[connected]\noutput=30\nactivation=tanh\n[dropout]\nprobability=.5\n"
                          "[connected]\noutput=9\nactivation=linear\n[softmax]\n[cost]\ntype=sse\n"},
    {"residual", NET(16, 16, 3) PRUNE CONV(16, 3, 1, relu) CONV(16, 3, 1, relu) CONV(16, 3, 1, linear)
                     "[shortcut]\nfrom=-3\nactivation=relu\n" CONV(32, 3, 2, relu) CONV(32, 3, 1, linear)
                         "[shortcut]\nfrom=-3\nactivation=leaky\n" CONV(32, 3, 1, relu) CONV(32, 3, 1, linear)
                             "[shortcut]\nfrom=-3\nactivation=relu6\n" HEAD},
    {"residual with a projection, odd sizes",
     NET(15, 9, 3) PRUNE CONV(10, 3, 1, relu) CONV(10, 3, 1, relu) CONV(26, 1, 1, linear) "[route]\nlayers=-3\n"
         CONV(26, 1, 1, linear) "[shortcut]\nfrom=-3\nactivation=relu\n" CONV(26, 3, 1, linear)
             "[shortcut]\nfrom=-2\nactivation=linear\nalpha=.5\nbeta=2\n" HEAD},
    {"depthwise and inverted residual",
     NET(18, 18, 3) PRUNE CONV(12, 3, 2, relu6) CONV(36, 1, 1, relu6) GROUPED(36, 3, 1, 36, relu6)
         CONV(12, 1, 1, linear) "[shortcut]\nfrom=-4\nactivation=linear\n" CONV(40, 1, 1, relu6)
             GROUPED(40, 5, 2, 40, logistic) CONV(20, 1, 1, linear) HEAD},
    {"depthwise on large maps",
     NET(47, 50, 3) PRUNE CONV(36, 3, 1, relu6) GROUPED(36, 3, 1, 36, relu6) CONV(8, 1, 1, linear) CONV(20, 1, 1, elu)
         GROUPED(20, 5, 1, 20, relu) CONV(8, 1, 1, linear) "[shortcut]\nfrom=-4\nactivation=linear\n"
             CONV(34, 1, 1, relu6) GROUPED(34, 3, 2, 34, logistic) CONV(40, 1, 1, relu) HEAD},
    {"grouped", NET(12, 12, 3) PRUNE CONV(32, 3, 1, relu) GROUPED(32, 3, 1, 8, relu) CONV(48, 1, 1, relu)
                    GROUPED(48, 3, 2, 2, relu) GROUPED(24, 1, 1, 3, relu) GROUPED(48, 3, 1, 24, linear) HEAD},
    {"concatenation",
     NET(10, 10, 3) PRUNE CONV(18, 3, 1, relu) CONV(14, 3, 1, relu) "[route]\nlayers=-1,-2\n" CONV(20, 3, 2, relu)
         "[route]\nlayers=-2\n[maxpool]\nsize=2\nstride=2\npadding=0\n[batchnorm]\n[route]\nlayers=-1,-4\n"
         CONV(24, 1, 1, relu) HEAD},
    {"concatenation into a connected layer, grouped convolution and a sum",
     NET(8, 8, 3) PRUNE CONV(6, 3, 1, relu) CONV(10, 3, 1, relu) "[route]\nlayers=-1,-2\n" GROUPED(16, 3, 1, 4, relu)
         "[route]\nlayers=-2\n[shortcut]\nfrom=-2\nactivation=relu\n[route]\nlayers=-1,-5\n"
         "[connected]\noutput=12\nbatch_normalize=1\nactivation=relu\n[connected]\noutput=7\nactivation=linear\n"
         "[softmax]\n"},
    {"sums of concatenations", NET(8, 8, 2) PRUNE CONV(8, 3, 1, relu) CONV(12, 3, 1, relu) "[route]\nlayers=-1,-2\n"
                                   CONV(12, 1, 1, relu) CONV(20, 1, 1, linear) "[shortcut]\nfrom=-3\nactivation=relu\n"
                                       "[route]\nlayers=-2,-3\n[shortcut]\nfrom=-5\nactivation=linear\n" HEAD},
    {"sums of differing counts and sizes",
     NET(16, 16, 1) PRUNE CONV(8, 3, 1, relu) CONV(24, 3, 2, linear) "[shortcut]\nfrom=-2\nactivation=relu\n"
         CONV(8, 3, 2, linear) "[shortcut]\nfrom=-3\nactivation=relu\n[route]\nlayers=0\n" CONV(16, 3, 1, linear)
             "[shortcut]\nfrom=-3\nactivation=relu\n" HEAD},
    {"crop, average pooling to the classes, softmax in groups",
     NET(20, 20, 3) PRUNE "[crop]\ncrop_height=14\ncrop_width=15\n" CONV(16, 3, 2, ramp)
         "[batchnorm]\n[convolutional]\nfilters=12\nsize=1\nactivation=linear\n[avgpool]\n"
         "[softmax]\ngroups=3\ntemperature=2\n"},
    {"wide image input", NET(9, 9, 20) PRUNE "[crop]\ncrop_height=7\ncrop_width=8\nnoadjust=1\n" CONV(16, 3, 1, hardtan)
                             GROUPED(32, 3, 1, 16, loggy) HEAD},
};
enum { NNETS = sizeof nets / sizeof nets[0] };

struct fixture {
    struct model *model;
    struct reference *reference;
    struct plan *plan;
    float *input, *got, *expected;
};

static size_t largest(const struct net *net) {
    size_t n = net_shape_size(net->input);
    for (int i = 0; i < net->nlayers; i++)
        if (net_shape_size(net->layers[i].out) > n) n = net_shape_size(net->layers[i].out);
    return n;
}

static struct fixture fixture_make(const char *cfg) {
    struct fixture f = {0};
    struct err err = {0};
    if (reference_model(&f.model, cfg, 7, &err)) fail_msg("%s", err.text);
    if (reference_create(&f.reference, f.model, &err)) fail_msg("%s", err.text);
    if (plan_create(&f.plan, f.model->blocks->nblocks, 0, &err)) fail_msg("%s", err.text);
    const size_t n = largest(f.model->net);
    f.input = malloc(n * sizeof *f.input);
    f.got = malloc(n * sizeof *f.got);
    f.expected = malloc(n * sizeof *f.expected);
    assert_true(f.input && f.got && f.expected);
    struct random random = random_stream(11, 0, 0);
    for (size_t i = 0; i < n; i++) f.input[i] = (float)random_uniform(&random);
    return f;
}

static void fixture_free(struct fixture *f) {
    plan_destroy(&f->plan);
    reference_destroy(&f->reference);
    model_destroy(&f->model);
    free(f->input);
    free(f->got);
    free(f->expected);
}

/* An emulator (RUN, see tests/run.sh) gets less to do. */
static bool emulated(void) {
    const char *run = getenv("RUN");
    return run && run[0];
}

/* Uniform levels first, then random plans. */
static bool next_plan(struct fixture *f, int i, struct random *random) {
    const int uniform = f->model->levels->nlevels;
    if (i >= uniform + (emulated() ? 2 : 12)) return false;
    for (int b = 0; b < f->plan->nblocks; b++) {
        f->plan->level[b] = i < uniform ? i : 0;
        f->plan->link[b] = 0;
    }
    if (i >= uniform) reference_random_plan(f->plan, f->model, random);
    return true;
}

static struct engine *engine_make(const struct fixture *f, struct engine_config config) {
    struct engine *engine = NULL;
    struct err err = {0};
    if (engine_create(&engine, f->model, &config, &err)) fail_msg("%s", err.text);
    return engine;
}

static void expect_same(const struct fixture *f, int layer, const char *net, const char *what, int plan) {
    double worst;
    const size_t n = reference_compact(f->reference, layer, f->expected);
    if (!reference_agrees(f->got, f->expected, n, &worst))
        fail_msg("%s, %s: plan %d differs by %g of the largest magnitude", net, what, plan, worst);
}

static void expect_logits(struct fixture *f, const struct engine *engine, const char *net, const char *what, int plan) {
    const int layer = net_logits_layer(f->model->net);
    const struct net_shape shape = net_shape_of(f->model->net, layer);
    memcpy(f->got, engine_logits(engine), net_shape_size(shape) * sizeof *f->got);
    expect_same(f, layer, net, what, plan);
}

static void runs_every_plan(struct fixture *f, struct engine *engine, const char *net, const char *what) {
    const int last = f->model->net->nlayers - 1;
    struct random random = random_stream(3, 0, 0);
    for (int i = 0; next_plan(f, i, &random); i++) {
        reference_run(f->reference, f->plan, f->input);
        engine_set_plan(engine, f->plan);
        engine_run(engine, f->input, f->got);
        expect_same(f, last, net, what, i);
        expect_logits(f, engine, net, what, i);
    }
}

static void test_every_net_level_and_instruction_set(void **state) {
    (void)state;
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = fixture_make(nets[k].cfg);
        for (int i = 0; kernels_at(i); i++) {
            if (!kernels_runnable(kernels_at(i)) || (emulated() && i == 0)) continue;
            struct engine_config config = engine_defaults();
            config.kernels = kernels_at(i);
            struct engine *engine = engine_make(&f, config);
            runs_every_plan(&f, engine, nets[k].name, kernels_at(i)->isa);
            engine_destroy(&engine);
            config.low_memory = true;
            engine = engine_make(&f, config);
            runs_every_plan(&f, engine, nets[k].name, "low memory");
            engine_destroy(&engine);
        }
        fixture_free(&f);
    }
}

static void test_threads(void **state) {
    (void)state;
    struct pool *pool = NULL;
    struct err err;
    assert_int_equal(pool_create(&pool, 2, &err), STATUS_OK);
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = fixture_make(nets[k].cfg);
        struct engine_config config = engine_defaults();
        config.pool = pool;
        struct engine *engine = engine_make(&f, config);
        runs_every_plan(&f, engine, nets[k].name, "two threads");
        engine_destroy(&engine);
        fixture_free(&f);
    }
    pool_destroy(&pool);
}

/* Every layer, without fusion. */
static void test_every_layer(void **state) {
    (void)state;
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = fixture_make(nets[k].cfg);
        struct engine_config config = engine_defaults();
        config.keep = true;
        struct engine *engine = engine_make(&f, config);
        struct random random = random_stream(5, 0, 0);
        for (int i = 0; next_plan(&f, i, &random); i++) {
            reference_run(f.reference, f.plan, f.input);
            engine_set_plan(engine, f.plan);
            engine_run(engine, f.input, f.got);
            for (int layer = 0; layer < f.model->net->nlayers; layer++) {
                int channels;
                char what[32];
                struct err err;
                assert_int_equal(engine_activation(engine, layer, f.got, &channels, &err), STATUS_OK);
                assert_int_equal(channels, counts_total(f.reference->counts, f.model->groups, layer));
                snprintf(what, sizeof what, "layer %d", layer);
                expect_same(&f, layer, nets[k].name, what, i);
            }
        }
        engine_destroy(&engine);
        fixture_free(&f);
    }
}

static void test_large_maps_run_in_bands(void **state) {
    (void)state;
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = fixture_make(nets[k].cfg);
        struct engine *engine = engine_make(&f, engine_defaults());
        int chains[4] = {0};
        for (int i = 0; i < engine->nops; i++) chains[engine->ops[i].chain]++;
        const bool large = strcmp(nets[k].name, "depthwise on large maps") == 0;
        assert_int_equal(chains[3], large ? 2 : 0);
        assert_int_equal(chains[2], large ? 1 : 0);
        engine_destroy(&engine);
        fixture_free(&f);
    }
}

/* One engine for each block, each fed with what the one before put out. */
static void test_cut_at_every_block(void **state) {
    (void)state;
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = fixture_make(nets[k].cfg);
        const int nblocks = f.model->blocks->nblocks;
        struct engine **engines = calloc((size_t)nblocks, sizeof *engines);
        float *carried = malloc(largest(f.model->net) * sizeof *carried);
        assert_true(engines && carried);
        for (int b = 0; b < nblocks; b++) {
            struct engine_config config = engine_defaults();
            config.first_block = config.last_block = b;
            engines[b] = engine_make(&f, config);
            assert_int_equal(engine_logits(engines[b]) != NULL, b == nblocks - 1);
        }
        struct random random = random_stream(9, 0, 0);
        for (int i = 0; next_plan(&f, i, &random); i++) {
            reference_run(f.reference, f.plan, f.input);
            memcpy(carried, f.input, net_shape_size(f.model->net->input) * sizeof *carried);
            for (int b = 0; b < nblocks; b++) {
                engine_set_plan(engines[b], f.plan);
                if (b > 0) assert_int_equal(engine_input(engines[b]).c, engine_output(engines[b - 1]).c);
                engine_run(engines[b], carried, f.got);
                const struct engine_tensor out = engine_output(engines[b]);
                memcpy(carried, f.got, (size_t)out.c * (size_t)out.h * (size_t)out.w * sizeof *carried);
            }
            expect_same(&f, f.model->net->nlayers - 1, nets[k].name, "cut at every block", i);
        }
        for (int b = 0; b < nblocks; b++) engine_destroy(&engines[b]);
        free(engines);
        free(carried);
        fixture_free(&f);
    }
}

/* Every value that the plan does not compute is not-a-number before each run. */
static void poison(const struct engine *engine) {
    for (int i = 0; i < engine->nstorages; i++) {
        const struct storage *s = &engine->storages[i];
        if (s->passing) continue;
        const int lanes = s->pitch == PANEL ? (s->channels + PANEL - 1) / PANEL * PANEL : s->channels;
        for (int c = 0; c < lanes; c++)
            for (int y = 0; y < s->h; y++)
                for (int x = 0; x < s->w; x++)
                    s->layout.origin[c / PANEL * s->layout.panel + y * s->layout.line + x * s->pitch + c % PANEL] = NAN;
    }
    for (size_t i = 0; i < engine->scratch_bytes / sizeof *engine->scratch; i++) engine->scratch[i] = NAN;
}

static void test_nothing_past_the_counts_is_read(void **state) {
    (void)state;
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = fixture_make(nets[k].cfg);
        for (int i = 0; kernels_at(i); i++) {
            if (!kernels_runnable(kernels_at(i)) || (emulated() && i == 0)) continue;
            struct engine_config config = engine_defaults();
            config.kernels = kernels_at(i);
            struct engine *engine = engine_make(&f, config);
            struct random random = random_stream(13, 0, 0);
            for (int plan = 0; next_plan(&f, plan, &random); plan++) {
                reference_run(f.reference, f.plan, f.input);
                engine_set_plan(engine, f.plan);
                poison(engine);
                engine_run(engine, f.input, f.got);
                expect_same(&f, f.model->net->nlayers - 1, nets[k].name, kernels_at(i)->isa, plan);
            }
            engine_destroy(&engine);
        }
        fixture_free(&f);
    }
}

static void test_blocks_out_of_range(void **state) {
    (void)state;
    struct fixture f = fixture_make(nets[1].cfg);
    struct engine_config config = engine_defaults();
    config.first_block = f.model->blocks->nblocks;
    struct engine *engine = NULL;
    struct err err;
    assert_int_equal(engine_create(&engine, f.model, &config, &err), STATUS_USAGE);
    assert_null(engine);
    fixture_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_net_level_and_instruction_set),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_large_maps_run_in_bands),
        cmocka_unit_test(test_every_layer),
        cmocka_unit_test(test_cut_at_every_block),
        cmocka_unit_test(test_nothing_past_the_counts_is_read),
        cmocka_unit_test(test_blocks_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
