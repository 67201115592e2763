/* Labelled images: what a DATA argument can be, and a loader that decodes and
 * augments in threads ahead of the training step.
 *
 * DATA is a Darknet .data file (classes, train, valid, labels, names lists), a
 * folder with train/ and valid/ or test/ of class folders, a folder of class
 * folders, CIFAR-10's binary files or IDX files (a folder that holds them; plain or
 * .gz; CIFAR's also inside the original tar.gz's folder). */
#ifndef ESPALIER_DATASET_H
#define ESPALIER_DATASET_H

#include "common/err.h"
#include "common/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dataset_sample {
    const char *path;     /* a file, or NULL */
    const uint8_t *bytes; /* raw [c, h, w] pixels, or NULL */
    int label;
};

struct dataset {
    char *name;
    int nclasses;
    char **labels;
    int n;
    struct dataset_sample *samples;
    struct image_preproc raw; /* c, h, w of raw samples */
    void *storage;            /* private */
};

enum dataset_split { DATASET_TRAIN, DATASET_VALID };

enum status dataset_open(struct dataset **dataset, const char *data, enum dataset_split split,
                         struct err *err) MUST_CHECK;
void dataset_close(struct dataset **dataset);
/* Splits off `n` samples chosen by `seed`, in proportion to the classes; the rest stays. */
enum status dataset_hold_out(struct dataset *dataset, int n, uint64_t seed, struct dataset **held_out,
                             struct err *err) MUST_CHECK;

/* Darknet's augmentation options from [net], and pad-and-crop for small images. */
struct augment {
    bool flip;
    int pad;                             /* zero border, then a random crop back to size; 0: none */
    int min_crop, max_crop;              /* shorter side after a random resize; 0: the input's size */
    float angle, aspect;                 /* degrees; ratio, 1 none */
    float hue, saturation, exposure;     /* 0, 1, 1: none */
};

struct loader_batch {
    int n;
    float *input; /* [n, C, H, W], normalised; valid until the next call */
    int *labels;  /* [n] */
};

/* Deterministic: the k-th batch of an epoch depends on seed, epoch and k
 * alone, not on threads. `augment` NULL: evaluation, samples in order, once. */
struct loader;
struct loader_config {
    const struct dataset *dataset;
    struct image_preproc preproc;
    const struct augment *augment; /* copied */
    int batch, threads;
    uint64_t seed;
    bool cache;     /* keep decoded images in memory if they fit cache_bytes */
    size_t cache_bytes;
};
enum status loader_create(struct loader **loader, const struct loader_config *config, struct err *err) MUST_CHECK;
void loader_destroy(struct loader **loader);
/* Positions the loader at batch `batch` of `epoch` (for --resume). */
enum status loader_seek(struct loader *loader, int epoch, int batch, struct err *err) MUST_CHECK;
/* The next batch; an augmenting loader goes on over epochs for ever (the last,
 * short batch of an epoch is dropped), an evaluating one ends with n = 0. */
enum status loader_next(struct loader *loader, struct loader_batch *batch, struct err *err) MUST_CHECK;
int loader_batches(const struct loader *loader); /* per epoch */
/* Damaged images skipped so far, each named once in a warning. */
int loader_skipped(const struct loader *loader);

#endif
