/* Slices and pruned models compute what the whole model computes. */
#include "common/darknet.h"
#include "deploy/engine.h"
#include "deploy/surgery.h"
#include "tests/nets.h"
#include "tests/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PLANS = 24 };

struct fixture {
    struct model *model;
    struct reference *reference;
    struct plan *plan;
    struct random random;
    float *input, *got, *expected; /* as large as the largest tensor */
};

static size_t largest(const struct net *net) {
    size_t n = net_shape_size(net->input);
    for (int i = 0; i < net->nlayers; i++)
        if (net_shape_size(net->layers[i].out) > n) n = net_shape_size(net->layers[i].out);
    return n;
}

static void must(enum status status, const struct err *err) {
    if (status) fail_msg("%s", err->text);
}

static struct fixture make(const char *cfg) {
    struct fixture f = {.random = random_stream(5, 0, 0)};
    struct err err;
    must(reference_model(&f.model, cfg, 7, &err), &err);
    must(reference_create(&f.reference, f.model, &err), &err);
    must(plan_create(&f.plan, f.model->blocks->nblocks, 0, &err), &err);
    must(accuracy_create(&f.model->accuracy, f.model->blocks->nblocks, f.model->levels->nlevels, &err), &err);
    f.model->accuracy->base = 0.9;
    for (int b = 0; b < f.model->blocks->nblocks; b++)
        for (int l = 1; l < f.model->levels->nlevels; l++)
            f.model->accuracy->block[b * f.model->levels->nlevels + l] = 0.001 * (b + l);
    size_t n = largest(f.model->net);
    f.input = malloc(n * sizeof *f.input);
    f.got = malloc(n * sizeof *f.got);
    f.expected = malloc(n * sizeof *f.expected);
    for (size_t i = 0; i < n; i++) f.input[i] = (float)random_uniform(&f.random);
    return f;
}

static void free_fixture(struct fixture *f) {
    plan_destroy(&f->plan);
    reference_destroy(&f->reference);
    model_destroy(&f->model);
    free(f->input);
    free(f->got);
    free(f->expected);
}

/* Uniform levels first, then random ones. */
static void set_plan(struct fixture *f, int i) {
    for (int b = 0; b < f->plan->nblocks; b++) {
        f->plan->level[b] = i < f->model->levels->nlevels ? i : 0;
        f->plan->link[b] = 0;
    }
    if (i >= f->model->levels->nlevels) reference_random_plan(f->plan, f->model, &f->random);
}

static void expect_agreement(const struct fixture *f, size_t n, const char *net, const char *what, int plan) {
    double worst;
    if (!reference_agrees(f->got, f->expected, n, &worst))
        fail_msg("%s, %s, plan %d: off by %g of the largest magnitude", net, what, plan, worst);
}

/* The file's round trip; what is written must be readable on its own. */
static struct model *written_and_read(struct model *model, uint8_t **bytes) {
    struct safetensors *file;
    struct model *read;
    struct err err;
    size_t length;
    must(model_serialize(model, bytes, &length, &err), &err);
    must(safetensors_parse(&file, "part", *bytes, length, &err), &err);
    must(model_from_safetensors(&read, file, &err), &err);
    model_destroy(&model);
    return read;
}

static void run_engine(const struct model *model, const float *input, float *output) {
    struct engine *engine;
    struct engine_config config = engine_defaults();
    struct err err;
    must(engine_create(&engine, model, &config, &err), &err);
    engine_run(engine, input, output);
    engine_destroy(&engine);
}

static void test_pruned_models(void **state) {
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = make(nets[k].cfg);
        int last = f.model->net->nlayers - 1;
        for (int i = 0; i < PLANS; i++) {
            set_plan(&f, i);
            struct model *small;
            struct reference *reference;
            struct plan *only;
            struct err err;
            uint8_t *bytes;
            must(surgery_prune(f.model, f.plan, &small, &err), &err);
            small = written_and_read(small, &bytes);
            assert_int_equal(small->levels->nlevels, 1);
            assert_int_equal(small->nrows, 1);
            double expected_accuracy = accuracy_predict(f.model->accuracy, f.plan);
            assert_true(small->accuracy->base > expected_accuracy - 1e-9 && small->accuracy->base < expected_accuracy + 1e-9);
            must(reference_create(&reference, small, &err), &err);
            must(plan_create(&only, small->blocks->nblocks, 0, &err), &err);
            reference_run(f.reference, f.plan, f.input);
            reference_run(reference, only, f.input);
            size_t n = reference_compact(f.reference, last, f.expected);
            assert_int_equal(reference_compact(reference, last, f.got), n);
            expect_agreement(&f, n, nets[k].name, "pruned", i);
            run_engine(small, f.input, f.got);
            expect_agreement(&f, n, nets[k].name, "pruned, in the engine", i);
            char *text;
            must(darknet_cfg(small, &text, &err), &err);
            free(text);
            plan_destroy(&only);
            reference_destroy(&reference);
            model_destroy(&small);
            free(bytes);
        }
        free_fixture(&f);
    }
}

/* Smaller, and no larger than the counts say. */
static void test_pruned_size(void **state) {
    struct fixture f = make(nets[0].cfg);
    struct model *small;
    struct err err;
    set_plan(&f, 2); /* half */
    must(surgery_prune(f.model, f.plan, &small, &err), &err);
    for (int i = 0; i < small->net->nlayers; i++) {
        const struct net_layer *a = &small->net->layers[i], *b = &f.model->net->layers[i];
        if (a->kind == NET_CONVOLUTIONAL) assert_int_equal(a->filters * 2, b->filters);
    }
    assert_int_equal(small->net->layers[14].in.c, 16);
    model_destroy(&small);
    /* What a narrow block does not read, the wide block before it does not compute. */
    for (int b = 0; b < f.plan->nblocks; b++) f.plan->level[b] = b == 0 ? 0 : 3;
    must(surgery_prune(f.model, f.plan, &small, &err), &err);
    assert_int_equal(small->net->layers[0].filters, 4);
    model_destroy(&small);
    free_fixture(&f);
}

static int of_whole(const struct model *slice, int layer) { return slice->first_layer + layer; }

/* One slice of blocks [a, b] at the fixture's plan, from what the whole model's tensors hold. */
static void check_slice(struct fixture *f, int a, int b, const char *net, int plan) {
    struct model *slice;
    struct reference *reference;
    struct plan *own;
    struct err err;
    uint8_t *bytes;
    must(surgery_slice(f->model, a, b, &slice, &err), &err);
    slice = written_and_read(slice, &bytes);
    int nblocks = b - a + 1, last = slice->net->nlayers - 1;
    assert_int_equal(slice->blocks->nblocks, nblocks);
    assert_int_equal(slice->first_block, a);
    assert_int_equal(of_whole(slice, last), f->model->blocks->block[b].last);
    assert_int_equal(slice->nrows, f->model->nrows);
    assert_int_equal(slice->ends.outgoing, b + 1 < f->model->blocks->nblocks);
    assert_true(strlen(slice->parent) == 64);
    must(reference_create(&reference, slice, &err), &err);
    must(plan_create(&own, nblocks, 0, &err), &err);
    for (int i = 0; i < nblocks; i++) {
        own->level[i] = f->plan->level[a + i];
        own->link[i] = f->plan->link[a + i];
    }
    if (a > 0) own->link[0] = plan_incoming(f->plan, a);
    if (a > 0) plan_before(f->plan, f->model->blocks, a, &own->before);
    int source = f->model->blocks->block[a].source;
    reference_run(reference, own, f->reference->values[source + 1]);
    size_t n = reference_compact(f->reference, of_whole(slice, last), f->expected);
    assert_int_equal(reference_compact(reference, last, f->got), n);
    expect_agreement(f, n, net, "slice", plan);
    for (int i = 0; i < slice->net->nlayers; i++) /* every layer, the one that hands on aside */
        if (of_whole(slice, i) != source) {
            n = reference_compact(f->reference, of_whole(slice, i), f->expected);
            assert_int_equal(reference_compact(reference, i, f->got), n);
            expect_agreement(f, n, net, "layer of a slice", plan);
        }
    char *text;
    must(darknet_cfg(slice, &text, &err), &err);
    free(text);
    plan_destroy(&own);
    reference_destroy(&reference);
    model_destroy(&slice);
    free(bytes);
}

static void test_slices(void **state) {
    for (int k = 0; k < NNETS; k++) {
        struct fixture f = make(nets[k].cfg);
        int nblocks = f.model->blocks->nblocks;
        for (int i = 0; i < 8; i++) {
            set_plan(&f, i);
            reference_run(f.reference, f.plan, f.input);
            for (int a = 0; a < nblocks; a++)
                for (int b = a; b < nblocks; b++) check_slice(&f, a, b, nets[k].name, i);
        }
        free_fixture(&f);
    }
}

/* A slice of a slice is a slice; a pruned slice runs in a line with others. */
static void test_slices_of_slices(void **state) {
    struct fixture f = make(nets[0].cfg);
    int nblocks = f.model->blocks->nblocks;
    struct model *tail, *part, *direct;
    struct err err;
    must(surgery_slice(f.model, 1, nblocks - 1, &tail, &err), &err);
    must(surgery_slice(tail, 1, nblocks - 2, &part, &err), &err);
    must(surgery_slice(f.model, 2, nblocks - 1, &direct, &err), &err);
    assert_string_equal(part->cfg->text, direct->cfg->text);
    assert_int_equal(part->first_layer, direct->first_layer);
    assert_int_equal(part->first_block, 2);
    assert_string_not_equal(part->parent, direct->parent);
    assert_memory_equal(part->levels->keep, direct->levels->keep,
                        (size_t)(part->levels->nlevels * part->levels->ngroups) * sizeof(int));
    model_destroy(&part);
    model_destroy(&tail);

    for (int i = 0; i < PLANS; i++) {
        set_plan(&f, i);
        reference_run(f.reference, f.plan, f.input);
        struct model *small;
        struct plan *own;
        must(plan_create(&own, nblocks - 2, 0, &err), &err);
        for (int b = 2; b < nblocks; b++) {
            own->level[b - 2] = f.plan->level[b];
            own->link[b - 2] = f.plan->link[b];
        }
        own->link[0] = plan_incoming(f.plan, 2);
        plan_before(f.plan, f.model->blocks, 2, &own->before);
        must(surgery_prune(direct, own, &small, &err), &err);
        /* It takes the first channels of what arrives. */
        int source = f.model->blocks->block[2].source;
        struct net_shape in = small->net->input;
        run_engine(small, f.reference->values[source + 1], f.got);
        assert_true(in.c <= net_shape_of(f.model->net, source).c);
        size_t n = reference_compact(f.reference, f.model->net->nlayers - 1, f.expected);
        expect_agreement(&f, n, nets[0].name, "pruned slice", i);
        model_destroy(&small);
        plan_destroy(&own);
    }
    model_destroy(&direct);
    free_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pruned_models),
        cmocka_unit_test(test_pruned_size),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_slices_of_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
