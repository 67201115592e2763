/* The networks of Darknet's family that ship in cfg/.
 *
 * - Where Debian's darknet brings a cfg of the same name, ours has the same
 *   layers, one by one: the same .weights load. All of its cfgs run, or are
 *   refused by name and line.
 * - Engine and trainer give what Debian's darknet gave for seeded weights
 *   (darknet_family.txt, made by make_darknet_family, from Darknet's own cfg
 *   where there is one). Inputs are smaller than the networks' own, so that the test is quick;
 *   relu6, which Darknet has not, is replaced by relu.
 *
 * test_family --names               the networks
 * test_family --export NAME DIR     writes DIR/cfg, DIR/weights and DIR/input, prints the input's side
 * test_family --golden NAME FILE    prints the golden line of Darknet's outputs */
#include "common/darknet.h"
#include "common/file.h"
#include "deploy/selftest.h"
#include "tests/family.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/darknet_family.txt"
#define ORIGINALS "/usr/share/darknet/cfg"

static const char *const family[] = {
    "alexnet",   "vgg-16",      "resnet18",  "resnet34",   "resnet50",   "resnet101",   "resnet152",    "resnext50",
    "densenet201", "darknet19", "darknet53", "extraction", "tiny",       "cifar",       "cifar-small",  "mobilenet",
    "mobilenetv2", "resnet20",  "resnet32",  "resnet56",   "vgg16-cifar", "mobilenetv2-cifar",
};
enum { NFAMILY = sizeof family / sizeof *family };

static void must(enum status status, const struct err *err) {
    if (status) {
        fprintf(stderr, "%s\n", err->text);
        abort();
    }
}

/* With seeded weights, and batch norm in Darknet's form. */
static struct model *seeded(const char *name) {
    char path[128];
    struct cfg *cfg;
    struct model *model;
    struct err err;
    snprintf(path, sizeof path, "cfg/%s.cfg", name);
    must(family_cfg(&cfg, path, true, 0, &err), &err);
    must(model_create(&model, cfg, 1, &err), &err);
    selftest_fill(model, 3);
    model->bn_form = MODEL_BN_DARKNET;
    model->bn_eps = 1e-6f;
    return model;
}

static float *input_of(const struct model *model) {
    float *input = malloc(net_shape_size(model->net->input) * sizeof *input);
    if (!input) abort();
    selftest_input(model, input);
    return input;
}

/* ---- making the golden lines ---- */

static void write_file(const char *folder, const char *name, const void *bytes, size_t length) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(bytes, 1, length, out) != length || fclose(out)) abort();
}

static void export(const char *name, const char *folder) {
    struct model *model = seeded(name);
    float *input = input_of(model);
    char path[512], *text;
    struct err err;
    snprintf(path, sizeof path, "%s/weights", folder);
    must(darknet_write(model, path, &err), &err);
    must(darknet_cfg(model, &text, &err), &err);
    write_file(folder, "cfg", text, strlen(text));
    write_file(folder, "input", input, net_shape_size(model->net->input) * sizeof *input);
    printf("%d\n", model->net->input.h);
    free(text);
    free(input);
    model_destroy(&model);
}

static void print_golden(const char *name, const char *path) {
    struct model *model = seeded(name);
    uint8_t *bytes;
    size_t length;
    struct err err;
    must(file_read(path, 1 << 24, &bytes, &length, &err), &err);
    family_print(name, model->net->input.h, (const float *)bytes, (int)(length / sizeof(float)));
    free(bytes);
    model_destroy(&model);
}

/* ---- the tests ---- */

static void test_outputs(void **state) {
    const char *name = *state;
    struct model *model = seeded(name);
    struct err err;
    must(family_check(model, GOLDEN, name, "Darknet", &err), &err);
    model_destroy(&model);
}

static bool originals_are_here(void) {
    if (access(ORIGINALS, R_OK) == 0) return true;
    printf("SKIP: Debian's darknet package is not installed, so its cfgs are not here\n");
    return false;
}

static enum status load_net(const char *folder, const char *name, struct cfg **cfg, struct net **net, struct err *err) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    enum status status = cfg_load(cfg, path, err);
    if (status) return status;
    status = net_create(net, *cfg, err);
    if (status) cfg_destroy(cfg);
    return status;
}

static void same_layer(const struct net_layer *a, const struct net_layer *b, const char *name, int index) {
    bool same = a->kind == b->kind && a->ninputs == b->ninputs && a->in.c == b->in.c && a->in.h == b->in.h &&
                a->in.w == b->in.w && a->out.c == b->out.c && a->out.h == b->out.h && a->out.w == b->out.w &&
                a->activation == b->activation && a->filters == b->filters && a->size == b->size &&
                a->stride == b->stride && a->pad == b->pad && a->groups == b->groups &&
                a->batch_normalize == b->batch_normalize && a->alpha == b->alpha && a->beta == b->beta &&
                a->probability == b->probability && a->softmax_groups == b->softmax_groups &&
                a->temperature == b->temperature && a->flip == b->flip && a->noadjust == b->noadjust;
    for (int k = 0; same && k < a->ninputs; k++) same = a->inputs[k] == b->inputs[k];
    if (!same) fail_msg("%s: layer %d (%s) is not as in Darknet's cfg", name, index, net_kind_name(a->kind));
}

static void test_layers_are_darknets(void **state) {
    (void)state;
    if (!originals_are_here()) skip();
    int compared = 0;
    for (int i = 0; i < NFAMILY; i++) {
        char name[80];
        struct cfg *own_cfg, *cfg;
        struct net *own, *net;
        struct err err;
        snprintf(name, sizeof name, "%s.cfg", family[i]);
        if (load_net(ORIGINALS, name, &cfg, &net, &err)) continue; /* none of Darknet's */
        must(load_net("cfg", name, &own_cfg, &own, &err), &err);
        assert_int_equal(own->nlayers, net->nlayers);
        for (int l = 0; l < net->nlayers; l++) same_layer(&own->layers[l], &net->layers[l], name, l);
        net_destroy(&own);
        net_destroy(&net);
        cfg_destroy(&own_cfg);
        cfg_destroy(&cfg);
        compared++;
    }
    assert_int_equal(compared, 14);
}

/* Darknet's cfgs that are no classifiers, and what they are refused for. */
static const struct {
    const char *name, *line;
} refused[] = {
    {"darknet9000.cfg", "cfg:201: 'tree' in [softmax] is not supported"},
    {"go.cfg", "cfg:127: Darknet's [reorg] is not supported"},
    {"go.test.cfg", "cfg:126: Darknet's [reorg] is not supported"},
    {"gru.cfg", "cfg:15: Darknet's [gru] is not supported"},
    {"rnn.cfg", "cfg:14: Darknet's [rnn] is not supported"},
    {"rnn.train.cfg", "cfg:14: Darknet's [rnn] is not supported"},
    {"t1.test.cfg", "cfg:103: Darknet's [detection] is not supported"},
    {"yolo9000.cfg", "cfg:198: Darknet's [region] is not supported"},
    {"yolov1-tiny.cfg", "cfg:116: Darknet's [detection] is not supported"},
    {"yolov1.cfg", "cfg:233: Darknet's [local] is not supported"},
    {"yolov2-tiny-voc.cfg", "cfg:121: Darknet's [region] is not supported"},
    {"yolov2-tiny.cfg", "cfg:122: Darknet's [region] is not supported"},
    {"yolov2-voc.cfg", "cfg:219: Darknet's [reorg] is not supported"},
    {"yolov2.cfg", "cfg:219: Darknet's [reorg] is not supported"},
    {"yolov3-openimages.cfg", "cfg:607: Darknet's [yolo] is not supported"},
    {"yolov3-spp.cfg", "cfg:640: Darknet's [yolo] is not supported"},
    {"yolov3-tiny.cfg", "cfg:132: Darknet's [yolo] is not supported"},
    {"yolov3-voc.cfg", "cfg:608: Darknet's [yolo] is not supported"},
    {"yolov3.cfg", "cfg:607: Darknet's [yolo] is not supported"},
};

static void test_darknets_cfgs_run_or_are_refused(void **state) {
    (void)state;
    if (!originals_are_here()) skip();
    DIR *folder = opendir(ORIGINALS);
    int run = 0, turned_down = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        const char *dot = strrchr(entry->d_name, '.'), *expected = NULL;
        if (!dot || strcmp(dot, ".cfg") != 0) continue;
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
            if (strcmp(refused[i].name, entry->d_name) == 0) expected = refused[i].line;
        struct cfg *cfg;
        struct net *net;
        struct err err;
        const enum status status = load_net(ORIGINALS, entry->d_name, &cfg, &net, &err);
        if (!status == !!expected || (expected && !strstr(err.text, expected)))
            fail_msg("%s: %s", entry->d_name, status ? err.text : "is not refused");
        turned_down += expected != NULL;
        if (status) continue;
        run++;
        net_destroy(&net);
        cfg_destroy(&cfg);
    }
    closedir(folder);
    assert_int_equal(turned_down, sizeof refused / sizeof *refused);
    assert_true(run >= 20);
}

int main(int argc, char **argv) {
    family_reuse_memory();
    struct CMUnitTest tests[NFAMILY + 2] = {
        cmocka_unit_test(test_layers_are_darknets),
        cmocka_unit_test(test_darknets_cfgs_run_or_are_refused),
    };
    for (int i = 0; i < NFAMILY; i++) {
        const bool named = argc == 4 && strcmp(argv[2], family[i]) == 0;
        if (named && strcmp(argv[1], "--export") == 0) export(family[i], argv[3]);
        if (named && strcmp(argv[1], "--golden") == 0) print_golden(family[i], argv[3]);
        if (argc == 2 && strcmp(argv[1], "--names") == 0) printf("%s\n", family[i]);
        tests[i + 2] = (struct CMUnitTest){family[i], test_outputs, NULL, NULL, (void *)family[i]};
    }
    return argc > 1 ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
}
