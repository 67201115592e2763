/* Every kind of DATA, class order, labels, held-out parts, and what is refused. */
#include "train/dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

static char root[64];

static const char *at(const char *path) {
    static char full[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(full[next], sizeof full[next], "%s/%s", root, path);
    return full[next];
}

/* Writes a file and the folders above it. */
static void put(const char *path, const void *bytes, size_t length) {
    char full[256];
    snprintf(full, sizeof full, "%s", at(path));
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = '\0';
        mkdir(full, 0777);
    }
    FILE *file = fopen(full, "wb");
    assert_non_null(file);
    if (length) assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static void put_text(const char *path, const char *text) {
    put(path, text, strlen(text));
}

static void put_gz(const char *path, const void *bytes, size_t length) {
    gzFile file = gzopen(at(path), "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)length), (int)length);
    gzclose(file);
}

static struct dataset *open_good(const char *path, enum dataset_split split) {
    struct dataset *dataset;
    struct err err = {0};
    if (dataset_open(&dataset, at(path), split, &err) != STATUS_OK) fail_msg("%s", err.text);
    return dataset;
}

static void expect_error(const char *path, enum dataset_split split, const char *text) {
    struct dataset *dataset = (struct dataset *)(void *)root;
    struct err err = {0};
    assert_int_not_equal(dataset_open(&dataset, at(path), split, &err), STATUS_OK);
    if (!strstr(err.text, text)) fail_msg("'%s', not '%s'", err.text, text);
    assert_ptr_equal(dataset, root);
}

static int make_root(void **state) {
    strcpy(root, "/tmp/espalier_dataset_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state) {
    char command[96];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static void test_folders(void **state) {
    put("tree/train/hare/2.jpg", "", 0);
    put("tree/train/hare/1.PNG", "", 0);
    put("tree/train/hare/notes.txt", "", 0);
    put("tree/train/hare/.hidden.jpg", "", 0);
    put("tree/train/fox/a.jpeg", "", 0);
    put("tree/train/badger/x.jpg", "", 0);
    put("tree/val/fox/b.jpg", "", 0);
    put("tree/test/fox/c.jpg", "", 0);
    put("tree/test/hare/d.jpg", "", 0);
    struct dataset *d = open_good("tree", DATASET_TRAIN);
    assert_int_equal(d->nclasses, 3);
    assert_string_equal(d->labels[0], "badger");
    assert_string_equal(d->labels[1], "fox");
    assert_string_equal(d->labels[2], "hare");
    assert_int_equal(d->n, 4);
    assert_false(d->unsplit);
    assert_string_equal(d->samples[2].path, at("tree/train/hare/1.PNG"));
    assert_int_equal(d->samples[2].label, 2);
    dataset_close(&d);
    assert_null(d);
    d = open_good("tree/", DATASET_VALID);
    assert_int_equal(d->n, 1);
    assert_int_equal(d->nclasses, 3);
    assert_int_equal(d->samples[0].label, 1);
    dataset_close(&d);
    d = open_good("tree", DATASET_TEST);
    assert_int_equal(d->n, 2);
    dataset_close(&d);
    d = open_good("tree/train", DATASET_VALID);
    assert_int_equal(d->n, 4);
    assert_true(d->unsplit);
    dataset_close(&d);

    expect_error("nowhere", DATASET_TRAIN, "No such file");
    mkdir(at("bare"), 0777);
    expect_error("bare", DATASET_TRAIN, "holds no class folders");
    put("strange/train/fox/1.jpg", "", 0);
    put("strange/valid/wolf/1.jpg", "", 0);
    expect_error("strange", DATASET_VALID, "'wolf' is none of the 1 classes");
    mkdir(at("strange/train/lynx"), 0777);
    expect_error("strange", DATASET_TRAIN, "class 'lynx' has no images");
    put("only/train/fox/1.jpg", "", 0);
    expect_error("only", DATASET_VALID, "no valid/");
    if (geteuid() != 0) {
        chmod(at("only/train/fox"), 0);
        expect_error("only", DATASET_TRAIN, "cannot read the folder");
        chmod(at("only/train/fox"), 0755);
    }
}

static void test_data_files(void **state) {
    put("lists/images/blackbird/1.jpg", "", 0);
    put_text("lists/labels", "bird\r\n\nblackbird\nfox\n");
    put_text("lists/names", "A bird\nA blackbird\nA fox\n");
    put_text("lists/train.list",
             "images/blackbird/1.jpg\nimages/17_fox.jpg  \n\nimages/blackbird_2.jpg\nimages/bird/fox.jpg\n");
    put_text("lists/set.data",
             "classes = 3\ntrain = train.list\nlabels = labels\nnames=names\nbackup = backup/\ntop=5\n");
    struct dataset *d = open_good("lists/set.data", DATASET_TRAIN);
    assert_int_equal(d->n, 4);
    assert_int_equal(d->nclasses, 3);
    assert_string_equal(d->labels[2], "A fox");
    assert_string_equal(d->samples[0].path, at("lists/images/blackbird/1.jpg")); /* relative to the .data file */
    static const int labels[] = {1, 2, 1, 0};
    for (int i = 0; i < 4; i++) assert_int_equal(d->samples[i].label, labels[i]);
    dataset_close(&d);

    /* Relative to the working directory first, as Darknet. */
    char was[256];
    assert_non_null(getcwd(was, sizeof was));
    assert_int_equal(chdir(at("lists")), 0);
    d = open_good("lists/set.data", DATASET_TRAIN);
    assert_string_equal(d->samples[0].path, "images/blackbird/1.jpg");
    dataset_close(&d);
    assert_int_equal(chdir(was), 0);

    expect_error("lists/set.data", DATASET_VALID, "no 'valid' in it");
    put_text("lists/valid.list", "images/wolf.jpg\n");
    put_text("lists/bad1.data", "classes = 3\nvalid = valid.list\nlabels = labels\n");
    expect_error("lists/bad1.data", DATASET_VALID, "valid.list:1: none of the 3 labels occurs in 'images/wolf.jpg'");
    put_text("lists/both.list", "images/bird.jpg\nimages/fox_and_bird.jpg\n");
    put_text("lists/bad2.data", "train = both.list\nlabels = labels\n");
    expect_error("lists/bad2.data", DATASET_TRAIN, "both.list:2: both 'bird' and 'fox' occur");
    put_text("lists/bad3.data", "train = train.list\nlables = labels\n");
    expect_error("lists/bad3.data", DATASET_TRAIN, "bad3.data:2: unknown option 'lables'");
    put_text("lists/bad4.data", "classes=5\ntrain = train.list\nlabels = labels\n");
    expect_error("lists/bad4.data", DATASET_TRAIN, "classes=5, but there are only 3 labels");
    put_text("lists/bad5.data", "train = nothing\nlabels = labels\n");
    expect_error("lists/bad5.data", DATASET_TRAIN, "cannot open");
    put_text("lists/bad6.data", "train = train.list\n");
    expect_error("lists/bad6.data", DATASET_TRAIN, "no labels");
    put_text("lists/fewer", "images/fox.jpg\n");
    put_text("lists/bad7.data", "train = fewer\nlabels=labels\n");
    expect_error("lists/bad7.data", DATASET_TRAIN, "2 classes have no images, 'bird' the first");
    put_text("lists/bad8.data", "train = empty\nlabels=labels\n");
    put_text("lists/empty", "\n \n");
    expect_error("lists/bad8.data", DATASET_TRAIN, "lists no images");

    put("lists/tree/fox/1.jpg", "", 0);
    put("lists/tree/bird/1.jpg", "", 0);
    put_text("lists/folder.data", "classes=2\ntrain = tree\n");
    d = open_good("lists/folder.data", DATASET_TRAIN);
    assert_int_equal(d->n, 2);
    assert_string_equal(d->labels[0], "bird");
    dataset_close(&d);

    /* One folder with splits of its own for both, in the labels' order. */
    put("lists/both/train/fox/1.jpg", "", 0);
    put("lists/both/train/bird/1.jpg", "", 0);
    put("lists/both/test/fox/2.jpg", "", 0);
    put_text("lists/two.labels", "fox\nbird\n");
    put_text("lists/both.data", "classes=2\ntrain = both\nvalid = both\nlabels = two.labels\n");
    d = open_good("lists/both.data", DATASET_VALID);
    assert_int_equal(d->n, 1);
    assert_int_equal(d->samples[0].label, 0);
    assert_false(d->unsplit);
    dataset_close(&d);
}

static void test_cifar(void **state) {
    enum { RECORD = 3073 };
    static uint8_t records[3 * RECORD];
    for (int i = 0; i < 3; i++) {
        records[i * RECORD] = (uint8_t)(i * 4);
        for (int p = 0; p < 3072; p++) records[i * RECORD + 1 + p] = (uint8_t)(p / 1024 * 100 + i);
    }
    for (int b = 1; b <= 4; b++) {
        char name[64];
        snprintf(name, sizeof name, "cifar/cifar-10-batches-bin/data_batch_%d.bin", b);
        put(name, records, sizeof records);
    }
    expect_error("cifar", DATASET_TRAIN, "there is no data_batch_5.bin");
    put_gz("cifar/cifar-10-batches-bin/data_batch_5.bin.gz", records, sizeof records);
    expect_error("cifar", DATASET_TRAIN, "7 classes have no images, 'automobile' the first");
    for (int i = 0; i < 3; i++) records[i * RECORD] = (uint8_t)i;
    static uint8_t ten[10 * RECORD];
    for (int i = 0; i < 10; i++)
        memcpy(ten + i * RECORD, records + (i % 3) * RECORD, RECORD), ten[i * RECORD] = (uint8_t)i;
    put("cifar/cifar-10-batches-bin/test_batch.bin", ten, sizeof ten);
    struct dataset *d = open_good("cifar", DATASET_VALID);
    assert_int_equal(d->n, 10);
    assert_int_equal(d->nclasses, 10);
    assert_string_equal(d->labels[9], "truck");
    assert_int_equal(d->c, 3);
    assert_null(d->samples[1].path);
    assert_int_equal(d->samples[1].bytes[0], 1);
    assert_int_equal(d->samples[1].bytes[1], 101); /* interleaved */
    assert_int_equal(d->samples[1].bytes[2], 201);
    assert_int_equal(d->samples[7].label, 7);
    dataset_close(&d);
    ten[4 * RECORD] = 10;
    put("cifar/cifar-10-batches-bin/test_batch.bin", ten, sizeof ten);
    expect_error("cifar", DATASET_VALID, "image 4 has label 10");
    put("cifar/cifar-10-batches-bin/test_batch.bin", ten, sizeof ten - 5);
    expect_error("cifar", DATASET_VALID, "ends within an image");
}

static void test_idx(void **state) {
    uint8_t images[16 + 3 * 6] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7};
    uint8_t labels[8 + 3] = {0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1};
    put("idx/train-images-idx3-ubyte", images, sizeof images);
    put_gz("idx/train-labels-idx1-ubyte.gz", labels, sizeof labels);
    struct dataset *d = open_good("idx", DATASET_TRAIN);
    assert_int_equal(d->n, 3);
    assert_int_equal(d->nclasses, 3);
    assert_int_equal(d->c, 1);
    assert_int_equal(d->h, 2);
    assert_int_equal(d->w, 3);
    assert_int_equal(d->samples[0].label, 2);
    assert_int_equal(d->samples[1].bytes[0], 7);
    dataset_close(&d);
    expect_error("idx", DATASET_VALID, "there is no t10k-images-idx3-ubyte");
    put("idx/train-images-idx3-ubyte", images, sizeof images - 1);
    expect_error("idx", DATASET_TRAIN, "ends after 17 of 18 bytes");
    images[4] = 0xff;
    put("idx/train-images-idx3-ubyte", images, sizeof images);
    expect_error("idx", DATASET_TRAIN, "out of range");
    images[4] = 0;
    images[7] = 2;
    put("idx/train-images-idx3-ubyte", images, sizeof images);
    expect_error("idx", DATASET_TRAIN, "2 images but 3 labels");
    put("idx/train-images-idx3-ubyte", "text", 4);
    expect_error("idx", DATASET_TRAIN, "not an IDX file");
    put("idx/train-images-idx3-ubyte", images, sizeof images);
    put("idx/train-labels-idx1-ubyte.gz", "\x1f\x8b\x08\0broken gzip data", 20);
    expect_error("idx", DATASET_TRAIN, "train-labels-idx1-ubyte.gz");
}

static void test_hold_out(void **state) {
    char path[64];
    for (int i = 0; i < 90; i++) {
        snprintf(path, sizeof path, "held/%s/%02d.jpg", i < 60 ? "many" : i < 85 ? "some" : "few", i);
        put(path, "", 0);
    }
    struct dataset *d = open_good("held", DATASET_TRAIN), *again = open_good("held", DATASET_TRAIN), *part, *same;
    assert_int_not_equal(dataset_hold_out(d, 0, 7, &part, NULL), STATUS_OK);
    assert_int_not_equal(dataset_hold_out(d, 90, 7, &part, NULL), STATUS_OK);
    assert_int_equal(dataset_hold_out(d, 18, 7, &part, NULL), STATUS_OK);
    assert_int_equal(dataset_hold_out(again, 18, 7, &same, NULL), STATUS_OK);
    assert_int_equal(d->n, 72);
    assert_int_equal(part->n, 18);
    int counts[3] = {0};
    for (int i = 0; i < 18; i++) {
        counts[part->samples[i].label]++;
        assert_string_equal(part->samples[i].path, same->samples[i].path);
        for (int k = 0; k < d->n; k++) assert_string_not_equal(d->samples[k].path, part->samples[i].path);
    }
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 12);
    assert_int_equal(counts[2], 5);
    dataset_close(&d);
    assert_string_equal(part->labels[1], "many"); /* lives on without the rest */
    assert_non_null(strstr(part->samples[17].path, "/some/"));
    dataset_close(&part);
    dataset_close(&again);
    dataset_close(&same);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders), cmocka_unit_test(test_data_files), cmocka_unit_test(test_cifar),
        cmocka_unit_test(test_idx),     cmocka_unit_test(test_hold_out),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
