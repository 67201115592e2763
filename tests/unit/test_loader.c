/* Batches: the same whatever the threads and the cache, in an order of each
 * epoch's own, resumable, and steady in the face of damage. */
#include "train/loader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { IMAGES = 43, SIDE = 8, VALUES = 3 * SIDE * SIDE };

static char root[64];
static struct dataset *dataset;
static const struct image_preproc preproc = {
    .c = 3, .h = SIDE, .w = SIDE, .fit = IMAGE_STRETCH, .decode = IMAGE_FAST, .std = {1, 1, 1}};
static const struct augment training = {.flip = true, .pad = 2, .aspect = 1, .saturation = 1, .exposure = 1};

static void write_image(const char *path, int number) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fprintf(file, "P6 %d %d 255\n", SIDE, SIDE);
    for (int i = 0; i < VALUES; i++) fputc(i < 3 ? number : (i * 7 + number * 13) & 255, file);
    fclose(file);
}

static int make_images(void **state) {
    strcpy(root, "/tmp/espalier_loader_XXXXXX");
    if (!mkdtemp(root)) return -1;
    for (int i = 0; i < IMAGES; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%d", root, i % 2);
        mkdir(path, 0777);
        snprintf(path, sizeof path, "%s/%d/%03d.ppm", root, i % 2, i);
        write_image(path, i);
    }
    return dataset_open(&dataset, root, DATASET_TRAIN, NULL);
}

static int remove_images(void **state) {
    char command[96];
    dataset_close(&dataset);
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static struct loader *create(bool train, int batch, int threads, size_t cache_bytes) {
    struct loader *loader;
    struct err err = {0};
    struct loader_config config = {.dataset = dataset,
                                   .preproc = preproc,
                                   .augment = train ? &training : NULL,
                                   .batch = batch,
                                   .threads = threads,
                                   .seed = 5,
                                   .cache_bytes = cache_bytes};
    if (loader_create(&loader, &config, &err) != STATUS_OK) fail_msg("%s", err.text);
    return loader;
}

static struct loader_batch next(struct loader *loader) {
    struct loader_batch batch;
    struct err err = {0};
    if (loader_next(loader, &batch, &err) != STATUS_OK) fail_msg("%s", err.text);
    return batch;
}

static void assert_same(struct loader_batch a, struct loader_batch b) {
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.labels, b.labels, (size_t)a.n * sizeof *a.labels);
    assert_memory_equal(a.samples, b.samples, (size_t)a.n * sizeof *a.samples);
    assert_memory_equal(a.input, b.input, (size_t)a.n * VALUES * sizeof *a.input);
}

static void test_threads_and_cache_change_nothing(void **state) {
    static const struct {
        int threads;
        size_t cache;
    } others[] = {{1, 0}, {3, 1 << 20}, {7, 3000}, {0, 1 << 20}};
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        struct loader *a = create(true, 10, 0, 0), *b = create(true, 10, others[k].threads, others[k].cache);
        assert_int_equal(loader_batches(a), 4);
        for (int i = 0; i < 23; i++) assert_same(next(a), next(b));
        loader_destroy(&a);
        loader_destroy(&b);
        assert_null(b);
    }
}

static void test_epochs(void **state) {
    struct loader *loader = create(true, 43, 2, 0);
    int first[IMAGES];
    for (int epoch = 0; epoch < 5; epoch++) { /* an epoch is one batch: each image once, in another order */
        struct loader_batch batch = next(loader);
        int met[IMAGES] = {0};
        for (int i = 0; i < IMAGES; i++) {
            met[batch.samples[i]]++;
            assert_int_equal(batch.labels[i], dataset->samples[batch.samples[i]].label);
        }
        for (int i = 0; i < IMAGES; i++) assert_int_equal(met[i], 1);
        if (epoch > 0) assert_memory_not_equal(first, batch.samples, sizeof first);
        memcpy(first, batch.samples, sizeof first);
    }
    loader_destroy(&loader);
}

static void test_seek(void **state) {
    struct loader *a = create(true, 6, 2, 1 << 20), *b = create(true, 6, 2, 0);
    for (int i = 0; i < 17; i++) next(a); /* 7 batches an epoch: epoch 2, batch 3 is next */
    next(b);
    assert_int_equal(loader_seek(b, 2, 3, NULL), STATUS_OK);
    for (int i = 0; i < 9; i++) assert_same(next(a), next(b));
    assert_int_equal(loader_seek(a, 0, 0, NULL), STATUS_OK);
    assert_int_equal(loader_seek(b, 0, 0, NULL), STATUS_OK);
    assert_same(next(a), next(b));
    assert_int_equal(loader_seek(b, 0, 8, NULL), STATUS_USAGE);
    loader_destroy(&a);
    loader_destroy(&b);
}

static void test_evaluation(void **state) {
    struct loader *loader = create(false, 10, 2, 0);
    assert_int_equal(loader_batches(loader), 5);
    for (int pass = 0; pass < 2; pass++) {
        int seen = 0;
        for (struct loader_batch batch; (batch = next(loader)).n > 0;) {
            for (int i = 0; i < batch.n; i++, seen++) {
                assert_int_equal(batch.samples[i], seen);
                int number = (int)(batch.input[(size_t)i * VALUES] * 255 + .5f);
                assert_int_equal(batch.labels[i], number % 2);
            }
        }
        assert_int_equal(seen, IMAGES);
        assert_int_equal(next(loader).n, 0);
        assert_int_equal(loader_seek(loader, 0, 0, NULL), STATUS_OK);
    }
    loader_destroy(&loader);
}

static int damage_some(void **state) {
    for (int i = 0; i < IMAGES; i++) {
        if (i != 0 && i != 7 && (i < 20 || i >= 31)) continue;
        assert_int_equal(truncate(dataset->samples[i].path, 0), 0);
    }
    return 0;
}

static int repair(void **state) {
    for (int i = 0; i < IMAGES; i++) write_image(dataset->samples[i].path, i < 22 ? 2 * i : 2 * (i - 22) + 1);
    return 0;
}

static void test_damage(void **state) {
    struct loader *a = create(true, 10, 0, 0), *b = create(true, 10, 4, 1 << 20), *eval = create(false, 10, 3, 0);
    for (int i = 0; i < 9; i++) {
        struct loader_batch batch = next(a);
        assert_int_equal(batch.n, 10);
        for (int k = 0; k < 10; k++) {
            int s = batch.samples[k];
            assert_true(s != 0 && s != 7 && (s < 20 || s >= 31));
        }
        assert_same(batch, next(b));
    }
    int seen = 0;
    for (struct loader_batch batch; (batch = next(eval)).n > 0; seen += batch.n)
        for (int k = 0; k < batch.n; k++) assert_int_equal(batch.labels[k], dataset->samples[batch.samples[k]].label);
    assert_int_equal(seen, IMAGES - 13);
    assert_int_equal(loader_skipped(eval), 13);
    loader_destroy(&a);
    loader_destroy(&b);
    loader_destroy(&eval);
}

static void test_all_damaged(void **state) {
    for (int i = 0; i < IMAGES; i++) assert_int_equal(truncate(dataset->samples[i].path, 5), 0);
    for (int train = 0; train < 2; train++) {
        struct loader *loader = create(train, 10, 2, 0);
        struct loader_batch batch;
        struct err err = {0};
        assert_int_equal(loader_next(loader, &batch, &err), STATUS_FORMAT);
        assert_non_null(strstr(err.text, "all 43 images are damaged"));
        loader_destroy(&loader);
    }
}

static void test_refused(void **state) {
    struct loader *loader = NULL;
    struct err err = {0};
    struct loader_config config = {.dataset = dataset, .preproc = preproc, .augment = &training, .batch = 44};
    assert_int_equal(loader_create(&loader, &config, &err), STATUS_USAGE);
    assert_non_null(strstr(err.text, "43 images, fewer than a batch of 44"));
    config.batch = 0;
    assert_int_equal(loader_create(&loader, &config, &err), STATUS_USAGE);
    config.batch = 8;
    config.preproc.std[1] = 0;
    assert_int_equal(loader_create(&loader, &config, &err), STATUS_FORMAT);
    assert_null(loader);
}

/* Raw samples: grey to three channels, and colours to grey. */
static void test_raw(void **state) {
    uint8_t grey[4] = {0, 51, 102, 255}, colours[12] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255};
    char *labels[] = {"only"};
    struct dataset_sample sample = {.bytes = grey};
    struct dataset raw = {
        .name = "raw", .nclasses = 1, .labels = labels, .n = 1, .samples = &sample, .c = 1, .h = 2, .w = 2};
    struct loader_config config = {
        .dataset = &raw, .batch = 1, .preproc = {.c = 3, .h = 2, .w = 2, .fit = IMAGE_STRETCH, .std = {1, 1, 1}}};
    struct loader *loader;
    assert_int_equal(loader_create(&loader, &config, NULL), STATUS_OK);
    struct loader_batch batch = next(loader);
    for (int i = 0; i < 12; i++) assert_true(batch.input[i] == (float)grey[i % 4] / 255.0f);
    loader_destroy(&loader);
    sample.bytes = colours;
    raw.c = 3;
    config.preproc.c = 1;
    assert_int_equal(loader_create(&loader, &config, NULL), STATUS_OK);
    batch = next(loader);
    static const int expected[4] = {76, 149, 28, 255};
    for (int i = 0; i < 4; i++) assert_int_equal((int)(batch.input[i] * 255 + .5f), expected[i]);
    loader_destroy(&loader);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_and_cache_change_nothing),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_evaluation),
        cmocka_unit_test_setup_teardown(test_damage, damage_some, repair),
        cmocka_unit_test_setup_teardown(test_all_damaged, NULL, repair),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_raw),
    };
    return cmocka_run_group_tests(tests, make_images, remove_images);
}
