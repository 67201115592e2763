/* Packed weights on disk: what comes out is what went in, and whatever is
 * stale or damaged is rebuilt rather than trusted. */
#include "common/file.h"
#include "common/log.h"
#include "common/random.h"
#include "deploy/checksum.h"
#include "deploy/engine.h"
#include "deploy/kernels/table.h"
#include "deploy/packed.h"
#include "deploy/selftest.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* ---- the checksum ---- */

static void test_any_flipped_bit_changes_the_checksum(void **state) {
    (void)state;
    enum { N = (1 << 20) + 203 };
    uint8_t *bytes = malloc(N);
    assert_non_null(bytes);
    for (int i = 0; i < N; i++) bytes[i] = (uint8_t)(i * 37 + (i >> 8));
    const uint64_t sum = checksum_of(bytes, N, NULL, false);
    struct random random = random_stream(1, 0, 0);
    for (int i = 0; i < 300; i++) {
        const int at = i < 64 ? N - 1 - i : random_below(&random, N), bit = random_below(&random, 8);
        bytes[at] ^= (uint8_t)(1 << bit);
        assert_true(checksum_of(bytes, N, NULL, false) != sum);
        bytes[at] ^= (uint8_t)(1 << bit);
    }
    assert_true(checksum_of(bytes, N - 1, NULL, false) != sum);
    assert_int_equal(checksum_of(bytes, N, NULL, false), sum);
    free(bytes);
}

static void test_threads_make_no_difference_to_the_checksum(void **state) {
    (void)state;
    enum { N = 5 << 20 };
    struct pool *pool = NULL;
    uint32_t *words = calloc(1, N + 100);
    assert_non_null(words);
    for (uint32_t i = 0; i < N / 4; i++) words[i] = i * 2654435761u;
    assert_int_equal(pool_create(&pool, 3, NULL), STATUS_OK);
    for (size_t n = N - 70; n < N + 70; n += 10)
        assert_true(checksum_of(words, n, pool, false) == checksum_of(words, n, NULL, false));
    pool_destroy(&pool);
    free(words);
}

/* ---- engines with a cache ---- */

struct fixture {
    char folder[64], model_path[96], file[400];
    struct model *model;
    float input[20 * 18 * 3], expected[SELFTEST_CLASSES];
};
static struct fixture f;

/* Clocks of file systems are coarse: what a test does within a tick is told apart by times of our own. */
static void set_modified(struct timespec when) {
    assert_int_equal(utimensat(AT_FDCWD, f.model_path, (struct timespec[]){when, when}, 0), 0);
}
static const struct timespec long_ago = {.tv_sec = 1700000000};

static void load(uint64_t seed) {
    struct err err;
    model_destroy(&f.model);
    struct model *model = NULL;
    assert_int_equal(selftest_model(&model, &err), STATUS_OK);
    selftest_fill(model, seed);
    assert_int_equal(model_save(model, f.model_path, &err), STATUS_OK);
    set_modified(long_ago);
    selftest_input(model, f.input);
    model_destroy(&model);
    if (model_load_how(&f.model, f.model_path, MODEL_UNVERIFIED, &err)) fail_msg("%s", err.text);
}

/* Creates an engine with the cache, runs it, and leaves its logits in `out`. */
static void run(const struct kernels *kernels, float out[SELFTEST_CLASSES]) {
    struct engine *engine = NULL;
    struct engine_config config = engine_defaults();
    float probs[SELFTEST_CLASSES];
    struct err err;
    config.kernels = kernels;
    config.cache = f.folder;
    if (engine_create(&engine, f.model, &config, &err)) fail_msg("%s", err.text);
    engine_run(engine, f.input, probs);
    memcpy(out, engine_logits(engine), SELFTEST_CLASSES * sizeof *out);
    engine_destroy(&engine);
}

/* The files of the cache; the last one's path in f.file. */
static int files(void) {
    int n = 0;
    DIR *dir = opendir(f.folder);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));)
        if (strstr(entry->d_name, ".packed")) {
            snprintf(f.file, sizeof f.file, "%s/%s", f.folder, entry->d_name);
            n++;
        }
    closedir(dir);
    return n;
}

static ino_t inode(void) {
    struct stat st;
    assert_int_equal(stat(f.file, &st), 0);
    return st.st_ino;
}

static int set_up(void **state) {
    (void)state;
    f = (struct fixture){0};
    strcpy(f.folder, "/tmp/espalier-packed-XXXXXX");
    if (!mkdtemp(f.folder)) return -1;
    snprintf(f.model_path, sizeof f.model_path, "%s/model.safetensors", f.folder);
    load(1);
    run(NULL, f.expected);
    return files() == 1 ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    model_destroy(&f.model);
    while (files()) unlink(f.file);
    unlink(f.model_path);
    return rmdir(f.folder);
}

static void assert_right(void) {
    float out[SELFTEST_CLASSES];
    run(NULL, out);
    assert_memory_equal(out, f.expected, sizeof out);
}

static void test_a_sound_cache_is_used(void **state) {
    (void)state;
    assert_right();
    const ino_t before = inode();
    assert_right();
    assert_int_equal(inode(), before);
    struct packed_key key = {.model = strtoull(strrchr(f.file, '/') + 1, NULL, 16),
                             .length = f.model->file->length,
                             .isa = kernels_best()->isa,
                             .last_block = f.model->blocks->nblocks - 1};
    struct packed *packed = packed_open(f.folder, &key, NULL);
    assert_non_null(packed);
    assert_null(packed_next(packed, 1)); /* no block has just one byte */
    packed_close(&packed);
}

/* Overwrites `n` bytes at `at`; from the end if negative. */
static void damage(long at, const void *bytes, size_t n) {
    FILE *file = fopen(f.file, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, n, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static void assert_rebuilt(void) {
    const ino_t before = inode();
    assert_right();
    assert_true(inode() != before); /* replaced by another file */
    const ino_t rebuilt = inode();
    assert_right();
    assert_int_equal(inode(), rebuilt);
}

static void test_flipped_bits_are_seen_wherever_they_are(void **state) {
    (void)state;
    struct stat st;
    assert_int_equal(stat(f.file, &st), 0);
    struct random random = random_stream(7, 0, 0);
    for (int i = 0; i < 60; i++) {
        const long at = i < 40 ? 3L * i : random_below(&random, (int)st.st_size);
        uint8_t *bytes;
        size_t length;
        assert_int_equal(file_read(f.file, 1 << 26, &bytes, &length, NULL), STATUS_OK);
        const uint8_t flipped = bytes[at] ^ (uint8_t)(1 << random_below(&random, 8));
        free(bytes);
        damage(at, &flipped, 1);
        assert_rebuilt();
    }
}

static void test_a_file_cut_short_or_lengthened_is_rebuilt(void **state) {
    (void)state;
    struct stat st;
    assert_int_equal(stat(f.file, &st), 0);
    const off_t lengths[] = {0, 1, 64, 200, st.st_size / 2, st.st_size - 64, st.st_size - 1, st.st_size + 64};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        assert_int_equal(truncate(f.file, lengths[i]), 0);
        assert_rebuilt();
    }
}

/* ---- a model that is not what it was ---- */

/* Overwrites two bytes of a tensor in the model's file, and says when that was. */
static void damage_model(const char *tensor, struct timespec when) {
    const struct safetensors_tensor *t = safetensors_find(f.model->file, tensor);
    assert_non_null(t);
    const long at = (const uint8_t *)t->data - f.model->file->bytes;
    FILE *file = fopen(f.model_path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fwrite("\x55\x3e", 2, 1, file), 1);
    assert_int_equal(fclose(file), 0);
    set_modified(when);
}

static void reload(void) {
    struct err err;
    model_destroy(&f.model);
    if (model_load_how(&f.model, f.model_path, MODEL_UNVERIFIED, &err)) fail_msg("%s", err.text);
}

static void assert_refused(void) {
    struct engine *engine = NULL;
    struct engine_config config = engine_defaults();
    struct err err;
    config.cache = f.folder;
    assert_int_equal(engine_create(&engine, f.model, &config, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "damaged"));
}

static void test_a_model_written_since_is_verified_again(void **state) {
    (void)state;
    struct stat packed;
    const ino_t before = inode();
    assert_int_equal(stat(f.file, &packed), 0);
    set_modified(packed.st_mtim); /* the same moment counts as since */
    reload();
    assert_right();
    assert_true(inode() != before);
    assert_int_equal(stat(f.file, &packed), 0);
    damage_model("layers.2.weight", packed.st_mtim);
    reload();
    assert_refused();
    /* As nobody but a failing disk does it: then the weights that were verified run. */
    damage_model("layers.2.weight", long_ago);
    reload();
    assert_right();
}

static void test_batch_norm_damaged_behind_the_clock_is_seen(void **state) {
    (void)state;
    damage_model("layers.0.bn.mean", long_ago);
    reload();
    assert_refused();
}

static void test_a_model_without_a_checksum_is_read_whole(void **state) {
    (void)state;
    const struct safetensors *file = f.model->file;
    struct safetensors_pair metadata[32];
    struct err err;
    int n = 0;
    for (int i = 0; i < file->nmetadata; i++)
        if (strcmp(file->metadata[i].key, "crc32") != 0) metadata[n++] = file->metadata[i];
    assert_int_equal(n, file->nmetadata - 1);
    assert_int_equal(safetensors_write(f.model_path, file->tensors, file->ntensors, metadata, n, &err), STATUS_OK);
    reload();
    assert_right();
    assert_int_equal(files(), 2);
    damage_model("layers.2.weight", long_ago);
    reload();
    float out[SELFTEST_CLASSES];
    run(NULL, out);
    assert_true(memcmp(out, f.expected, sizeof out) != 0);
    assert_int_equal(files(), 3);
}

static void test_another_model_has_its_own(void **state) {
    (void)state;
    const float *first = f.expected;
    float out[SELFTEST_CLASSES];
    load(2);
    run(NULL, out);
    assert_true(memcmp(out, first, sizeof out) != 0);
    assert_int_equal(files(), 2);
    load(1);
    run(NULL, out);
    assert_memory_equal(out, first, sizeof out);
}

static void test_a_file_under_a_wrong_name_is_not_used(void **state) {
    (void)state;
    char mine[400];
    strcpy(mine, f.file);
    load(2);
    float second[SELFTEST_CLASSES];
    run(NULL, second);
    /* The names differ in the model's key: let the second model find the first one's file. */
    DIR *dir = opendir(f.folder);
    char theirs[400] = "";
    for (const struct dirent *entry; (entry = readdir(dir));)
        if (strstr(entry->d_name, ".packed") && !strstr(mine, entry->d_name))
            snprintf(theirs, sizeof theirs, "%s/%s", f.folder, entry->d_name);
    closedir(dir);
    assert_true(theirs[0]);
    assert_int_equal(rename(mine, theirs), 0);
    float out[SELFTEST_CLASSES];
    run(NULL, out);
    assert_memory_equal(out, second, sizeof out);
}

static void test_another_instruction_set_has_its_own(void **state) {
    (void)state;
    float out[SELFTEST_CLASSES];
    run(kernels_at(0), out);
    assert_int_equal(files(), kernels_best() == kernels_at(0) ? 1 : 2);
    assert_right();
}

static void test_without_a_hit_a_damaged_model_is_refused(void **state) {
    (void)state;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    damage_model("layers.0.weight", now);
    model_destroy(&f.model);
    struct err err;
    assert_int_equal(model_load(&f.model, f.model_path, &err), STATUS_FORMAT);
    assert_int_equal(model_load_how(&f.model, f.model_path, MODEL_UNVERIFIED, &err), STATUS_OK);
    assert_refused(); /* although the cache holds the undamaged model's weights */
    struct engine *engine = NULL;
    struct engine_config config = engine_defaults();
    assert_int_equal(engine_create(&engine, f.model, &config, &err), STATUS_FORMAT);
}

static void test_a_folder_that_cannot_be_written_is_no_obstacle(void **state) {
    (void)state;
    struct engine *engine = NULL;
    struct engine_config config = engine_defaults();
    config.cache = "/proc/no-such-folder";
    assert_int_equal(engine_create(&engine, f.model, &config, NULL), STATUS_OK);
    engine_destroy(&engine);
}

int main(void) {
    log_init("test", LOG_QUIET);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_flipped_bit_changes_the_checksum),
        cmocka_unit_test(test_threads_make_no_difference_to_the_checksum),
        cmocka_unit_test_setup_teardown(test_a_sound_cache_is_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flipped_bits_are_seen_wherever_they_are, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_cut_short_or_lengthened_is_rebuilt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_model_written_since_is_verified_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_batch_norm_damaged_behind_the_clock_is_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_model_without_a_checksum_is_read_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_model_has_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_under_a_wrong_name_is_not_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_instruction_set_has_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_a_hit_a_damaged_model_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_folder_that_cannot_be_written_is_no_obstacle, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
