#include "deploy/paths.h"

#include "common/file.h"
#include "common/random.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 32, MAX_LIST = 256 << 20 };

void paths_free(struct paths *paths) {
    for (size_t i = 0; i < paths->count; i++) free(paths->path[i]);
    free(paths->path);
    *paths = (struct paths){ 0 };
}

enum status paths_add(struct paths *paths, const char *path, struct err *err) {
    if (paths->count == paths->room) {
        size_t room = paths->room ? paths->room * 2 : 64;
        char **larger = realloc(paths->path, room * sizeof *larger);
        if (!larger) return err_memory(err, "list of files");
        paths->path = larger;
        paths->room = room;
    }
    char *copy = strdup(path);
    if (!copy) return err_memory(err, "list of files");
    paths->path[paths->count++] = copy;
    return STATUS_OK;
}

bool paths_is_image(const char *path) {
    static const char *const endings[] = { ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tga",
                                           ".gif", ".ppm",  ".pgm", ".psd", ".pic" };
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    if (!dot || name[0] == '.') return false;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (strcasecmp(dot, endings[i]) == 0) return true;
    return false;
}

/* ---- folders ---- */

static int skip_dots(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static enum status scan(struct paths *paths, struct paths *folders, const char *folder, int depth, struct err *err) {
    if (depth > MAX_DEPTH) return err_set(err, STATUS_LIMIT, "%s: folders nested more than %d deep", folder, MAX_DEPTH);
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, skip_dots, by_bytes);
    if (n < 0) return err_errno(err, "%s", folder);
    enum status status = folders ? paths_add(folders, folder, err) : STATUS_OK;
    for (int i = 0; i < n && !status; i++) {
        char *path = NULL;
        struct stat st;
        size_t length = strlen(folder);
        const char *slash = length && folder[length - 1] == '/' ? "" : "/";
        if (asprintf(&path, "%s%s%s", folder, slash, entries[i]->d_name) < 0) {
            status = err_memory(err, "list of files");
            break;
        }
        if (lstat(path, &st) == 0) { /* else it has just gone */
            if (S_ISDIR(st.st_mode)) status = scan(paths, folders, path, depth + 1, err);
            else if (paths_is_image(path)) status = paths_add(paths, path, err);
        }
        free(path);
    }
    for (int i = 0; i < n; i++) free(entries[i]);
    free(entries);
    return status;
}

enum status paths_scan(struct paths *paths, struct paths *folders, const char *folder, struct err *err) {
    return scan(paths, folders, folder, 0, err);
}

/* ---- list files ---- */

static enum status add_line(struct paths *paths, const char *line, const char *folder, size_t folder_length,
                            struct err *err) {
    struct stat st;
    if (line[0] == '/' || folder_length == 0 || stat(line, &st) == 0) return paths_add(paths, line, err);
    char *beside = NULL;
    if (asprintf(&beside, "%.*s%s", (int)folder_length, folder, line) < 0) return err_memory(err, "list of files");
    enum status status = paths_add(paths, stat(beside, &st) == 0 ? beside : line, err);
    free(beside);
    return status;
}

enum status paths_read_list(struct paths *paths, const char *file, struct err *err) {
    uint8_t *bytes;
    size_t length;
    enum status status = file_read(file, MAX_LIST, &bytes, &length, err);
    if (status) return status;
    const char *slash = strrchr(file, '/');
    size_t folder_length = slash ? (size_t)(slash - file) + 1 : 0;
    if (memchr(bytes, '\0', length))
        status = err_set(err, STATUS_FORMAT, "%s: holds a zero byte; is it a list of files?", file);
    char *state = NULL;
    for (char *line = strtok_r((char *)bytes, "\r\n", &state); line && !status; line = strtok_r(NULL, "\r\n", &state)) {
        while (*line == ' ' || *line == '\t') line++;
        if (*line) status = add_line(paths, line, file, folder_length, err);
    }
    free(bytes);
    return status;
}

void paths_shuffle(struct paths *paths, uint64_t seed) {
    struct random random = random_stream(seed, 0, 0);
    for (size_t i = paths->count; i > 1; i--) {
        size_t k = (size_t)(random_next(&random) % i);
        char *swap = paths->path[i - 1];
        paths->path[i - 1] = paths->path[k];
        paths->path[k] = swap;
    }
}

/* ---- seen ---- */

void seen_free(struct seen *seen) {
    for (size_t i = 0; i < seen->nslots; i++) free(seen->slots[i].path);
    free(seen->slots);
    *seen = (struct seen){ 0 };
}

/* FNV-1a. */
static uint64_t hash(const char *text) {
    uint64_t h = 14695981039346656037u;
    for (; *text; text++) h = (h ^ (uint8_t)*text) * 1099511628211u;
    return h;
}

/* The path's slot, or the free one where it belongs. */
static struct seen_path *slot_of(struct seen_path *slots, size_t nslots, const char *path) {
    size_t at = hash(path) & (nslots - 1);
    while (slots[at].path && strcmp(slots[at].path, path) != 0) at = (at + 1) & (nslots - 1);
    return &slots[at];
}

struct seen_path *seen_find(const struct seen *seen, const char *path) {
    if (!seen->nslots) return NULL;
    struct seen_path *slot = slot_of(seen->slots, seen->nslots, path);
    return slot->path ? slot : NULL;
}

static enum status grow(struct seen *seen, struct err *err) {
    size_t nslots = seen->nslots ? seen->nslots * 2 : 256;
    struct seen_path *slots = calloc(nslots, sizeof *slots);
    if (!slots) return err_memory(err, "list of files");
    for (size_t i = 0; i < seen->nslots; i++)
        if (seen->slots[i].path) *slot_of(slots, nslots, seen->slots[i].path) = seen->slots[i];
    free(seen->slots);
    seen->slots = slots;
    seen->nslots = nslots;
    return STATUS_OK;
}

enum status seen_add(struct seen *seen, const char *path, int64_t size, int64_t mtime_ns, struct err *err) {
    if (seen->used * 4 >= seen->nslots * 3) {
        enum status status = grow(seen, err);
        if (status) return status;
    }
    struct seen_path *slot = slot_of(seen->slots, seen->nslots, path);
    if (!slot->path) {
        slot->path = strdup(path);
        if (!slot->path) return err_memory(err, "list of files");
        seen->used++;
    }
    slot->count++;
    slot->size = size;
    slot->mtime_ns = mtime_ns;
    return STATUS_OK;
}
