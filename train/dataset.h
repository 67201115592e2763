/* Labelled images: what a DATA argument can be.
 *
 * - a Darknet .data file: classes, train, valid (test), labels, names. Lists
 *   name one image per line; a path's label is the one that occurs in it, as
 *   in Darknet. Instead of a list, a folder of any kind below will do.
 *   Relative paths are tried from the working directory, as Darknet does, then
 *   from the .data file's folder.
 * - a folder with train/ and valid/, val/ or test/, each of class folders
 * - a folder of class folders (no split of its own)
 * - a folder with CIFAR-10's binary files, or IDX files (MNIST's names), plain
 *   or .gz, or such a folder's cifar-10-batches-bin/ inside it
 *
 * Class folders are classes in the order of their names. Errors are one line:
 * no images, a class without images, a label out of range, an unreadable
 * folder. Image files themselves are opened by the loader only. */
#ifndef ESPALIER_DATASET_H
#define ESPALIER_DATASET_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dataset_sample {
    const char *path;     /* a file, or NULL */
    const uint8_t *bytes; /* raw [h, w, c] pixels of the shape below, or NULL */
    int label;
};

struct dataset {
    char *name;
    int nclasses;
    char **labels;
    int n;
    struct dataset_sample *samples;
    int c, h, w;  /* of raw samples, else 0 */
    bool unsplit; /* the data has no split of its own: every split is all of it */
    void *storage; /* private; shared with what was held out */
};

/* DATASET_VALID falls back on test images and DATASET_TEST on validation
 * images where the data has only one of them. */
enum dataset_split { DATASET_TRAIN, DATASET_VALID, DATASET_TEST };

enum status dataset_open(struct dataset **dataset, const char *data, enum dataset_split split,
                         struct err *err) MUST_CHECK;
/* The labels alone, without samples: of a .data file that need not name images. */
enum status dataset_open_labels(struct dataset **dataset, const char *data, struct err *err) MUST_CHECK;
void dataset_close(struct dataset **dataset);
/* Splits off `n` samples chosen by `seed`, in proportion to the classes; the
 * rest stays, in order. Either may be closed first. */
enum status dataset_hold_out(struct dataset *dataset, int n, uint64_t seed, struct dataset **held_out,
                             struct err *err) MUST_CHECK;

#endif
