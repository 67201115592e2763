/* cfg: Darknet's syntax, line numbers, nearest names. */
#include "common/cfg.h"
#include "common/net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct cfg *parse(const char *text) {
    struct cfg *cfg = NULL;
    struct err err = {0};
    if (cfg_parse(&cfg, "t.cfg", text, strlen(text), &err)) fail_msg("%s", err.text);
    return cfg;
}

static void reads_as_darknet(void **state) {
    (void)state;
    struct cfg *cfg = parse("# comment\n[net]\n width = 32 \r\nheight=16 # rows\n; other\n\n[conv]\nfilters=1 6\nkey=#a#b\n");
    assert_int_equal(cfg->nsections, 2);
    assert_string_equal(cfg->sections[0].name, "net");
    assert_int_equal(cfg->sections[0].line, 2);
    assert_string_equal(cfg_string(&cfg->sections[0], "width", ""), "32");
    assert_string_equal(cfg_string(&cfg->sections[0], "height", ""), "16");
    assert_int_equal(cfg_option(&cfg->sections[0], "height")->line, 4);
    assert_string_equal(cfg_string(&cfg->sections[1], "filters", ""), "16");
    assert_string_equal(cfg_string(&cfg->sections[1], "key", ""), "#a#b");
    assert_null(cfg_find(cfg, "convolutional"));
    cfg_destroy(&cfg);
    assert_null(cfg);
}

static void flat_files_keep_inner_blanks(void **state) {
    (void)state;
    struct cfg *cfg = parse("classes = 10\ntrain  = my data/train.list\n");
    assert_int_equal(cfg->nsections, 1);
    assert_string_equal(cfg_string(&cfg->sections[0], "train", ""), "my data/train.list");
    cfg_destroy(&cfg);
}

static void refuses(const char *text, const char *message) {
    struct cfg *cfg = NULL;
    struct err err = {0};
    enum status status = cfg_parse(&cfg, "t.cfg", text, strlen(text), &err);
    if (!status) status = cfg_check(cfg, net_schemas, &err);
    assert_int_equal(status, STATUS_FORMAT);
    if (!strstr(err.text, message)) fail_msg("'%s' lacks '%s'", err.text, message);
    cfg_destroy(&cfg);
}

static void names_file_line_and_nearest(void **state) {
    (void)state;
    refuses("[net]\nwidth\n", "t.cfg:2: an option is written key=value");
    refuses("[net\nwidth=3\n", "t.cfg:1: a section is written [name]");
    refuses("[net]\n=3\n", "t.cfg:2: there is no name");
    refuses("[net]\nwidht=3\n", "t.cfg:2: unknown option 'widht' in [net]");
    refuses("[net]\n[convolutonal]\n", "t.cfg:2: unknown section [convolutonal]");
    refuses("width=3\n[net]\n", "t.cfg:1: option before the first [section]");
    struct err err = {0};
    struct cfg *cfg = parse("[convolutional]\nfliters=3\n");
    assert_int_equal(cfg_check(cfg, net_schemas, &err), STATUS_FORMAT);
    assert_string_equal(err.hint, "did you mean 'filters'?");
    cfg_destroy(&cfg);
}

static void first_of_two_counts(void **state) {
    (void)state;
    struct err err = {0};
    struct cfg *cfg = parse("[net]\nbatch=4\nbatch=4\n");
    assert_int_equal(cfg_check(cfg, net_schemas, &err), STATUS_OK);
    int batch = 0;
    assert_int_equal(cfg_int(cfg, &cfg->sections[0], "batch", 1, 10, &batch, &err), STATUS_OK);
    assert_int_equal(batch, 4);
    cfg_destroy(&cfg);
}

static void numbers_are_checked(void **state) {
    (void)state;
    struct err err = {0};
    struct cfg *cfg = parse("[net]\na=12x\nb=99\nc=nan\nd=1,2,3\ne=1,,3\nf=1e-3\ng=99999999999999999999\n");
    const struct cfg_section *net = &cfg->sections[0];
    int i = -5, *list, n;
    float f = -5;
    assert_int_equal(cfg_int(cfg, net, "a", 0, 50, &i, &err), STATUS_FORMAT);
    assert_int_equal(cfg_int(cfg, net, "b", 0, 50, &i, &err), STATUS_FORMAT);
    assert_int_equal(cfg_int(cfg, net, "g", 0, INT32_MAX, &i, &err), STATUS_FORMAT);
    assert_int_equal(cfg_int(cfg, net, "none", 0, 50, &i, &err), STATUS_OK);
    assert_int_equal(i, -5);
    assert_int_equal(cfg_float(cfg, net, "c", -1, 1, &f, &err), STATUS_FORMAT);
    assert_int_equal(cfg_float(cfg, net, "f", -1, 1, &f, &err), STATUS_OK);
    assert_float_equal(f, 1e-3f, 0);
    assert_int_equal(cfg_ints(cfg, net, "d", &list, &n, &err), STATUS_OK);
    assert_int_equal(n, 3);
    assert_int_equal(list[2], 3);
    free(list);
    assert_int_equal(cfg_ints(cfg, net, "e", &list, &n, &err), STATUS_FORMAT);
    cfg_destroy(&cfg);
}

static void refuses_what_is_no_text(void **state) {
    (void)state;
    struct cfg *cfg = NULL;
    struct err err = {0};
    assert_int_equal(cfg_parse(&cfg, "x", "[net]\0\n", 7, &err), STATUS_FORMAT);
    assert_int_equal(cfg_load(&cfg, "/nonexistent/net.cfg", &err), STATUS_IO);
    assert_int_equal(cfg_load(&cfg, "/", &err), STATUS_IO);
    assert_null(cfg);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_as_darknet),          cmocka_unit_test(flat_files_keep_inner_blanks),
        cmocka_unit_test(names_file_line_and_nearest), cmocka_unit_test(first_of_two_counts),
        cmocka_unit_test(numbers_are_checked),       cmocka_unit_test(refuses_what_is_no_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
