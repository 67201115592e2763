/* A watched folder: image files as they are closed after writing or moved in
 * (inotify), in the folder and the folders in it.
 *
 * Files that were there before, or came while the kernel's queue overflowed,
 * are found by scanning. A scanned file that was written to less than a second
 * ago may still be growing: it is looked at again until it has come to rest. */
#ifndef ESPALIER_WATCH_H
#define ESPALIER_WATCH_H

#include "common/err.h"
#include "deploy/paths.h"

#include <stdbool.h>

struct watch;

enum status watch_create(struct watch **watch, const char *folder, struct err *err) MUST_CHECK;
void watch_destroy(struct watch **watch);
int watch_fd(const struct watch *watch);
/* A file of this size and time will not be reported (again). */
enum status watch_skip(struct watch *watch, const char *path, int64_t size, int64_t mtime_ns,
                       struct err *err) MUST_CHECK;

struct watch_file {
    char *path; /* malloc'ed, the taker's */
    int64_t size, mtime_ns;
    double closed_ms; /* when it was found to be complete, by the caller's clock */
};
/* The next file, or *found false; *next_ms: when to ask again even if watch_fd
 * is not readable (HUGE_VAL: never). Never blocks. STATUS_IO if the folder has
 * gone. */
enum status watch_next(struct watch *watch, double now_ms, struct watch_file *file, bool *found, double *next_ms,
                       struct err *err) MUST_CHECK;
/* Files known of and not taken yet. */
size_t watch_left(const struct watch *watch);

#endif
