#include "common/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum status file_read(const char *path, size_t limit, uint8_t **bytes, size_t *length, struct err *err) {
    enum status status;
    uint8_t *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_errno(err, "cannot open %s", path);
    struct stat st;
    if (fstat(fd, &st) != 0) {
        status = err_errno(err, "cannot read %s", path);
        goto fail;
    }
    if (S_ISDIR(st.st_mode)) {
        status = err_set(err, STATUS_IO, "%s is a folder, not a file", path);
        goto fail;
    }
    /* Pipes and files that grow while they are read: read until the end. */
    size_t room = S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size : 4096, used = 0;
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > limit) {
        status = err_set(err, STATUS_LIMIT, "%s has %lld bytes, more than the limit of %zu", path,
                         (long long)st.st_size, limit);
        goto fail;
    }
    data = malloc(room + 1);
    if (!data) {
        status = err_memory(err, path);
        goto fail;
    }
    for (;;) {
        ssize_t n = read(fd, data + used, room - used);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            status = err_errno(err, "cannot read %s", path);
            goto fail;
        }
        used += (size_t)n;
        if (n == 0) break;
        if (used < room) continue;
        if (used > limit) {
            status = err_set(err, STATUS_LIMIT, "%s has more bytes than the limit of %zu", path, limit);
            goto fail;
        }
        uint8_t *larger = realloc(data, 2 * room + 1);
        if (!larger) {
            status = err_memory(err, path);
            goto fail;
        }
        data = larger;
        room *= 2;
    }
    close(fd);
    data[used] = 0;
    *bytes = data;
    *length = used;
    return STATUS_OK;
fail:
    free(data);
    close(fd);
    return status;
}

enum status file_replace_open(struct file_replace *file, const char *path, struct err *err) {
    struct file_replace f = {0};
    size_t size = strlen(path) + 32;
    f.path = strdup(path);
    f.temporary = malloc(size);
    if (!f.path || !f.temporary) {
        free(f.path);
        free(f.temporary);
        return err_memory(err, path);
    }
    snprintf(f.temporary, size, "%s.tmp%ld", path, (long)getpid());
    f.stream = fopen(f.temporary, "wbe");
    if (!f.stream) {
        enum status status = err_errno(err, "cannot write %s", path);
        free(f.path);
        free(f.temporary);
        return status;
    }
    flock(fileno(f.stream), LOCK_EX | LOCK_NB); /* tells it from what a killed process left */
    *file = f;
    return STATUS_OK;
}

static void close_all(struct file_replace *file) {
    if (file->stream) fclose(file->stream);
    free(file->path);
    free(file->temporary);
    *file = (struct file_replace){0};
}

void file_replace_abort(struct file_replace *file) {
    if (file->temporary) unlink(file->temporary);
    close_all(file);
}

/* "<name>....tmp<number>" */
static bool is_temporary(const char *entry, const char *name, size_t length) {
    const char *end = entry + strlen(entry), *digits = end;
    while (digits > entry && isdigit((unsigned char)digits[-1])) digits--;
    return digits < end && digits - entry >= (ptrdiff_t)length + 4 && strncmp(entry, name, length) == 0 &&
           entry[length] == '.' && strncmp(digits - 4, ".tmp", 4) == 0;
}

void file_replace_tidy(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    DIR *dir = folder ? opendir(folder) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (!is_temporary(entry->d_name, name, strlen(name))) continue;
        int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(dirfd(dir), entry->d_name, 0);
        close(fd);
    }
    if (dir) closedir(dir);
    free(folder);
}

/* The rename must survive a power cut: sync the folder that holds the name. */
static void sync_folder_of(const char *path) {
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 1;
    if (n >= sizeof folder) return;
    memcpy(folder, slash ? path : ".", n);
    folder[n] = '\0';
    int fd = open(n ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

enum status file_replace_commit(struct file_replace *file, struct err *err) {
    enum status status = STATUS_OK;
    if (ferror(file->stream) || fflush(file->stream) != 0 || fsync(fileno(file->stream)) != 0 ||
        rename(file->temporary, file->path) != 0)
        status = err_errno(err, "cannot write %s", file->path);
    if (status) {
        file_replace_abort(file);
        return status;
    }
    sync_folder_of(file->path);
    close_all(file);
    return STATUS_OK;
}

enum status file_make_folder(const char *path, struct err *err) {
    char *copy = strdup(path);
    if (!copy) return err_memory(err, path);
    enum status status = STATUS_OK;
    for (char *p = copy + 1; !status; p++) {
        if (*p != '/' && *p != '\0') continue;
        char end = *p;
        *p = '\0';
        struct stat st;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST) status = err_errno(err, "cannot make the folder %s", copy);
        else if (stat(copy, &st) != 0 || !S_ISDIR(st.st_mode))
            status = err_set(err, STATUS_IO, "%s is in the way: it is not a folder", copy);
        *p = end;
        if (end == '\0') break;
    }
    free(copy);
    return status;
}
