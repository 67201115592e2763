#include "deploy/source.h"

#include "common/file.h"
#include "deploy/jpeg_stream.h"
#include "deploy/paths.h"
#include "deploy/watch.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_TRACE = 64 << 20 };

enum kind { FILES, WATCHED, STREAM };

struct source {
    enum kind kind;
    char *identity;
    double interval_ms; /* of --fps, or 0 */
    double *trace_ms;   /* due times, or NULL */
    size_t ntrace;
    int64_t limit;  /* frames in all; INT64_MAX: none */
    int64_t index;  /* of the next frame, those of an interrupted run counted in */
    double base_ms; /* clock at index 0 of pace or trace */

    struct paths paths; /* FILES */
    size_t cursor;      /* into them, going round; only once if there is no limit */
    struct seen seen;   /* of an interrupted run, to be passed over */

    struct watch *watch;

    struct jpeg_stream stream;
    bool ended; /* standard input */
    uint64_t in_stream; /* frames that came in */
};

/* ---- creation ---- */

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum status read_trace(struct source *s, const char *path, struct err *err) {
    uint8_t *bytes;
    size_t length, room = 0;
    enum status status = file_read(path, MAX_TRACE, &bytes, &length, err);
    if (status) return status;
    int line = 1;
    for (char *p = (char *)bytes, *next; p && !status; p = next, line++) {
        next = strchr(p, '\n');
        if (next) *next++ = '\0';
        p += strspn(p, " \t\r");
        if (*p == '\0' || *p == '#') continue;
        char *end;
        double seconds = strtod(p, &end);
        end += strspn(end, " \t\r");
        if (*end || !(seconds >= 0 && seconds < 1e9)) {
            status = err_set(err, STATUS_FORMAT, "%s:%d: a time in seconds expected, not '%.40s'", path, line, p);
        } else if (s->ntrace == room) {
            room = room ? room * 2 : 256;
            double *larger = realloc(s->trace_ms, room * sizeof *larger);
            if (!larger) status = err_memory(err, path);
            else s->trace_ms = larger;
        }
        if (!status) s->trace_ms[s->ntrace++] = seconds * 1e3;
    }
    free(bytes);
    if (!status && s->ntrace == 0) status = err_set(err, STATUS_FORMAT, "%s: no times in it", path);
    if (!status) qsort(s->trace_ms, s->ntrace, sizeof *s->trace_ms, compare_doubles);
    return status;
}

static enum status set_identity(struct source *s, const char *what, const char *path, struct err *err) {
    char *absolute = path ? realpath(path, NULL) : NULL;
    if (path && !absolute) return err_errno(err, "%s", path);
    if (asprintf(&s->identity, "%s%s%s", what, absolute ? " " : "", absolute ? absolute : "") < 0) s->identity = NULL;
    free(absolute);
    return s->identity ? STATUS_OK : err_memory(err, "source");
}

static enum status open_stream(struct source *s, struct err *err) {
    s->kind = STREAM;
    jpeg_stream_init(&s->stream, SOURCE_MAX_FRAME);
    return set_identity(s, "stdin", NULL, err);
}

static enum status open_files(struct source *s, const struct source_config *config, struct err *err) {
    struct stat st;
    if (stat(config->spec, &st) != 0) return err_errno(err, "%s", config->spec);
    if (config->watch) {
        s->kind = WATCHED;
        enum status status = watch_create(&s->watch, config->spec, err);
        return status ? status : set_identity(s, "watched", config->spec, err);
    }
    s->kind = FILES;
    enum status status;
    if (S_ISDIR(st.st_mode)) {
        status = paths_scan(&s->paths, NULL, config->spec, err);
        if (!status) status = set_identity(s, "folder", config->spec, err);
    } else if (paths_is_image(config->spec)) {
        status = paths_add(&s->paths, config->spec, err);
        if (!status) status = set_identity(s, "image", config->spec, err);
    } else {
        status = paths_read_list(&s->paths, config->spec, err);
        if (!status) status = set_identity(s, "list", config->spec, err);
    }
    if (status) return status;
    if (s->paths.count == 0)
        return err_set(err, STATUS_FORMAT, "%s: no images in it (.jpg, .png, .bmp, ...)", config->spec);
    if (config->shuffle) paths_shuffle(&s->paths, config->shuffle);
    return STATUS_OK;
}

enum status source_create(struct source **out, const struct source_config *config, struct err *err) {
    bool standard_input = strcmp(config->spec, "-") == 0;
    if (standard_input && config->watch)
        return err_set(err, STATUS_USAGE, "--watch takes a folder, not standard input");
    if (config->fps > 0 && config->trace) return err_set(err, STATUS_USAGE, "--fps and --trace exclude each other");
    if ((config->watch || standard_input) && (config->fps > 0 || config->trace))
        return err_set(err, STATUS_USAGE, "%s comes at its own pace: --fps and --trace are for folders and lists",
                       standard_input ? "standard input" : "a watched folder");
    struct source *s = calloc(1, sizeof *s);
    if (!s) return err_memory(err, "source");
    enum status status = standard_input ? open_stream(s, err) : open_files(s, config, err);
    if (!status && config->trace) status = read_trace(s, config->trace, err);
    if (config->fps > 0) s->interval_ms = 1e3 / config->fps;
    s->limit = config->frames > 0 ? config->frames : INT64_MAX;
    if (s->trace_ms && (config->frames <= 0 || s->limit > (int64_t)s->ntrace)) s->limit = (int64_t)s->ntrace;
    if (status) source_destroy(&s);
    else *out = s;
    return status;
}

void source_destroy(struct source **pointer) {
    struct source *s = *pointer;
    if (!s) return;
    watch_destroy(&s->watch);
    jpeg_stream_fini(&s->stream);
    seen_free(&s->seen);
    paths_free(&s->paths);
    free(s->trace_ms);
    free(s->identity);
    free(s);
    *pointer = NULL;
}

const char *source_identity(const struct source *s) { return s->identity; }
bool source_paced(const struct source *s) { return s->kind != FILES || s->interval_ms > 0 || s->trace_ms; }
bool source_live(const struct source *s) { return s->kind != FILES; }

enum status source_skip(struct source *s, const char *path, int64_t size, int64_t mtime_ns, struct err *err) {
    s->index++;
    if (s->kind == WATCHED) return watch_skip(s->watch, path, size, mtime_ns, err);
    return s->kind == FILES ? seen_add(&s->seen, path, size, mtime_ns, err) : STATUS_OK;
}

/* ---- taking frames ---- */

static double offset_ms(const struct source *s, int64_t index) {
    if (s->trace_ms) return index < (int64_t)s->ntrace ? s->trace_ms[index] : s->trace_ms[s->ntrace - 1];
    return (double)index * s->interval_ms;
}

/* An interrupted run goes on where it stopped: the pause is not made up for. */
void source_start(struct source *s, double now_ms) {
    s->base_ms = now_ms - (s->index ? offset_ms(s, s->index) : 0);
}

/* The next file, passing over those that the interrupted run has had; NULL at the end. */
static const char *current_file(struct source *s) {
    for (;; s->cursor++) {
        if (s->limit == INT64_MAX && s->cursor >= s->paths.count) return NULL;
        const char *path = s->paths.path[s->cursor % s->paths.count];
        struct seen_path *had = seen_find(&s->seen, path);
        if (!had || had->count == 0) return path;
        had->count--;
    }
}

static enum status next_file(struct source *s, double now_ms, struct source_frame *frame, enum source_answer *answer,
                             double *next_ms, struct err *err) {
    const char *path = current_file(s);
    if (!path) {
        *answer = SOURCE_END;
        return STATUS_OK;
    }
    bool paced = s->interval_ms > 0 || s->trace_ms;
    double due = paced ? s->base_ms + offset_ms(s, s->index) : now_ms;
    if (due > now_ms) {
        *answer = SOURCE_WAIT;
        *next_ms = due;
        return STATUS_OK;
    }
    struct stat st;
    bool there = stat(path, &st) == 0;
    char *copy = strdup(path);
    if (!copy) return err_memory(err, "frame");
    *frame = (struct source_frame){
        .path = copy, .size = there ? st.st_size : -1,
        .mtime_ns = there ? (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec : -1, .due_ms = due,
    };
    s->index++;
    s->cursor++;
    *answer = SOURCE_FRAME;
    return STATUS_OK;
}

static enum status next_watched(struct source *s, double now_ms, struct source_frame *frame,
                                enum source_answer *answer, double *next_ms, struct err *err) {
    struct watch_file file;
    bool found;
    enum status status = watch_next(s->watch, now_ms, &file, &found, next_ms, err);
    if (status) return status;
    *answer = found ? SOURCE_FRAME : SOURCE_WAIT;
    if (!found) return STATUS_OK;
    *frame = (struct source_frame){ .path = file.path, .size = file.size, .mtime_ns = file.mtime_ns,
                                    .due_ms = file.closed_ms };
    s->index++;
    return STATUS_OK;
}

/* Reads what is there, at most until a frame is whole. */
static enum status next_in_stream(struct source *s, double now_ms, struct source_frame *frame,
                                  enum source_answer *answer, double *next_ms, struct err *err) {
    uint8_t buffer[1 << 16];
    for (;;) {
        size_t length = 0;
        struct err trouble = { 0 };
        uint8_t *bytes = jpeg_stream_take(&s->stream, &length, &trouble);
        if (bytes) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            char *path = NULL;
            if (asprintf(&path, "stdin:%llu", (unsigned long long)s->index) < 0) {
                free(bytes);
                return err_memory(err, "frame");
            }
            *frame = (struct source_frame){ .path = path, .bytes = bytes, .length = length, .size = (int64_t)length,
                                            .mtime_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec,
                                            .due_ms = now_ms };
            s->index++;
            s->in_stream++;
            *answer = SOURCE_FRAME;
            return STATUS_OK;
        }
        if (trouble.status) {
            if (err) *err = trouble;
            return trouble.status;
        }
        if (s->ended) {
            *answer = SOURCE_END;
            return STATUS_OK;
        }
        struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
        if (poll(&p, 1, 0) == 0) {
            *answer = SOURCE_WAIT;
            *next_ms = HUGE_VAL;
            return STATUS_OK;
        }
        ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return err_errno(err, "standard input");
        if (n == 0) {
            s->ended = true;
            jpeg_stream_end(&s->stream);
        } else {
            enum status status = jpeg_stream_append(&s->stream, buffer, (size_t)n, err);
            if (status) return status;
        }
    }
}

enum status source_next(struct source *s, double now_ms, struct source_frame *frame, enum source_answer *answer,
                        double *next_ms, struct err *err) {
    if (s->index >= s->limit) {
        *answer = SOURCE_END;
        return STATUS_OK;
    }
    if (s->kind == WATCHED) return next_watched(s, now_ms, frame, answer, next_ms, err);
    if (s->kind == STREAM) return next_in_stream(s, now_ms, frame, answer, next_ms, err);
    return next_file(s, now_ms, frame, answer, next_ms, err);
}

int source_fd(const struct source *s) {
    if (s->kind == WATCHED) return watch_fd(s->watch);
    return s->kind == STREAM && !s->ended ? STDIN_FILENO : -1;
}

int64_t source_left(const struct source *s) {
    if (s->kind == WATCHED) return (int64_t)watch_left(s->watch);
    if (s->kind == STREAM) return -1;
    return s->limit == INT64_MAX ? (int64_t)s->paths.count - s->index : s->limit - s->index;
}

void source_remarks(const struct source *s, char *text, size_t size) {
    text[0] = '\0';
    if (s->kind == STREAM && (s->stream.skipped || s->stream.damaged))
        snprintf(text, size, "standard input: %llu images, %llu broken ones dropped, %llu bytes between images skipped",
                 (unsigned long long)s->in_stream, (unsigned long long)s->stream.damaged,
                 (unsigned long long)s->stream.skipped);
}
