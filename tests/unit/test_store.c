#include "deploy/store.h"

#include "common/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];
static struct store *store;
static uint8_t content[10000];
static char hash[65];

static int setup(void **unused) {
    strcpy(folder, "/tmp/espalier-store-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    for (size_t i = 0; i < sizeof content; i++) content[i] = (uint8_t)(i * 7);
    model_hash(content, sizeof content, hash);
    return store_create(&store, folder, NULL);
}
static int teardown(void **unused) {
    char command[128];
    store_destroy(&store);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static int entries(void) {
    char command[128];
    snprintf(command, sizeof command, "exit $(ls %s | wc -l)", folder);
    return WEXITSTATUS(system(command));
}

static void fetch(void) {
    assert_int_equal(store_begin(store, hash, sizeof content, NULL), STATUS_OK);
    for (size_t at = 0; at < sizeof content; at += 4000) {
        size_t length = sizeof content - at < 4000 ? sizeof content - at : 4000;
        assert_int_equal(store_append(store, at, content + at, length, NULL), STATUS_OK);
        assert_true(store_received(store) == at + length);
    }
}

static void what_is_stored_is_found(void **unused) {
    char path[256];
    assert_int_equal(store_path(store, hash, ".safetensors", path, sizeof path, NULL), STATUS_OK);
    assert_false(store_check(path, hash));
    fetch();
    assert_int_equal(store_commit(store, NULL), STATUS_OK);
    assert_true(store_check(path, hash));
    FILE *f = fopen(path, "r+b");
    fseek(f, 5000, SEEK_SET);
    fputc(0, f);
    fclose(f);
    assert_false(store_check(path, hash));
    fetch(); /* and put in its place */
    assert_int_equal(store_commit(store, NULL), STATUS_OK);
    assert_true(store_check(path, hash));
}

static void wrong_bytes_leave_nothing(void **unused) {
    struct err err;
    content[77] ^= 1;
    fetch();
    assert_int_equal(store_commit(store, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "not what was announced"));
    assert_int_equal(entries(), 0);
    assert_int_equal(store_begin(store, hash, 100, &err), STATUS_OK);
    assert_int_equal(store_append(store, 10, content, 10, &err), STATUS_FORMAT); /* a gap */
    assert_int_equal(store_append(store, 0, content, 101, &err), STATUS_FORMAT); /* too long */
    store_abort(store);
    assert_int_equal(entries(), 0);
    assert_int_equal(store_begin(store, hash, 0, &err), STATUS_LIMIT);
    assert_int_equal(store_begin(store, hash, UINT64_MAX, &err), STATUS_LIMIT);
}

static void left_overs_of_the_dead_go(void **unused) {
    char name[256];
    pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, NULL, 0);
    snprintf(name, sizeof name, "%s/%s.%d.part", folder, hash, (int)child);
    fclose(fopen(name, "w"));
    snprintf(name, sizeof name, "%s/%s.%d.part", folder, hash, (int)getppid()); /* of the living */
    fclose(fopen(name, "w"));
    struct store *second = NULL;
    assert_int_equal(store_create(&second, folder, NULL), STATUS_OK);
    store_destroy(&second);
    assert_int_equal(entries(), 1);
    assert_int_equal(access(name, F_OK), 0);
    struct err err;
    assert_int_equal(store_create(&second, "/proc/nowhere", &err), STATUS_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_stored_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_bytes_leave_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(left_overs_of_the_dead_go, setup, teardown),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
