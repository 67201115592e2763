/* Debian's darknet as the oracle. For every case there are, in
 * tests/golden/darknet, the cfg and .weights that we export and what Darknet put
 * out for them (made by make_darknet). Checked here:
 * - the export is still what Darknet ran, byte for byte;
 * - that cfg and those weights, imported, give Darknet's outputs, layer by layer
 *   in the cases named layers-*;
 * - a pruned or sliced model gives the outputs that the whole one gives at that plan.
 *
 * test_darknet --export DIR writes cfg, weights and input of every case. */
#include "common/darknet.h"
#include "common/file.h"
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
#include <unistd.h>

#include <cmocka.h>

#define FOLDER "tests/golden/darknet"
#define PLAIN(w, h, c) "[net]\nwidth=" #w "\nheight=" #h "\nchannels=" #c "\n"
#define BIASED(filters, size, options) "[convolutional]\nfilters=" #filters "\nsize=" #size "\n" options
#define POOL(size, stride) "[maxpool]\nsize=" #size "\nstride=" #stride "\n"
#define ACT(name) BIASED(3, 1, "activation=" #name "\n")

enum kind { LAYERS, PRUNED, SLICED };

struct golden {
    const char *name;
    enum kind kind;
    const char *cfg;
    int levels[12];  /* PRUNED, SLICED: by block, repeating from the first */
    int first, last; /* SLICED: blocks */
    int minor;       /* of the .weights header, if not 2 */
    bool normalised; /* the input has a mean and a deviation */
};

static const struct golden cases[] = {
    {.name = "layers-convolutional", .kind = LAYERS, .cfg =
     PLAIN(9, 7, 4) BIASED(4, 3, "pad=1\nstride=1\nactivation=leaky\n") BIASED(6, 5, "padding=1\nstride=2\nactivation=linear\n")
         BIASED(6, 3, "pad=1\ngroups=6\nactivation=relu\n") BIASED(8, 2, "stride=1\ngroups=2\npad=1\nactivation=linear\n")
             BIASED(4, 1, "pad=1\nstride=2\nactivation=linear\n")},
    {.name = "layers-activations", .kind = LAYERS, .cfg =
     PLAIN(5, 4, 3) ACT(linear) ACT(relu) ACT(leaky) ACT(logistic) ACT(loggy) ACT(tanh) ACT(elu) ACT(selu) ACT(relie) ACT(ramp)
         ACT(hardtan) ACT(lhtan) ACT(plse)},
    {.name = "layers-batchnorm", .kind = LAYERS, .cfg =
     PLAIN(6, 5, 3) CONV(6, 3, 1, leaky) CONV(6, 3, 2, linear) "groups=3\n[batchnorm]\n"
                    "[connected]\noutput=7\nbatch_normalize=1\nactivation=leaky\n[connected]\noutput=5\nactivation=relu\n"},
    {.name = "layers-maxpool", .kind = LAYERS, .cfg =
     PLAIN(11, 8, 2) POOL(2, 1) POOL(2, 2) "[route]\nlayers=0\n" POOL(3, 2) "[route]\nlayers=0\n" POOL(3, 1) "padding=1\n"
                     "[route]\nlayers=0\n" POOL(3, 3) "padding=0\n[route]\nlayers=0\n" POOL(1, 2) "[route]\nlayers=0\n" POOL(5, 1)
                         "padding=4\n[route]\nlayers=0\n[maxpool]\nstride=2\n"},
    {.name = "layers-shortcut", .kind = LAYERS, .cfg =
     PLAIN(8, 8, 3) BIASED(4, 3, "pad=1\nactivation=linear\n") BIASED(4, 3, "pad=1\nactivation=linear\n") SUM(-2, leaky)
         BIASED(6, 3, "pad=1\nactivation=linear\n") SUM(-2, linear) BIASED(3, 1, "activation=linear\n") SUM(-2, relu)
             BIASED(5, 3, "pad=1\nstride=2\nactivation=linear\n") SUM(-4, linear) "alpha=.5\nbeta=3\n"
                 BIASED(2, 3, "pad=1\nstride=2\nactivation=linear\n") SUM(-2, linear) "[route]\nlayers=0\n" SUM(8, leaky)
                     "beta=.25\n[route]\nlayers=1\n" SUM(2, linear) "alpha=2\nbeta=.25\n"},
    {.name = "layers-route", .kind = LAYERS, .cfg =
     PLAIN(6, 6, 3) BIASED(2, 1, "activation=linear\n") BIASED(3, 3, "pad=1\nactivation=leaky\n") "[route]\nlayers=-1,0\n"
         BIASED(4, 1, "activation=linear\n") "[route]\nlayers=1\n[route]\nlayers=-1,-2,-4\n" BIASED(2, 1, "activation=relu\n")},
    {.name = "layers-classifier", .kind = LAYERS, .cfg =
     PLAIN(10, 9, 3) "[crop]\ncrop_height=6\ncrop_width=7\n" BIASED(6, 3, "pad=1\nactivation=leaky\n") "[dropout]\nprobability=.5\n"
                     "[avgpool]\n[connected]\noutput=6\nactivation=linear\n[softmax]\ngroups=2\ntemperature=2\n[cost]\ntype=sse\n"},
    {.name = "layers-crop", .kind = LAYERS, .cfg =
     PLAIN(7, 7, 3) "[crop]\ncrop_height=4\ncrop_width=5\nnoadjust=1\n" BIASED(2, 1, "activation=linear\n")},
    {.name = "layers-old-header", .kind = LAYERS, .minor = 1001,
     .cfg = PLAIN(3, 2, 2) "[connected]\noutput=5\nactivation=linear\n[connected]\noutput=3\nbatch_normalize=1\nactivation=leaky\n"},
    {.name = "normalised", .kind = PRUNED, .normalised = true, .levels = {0},
     .cfg = NET(8) CONV(8, 3, 1, relu) CONV(8, 3, 1, linear) SUM(0, relu) HEAD},
    {.name = "pruned-residual-uniform", .kind = PRUNED, .levels = {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {.name = "pruned-residual-rising", .kind = PRUNED, .levels = {0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3}},
    {.name = "pruned-residual-falling", .kind = PRUNED, .levels = {3, 3, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0}},
    {.name = "pruned-projections", .kind = PRUNED, .levels = {3, 0, 2, 1, 0, 3, 1, 2, 0, 0, 0, 0}},
    {.name = "pruned-grouped", .kind = PRUNED, .levels = {1, 3, 0, 2, 1, 3, 0, 2, 1, 3, 0, 2}},
    {.name = "pruned-depthwise", .kind = PRUNED, .levels = {2, 0, 3, 1, 0, 2, 3, 1, 0, 2, 3, 1}},
    {.name = "pruned-concatenation", .kind = PRUNED, .levels = {3, 1, 0, 2, 1, 3, 0, 2, 1, 3, 0, 2}},
    {.name = "pruned-connected", .kind = PRUNED, .levels = {1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0}},
    {.name = "sliced-residual-0", .kind = SLICED, .first = 0, .last = 1},
    {.name = "sliced-residual-1", .kind = SLICED, .first = 2, .last = 4},
    {.name = "sliced-concatenation", .kind = SLICED, .first = 1, .last = 2},
};
enum { NCASES = sizeof cases / sizeof *cases };
/* The network of a case that names none. */
static const char *net_of(const struct golden *c) {
    static const char *const words[] = {"residual", "projections", "grouped", "depthwise", "concatenation", "connected"};
    for (int i = 0; i < 6; i++)
        if (!c->cfg && strstr(c->name, words[i])) return nets[i].cfg;
    return c->cfg;
}

struct fixture {
    const struct golden *golden;
    struct model *whole, *exported; /* what is exported: whole, pruned or a slice of it */
    struct reference *reference;    /* of whole, run at the plan */
    struct plan *plan;
    float *input;
    size_t ninput;
};

static void must(enum status status, const struct err *err) {
    if (status) {
        fprintf(stderr, "%s\n", err->text);
        abort();
    }
}

static struct fixture make(const struct golden *c) {
    struct fixture f = {.golden = c};
    struct err err;
    must(reference_model(&f.whole, net_of(c), 3, &err), &err);
    if (c->minor) f.whole->darknet.minor = c->minor;
    f.ninput = net_shape_size(f.whole->net->input);
    f.input = malloc(f.ninput * sizeof *f.input);
    struct random random = random_stream(4, 0, 0);
    for (size_t i = 0; i < f.ninput; i++) f.input[i] = (float)random_between(&random, -1, 1);
    must(plan_create(&f.plan, f.whole->blocks->nblocks, 0, &err), &err);
    for (int b = 0; b < f.plan->nblocks; b++) f.plan->level[b] = c->levels[b % 12];
    must(reference_create(&f.reference, f.whole, &err), &err);
    reference_run(f.reference, f.plan, f.input);
    if (c->kind == PRUNED) must(surgery_prune(f.whole, f.plan, &f.exported, &err), &err);
    if (c->kind == SLICED) must(surgery_slice(f.whole, c->first, c->last, &f.exported, &err), &err);
    if (c->kind == LAYERS) f.exported = f.whole;
    if (c->kind == SLICED) { /* fed with what enters */
        int source = f.whole->blocks->block[c->first].source;
        f.ninput = net_shape_size(net_shape_of(f.whole->net, source));
        free(f.input);
        f.input = malloc(f.ninput * sizeof *f.input);
        memcpy(f.input, f.reference->values[source + 1], f.ninput * sizeof *f.input);
    }
    if (c->normalised) { /* Darknet gets the image, we what preprocessing makes of it */
        struct image_preproc *p = &f.exported->preproc;
        size_t plane = f.ninput / (size_t)p->c;
        for (int k = 0; k < p->c; k++) {
            p->mean[k] = 0.4f + 0.05f * (float)k;
            p->std[k] = 0.25f;
            for (size_t i = 0; i < plane; i++) {
                float *x = &f.input[(size_t)k * plane + i];
                *x = *x * p->std[k] + p->mean[k];
            }
        }
    }
    return f;
}

static void free_fixture(struct fixture *f) {
    if (f->exported != f->whole) model_destroy(&f->exported);
    reference_destroy(&f->reference);
    plan_destroy(&f->plan);
    model_destroy(&f->whole);
    free(f->input);
}

static void write_file(const char *folder, const char *name, const char *suffix, const void *bytes, size_t length) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, suffix);
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(bytes, 1, length, out) != length || fclose(out)) abort();
}

static void export(const struct fixture *f, const char *folder) {
    char *text, path[512];
    struct err err;
    snprintf(path, sizeof path, "%s/%s.weights", folder, f->golden->name);
    must(darknet_cfg(f->exported, &text, &err), &err);
    must(darknet_write(f->exported, path, &err), &err);
    write_file(folder, f->golden->name, "cfg", text, strlen(text));
    write_file(folder, f->golden->name, "input", f->input, f->ninput * sizeof *f->input);
    free(text);
}

static uint8_t *read_golden(const char *folder, const char *name, const char *suffix, size_t *length) {
    char path[512];
    uint8_t *bytes;
    struct err err;
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, suffix);
    if (file_read(path, 1 << 24, &bytes, length, &err)) fail_msg("%s", err.text);
    return bytes;
}

static void test_export_is_what_darknet_ran(void **state) {
    char folder[] = "/tmp/espalier-golden-XXXXXX", path[512];
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < NCASES; i++) {
        struct fixture f = make(&cases[i]);
        export(&f, folder);
        static const char *const suffixes[] = {"cfg", "weights"};
        for (int s = 0; s < 2; s++) {
            size_t a, b;
            uint8_t *now = read_golden(folder, cases[i].name, suffixes[s], &a);
            uint8_t *then = read_golden(FOLDER, cases[i].name, suffixes[s], &b);
            if (a != b || memcmp(now, then, a) != 0)
                fail_msg("%s.%s is no longer what Darknet ran; see make_darknet", cases[i].name, suffixes[s]);
            free(now);
            free(then);
        }
        free_fixture(&f);
        static const char *const written[] = {"cfg", "weights", "input"};
        for (int s = 0; s < 3; s++) {
            snprintf(path, sizeof path, "%s/%s.%s", folder, cases[i].name, written[s]);
            unlink(path);
        }
    }
    rmdir(folder);
}

static struct model *import(const char *name) {
    char path[512];
    struct cfg *cfg;
    struct model *model;
    struct err err;
    snprintf(path, sizeof path, FOLDER "/%s.cfg", name);
    must(cfg_load(&cfg, path, &err), &err);
    must(model_create(&model, cfg, 1, &err), &err);
    snprintf(path, sizeof path, FOLDER "/%s.weights", name);
    must(darknet_read(model, path, &err), &err);
    return model;
}

static int last_layer(const struct net *net) {
    int last = net->nlayers - 1;
    while (net->layers[last].kind == NET_COST) last--;
    return last;
}

/* Imported, by the engine and by the naive loops. */
static void test_import_gives_darknets_outputs(void **state) {
    for (int i = 0; i < NCASES; i++) {
        struct fixture f = make(&cases[i]);
        struct model *model = import(cases[i].name);
        struct engine *engine;
        struct reference *reference;
        struct plan *plan;
        struct err err;
        struct engine_config config = engine_defaults();
        config.keep = true;
        must(engine_create(&engine, model, &config, &err), &err);
        must(reference_create(&reference, model, &err), &err);
        must(plan_create(&plan, model->blocks->nblocks, 0, &err), &err);
        float *out = malloc((engine_output_max(engine) + 1) * sizeof *out);
        engine_run(engine, f.input, out);
        reference_run(reference, plan, f.input);
        size_t length, at = 0;
        uint8_t *bytes = read_golden(FOLDER, cases[i].name, "output", &length);
        int last = last_layer(model->net);
        for (int l = cases[i].kind == LAYERS ? 0 : last; l <= last; l++) {
            size_t n = net_shape_size(net_shape_of(model->net, l));
            const float *expected = (const float *)(bytes + at);
            at += n * sizeof *expected;
            assert_true(at <= length);
            double worst;
            if (!reference_agrees(reference->values[l + 1], expected, n, &worst))
                fail_msg("%s: layer %d by naive loops is off Darknet's by %g", cases[i].name, l, worst);
            float *got = malloc(n * sizeof *got);
            int channels;
            must(engine_activation(engine, l, got, &channels, &err), &err);
            if (!reference_agrees(got, expected, n, &worst))
                fail_msg("%s: layer %d in the engine is off Darknet's by %g", cases[i].name, l, worst);
            free(got);
        }
        assert_int_equal(at, length);
        free(bytes);
        free(out);
        plan_destroy(&plan);
        reference_destroy(&reference);
        engine_destroy(&engine);
        model_destroy(&model);
        free_fixture(&f);
    }
}

/* The whole model at the plan gives what Darknet gives for the part. */
static void test_parts_match_the_whole(void **state) {
    for (int i = 0; i < NCASES; i++) {
        if (cases[i].kind == LAYERS) continue;
        struct fixture f = make(&cases[i]);
        int last = cases[i].kind == SLICED ? f.whole->blocks->block[cases[i].last].last : last_layer(f.whole->net);
        size_t length, room = net_shape_size(net_shape_of(f.whole->net, last));
        uint8_t *bytes = read_golden(FOLDER, cases[i].name, "output", &length);
        float *got = malloc(room * sizeof *got);
        size_t n = reference_compact(f.reference, last, got);
        double worst;
        assert_int_equal(n * sizeof *got, length);
        if (!reference_agrees(got, (const float *)bytes, n, &worst))
            fail_msg("%s: the whole model is off Darknet's part by %g", cases[i].name, worst);
        free(got);
        free(bytes);
        free_fixture(&f);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--export") == 0) {
        for (int i = 0; i < NCASES; i++) {
            struct fixture f = make(&cases[i]);
            export(&f, argv[2]);
            free_fixture(&f);
        }
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_export_is_what_darknet_ran),
        cmocka_unit_test(test_import_gives_darknets_outputs),
        cmocka_unit_test(test_parts_match_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
