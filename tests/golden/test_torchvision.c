/* torchvision's networks: weights by PyTorch's names, through cfg/tv-*.cfg, give
 * in engine and trainer what torchvision gives; images are preprocessed alike.
 * The golden values were made by make_torchvision.py; weights are drawn by
 * their names, so that a layer which names another module would be noticed. */
#include "common/random.h"
#include "tests/family.h"
#include "train/torch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/torchvision.txt"

enum { OUTPUTS = 256 /* of VGG's connected layers */ };

static const char *const names[] = {
    "tv-resnet18", "tv-resnet34", "tv-resnet50", "tv-resnet101", "tv-resnet152", "tv-resnext50_32x4d", "tv-vgg11", "tv-vgg11_bn",
    "tv-vgg13", "tv-vgg13_bn", "tv-vgg16", "tv-vgg16_bn", "tv-vgg19", "tv-vgg19_bn", "tv-mobilenet_v2",
};
enum { NNAMES = sizeof names / sizeof *names };

static void must(enum status status, const struct err *err) {
    if (status) fail_msg("%s", err->text);
}

/* ---- a state_dict ---- */

struct dict {
    int n;
    struct safetensors_tensor *tensors; /* names and data owned */
};

static uint64_t fnv1a(const char *name) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return h;
}

static void add(struct dict *d, const char *module, const char *what, int ndims, const int64_t *shape) {
    char name[128];
    size_t n = 1;
    snprintf(name, sizeof name, "%s.%s", module, what);
    for (int i = 0; i < ndims; i++) n *= (size_t)shape[i];
    double centre = 1, reach = .5; /* of a batch norm's weight and variance */
    if (ndims > 1 || strcmp(what, "bias") == 0 || strcmp(what, "running_mean") == 0) centre = 0;
    if (ndims > 1) reach = sqrt(4.0 * (double)shape[0] / (double)n);
    if (strcmp(what, "running_mean") == 0) reach = .3;
    float *data = malloc(n * sizeof *data);
    struct random random = random_stream(fnv1a(name), 0, 0);
    for (size_t i = 0; i < n; i++) data[i] = (float)random_between(&random, centre - reach, centre + reach);
    d->tensors = realloc(d->tensors, (size_t)(d->n + 1) * sizeof *d->tensors);
    struct safetensors_tensor *t = &d->tensors[d->n++];
    *t = (struct safetensors_tensor){.name = strdup(name), .dtype = "F32", .ndims = ndims, .data = data, .size = n * 4};
    memcpy(t->shape, shape, (size_t)ndims * sizeof *shape);
}

/* A counter that PyTorch keeps with each batch norm. */
static void add_counter(struct dict *d, const char *module) {
    add(d, module, "num_batches_tracked", 1, (int64_t[]){2});
    struct safetensors_tensor *t = &d->tensors[d->n - 1];
    t->dtype = "I64";
    t->ndims = 0;
}

/* All that the layers of the cfg name. */
static struct dict state_dict(const struct model *model, bool biased) {
    struct dict d = {0};
    for (int i = 0; i < model->net->nlayers; i++) {
        const struct net_layer *l = &model->net->layers[i];
        const struct cfg_section *section = net_section(model->cfg, i);
        const char *module = cfg_string(section, "torch", NULL), *bn = cfg_string(section, "torch_bn", NULL);
        if (!net_has_weights(l)) continue;
        assert_non_null(module);
        const int64_t outputs = l->filters;
        if (l->kind == NET_CONNECTED) add(&d, module, "weight", 2, (int64_t[]){outputs, (int64_t)net_shape_size(l->in)});
        else add(&d, module, "weight", 4, (int64_t[]){outputs, l->in.c / l->groups, l->size, l->size});
        if (biased || !bn) add(&d, module, "bias", 1, &outputs);
        if (!bn) continue;
        static const char *const whats[] = {"weight", "bias", "running_mean", "running_var"};
        for (int k = 0; k < 4; k++) add(&d, bn, whats[k], 1, &outputs);
        add_counter(&d, bn);
    }
    return d;
}

static void free_dict(struct dict *d) {
    for (int i = 0; i < d->n; i++) {
        free((char *)d->tensors[i].name);
        free((void *)d->tensors[i].data);
    }
    free(d->tensors);
}

static struct model *model_of(const char *name) {
    char path[128];
    struct cfg *cfg;
    struct model *model;
    struct err err;
    snprintf(path, sizeof path, "cfg/%s.cfg", name);
    must(family_cfg(&cfg, path, false, OUTPUTS, &err), &err);
    must(model_create(&model, cfg, 1, &err), &err);
    return model;
}

/* As a file would be read. */
static enum status read_dict(struct model *model, const struct dict *d, struct err *err) {
    uint8_t *bytes;
    size_t length;
    struct safetensors *file;
    must(safetensors_serialize(d->tensors, d->n, NULL, 0, &bytes, &length, err), err);
    must(safetensors_parse(&file, "t.safetensors", bytes, length, err), err);
    const enum status status = torch_read(model, file, err);
    safetensors_close(&file);
    free(bytes);
    return status;
}

/* ---- the tests ---- */

static void test_outputs(void **state) {
    const char *name = *state;
    struct model *model = model_of(name);
    struct dict d = state_dict(model, strstr(name, "vgg") != NULL);
    struct err err;
    must(read_dict(model, &d, &err), &err);
    free_dict(&d);
    must(family_check(model, GOLDEN, name, "torchvision", &err), &err);
    model_destroy(&model);
}

/* The error for tv-resnet18's tensors after a change to one of them. */
static void refuses(void (*change)(struct dict *), const char *message) {
    struct model *model = model_of("tv-resnet18");
    struct dict d = state_dict(model, false);
    struct err err;
    change(&d);
    assert_int_equal(read_dict(model, &d, &err), STATUS_FORMAT);
    if (!strstr(err.text, message)) fail_msg("'%s' lacks '%s'", err.text, message);
    free_dict(&d);
    model_destroy(&model);
}

static struct safetensors_tensor *find(struct dict *d, const char *name) {
    for (int i = 0; i < d->n; i++)
        if (strcmp(d->tensors[i].name, name) == 0) return &d->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void rename_one(struct dict *d) {
    struct safetensors_tensor *t = find(d, "layer2.0.downsample.1.running_var");
    memcpy((char *)t->name, "X", 1);
}
static void reshape(struct dict *d) {
    struct safetensors_tensor *t = find(d, "layer4.1.conv2.weight");
    t->shape[0] /= 2;
    t->shape[2] *= 2;
}
static void retype(struct dict *d) { find(d, "fc.bias")->dtype = "I32"; }
static void append(struct dict *d) { add(d, "layer4.2.conv1", "weight", 4, (int64_t[]){2, 2, 3, 3}); }

static void test_wrong_tensors_are_named(void **state) {
    (void)state;
    refuses(rename_one, "tensor 'layer2.0.downsample.1.running_var' is missing");
    refuses(reshape, "tensor 'layer4.1.conv2.weight' has the shape [256, 512, 6, 3], [512, 512, 3, 3] is needed");
    refuses(retype, "tensor 'fc.bias' is I32, not F32");
    refuses(append, "tensor 'layer4.2.conv1.weight' belongs to no layer of cfg/tv-resnet18.cfg");
}

static void test_preprocessing(void **state) {
    (void)state;
    static const int cases[][4] = {{61, 47, 20, 16}, {47, 61, 21, 16}, {40, 30, 44, 33}};
    for (int i = 0; i < 3; i++) {
        const int w = cases[i][0], h = cases[i][1], side = cases[i][3], n = 3 * side * side;
        struct image_preproc p = {.c = 3, .h = side, .w = side, .fit = IMAGE_CROP, .resize = cases[i][2],
                                  .mean = {.485f, .456f, .406f}, .std = {.229f, .224f, .225f}};
        char name[64];
        struct family_golden golden;
        struct err err;
        struct random random = random_stream(5, 0, 0);
        uint8_t *pixels = malloc((size_t)w * (size_t)h * 3);
        for (int k = 0; k < w * h * 3; k++) pixels[k] = (uint8_t)(random_next(&random) >> 56);
        const struct image_u8 image = {.c = 3, .h = h, .w = w, .data = pixels};
        float *input = malloc((size_t)n * sizeof *input);
        double worst;
        snprintf(name, sizeof name, "crop-%dx%d-%d-%d", w, h, p.resize, side);
        if (!family_find(GOLDEN, name, &golden)) fail_msg("%s: not in " GOLDEN, name);
        must(image_fit(&p, &image, input, &err), &err);
        if (!family_agrees(&golden, input, n, &worst)) fail_msg("%s: off torchvision's by %g", name, worst);
        free(input);
        free(pixels);
    }
}

int main(void) {
    struct CMUnitTest tests[NNAMES + 2] = {
        cmocka_unit_test(test_wrong_tensors_are_named),
        cmocka_unit_test(test_preprocessing),
    };
    family_reuse_memory();
    for (int i = 0; i < NNAMES; i++)
        tests[i + 2] = (struct CMUnitTest){names[i], test_outputs, NULL, NULL, (void *)names[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
