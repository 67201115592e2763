/* Where frames come from: a folder, a list file, a watched folder, or a stream
 * of JPEGs on standard input; at once, at a fixed pace, or at the times of a
 * trace.
 *
 * A frame is due at its time in the trace or at its place in the pace; when
 * its file was closed (watched folder); when it had come in (stdin); else when
 * it was taken. Times are milliseconds on a clock that the caller passes in.
 *
 * Folders are read recursively, files sorted by path; only names that end like
 * an image's count, and none that begin with a dot. */
#ifndef ESPALIER_SOURCE_H
#define ESPALIER_SOURCE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SOURCE_MAX_FRAME = 48 << 20 }; /* bytes of one encoded image */

struct source;

struct source_config {
    const char *spec;  /* folder, list file, image, or "-" */
    bool watch;        /* the folder's new files, for ever */
    double fps;        /* > 0: paced */
    const char *trace; /* file of due times, seconds from the start, one per line, or NULL */
    int64_t frames;    /* stop after so many, going round as often as needed; 0: all, once (with a
                        * trace: as many as it has lines) */
    uint64_t shuffle;  /* seed of a random order; 0: in order */
};

/* Scans folders and reads list and trace. */
enum status source_create(struct source **source, const struct source_config *config, struct err *err) MUST_CHECK;
void source_destroy(struct source **source);

/* "folder /abs/path" etc.: what a resumed run must have in common. */
const char *source_identity(const struct source *source);
/* Frames come at their own time, whether or not they can be sent. */
bool source_paced(const struct source *source);
/* More can come only while the program is awake to it (stdin, watched folder). */
bool source_live(const struct source *source);

/* A frame that an interrupted run has accepted already: it will not come again. */
enum status source_skip(struct source *source, const char *path, int64_t size, int64_t mtime_ns,
                        struct err *err) MUST_CHECK;
/* Begins: the next frame's time in pace or trace is counted from now. */
void source_start(struct source *source, double now_ms);

struct source_frame {
    char *path;     /* malloc'ed, the taker's; of a stream: "stdin:N" */
    uint8_t *bytes; /* likewise; NULL: to be read from the path */
    size_t length;
    int64_t size, mtime_ns; /* -1: the file cannot be seen */
    double due_ms;
};

enum source_answer { SOURCE_FRAME, SOURCE_WAIT, SOURCE_END };
/* Never blocks. SOURCE_WAIT: nothing before *next_ms (HUGE_VAL: nothing until
 * source_fd is readable). SOURCE_END is final. */
enum status source_next(struct source *source, double now_ms, struct source_frame *frame, enum source_answer *answer,
                        double *next_ms, struct err *err) MUST_CHECK;
/* To poll for reading, or -1. */
int source_fd(const struct source *source);
/* Frames known of but not taken yet; -1: no telling. For progress. */
int64_t source_left(const struct source *source);
/* One line on what was skipped or damaged on the way, or "". */
void source_remarks(const struct source *source, char *text, size_t size);

#endif
