/* Datasets of raw pixels: CIFAR-10's binary files and IDX files, plain or .gz.
 *
 * Sources: cs.toronto.edu/~kriz/cifar.html (records of one label byte and
 * 3 x 32 x 32 planar bytes), yann.lecun.com/exdb/mnist (IDX: magic 00 00 08
 * dimensions, big-endian sizes, data). zlib reads both forms alike. */
#include "train/dataset_build.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PLANE = 32 * 32, RECORD = 1 + 3 * PLANE, CIFAR_CLASSES = 10, CIFAR_BATCHES = 5, MAX_SIDE = 4096 };
static const size_t MAX_BYTES = (size_t)8 << 30;

/* The file "folder/name" or "folder/name.gz", whichever is there; malloc'ed, or NULL. */
static char *find(const char *folder, const char *name) {
    char with_ending[256];
    snprintf(with_ending, sizeof with_ending, "%s.gz", name);
    const char *there = dataset_has(folder, name) ? name : dataset_has(folder, with_ending) ? with_ending : NULL;
    return there ? dataset_join(folder, there) : NULL;
}

static enum status open_gz(gzFile *file, const char *path, struct err *err) {
    *file = gzopen(path, "rbe");
    return *file ? STATUS_OK : err_errno(err, "cannot open %s", path);
}

/* Reads up to `size` bytes; *got is less at the end of the file. */
static enum status read_gz(gzFile file, const char *path, void *bytes, size_t size, size_t *got, struct err *err) {
    size_t done = 0;
    while (done < size) {
        size_t part = size - done < INT_MAX ? size - done : INT_MAX;
        int n = gzread(file, (uint8_t *)bytes + done, (unsigned)part);
        if (n < 0) {
            int code;
            const char *text = gzerror(file, &code);
            return code == Z_ERRNO ? err_errno(err, "cannot read %s", path)
                                   : err_set(err, STATUS_FORMAT, "%s: damaged gzip data (%s)", path, text);
        }
        if (n == 0) break;
        done += (size_t)n;
    }
    *got = done;
    return STATUS_OK;
}

/* ---- CIFAR-10 ------------------------------------------------------------------- */

bool dataset_is_cifar(const char *folder) {
    char *train = find(folder, "data_batch_1.bin"), *test = find(folder, "test_batch.bin");
    bool is = train || test;
    free(train);
    free(test);
    return is;
}

static enum status add_records(struct dataset *dataset, const char *path, const uint8_t *records, int n, int before,
                               struct err *err) {
    uint8_t *pixels = malloc((size_t)n * 3 * PLANE), *labels = malloc((size_t)n);
    enum status status = STATUS_OK;
    if (!pixels || !labels) status = err_memory(err, path);
    for (int i = 0; status == STATUS_OK && i < n; i++) {
        const uint8_t *record = records + (size_t)i * RECORD;
        labels[i] = record[0];
        if (record[0] >= CIFAR_CLASSES)
            status = err_set(err, STATUS_FORMAT, "%s: image %d has label %d; CIFAR-10 has 0 to %d", path, before + i,
                             record[0], CIFAR_CLASSES - 1);
        uint8_t *to = pixels + (size_t)i * 3 * PLANE;
        for (int p = 0; p < PLANE; p++)
            for (int c = 0; c < 3; c++) *to++ = record[1 + c * PLANE + p];
    }
    if (status == STATUS_OK) {
        status = dataset_add_raw(dataset, pixels, labels, n, err);
        pixels = NULL;
    }
    free(pixels);
    free(labels);
    return status;
}

static enum status read_batch(struct dataset *dataset, const char *path, struct err *err) {
    enum { CHUNK = 1000 };
    gzFile file;
    enum status status = open_gz(&file, path, err);
    if (status != STATUS_OK) return status;
    uint8_t *records = malloc((size_t)CHUNK * RECORD);
    size_t got = (size_t)CHUNK * RECORD;
    if (!records) status = err_memory(err, path);
    for (int before = 0; status == STATUS_OK && got == (size_t)CHUNK * RECORD; before += CHUNK) {
        status = read_gz(file, path, records, (size_t)CHUNK * RECORD, &got, err);
        if (status == STATUS_OK && got % RECORD != 0)
            status = err_set(err, STATUS_FORMAT, "%s: ends within an image; it should hold whole records of %d bytes",
                             path, RECORD);
        if (status == STATUS_OK && got > 0)
            status = add_records(dataset, path, records, (int)(got / RECORD), before, err);
    }
    free(records);
    gzclose(file);
    return status;
}

static enum status add_cifar_labels(struct dataset *dataset, struct err *err) {
    static const char *const labels[CIFAR_CLASSES] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                                      "dog",      "frog",       "horse", "ship", "truck"};
    enum status status = STATUS_OK;
    if (dataset->nclasses > 0 && dataset->nclasses != CIFAR_CLASSES)
        return err_set(err, STATUS_FORMAT, "%s: %d classes; CIFAR-10 has %d", dataset->name, dataset->nclasses,
                       CIFAR_CLASSES);
    if (dataset->nclasses > 0) return STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < CIFAR_CLASSES; i++) status = dataset_add_label(dataset, labels[i], err);
    return status;
}

enum status dataset_read_cifar(struct dataset *dataset, const char *folder, enum dataset_split split,
                               struct err *err) {
    dataset->c = 3;
    dataset->h = dataset->w = 32;
    enum status status = add_cifar_labels(dataset, err);
    for (int i = 1; status == STATUS_OK && i <= CIFAR_BATCHES; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        char *path = find(folder, split == DATASET_TRAIN ? name : "test_batch.bin");
        if (path) status = read_batch(dataset, path, err);
        else
            status = err_set(err, STATUS_IO, "%s: there is no %s", folder,
                             split == DATASET_TRAIN ? name : "test_batch.bin");
        free(path);
        if (split != DATASET_TRAIN) break;
    }
    return status == STATUS_OK ? dataset_check(dataset, true, err) : status;
}

/* ---- IDX ------------------------------------------------------------------------ */

/* "train-images" as "train-images-idx3-ubyte" or "train-images.idx3-ubyte", plain or .gz. */
static char *find_idx(const char *folder, const char *stem, int dimensions) {
    char name[64], *path = NULL;
    for (int i = 0; !path && i < 2; i++) {
        snprintf(name, sizeof name, "%s%cidx%d-ubyte", stem, "-."[i], dimensions);
        path = find(folder, name);
    }
    return path;
}

bool dataset_is_idx(const char *folder) {
    char *train = find_idx(folder, "train-images", 3), *test = find_idx(folder, "t10k-images", 3);
    bool is = train || test;
    free(train);
    free(test);
    return is;
}

/* The whole file; sizes: [dimensions]. */
static enum status read_idx(const char *path, int dimensions, int *sizes, uint8_t **out, struct err *err) {
    uint8_t header[16];
    size_t got, total = 1;
    uint8_t *data = NULL;
    gzFile file;
    enum status status = open_gz(&file, path, err);
    if (status != STATUS_OK) return status;
    status = read_gz(file, path, header, 4 + 4 * (size_t)dimensions, &got, err);
    if (status != STATUS_OK) goto fail;
    if (got < 4 + 4 * (size_t)dimensions || header[0] || header[1] || header[2] != 8 || header[3] != dimensions) {
        status = err_set(err, STATUS_FORMAT, "%s: not an IDX file of bytes in %d dimensions", path, dimensions);
        goto fail;
    }
    for (int i = 0; i < dimensions; i++) {
        const uint8_t *p = header + 4 + 4 * i;
        uint32_t size = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        if (size == 0 || size > (i == 0 ? DATASET_MAX_SAMPLES : MAX_SIDE) || total > MAX_BYTES / size) {
            status = err_set(err, STATUS_LIMIT, "%s: a size of %u in dimension %d is out of range", path, size, i + 1);
            goto fail;
        }
        sizes[i] = (int)size;
        total *= size;
    }
    data = malloc(total);
    if (!data) {
        status = err_memory(err, path);
        goto fail;
    }
    status = read_gz(file, path, data, total, &got, err);
    if (status == STATUS_OK && got < total)
        status = err_set(err, STATUS_FORMAT, "%s: ends after %zu of %zu bytes", path, got, total);
    if (status != STATUS_OK) goto fail;
    gzclose(file);
    *out = data;
    return STATUS_OK;
fail:
    free(data);
    gzclose(file);
    return status;
}

static enum status read_idx_labels(const char *folder, const char *stem, uint8_t **labels, int *n, struct err *err) {
    char *path = find_idx(folder, stem, 1);
    enum status status = path ? read_idx(path, 1, n, labels, err)
                              : err_set(err, STATUS_IO, "%s: there is no %s-idx1-ubyte", folder, stem);
    free(path);
    return status;
}

/* Classes are numbered up to the highest label of either split. */
static enum status add_idx_labels(struct dataset *dataset, const char *folder, struct err *err) {
    int highest = 0;
    static const char *const stems[] = {"train-labels", "t10k-labels"};
    for (int i = 0; i < 2; i++) {
        uint8_t *labels;
        int n;
        if (read_idx_labels(folder, stems[i], &labels, &n, NULL) != STATUS_OK) continue;
        for (int k = 0; k < n; k++)
            if (labels[k] > highest) highest = labels[k];
        free(labels);
    }
    enum status status = STATUS_OK;
    if (dataset->nclasses > 0 && dataset->nclasses <= highest)
        return err_set(err, STATUS_FORMAT, "%s: a label is %d, but there are %d classes", folder, highest,
                       dataset->nclasses);
    if (dataset->nclasses > 0) return STATUS_OK;
    for (int i = 0; status == STATUS_OK && i <= highest; i++) {
        char label[16];
        snprintf(label, sizeof label, "%d", i);
        status = dataset_add_label(dataset, label, err);
    }
    return status;
}

enum status dataset_read_idx(struct dataset *dataset, const char *folder, enum dataset_split split, struct err *err) {
    const char *stem = split == DATASET_TRAIN ? "train" : "t10k";
    char images_stem[32], labels_stem[32];
    uint8_t *pixels = NULL, *labels = NULL;
    int sizes[3], n;
    snprintf(images_stem, sizeof images_stem, "%s-images", stem);
    snprintf(labels_stem, sizeof labels_stem, "%s-labels", stem);
    char *path = find_idx(folder, images_stem, 3);
    enum status status = path ? read_idx(path, 3, sizes, &pixels, err)
                              : err_set(err, STATUS_IO, "%s: there is no %s-idx3-ubyte", folder, images_stem);
    free(path);
    if (status == STATUS_OK) status = read_idx_labels(folder, labels_stem, &labels, &n, err);
    if (status == STATUS_OK && n != sizes[0])
        status = err_set(err, STATUS_FORMAT, "%s: %d images but %d labels", folder, sizes[0], n);
    if (status == STATUS_OK) status = add_idx_labels(dataset, folder, err);
    if (status == STATUS_OK) {
        dataset->c = 1;
        dataset->h = sizes[1];
        dataset->w = sizes[2];
        status = dataset_add_raw(dataset, pixels, labels, n, err);
        pixels = NULL;
    }
    free(pixels);
    free(labels);
    return status == STATUS_OK ? dataset_check(dataset, false, err) : status;
}
