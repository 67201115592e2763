/* Which kind of data, and the parts that all kinds share. */
#include "train/dataset.h"

#include "common/log.h"
#include "common/random.h"
#include "train/dataset_build.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TEXT_BLOCK = 1 << 16 };

/* Memory that samples point into; datasets split from one another share it. */
struct storage {
    atomic_int users;
    int nblocks, room;
    void **blocks;
    char *text; /* the rest of the last text block */
    size_t text_left;
};

static void storage_release(struct storage *storage) {
    if (!storage || atomic_fetch_sub(&storage->users, 1) > 1) return;
    for (int i = 0; i < storage->nblocks; i++) free(storage->blocks[i]);
    free(storage->blocks);
    free(storage);
}

/* Takes over `block`; frees it if that fails. */
static enum status storage_keep(struct storage *storage, void *block, struct err *err) {
    if (storage->nblocks == storage->room) {
        int room = storage->room ? 2 * storage->room : 16;
        void **larger = realloc(storage->blocks, (size_t)room * sizeof *larger);
        if (!larger) {
            free(block);
            return err_memory(err, "dataset");
        }
        storage->blocks = larger;
        storage->room = room;
    }
    storage->blocks[storage->nblocks++] = block;
    return STATUS_OK;
}

/* A copy of `text` that lives as long as the storage. */
static enum status storage_text(struct storage *storage, const char *text, const char **copy, struct err *err) {
    size_t size = strlen(text) + 1;
    if (size > storage->text_left) {
        size_t room = size > TEXT_BLOCK ? size : TEXT_BLOCK;
        char *block = malloc(room);
        if (!block) return err_memory(err, "dataset");
        enum status status = storage_keep(storage, block, err);
        if (status != STATUS_OK) return status;
        storage->text = block;
        storage->text_left = room;
    }
    *copy = memcpy(storage->text, text, size);
    storage->text += size;
    storage->text_left -= size;
    return STATUS_OK;
}

enum status dataset_new(struct dataset **out, const char *name, struct err *err) {
    struct dataset *dataset = calloc(1, sizeof *dataset);
    struct storage *storage = calloc(1, sizeof *storage);
    char *copy = strdup(name);
    if (!dataset || !storage || !copy) {
        free(dataset);
        free(storage);
        free(copy);
        return err_memory(err, "dataset");
    }
    atomic_init(&storage->users, 1);
    dataset->storage = storage;
    dataset->name = copy;
    *out = dataset;
    return STATUS_OK;
}

void dataset_close(struct dataset **pointer) {
    struct dataset *dataset = *pointer;
    if (!dataset) return;
    for (int i = 0; i < dataset->nclasses; i++) free(dataset->labels[i]);
    free(dataset->labels);
    free(dataset->samples);
    free(dataset->name);
    storage_release(dataset->storage);
    free(dataset);
    *pointer = NULL;
}

/* Whether an array of n elements that grows by doubling is full. */
static bool is_power_of_two(int n) {
    return (n & (n - 1)) == 0;
}

enum status dataset_add_label(struct dataset *dataset, const char *label, struct err *err) {
    int n = dataset->nclasses;
    if (n == DATASET_MAX_CLASSES) return err_set(err, STATUS_LIMIT, "%s: more than %d classes", dataset->name, n);
    if (is_power_of_two(n)) {
        char **larger = realloc(dataset->labels, (n ? 2 * (size_t)n : 1) * sizeof *larger);
        if (!larger) return err_memory(err, "labels");
        dataset->labels = larger;
    }
    dataset->labels[n] = strdup(label);
    if (!dataset->labels[n]) return err_memory(err, "labels");
    dataset->nclasses = n + 1;
    return STATUS_OK;
}

static enum status add_sample(struct dataset *dataset, struct dataset_sample sample, struct err *err) {
    int n = dataset->n;
    if (n == DATASET_MAX_SAMPLES) return err_set(err, STATUS_LIMIT, "%s: more than %d images", dataset->name, n);
    if (is_power_of_two(n)) {
        struct dataset_sample *larger = realloc(dataset->samples, (n ? 2 * (size_t)n : 1) * sizeof *larger);
        if (!larger) return err_memory(err, "dataset");
        dataset->samples = larger;
    }
    dataset->samples[n] = sample;
    dataset->n = n + 1;
    return STATUS_OK;
}

enum status dataset_add_file(struct dataset *dataset, const char *path, int label, struct err *err) {
    struct dataset_sample sample = {.label = label};
    enum status status = storage_text(dataset->storage, path, &sample.path, err);
    return status == STATUS_OK ? add_sample(dataset, sample, err) : status;
}

enum status dataset_add_raw(struct dataset *dataset, uint8_t *bytes, const uint8_t *labels, int n, struct err *err) {
    size_t size = (size_t)dataset->c * (size_t)dataset->h * (size_t)dataset->w;
    enum status status = storage_keep(dataset->storage, bytes, err);
    for (int i = 0; status == STATUS_OK && i < n; i++)
        status = add_sample(dataset, (struct dataset_sample){.bytes = bytes + (size_t)i * size, .label = labels[i]},
                            err);
    return status;
}

enum status dataset_check(const struct dataset *dataset, bool every_class, struct err *err) {
    if (dataset->n == 0) return err_set(err, STATUS_FORMAT, "%s holds no images", dataset->name);
    bool *met = calloc((size_t)dataset->nclasses, sizeof *met);
    if (!met) return err_memory(err, "dataset");
    int missing = 0, first = 0;
    for (int i = 0; i < dataset->n; i++) met[dataset->samples[i].label] = true;
    for (int i = dataset->nclasses - 1; i >= 0; i--)
        if (!met[i]) missing++, first = i;
    free(met);
    if (missing == 0) return STATUS_OK;
    const char *label = dataset->labels[first];
    if (!every_class) {
        log_warn("%s: no images of class '%s'%s", dataset->name, label, missing > 1 ? " and others" : "");
        return STATUS_OK;
    }
    enum status status = missing == 1
                             ? err_set(err, STATUS_FORMAT, "%s: class '%s' has no images", dataset->name, label)
                             : err_set(err, STATUS_FORMAT, "%s: %d classes have no images, '%s' the first",
                                       dataset->name, missing, label);
    err_hint(err, "add images, or leave the class out");
    return status;
}

enum status dataset_read_folder(struct dataset *dataset, const char *folder, enum dataset_split split,
                                struct err *err) {
    char *batches = dataset_join(folder, "cifar-10-batches-bin");
    enum status status;
    if (!batches) status = err_memory(err, "dataset");
    else if (dataset_is_cifar(folder)) status = dataset_read_cifar(dataset, folder, split, err);
    else if (dataset_is_cifar(batches)) status = dataset_read_cifar(dataset, batches, split, err);
    else if (dataset_is_idx(folder)) status = dataset_read_idx(dataset, folder, split, err);
    else status = dataset_read_tree(dataset, folder, split, err);
    free(batches);
    return status;
}

enum status dataset_open(struct dataset **out, const char *data, enum dataset_split split, struct err *err) {
    struct stat st;
    struct dataset *dataset;
    if (stat(data, &st) != 0) {
        enum status missing = err_errno(err, "cannot open the dataset %s", data);
        err_hint(err, "a dataset is a .data file, a folder of class folders, CIFAR-10's or IDX files");
        return missing;
    }
    enum status status = dataset_new(&dataset, data, err);
    if (status != STATUS_OK) return status;
    status = S_ISDIR(st.st_mode) ? dataset_read_folder(dataset, data, split, err)
                                 : dataset_read_data(dataset, data, split, err);
    if (status != STATUS_OK) {
        dataset_close(&dataset);
        return status;
    }
    *out = dataset;
    return STATUS_OK;
}

/* ---- hold out ----------------------------------------------------------------- */

/* How many of each class go, n in all: every class its share rounded down, and
 * what is left to those with the largest remainders. */
static void shares(const int *counts, int nclasses, int total, int n, int *take) {
    int left = n;
    for (int c = 0; c < nclasses; c++) {
        take[c] = (int)((int64_t)counts[c] * n / total);
        left -= take[c];
    }
    while (left > 0) {
        int best = -1;
        int64_t best_remainder = -1;
        for (int c = 0; c < nclasses; c++) {
            int64_t remainder = (int64_t)counts[c] * n - (int64_t)take[c] * total;
            if (take[c] < counts[c] && remainder > best_remainder) best = c, best_remainder = remainder;
        }
        take[best]++;
        left--;
    }
}

/* Marks which samples go: per class, walking it in order, each with the
 * probability that makes the number come out exactly. */
static void choose(const struct dataset *dataset, const int *counts, int *take, uint64_t seed, bool *chosen) {
    for (int c = 0; c < dataset->nclasses; c++) {
        struct random random = random_stream(seed, (uint64_t)c, 0);
        int remaining = counts[c];
        for (int i = 0; take[c] > 0; i++) {
            if (dataset->samples[i].label != c) continue;
            chosen[i] = random_below(&random, remaining--) < take[c];
            take[c] -= chosen[i];
        }
    }
}

enum status dataset_hold_out(struct dataset *dataset, int n, uint64_t seed, struct dataset **held_out,
                             struct err *err) {
    if (n < 1 || n >= dataset->n)
        return err_set(err, STATUS_USAGE, "%s has %d images; %d cannot be held out", dataset->name, dataset->n, n);
    size_t classes = (size_t)dataset->nclasses;
    struct dataset *part = calloc(1, sizeof *part);
    int *counts = calloc(classes, sizeof *counts), *take = calloc(classes, sizeof *take);
    bool *chosen = calloc((size_t)dataset->n, sizeof *chosen);
    struct dataset_sample *samples = calloc((size_t)n, sizeof *samples);
    enum status status = STATUS_OK;
    if (!part || !counts || !take || !chosen || !samples) {
        free(part);
        free(samples);
        status = err_memory(err, "dataset");
        goto done;
    }
    *part = (struct dataset){.samples = samples,
                             .c = dataset->c,
                             .h = dataset->h,
                             .w = dataset->w,
                             .unsplit = dataset->unsplit,
                             .storage = dataset->storage};
    atomic_fetch_add(&((struct storage *)dataset->storage)->users, 1);
    part->name = strdup(dataset->name);
    if (!part->name) status = err_memory(err, "dataset");
    for (int c = 0; status == STATUS_OK && c < dataset->nclasses; c++)
        status = dataset_add_label(part, dataset->labels[c], err);
    if (status != STATUS_OK) {
        dataset_close(&part);
        goto done;
    }
    for (int i = 0; i < dataset->n; i++) counts[dataset->samples[i].label]++;
    shares(counts, dataset->nclasses, dataset->n, n, take);
    choose(dataset, counts, take, seed, chosen);
    int stay = 0;
    for (int i = 0; i < dataset->n; i++) {
        if (chosen[i]) samples[part->n++] = dataset->samples[i];
        else dataset->samples[stay++] = dataset->samples[i];
    }
    dataset->n = stay;
    *held_out = part;
done:
    free(counts);
    free(take);
    free(chosen);
    return status;
}
