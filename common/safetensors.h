/* safetensors files: 8 bytes little-endian header length, a JSON header of
 * tensors {"dtype","shape","data_offsets"} and "__metadata__" (string values),
 * then the data. Written here with the data 64-byte aligned (header padded
 * with blanks, as the format allows).
 *
 * Source: the format's README (huggingface/safetensors). Everything read from
 * the file is checked before use: header length, JSON, dtype, shape products,
 * offsets inside the file, no overlap, no hole. */
#ifndef ESPALIER_SAFETENSORS_H
#define ESPALIER_SAFETENSORS_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { SAFETENSORS_MAX_DIMS = 8 };

struct safetensors_tensor {
    const char *name;
    const char *dtype; /* "F32", ... */
    int ndims;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    const void *data; /* borrowed from the mapping */
    size_t size;      /* bytes */
};

struct safetensors_pair {
    const char *key, *value;
};

struct safetensors {
    char *name; /* what errors call it */
    int ntensors;
    struct safetensors_tensor *tensors; /* by offset */
    int nmetadata;
    struct safetensors_pair *metadata;
    const uint8_t *bytes; /* the whole file */
    size_t length;
    struct timespec modified; /* the file on disk; 0 without one */
    void *storage;            /* private */
};

/* Maps the file read-only. */
enum status safetensors_open(struct safetensors **file, const char *path, struct err *err) MUST_CHECK;
/* A file within a file: `length` bytes (0: all the rest) from `offset`, a multiple of 8, on. */
enum status safetensors_open_part(struct safetensors **file, const char *path, size_t offset, size_t length,
                                  struct err *err) MUST_CHECK;
/* Borrows `bytes`, 8-byte aligned, which must outlive the handle. */
enum status safetensors_parse(struct safetensors **file, const char *name, const void *bytes, size_t length,
                              struct err *err) MUST_CHECK;
/* Of a file that is mapped: whole pages within a part of the data leave the memory until they are read again. */
void safetensors_release(const struct safetensors *file, const void *data, size_t size);
void safetensors_close(struct safetensors **file);
const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name);
/* The metadata value, or NULL. */
const char *safetensors_metadata(const struct safetensors *file, const char *key);
/* The tensor, whose dtype must be F32 and whose shape must be the given one;
 * the error names file, tensor, and both shapes. Data aligned to 4 bytes. */
enum status safetensors_f32(const struct safetensors *file, const char *name, int ndims, const int64_t *shape,
                            const float **data, struct err *err) MUST_CHECK;

/* A malloc'ed copy of `text` in which bytes that are not UTF-8 (Latin-1
 * comments in an old cfg) become U+FFFD: readers in Python take nothing else.
 * NULL if memory ran out. */
char *safetensors_utf8(const char *text);

/* Metadata values are passed through safetensors_utf8.
 * Writes to "<path>.tmp<pid>", fsyncs, renames: the path holds the old file or
 * the new one, never a part. */
enum status safetensors_write(const char *path, const struct safetensors_tensor *tensors, int ntensors,
                              const struct safetensors_pair *metadata, int nmetadata, struct err *err) MUST_CHECK;
/* The same as one malloc'ed buffer. */
enum status safetensors_serialize(const struct safetensors_tensor *tensors, int ntensors,
                                  const struct safetensors_pair *metadata, int nmetadata, uint8_t **bytes,
                                  size_t *length, struct err *err) MUST_CHECK;

#endif
