#include "deploy/store.h"

#include "common/file.h"
#include "common/model.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = 4096, HASH = 64 };

struct store {
    char *folder;
    int fd; /* of the slice that is being received, or -1 */
    char hash[HASH + 1], part[PATH];
    uint64_t size, received;
};

static bool is_part_of_the_dead(const char *name) {
    int pid, used = 0;
    const char *dot = strchr(name, '.');
    if (!dot || sscanf(dot, ".%d.part%n", &pid, &used) != 1 || dot[used] != '\0' || used == 0) return false;
    return kill(pid, 0) != 0 && errno == ESRCH;
}

static void remove_left_overs(const struct store *s) {
    DIR *dir = opendir(s->folder);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (is_part_of_the_dead(entry->d_name)) unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

static char *default_folder(void) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *folder = NULL;
    int n = cache && cache[0] == '/' ? asprintf(&folder, "%s/espalier", cache)
                                     : asprintf(&folder, "%s/.cache/espalier", home && home[0] ? home : "/var/tmp");
    return n < 0 ? NULL : folder;
}

enum status store_create(struct store **out, const char *folder, struct err *err) {
    struct store *s = calloc(1, sizeof *s);
    if (!s) return err_memory(err, "cache");
    s->fd = -1;
    s->folder = folder ? strdup(folder) : default_folder();
    enum status status = s->folder ? file_make_folder(s->folder, err) : err_memory(err, "cache");
    if (!status && access(s->folder, W_OK | X_OK) != 0) {
        status = err_errno(err, "%s", s->folder);
        err_hint(err, "give another folder with --cache");
    }
    if (status) {
        store_destroy(&s);
        return status;
    }
    remove_left_overs(s);
    *out = s;
    return STATUS_OK;
}

void store_destroy(struct store **pointer) {
    struct store *s = *pointer;
    if (!s) return;
    store_abort(s);
    free(s->folder);
    free(s);
    *pointer = NULL;
}

const char *store_folder(const struct store *s) { return s->folder; }

enum status store_path(const struct store *s, const char *hash, const char *ending, char *path, size_t size,
                       struct err *err) {
    if (snprintf(path, size, "%s/%s%s", s->folder, hash, ending) >= (int)size)
        return err_set(err, STATUS_LIMIT, "%.100s...: path too long", s->folder);
    return STATUS_OK;
}

bool store_check(const char *path, const char *hash) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    bool same = false;
    if (fd < 0) return false;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes != MAP_FAILED) {
            char found[HASH + 1];
            model_hash(bytes, (size_t)st.st_size, found);
            same = strcmp(found, hash) == 0;
            munmap(bytes, (size_t)st.st_size);
        }
    }
    /* Used now; that it was modified would have it packed again. */
    if (same) futimens(fd, (struct timespec[]){ { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } });
    close(fd);
    return same;
}

/* ---- receiving ---- */

enum status store_begin(struct store *s, const char *hash, uint64_t size, struct err *err) {
    store_abort(s);
    assert(strlen(hash) == HASH);
    if (size == 0 || size > (uint64_t)STORE_LIMIT)
        return err_set(err, STATUS_LIMIT, "a slice of %llu bytes: the cache holds at most %lld",
                       (unsigned long long)size, (long long)STORE_LIMIT);
    if (snprintf(s->part, sizeof s->part, "%s/%s.%d.part", s->folder, hash, (int)getpid()) >= (int)sizeof s->part)
        return err_set(err, STATUS_LIMIT, "%.100s...: path too long", s->folder);
    s->fd = open(s->part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (s->fd < 0) return err_errno(err, "%s", s->part);
    strcpy(s->hash, hash);
    s->size = size;
    s->received = 0;
    return STATUS_OK;
}

enum status store_append(struct store *s, uint64_t offset, const uint8_t *bytes, size_t length, struct err *err) {
    assert(s->fd >= 0);
    if (offset != s->received || length > s->size - s->received)
        return err_set(err, STATUS_FORMAT, "bytes %llu to %llu of a slice of %llu, of which %llu were received",
                       (unsigned long long)offset, (unsigned long long)(offset + length), (unsigned long long)s->size,
                       (unsigned long long)s->received);
    while (length) {
        ssize_t n = write(s->fd, bytes, length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            enum status status = err_errno(err, "%s", s->part);
            store_abort(s);
            return status;
        }
        bytes += n;
        length -= (size_t)n;
        s->received += (uint64_t)n;
    }
    return STATUS_OK;
}

uint64_t store_received(const struct store *s) {
    return s->received;
}

struct cached {
    char name[128];
    int64_t used_s, size;
};

static int oldest_first(const void *a, const void *b) {
    int64_t x = ((const struct cached *)a)->used_s, y = ((const struct cached *)b)->used_s;
    return (x > y) - (x < y);
}

static bool is_cached(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && strlen(name) < sizeof((struct cached *)0)->name &&
           (strcmp(dot, ".packed") == 0 || (strcmp(dot, ".safetensors") == 0 && dot - name == HASH));
}

/* Removes slices and packed weights until the rest and `room` more bytes are within the limit.
 * What a running worker has mapped stays usable for it. */
static void make_room(const struct store *s, int64_t room) {
    enum { MOST = 1024 };
    DIR *dir = opendir(s->folder);
    struct cached *list = dir ? malloc(MOST * sizeof *list) : NULL;
    int n = 0;
    int64_t total = room;
    for (struct dirent *entry; list && n < MOST && (entry = readdir(dir));) {
        struct stat st;
        if (!is_cached(entry->d_name) || fstatat(dirfd(dir), entry->d_name, &st, 0) != 0) continue;
        strcpy(list[n].name, entry->d_name);
        list[n].used_s = st.st_atim.tv_sec;
        list[n].size = st.st_size;
        total += list[n++].size;
    }
    if (list) qsort(list, (size_t)n, sizeof *list, oldest_first);
    for (int i = 0; i < n && total > STORE_LIMIT; i++) {
        unlinkat(dirfd(dir), list[i].name, 0);
        total -= list[i].size;
    }
    free(list);
    if (dir) closedir(dir);
}

enum status store_commit(struct store *s, struct err *err) {
    assert(s->fd >= 0 && s->received == s->size);
    char path[PATH];
    enum status status = store_path(s, s->hash, ".safetensors", path, sizeof path, err);
    if (!status && !store_check(s->part, s->hash))
        status = err_set(err, STATUS_FORMAT, "the slice that was received is not what was announced");
    if (!status) make_room(s, (int64_t)s->size);
    if (!status && (fsync(s->fd) != 0 || rename(s->part, path) != 0)) status = err_errno(err, "%s", path);
    if (status) {
        store_abort(s);
        return status;
    }
    close(s->fd);
    s->fd = -1;
    return STATUS_OK;
}

void store_abort(struct store *s) {
    if (s->fd < 0) return;
    close(s->fd);
    unlink(s->part);
    s->fd = -1;
}
