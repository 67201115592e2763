/* Folders of class folders. */
#include "train/dataset_build.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

bool dataset_is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *dataset_join(const char *folder, const char *name) {
    size_t length = strlen(folder), size = length + strlen(name) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, length > 0 && folder[length - 1] == '/' ? "%s%s" : "%s/%s", folder, name);
    return path;
}

bool dataset_has(const char *folder, const char *name) {
    struct stat st;
    char *path = dataset_join(folder, name);
    bool there = path && stat(path, &st) == 0;
    free(path);
    return there;
}

static bool is_image_name(const char *name) {
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".bmp", ".tga", ".ppm", ".pgm", ".pnm"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i]);
        if (length > n && strcasecmp(name + length - n, endings[i]) == 0) return true;
    }
    return false;
}

static void free_names(char **names, int n) {
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_wanted(const char *folder, const struct dirent *entry, bool folders) {
    if (entry->d_name[0] == '.') return false;
    if (!folders && !is_image_name(entry->d_name)) return false;
    if (entry->d_type == DT_DIR) return folders;
    if (entry->d_type == DT_REG) return !folders;
    char *path = dataset_join(folder, entry->d_name); /* a link, or a file system that does not say */
    bool is_folder = path && dataset_is_folder(path);
    free(path);
    return is_folder == folders;
}

/* Names of the folder's entries of one kind (folders, or image files), sorted, none hidden. */
static enum status list_folder(const char *folder, bool folders, char ***out, int *count, struct err *err) {
    char **names = NULL;
    int n = 0;
    enum status status = STATUS_OK;
    DIR *dir = opendir(folder);
    if (!dir) return err_errno(err, "cannot read the folder %s", folder);
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno) status = err_errno(err, "cannot read the folder %s", folder);
            break;
        }
        if (!is_wanted(folder, entry, folders)) continue;
        if (n == DATASET_MAX_SAMPLES) {
            status = err_set(err, STATUS_LIMIT, "%s: more than %d entries", folder, n);
            break;
        }
        if ((n & (n - 1)) == 0) {
            char **larger = realloc(names, (n ? 2 * (size_t)n : 1) * sizeof *larger);
            if (larger) names = larger;
            else status = err_memory(err, folder);
        }
        if (status == STATUS_OK && !(names[n] = strdup(entry->d_name))) status = err_memory(err, folder);
        if (status != STATUS_OK) break;
        n++;
    }
    closedir(dir);
    if (status != STATUS_OK) {
        free_names(names, n);
        return status;
    }
    if (n > 1) qsort(names, (size_t)n, sizeof *names, by_name);
    *out = names;
    *count = n;
    return STATUS_OK;
}

/* All images of one class folder. */
static enum status read_class(struct dataset *dataset, const char *folder, int label, struct err *err) {
    char **names;
    int n;
    enum status status = list_folder(folder, false, &names, &n, err);
    if (status != STATUS_OK) return status;
    for (int i = 0; status == STATUS_OK && i < n; i++) {
        char *path = dataset_join(folder, names[i]);
        status = path ? dataset_add_file(dataset, path, label, err) : err_memory(err, folder);
        free(path);
    }
    free_names(names, n);
    return status;
}

static int label_of(const struct dataset *dataset, const char *name) {
    for (int c = 0; c < dataset->nclasses; c++)
        if (strcmp(dataset->labels[c], name) == 0) return c;
    return -1;
}

/* A folder of class folders. */
static enum status read_folders(struct dataset *dataset, const char *folder, struct err *err) {
    char **names;
    int n;
    enum status status = list_folder(folder, true, &names, &n, err);
    if (status != STATUS_OK) return status;
    if (n == 0) {
        status = err_set(err, STATUS_FORMAT, "%s holds no class folders", folder);
        err_hint(err, "images of each class belong in a folder of its own: %s/fox/0001.jpg", folder);
    }
    bool fresh = dataset->nclasses == 0;
    for (int i = 0; status == STATUS_OK && fresh && i < n; i++)
        status = dataset_add_label(dataset, names[i], err);
    for (int i = 0; status == STATUS_OK && i < n; i++) {
        int label = label_of(dataset, names[i]);
        char *path = dataset_join(folder, names[i]);
        if (!path) {
            status = err_memory(err, folder);
        } else if (label < 0) {
            status = err_set(err, STATUS_FORMAT, "%s: '%s' is none of the %d classes", folder, names[i],
                             dataset->nclasses);
        } else {
            status = read_class(dataset, path, label, err);
        }
        free(path);
    }
    free_names(names, n);
    return status;
}

/* Whether `folder`/`name` is a folder of folders, or one that cannot be read (which reading it will tell). */
static bool is_split(const char *folder, const char *name) {
    char *path = dataset_join(folder, name), **names = NULL;
    int n = 0;
    bool split = path && dataset_is_folder(path) &&
                 (list_folder(path, true, &names, &n, NULL) != STATUS_OK || n > 0);
    free_names(names, n);
    free(path);
    return split;
}

enum status dataset_read_tree(struct dataset *dataset, const char *folder, enum dataset_split split,
                              struct err *err) {
    static const char *const candidates[][4] = {
        [DATASET_TRAIN] = {"train"},
        [DATASET_VALID] = {"valid", "val", "test"},
        [DATASET_TEST] = {"test", "valid", "val"},
    };
    const char *chosen = NULL;
    for (int i = 0; !chosen && candidates[split][i]; i++)
        if (is_split(folder, candidates[split][i])) chosen = candidates[split][i];
    bool has_train = is_split(folder, "train");
    if (!chosen && !has_train && !is_split(folder, "valid") && !is_split(folder, "val") && !is_split(folder, "test")) {
        enum status status = read_folders(dataset, folder, err);
        dataset->unsplit = true;
        return status == STATUS_OK ? dataset_check(dataset, true, err) : status;
    }
    if (!chosen) {
        bool train = split == DATASET_TRAIN;
        enum status missing = err_set(err, STATUS_FORMAT, "%s has no %s", folder,
                                      train ? "train/ folder" : "valid/, val/ or test/ folder beside train/");
        err_hint(err, "put class folders into %s/%s/", folder, train ? "train" : "valid");
        return missing;
    }
    /* Class numbers are the training folder's, whichever split is read. */
    enum status status = STATUS_OK;
    if (has_train && dataset->nclasses == 0) {
        char *path = dataset_join(folder, "train"), **names = NULL;
        int n = 0;
        status = path ? list_folder(path, true, &names, &n, err) : err_memory(err, folder);
        for (int i = 0; status == STATUS_OK && i < n; i++) status = dataset_add_label(dataset, names[i], err);
        free_names(names, n);
        free(path);
    }
    char *path = dataset_join(folder, chosen);
    if (status == STATUS_OK) status = path ? read_folders(dataset, path, err) : err_memory(err, folder);
    free(path);
    return status == STATUS_OK ? dataset_check(dataset, split == DATASET_TRAIN, err) : status;
}
