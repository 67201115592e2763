/* Whole files in, whole files out. */
#ifndef ESPALIER_FILE_H
#define ESPALIER_FILE_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Reads a regular file of at most `limit` bytes into a malloc'ed buffer, with
 * a NUL behind its end that `length` does not count. */
enum status file_read(const char *path, size_t limit, uint8_t **bytes, size_t *length, struct err *err) MUST_CHECK;

/* Replaces a file whole or not at all: open, write to `stream`, then commit
 * (flush, fsync, rename, fsync of the folder) or abort (remove). The path
 * holds the old content until commit has succeeded. */
struct file_replace {
    FILE *stream;
    char *path, *temporary;
};
enum status file_replace_open(struct file_replace *file, const char *path, struct err *err) MUST_CHECK;
enum status file_replace_commit(struct file_replace *file, struct err *err) MUST_CHECK;
void file_replace_abort(struct file_replace *file);
/* Removes what replacements of `path`, and of files named for it ("path.txt"),
 * left when they were killed: temporary files that no process holds. */
void file_replace_tidy(const char *path);

/* Creates a folder and those above it; an existing one is no error. */
enum status file_make_folder(const char *path, struct err *err) MUST_CHECK;

#endif
