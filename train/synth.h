/* A procedural, seeded camera-trap dataset: JPEGs in class folders.
 *
 *   OUT/train/<class>/000012.jpg, OUT/valid/..., OUT/test/...
 *   OUT/train.list, valid.list, test.list, synth.labels, synth.data
 *
 * Eight of ten images go to training, one each to validation and test. The same
 * options give the same files, byte for byte, whatever the number of threads (of
 * one build: compilers may order draws within an expression differently). */
#ifndef ESPALIER_SYNTH_H
#define ESPALIER_SYNTH_H

#include "common/err.h"

#include <stdint.h>

struct synth_config {
    int images, size; /* of all splits together; width in pixels, height is 3/4 of it */
    uint64_t seed;
    const char *classes; /* comma-separated, or NULL: all of them */
    int threads;
};

struct synth_config synth_defaults(void);
/* The names that `classes` may hold, comma-separated, sorted. */
const char *synth_class_names(void);
/* Writes the dataset; shows progress. A folder that holds anything else than
 * this very dataset, whole or half done, is refused and left alone. */
enum status synth_write(const char *folder, const struct synth_config *config, struct err *err) MUST_CHECK;

#endif
