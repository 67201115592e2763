#include "deploy/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

static int setup(void **unused) {
    strcpy(folder, "/tmp/espalier-keys-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}
static int teardown(void **unused) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}
static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void made_keys_load(void **unused) {
    char a[KEYS_HEX], b[KEYS_HEX], hex[KEYS_HEX];
    struct err err;
    struct keys *keys = NULL;
    if (keys_generate(folder, "pi1", a, &err)) fail_msg("%s", err.text);
    struct stat st;
    assert_int_equal(stat(in_folder("pi1.key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    if (keys_load(&keys, folder, NULL, &err)) fail_msg("%s", err.text); /* the only one */
    assert_string_equal(keys->name, "pi1");
    keys_to_hex(keys->public, hex);
    assert_string_equal(hex, a);
    keys_destroy(&keys);
    assert_int_equal(keys_generate(folder, "runner", b, &err), STATUS_OK);
    assert_string_not_equal(a, b);
    assert_int_equal(keys_load(&keys, folder, NULL, &err), STATUS_USAGE);
    assert_non_null(strstr(err.hint, "--name"));
    assert_int_equal(keys_load(&keys, folder, "runner", &err), STATUS_OK);
    assert_int_equal(keys->npeers, 2);
    uint8_t key[KEYS_BYTES];
    assert_int_equal(keys_from_hex(key, a, &err), STATUS_OK);
    assert_string_equal(keys_find(keys, key)->name, "pi1");
    assert_ptr_equal(keys_named(keys, "pi1"), keys_find(keys, key));
    key[5] ^= 1;
    assert_null(keys_find(keys, key));
    assert_null(keys_named(keys, "pi2"));
    keys_destroy(&keys);
}

static void nothing_is_overwritten(void **unused) {
    char hex[KEYS_HEX];
    struct err err;
    assert_int_equal(keys_generate(folder, "a", hex, &err), STATUS_OK);
    assert_int_equal(keys_generate(folder, "a", hex, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "exists already"));
    unlink(in_folder("a.key"));
    assert_int_equal(keys_generate(folder, "a", hex, &err), STATUS_IO); /* a.pub is still there */
    assert_int_equal(access(in_folder("a.key"), F_OK), -1);
    assert_int_equal(keys_generate(folder, "../b", hex, &err), STATUS_USAGE);
    assert_int_equal(keys_generate(folder, "", hex, &err), STATUS_USAGE);
}

static void bad_files_are_named(void **unused) {
    char hex[KEYS_HEX];
    struct err err;
    struct keys *keys = NULL;
    assert_int_equal(keys_load(&keys, folder, NULL, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "no .key file"));
    assert_int_equal(keys_generate(folder, "a", hex, &err), STATUS_OK);
    chmod(in_folder("a.key"), 0640);
    assert_int_equal(keys_load(&keys, folder, "a", &err), STATUS_IO);
    assert_non_null(strstr(err.text, "others can read (mode 640)"));
    chmod(in_folder("a.key"), 0600);
    FILE *f = fopen(in_folder("b.pub"), "w");
    fputs("# comment\n0123\n", f);
    fclose(f);
    assert_int_equal(keys_load(&keys, folder, "a", &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "b.pub: a key has 64 digits"));
    assert_int_equal(keys_load(&keys, "/nonexistent", "a", &err), STATUS_IO);
    assert_null(keys);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(made_keys_load, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_overwritten, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_files_are_named, setup, teardown),
    };
    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
