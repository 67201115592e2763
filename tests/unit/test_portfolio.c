/* A portfolio gives back the models that it was made of; a damaged one is
 * refused; the runtime's variants compute what their models compute. */
#include "common/portfolio.h"
#include "deploy/variants.h"
#include "tests/nets.h"
#include "tests/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { VARIANTS = 3 };

struct fixture {
    char folder[64], path[80];
    struct portfolio portfolio;
    struct model *models[VARIANTS];
};

static void must(enum status status, const struct err *err) {
    if (status) fail_msg("%s", err->text);
}

static void open_fixture(struct fixture *f) {
    struct err err;
    *f = (struct fixture){.folder = "/tmp/portfolioXXXXXX"};
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/p", f->folder);
    for (int i = 0; i < VARIANTS; i++) {
        struct portfolio_variant *v = &f->portfolio.variants[i];
        must(reference_model(&f->models[i], nets[i].cfg, 7 + (uint64_t)i, &err), &err);
        snprintf(v->name, sizeof v->name, "%s", i ? i == 1 ? "0.5" : "0.9" : "dense");
        v->sparsity = i * .4;
        v->parameters = 1000 - i;
        v->multiply_adds = 1e6 / (i + 1);
        v->accuracy = i == 2 ? -1 : .5 + .1 * i;
    }
    f->portfolio.nvariants = VARIANTS;
    must(portfolio_write(&f->portfolio, f->models, f->path, &err), &err);
}

static void close_fixture(struct fixture *f) {
    char command[100];
    for (int i = 0; i < VARIANTS; i++) model_destroy(&f->models[i]);
    snprintf(command, sizeof command, "rm -r %s", f->folder);
    assert_int_equal(system(command), 0);
}

static void test_round_trip(void **state) {
    struct fixture f;
    struct portfolio p;
    struct err err;
    open_fixture(&f);
    assert_true(portfolio_is(f.path));
    must(portfolio_read(&p, f.path, &err), &err);
    assert_int_equal(p.nvariants, VARIANTS);
    for (int i = 0; i < VARIANTS; i++) {
        const struct portfolio_variant *a = &f.portfolio.variants[i], *b = &p.variants[i];
        assert_string_equal(a->name, b->name);
        assert_true(a->sparsity == b->sparsity && a->parameters == b->parameters &&
                    a->multiply_adds == b->multiply_adds && a->accuracy == b->accuracy);
        struct model *model;
        uint8_t *bytes;
        size_t length;
        must(portfolio_load(&model, f.path, a->name, 0, &err), &err);
        must(model_serialize(f.models[i], &bytes, &length, &err), &err);
        assert_int_equal(length, b->bytes);
        assert_int_equal(model->file->length, length);
        assert_memory_equal(model->file->bytes, bytes, length);
        free(bytes);
        model_destroy(&model);
    }
    struct model *first;
    must(portfolio_load(&first, f.path, NULL, 0, &err), &err);
    assert_int_equal(first->net->nlayers, f.models[0]->net->nlayers);
    model_destroy(&first);
    int index = -1;
    must(portfolio_find(&p, "2", &index, &err), &err);
    assert_int_equal(index, 2);
    assert_int_equal(portfolio_find(&p, "3", &index, &err), STATUS_USAGE);
    assert_int_equal(portfolio_load(&first, f.path, "0.7", 0, &err), STATUS_USAGE);
    assert_non_null(strstr(err.hint, "0.5, 0.9"));
    close_fixture(&f);
}

/* A model file goes through, too, but has no variants. */
static void test_model_file(void **state) {
    struct fixture f;
    struct model *model;
    struct err err;
    open_fixture(&f);
    must(model_save(f.models[1], f.path, &err), &err);
    assert_false(portfolio_is(f.path));
    must(portfolio_load(&model, f.path, NULL, 0, &err), &err);
    model_destroy(&model);
    assert_int_equal(portfolio_load(&model, f.path, "0.5", 0, &err), STATUS_USAGE);
    struct portfolio p;
    assert_int_equal(portfolio_read(&p, f.path, &err), STATUS_FORMAT);
    close_fixture(&f);
}

static const char *const lists[] = {
    "", "{}", "[]", "[1]", "[{\"name\":\"a\",\"bytes\":9,\"sparsity\":0,\"parameters\":1,\"multiply_adds\":1}]",
    "[{\"name\":\"a\",\"bytes\":64,\"sparsity\":2,\"parameters\":1,\"multiply_adds\":1}]",
    "[{\"name\":\"a\",\"bytes\":64,\"sparsity\":0,\"parameters\":-1,\"multiply_adds\":1}]",
    "[{\"name\":\"a\",\"bytes\":64,\"sparsity\":0,\"parameters\":1,\"multiply_adds\":1,\"accuracy\":2}]",
    "[{\"name\":\"\",\"bytes\":8,\"sparsity\":0,\"parameters\":1,\"multiply_adds\":1}]",
    "[{\"name\":\"a name longer than thirty-one letters\",\"bytes\":8,\"sparsity\":0,\"parameters\":1,\"multiply_adds\":1}]",
    "[{\"name\":\"a\",\"bytes\":8,\"sparsity\":0,\"parameters\":1,\"multiply_adds\":1},"
    "{\"name\":\"b\",\"bytes\":8,\"sparsity\":0,\"parameters\":1,\"multiply_adds\":1}]",
};

static void test_bad_lists(void **state) {
    const uint8_t data[8] = {0};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const struct safetensors_tensor t = {.name = "variant.0", .dtype = "U8", .ndims = 1, .shape = {8}, .data = data, .size = 8};
        const struct safetensors_pair pairs[] = {{"format", "espalier-portfolio"}, {"version", "1"}, {"variants", lists[i]}};
        struct safetensors *file;
        struct portfolio p;
        struct err err;
        uint8_t *bytes;
        size_t length;
        must(safetensors_serialize(&t, 1, pairs, 3, &bytes, &length, &err), &err);
        must(safetensors_parse(&file, "bad", bytes, length, &err), &err);
        if (portfolio_parse(&p, file, &err) != STATUS_FORMAT) fail_msg("taken: %s", lists[i]);
        safetensors_close(&file);
        free(bytes);
    }
}

/* A byte changed in a variant is found when that variant is loaded, and only then. */
static void test_damage(void **state) {
    struct fixture f;
    struct portfolio p;
    struct model *model;
    struct err err;
    open_fixture(&f);
    must(portfolio_read(&p, f.path, &err), &err);
    FILE *file = fopen(f.path, "r+b");
    assert_non_null(file);
    fseek(file, (long)(p.variants[1].offset + p.variants[1].bytes - 5), SEEK_SET);
    int byte = fgetc(file);
    fseek(file, -1, SEEK_CUR);
    fputc(byte ^ 1, file);
    fclose(file);
    assert_int_equal(portfolio_load(&model, f.path, "1", 0, &err), STATUS_FORMAT);
    must(portfolio_load(&model, f.path, "2", 0, &err), &err);
    model_destroy(&model);
    assert_int_equal(truncate(f.path, (off_t)(p.variants[2].offset + 100)), 0);
    assert_int_equal(portfolio_load(&model, f.path, "2", 0, &err), STATUS_FORMAT);
    close_fixture(&f);
}

static void expect_outputs(const struct fixture *f, struct variants *v, const float *input) {
    float got[64], expected[64];
    for (int k = 0; k < 3 * VARIANTS; k++) {
        int i = k * 2 % VARIANTS;
        struct err err;
        struct engine *alone;
        struct engine_config config = engine_defaults();
        must(engine_create(&alone, f->models[i], &config, &err), &err);
        engine_run(alone, input, expected);
        variants_use(v, i);
        engine_run(variants_engine(v), input, got);
        if (k % 2) variants_settle(v);
        assert_memory_equal(got, expected, engine_output_max(alone) * sizeof *got);
        engine_destroy(&alone);
    }
}

/* In memory and from mapped files, the same outputs bit for bit, through any switches. */
static void test_variants(void **state) {
    struct fixture f;
    struct variants *v;
    struct err err;
    float input[3 * 16 * 16];
    struct random random = random_stream(5, 0, 0);
    open_fixture(&f);
    for (size_t i = 0; i < sizeof input / sizeof *input; i++) input[i] = (float)random_uniform(&random);
    for (int cached = 0; cached < 3; cached++) { /* no cache; one that is made; one that is there */
        const struct variants_config config = {.path = f.path, .cache = cached ? f.folder : NULL};
        must(variants_open(&v, &config, &err), &err);
        for (int i = 0; i < VARIANTS; i++) assert_int_equal(engine_mapped(v->engines[i]), cached > 0);
        expect_outputs(&f, v, input);
        variants_close(&v);
    }
    close_fixture(&f);
}

/* Resident pages of this process that no file backs, in bytes. */
static double anonymous_bytes(void) {
    long resident = 0, shared = 0;
    FILE *in = fopen("/proc/self/statm", "re");
    assert_non_null(in);
    assert_int_equal(fscanf(in, "%*d %ld %ld", &resident, &shared), 2);
    fclose(in);
    return (double)(resident - shared) * (double)sysconf(_SC_PAGESIZE);
}

/* Packing for the first time leaves no weights in memory: with a cache only mapped files hold them. */
static void test_memory(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("SKIP: a sanitizer's allocator keeps memory that was freed\n");
    skip();
#endif
    struct fixture f;
    struct variants *v;
    struct err err;
    double weights = 0;
    open_fixture(&f);
    for (int i = 0; i < VARIANTS; i++) {
        char cfg[600];
        const int n = 1000 - 300 * i; /* connected layers of up to 3 MB, larger than what the allocator maps at first */
        snprintf(cfg, sizeof cfg,
                 NET(16) "[connected]\noutput=%d\nactivation=relu\n[connected]\noutput=%d\nactivation=relu\n"
                         "[connected]\noutput=10\nactivation=linear\n[softmax]\n", n, n / 2);
        model_destroy(&f.models[i]);
        must(reference_model(&f.models[i], cfg, 7, &err), &err);
        weights += n * (3 * 16 * 16 + n / 2 + 5) * 4.;
    }
    must(portfolio_write(&f.portfolio, f.models, f.path, &err), &err);
    for (int made = 1; made >= 0; made--) {
        const double before = anonymous_bytes();
        const struct variants_config config = {.path = f.path, .cache = f.folder};
        must(variants_open(&v, &config, &err), &err);
        const double held = anonymous_bytes() - before;
        if (held > weights / 10) fail_msg("%.0f kB held for %.0f kB of mapped weights", held / 1e3, weights / 1e3);
        variants_close(&v);
    }
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_model_file), cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_damage),     cmocka_unit_test(test_variants),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
