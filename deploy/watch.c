#include "deploy/watch.h"

#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { REST_MS = 1000, RECHECK_MS = 250 };
static const uint32_t EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

/* Files in the order they came, read from `taken` on. */
struct arrivals {
    struct watch_file *file;
    size_t taken, count, room;
};

struct watch {
    int fd;
    char *root;
    char **folder_of; /* [watch descriptor] its path, or NULL */
    int nfolders;
    struct seen seen;
    struct arrivals ready;
    struct paths young; /* scanned, perhaps still growing */
    double recheck_ms;
    bool scan_wanted;
};

static enum status arrive(struct watch *w, const char *path, const struct stat *st, double now_ms, struct err *err) {
    int64_t mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    const struct seen_path *before = seen_find(&w->seen, path);
    if (before && before->size == st->st_size && before->mtime_ns == mtime_ns) return STATUS_OK;
    struct arrivals *a = &w->ready;
    if (a->taken == a->count) a->taken = a->count = 0;
    if (a->count == a->room) {
        size_t room = a->room ? a->room * 2 : 64;
        struct watch_file *larger = realloc(a->file, room * sizeof *larger);
        if (!larger) return err_memory(err, "watched files");
        a->file = larger;
        a->room = room;
    }
    char *copy = strdup(path);
    if (!copy) return err_memory(err, "watched files");
    enum status status = seen_add(&w->seen, path, st->st_size, mtime_ns, err);
    if (status) {
        free(copy);
        return status;
    }
    a->file[a->count++] = (struct watch_file){ copy, st->st_size, mtime_ns, now_ms };
    return STATUS_OK;
}

/* A file found by scanning: arrived if it has come to rest. */
static enum status consider(struct watch *w, const char *path, double now_ms, struct err *err) {
    struct stat st;
    struct timespec now;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return STATUS_OK;
    clock_gettime(CLOCK_REALTIME, &now);
    double age_ms = (double)(now.tv_sec - st.st_mtim.tv_sec) * 1e3 + (double)(now.tv_nsec - st.st_mtim.tv_nsec) * 1e-6;
    if (age_ms >= 0 && age_ms < REST_MS) return paths_add(&w->young, path, err);
    return arrive(w, path, &st, now_ms, err);
}

static enum status watch_folder(struct watch *w, const char *folder, struct err *err) {
    int wd = inotify_add_watch(w->fd, folder, EVENTS);
    if (wd < 0 && errno == ENOENT && strcmp(folder, w->root) != 0) return STATUS_OK; /* has just gone */
    if (wd < 0) {
        err_errno(err, "%s: watch", folder);
        if (err && errno == ENOSPC) err_hint(err, "raise fs.inotify.max_user_watches");
        return STATUS_IO;
    }
    if (wd >= w->nfolders) {
        int n = wd + 16;
        char **larger = realloc(w->folder_of, (size_t)n * sizeof *larger);
        if (!larger) return err_memory(err, "watched folders");
        for (int i = w->nfolders; i < n; i++) larger[i] = NULL;
        w->folder_of = larger;
        w->nfolders = n;
    }
    char *copy = strdup(folder);
    if (!copy) return err_memory(err, "watched folders");
    free(w->folder_of[wd]);
    w->folder_of[wd] = copy;
    return STATUS_OK;
}

/* Watches first and looks second, so that nothing falls between; folders that
 * appear in between are seen by the watch on their parent. */
static enum status scan_folder(struct watch *w, const char *folder, double now_ms, struct err *err) {
    struct paths files = { 0 }, folders = { 0 };
    enum status status = watch_folder(w, folder, err);
    if (!status) status = paths_scan(&files, &folders, folder, err);
    for (size_t i = 1; i < folders.count && !status; i++) status = watch_folder(w, folders.path[i], err);
    for (size_t i = 0; i < files.count && !status; i++) status = consider(w, files.path[i], now_ms, err);
    paths_free(&files);
    paths_free(&folders);
    return status;
}

static enum status handle(struct watch *w, const struct inotify_event *event, double now_ms, struct err *err) {
    if (event->mask & IN_Q_OVERFLOW) {
        log_warn("%s: files came faster than they were looked at; reading the whole folder again", w->root);
        w->scan_wanted = true;
        return STATUS_OK;
    }
    const char *folder = event->wd >= 0 && event->wd < w->nfolders ? w->folder_of[event->wd] : NULL;
    if (!folder) return STATUS_OK;
    if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) {
        if (strcmp(folder, w->root) == 0)
            return err_set(err, STATUS_IO, "%s: the watched folder has gone", w->root);
        return STATUS_OK;
    }
    if (event->mask & IN_IGNORED) {
        free(w->folder_of[event->wd]);
        w->folder_of[event->wd] = NULL;
        return STATUS_OK;
    }
    if (!event->len || event->name[0] == '.') return STATUS_OK;
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, event->name) >= (int)sizeof path) return STATUS_OK;
    if (event->mask & IN_ISDIR) {
        enum status status = scan_folder(w, path, now_ms, err);
        if (status != STATUS_IO) return status;
        log_warn("%s", err->text); /* one unreadable folder does not end the watch */
        return STATUS_OK;
    }
    struct stat st;
    bool complete = event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO);
    if (!complete || !paths_is_image(path) || stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return STATUS_OK;
    return arrive(w, path, &st, now_ms, err);
}

static enum status read_events(struct watch *w, double now_ms, struct err *err) {
    _Alignas(struct inotify_event) char buffer[16384];
    for (;;) {
        ssize_t n = read(w->fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return STATUS_OK;
        if (n < 0) return err_errno(err, "%s: watch", w->root);
        for (char *p = buffer; p < buffer + n;) {
            const struct inotify_event *event = (const struct inotify_event *)p;
            struct err trouble;
            enum status status = handle(w, event, now_ms, &trouble);
            if (status) {
                if (err) *err = trouble;
                return status;
            }
            p += sizeof *event + event->len;
        }
    }
}

static enum status recheck_young(struct watch *w, double now_ms, struct err *err) {
    struct paths young = w->young;
    w->young = (struct paths){ 0 };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < young.count && !status; i++) status = consider(w, young.path[i], now_ms, err);
    paths_free(&young);
    w->recheck_ms = now_ms + RECHECK_MS;
    return status;
}

enum status watch_create(struct watch **out, const char *folder, struct err *err) {
    struct watch *w = calloc(1, sizeof *w);
    if (!w) return err_memory(err, folder);
    w->scan_wanted = true;
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    enum status status = w->fd < 0 ? err_errno(err, "inotify") : STATUS_OK;
    if (!status && !(w->root = strdup(folder))) status = err_memory(err, folder);
    if (!status) status = watch_folder(w, folder, err);
    if (status) watch_destroy(&w);
    else *out = w;
    return status;
}

void watch_destroy(struct watch **pointer) {
    struct watch *w = *pointer;
    if (!w) return;
    for (size_t i = w->ready.taken; i < w->ready.count; i++) free(w->ready.file[i].path);
    free(w->ready.file);
    for (int i = 0; i < w->nfolders; i++) free(w->folder_of[i]);
    free(w->folder_of);
    paths_free(&w->young);
    seen_free(&w->seen);
    free(w->root);
    if (w->fd >= 0) close(w->fd);
    free(w);
    *pointer = NULL;
}

int watch_fd(const struct watch *w) { return w->fd; }
size_t watch_left(const struct watch *w) { return w->ready.count - w->ready.taken; }

enum status watch_skip(struct watch *w, const char *path, int64_t size, int64_t mtime_ns, struct err *err) {
    return seen_add(&w->seen, path, size, mtime_ns, err);
}

enum status watch_next(struct watch *w, double now_ms, struct watch_file *file, bool *found, double *next_ms,
                       struct err *err) {
    enum status status = read_events(w, now_ms, err);
    if (!status && w->scan_wanted) {
        w->scan_wanted = false;
        status = scan_folder(w, w->root, now_ms, err);
    }
    if (!status && w->young.count && now_ms >= w->recheck_ms) status = recheck_young(w, now_ms, err);
    if (status) return status;
    *found = w->ready.taken < w->ready.count;
    if (*found) *file = w->ready.file[w->ready.taken++];
    *next_ms = w->young.count ? w->recheck_ms : HUGE_VAL;
    return STATUS_OK;
}
