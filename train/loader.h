/* Batches of images, decoded and augmented by threads ahead of the training
 * step, through a bounded queue.
 *
 * Deterministic: the k-th batch of an epoch depends on seed, epoch and k alone,
 * whatever the number of threads, the cache and the batches read before. */
#ifndef ESPALIER_LOADER_H
#define ESPALIER_LOADER_H

#include "common/err.h"
#include "common/image.h"
#include "train/augment.h"
#include "train/dataset.h"

#include <stddef.h>
#include <stdint.h>

struct loader_batch {
    int n;
    const float *input; /* [n, C, H, W], normalised, 64-byte aligned; valid until the next call */
    const int *labels;  /* [n] */
    const int *samples; /* [n]: indices into the dataset */
};

struct loader_config {
    const struct dataset *dataset; /* borrowed: must outlive the loader */
    struct image_preproc preproc;
    const struct augment *augment; /* copied. NULL: evaluation, samples in order, once */
    int batch;
    int threads;        /* that work ahead; 0: all work is done in loader_next */
    uint64_t seed;
    size_t cache_bytes; /* decoded images are kept in memory up to this; 0: none */
};

struct loader;
enum status loader_create(struct loader **loader, const struct loader_config *config, struct err *err) MUST_CHECK;
void loader_destroy(struct loader **loader);
/* Positions the loader at batch `batch` of `epoch` (for --resume, or a second
 * evaluation pass: epoch 0, batch 0). */
enum status loader_seek(struct loader *loader, int epoch, int batch, struct err *err) MUST_CHECK;
/* The next batch; the calling thread helps. An augmenting loader goes on over
 * epochs for ever, each in an order of its own (the last, short batch of an
 * epoch is dropped), an evaluating one ends with n = 0 and stays there until
 * loader_seek. A damaged image is named once in a warning; training takes the
 * next sample of the epoch in its place, evaluation leaves it out. Fails only
 * if all images are damaged, or memory runs out. */
enum status loader_next(struct loader *loader, struct loader_batch *batch, struct err *err) MUST_CHECK;
/* Batches per epoch. At least one whole batch for training: a dataset smaller
 * than a batch is refused by loader_create. */
int loader_batches(const struct loader *loader);
/* Damaged images met so far. */
int loader_skipped(const struct loader *loader);

#endif
