/* Lists of image files, from folders and list files; and a count of the paths
 * that have been seen. */
#ifndef ESPALIER_PATHS_H
#define ESPALIER_PATHS_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct paths {
    char **path; /* owned */
    size_t count, room;
};
void paths_free(struct paths *paths);
enum status paths_add(struct paths *paths, const char *path, struct err *err) MUST_CHECK;
/* A name that ends like an image's (.jpg, .png, ...) and begins with no dot. */
bool paths_is_image(const char *path);
/* Adds the images in a folder and the folders in it, sorted; symbolic links to
 * folders are not followed. `folders` (may be NULL) gets the folders, itself
 * first. */
enum status paths_scan(struct paths *paths, struct paths *folders, const char *folder, struct err *err) MUST_CHECK;
/* Adds the lines of a list file. A relative path is taken from the current
 * folder, or if it is not there, from the list file's. */
enum status paths_read_list(struct paths *paths, const char *file, struct err *err) MUST_CHECK;
/* A random order, the same for the same seed. */
void paths_shuffle(struct paths *paths, uint64_t seed);

/* How often a path has been seen, and what the file was like the last time. */
struct seen_path {
    char *path;
    uint64_t count;
    int64_t size, mtime_ns;
};
struct seen {
    struct seen_path *slots; /* open addressing; a free slot has no path */
    size_t nslots, used;
};
void seen_free(struct seen *seen);
/* The entry, or NULL. Valid until the next seen_add. */
struct seen_path *seen_find(const struct seen *seen, const char *path);
/* Counts the path once more. */
enum status seen_add(struct seen *seen, const char *path, int64_t size, int64_t mtime_ns, struct err *err) MUST_CHECK;

#endif
