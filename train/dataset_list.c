/* Darknet's .data files and image lists.
 *
 * Darknet marks every label that occurs anywhere in a path and warns unless it
 * is exactly one. Here one label must come out: where several occur, a folder of
 * the path that is a label decides (the last one), then the longest label that
 * holds all the others. Anything else is an error. */
#include "common/cfg.h"
#include "common/file.h"
#include "train/dataset_build.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIST_LIMIT = 1 << 30, PROBED_PATHS = 100 };

static const struct cfg_key data_keys[] = {
    {"classes", "how many"},
    {"train", "list of training images, or a folder of class folders"},
    {"valid", "the same for validation"},
    {"test", "the same for testing"},
    {"labels", "file of labels, one a line, as they occur in the paths"},
    {"names", "file of names to print instead of the labels"},
    {"backup", NULL},
    {"results", NULL},
    {"top", NULL},
    {"eval", NULL},
    {"tree", NULL},
    {"map", NULL},
    {"leaf", NULL},
    {NULL, NULL},
};
static const struct cfg_schema data_schemas[] = {{"", data_keys}, {NULL, NULL}};

/* A text file, cut into lines without blanks at their ends; empty ones left out. */
struct lines {
    char *text;
    int n;
    char **line;
    int *number; /* of the line in the file, from 1 */
};

static void lines_free(struct lines *lines) {
    free(lines->text);
    free(lines->line);
    free(lines->number);
    *lines = (struct lines){0};
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static enum status lines_read(struct lines *out, const char *path, struct err *err) {
    struct lines lines = {0};
    size_t length, total = 1;
    uint8_t *bytes;
    enum status status = file_read(path, LIST_LIMIT, &bytes, &length, err);
    if (status != STATUS_OK) return status;
    lines.text = (char *)bytes;
    if (memchr(bytes, 0, length)) {
        status = err_set(err, STATUS_FORMAT, "%s: holds a zero byte; is it text?", path);
        goto fail;
    }
    for (size_t i = 0; i < length; i++) total += bytes[i] == '\n';
    if (total > DATASET_MAX_SAMPLES) {
        status = err_set(err, STATUS_LIMIT, "%s: more than %d lines", path, DATASET_MAX_SAMPLES);
        goto fail;
    }
    lines.line = calloc(total, sizeof *lines.line);
    lines.number = calloc(total, sizeof *lines.number);
    if (!lines.line || !lines.number) {
        status = err_memory(err, path);
        goto fail;
    }
    int number = 0;
    for (char *at = lines.text, *next; at; at = next) {
        next = strchr(at, '\n');
        if (next) *next++ = '\0';
        number++;
        char *end = at + strlen(at);
        while (end > at && is_blank(end[-1])) *--end = '\0';
        while (is_blank(*at)) at++;
        if (*at == '\0') continue;
        lines.line[lines.n] = at;
        lines.number[lines.n++] = number;
    }
    *out = lines;
    return STATUS_OK;
fail:
    lines_free(&lines);
    return status;
}

/* ---- paths ---------------------------------------------------------------------- */

/* The path as it is if it can be found from here, else from the .data file's folder; malloc'ed. */
static char *resolve(const char *data, const char *path) {
    const char *slash = strrchr(data, '/');
    if (path[0] == '/' || !slash || access(path, F_OK) == 0) return strdup(path);
    char *folder = strndup(data, (size_t)(slash - data)), *other = folder ? dataset_join(folder, path) : NULL;
    free(folder);
    if (other && access(other, F_OK) != 0) {
        free(other);
        return strdup(path);
    }
    return other;
}

/* What to put before the relative paths of a list: "" or a folder, malloc'ed.
 * The first of its images that can be found decides. */
static char *list_base(const char *data, const char *list, const struct lines *lines) {
    const char *const files[] = {data, list};
    for (int i = 0; i < lines->n && i < PROBED_PATHS; i++) {
        if (access(lines->line[i], F_OK) == 0) break;
        for (int k = 0; k < 2; k++) {
            const char *slash = strrchr(files[k], '/');
            char *folder = slash ? strndup(files[k], (size_t)(slash - files[k]) + 1) : NULL;
            bool found = folder && dataset_has(folder, lines->line[i]);
            if (found) return folder;
            free(folder);
        }
    }
    return strdup("");
}

/* ---- labels --------------------------------------------------------------------- */

struct labels {
    char **text; /* as they occur in paths */
    int n;
    int *sorted; /* indices by text */
};

static int by_text(const void *a, const void *b, void *text) {
    return strcmp(((char **)text)[*(const int *)a], ((char **)text)[*(const int *)b]);
}

/* The label that equals text[0..length), or -1. */
static int equal_label(const struct labels *labels, const char *text, size_t length) {
    int low = 0, high = labels->n - 1;
    while (low <= high) {
        int middle = low + (high - low) / 2;
        const char *label = labels->text[labels->sorted[middle]];
        int order = strncmp(text, label, length);
        if (order == 0 && label[length] != '\0') order = -1;
        if (order == 0) return labels->sorted[middle];
        if (order < 0) high = middle - 1;
        else low = middle + 1;
    }
    return -1;
}

static int folder_label(const struct labels *labels, const char *path) {
    const char *end = strrchr(path, '/');
    while (end && end > path) {
        const char *start = end;
        while (start > path && start[-1] != '/') start--;
        int label = equal_label(labels, start, (size_t)(end - start));
        if (label >= 0) return label;
        end = start > path ? start - 1 : NULL;
    }
    return -1;
}

/* The longest label that occurs in the path, or -1; *rival: one that does too, but not within it, or -1. */
static int occurring_label(const struct labels *labels, const char *path, int *rival) {
    int found = -1, matches = 0;
    *rival = -1;
    for (int i = 0; i < labels->n; i++) {
        if (!strstr(path, labels->text[i])) continue;
        matches++;
        if (found < 0 || strlen(labels->text[i]) > strlen(labels->text[found])) found = i;
    }
    for (int i = 0; i < labels->n && matches > 1; i++)
        if (i != found && strstr(path, labels->text[i]) && !strstr(labels->text[found], labels->text[i])) *rival = i;
    return found;
}

static enum status find_label(const struct labels *labels, const char *list, int number, const char *path, int *label,
                              struct err *err) {
    int rival = -1, found = folder_label(labels, path);
    if (found < 0) found = occurring_label(labels, path, &rival);
    if (found >= 0 && rival < 0) {
        *label = found;
        return STATUS_OK;
    }
    if (found < 0)
        err_set(err, STATUS_FORMAT, "%s:%d: none of the %d labels occurs in '%s'", list, number, labels->n, path);
    else
        err_set(err, STATUS_FORMAT, "%s:%d: both '%s' and '%s' occur in '%s'", list, number, labels->text[found],
                labels->text[rival], path);
    err_hint(err, "an image's label is the line of the labels file that occurs in its path; use class folders");
    return STATUS_FORMAT;
}

/* ---- reading -------------------------------------------------------------------- */

static enum status read_list(struct dataset *dataset, const char *data, const char *list, char **label_text,
                             int nlabels, struct err *err) {
    struct lines lines;
    struct labels labels = {.text = label_text, .n = nlabels};
    char *base = NULL;
    enum status status = lines_read(&lines, list, err);
    if (status != STATUS_OK) return status;
    labels.sorted = calloc((size_t)nlabels, sizeof *labels.sorted);
    base = list_base(data, list, &lines);
    if (!labels.sorted || !base) {
        status = err_memory(err, list);
        goto done;
    }
    for (int i = 0; i < nlabels; i++) labels.sorted[i] = i;
    qsort_r(labels.sorted, (size_t)nlabels, sizeof *labels.sorted, by_text, label_text);
    for (int i = 0; status == STATUS_OK && i < lines.n; i++) {
        int label = -1;
        status = find_label(&labels, list, lines.number[i], lines.line[i], &label, err);
        if (status != STATUS_OK) break;
        char *path = base[0] && lines.line[i][0] != '/' ? dataset_join(base, lines.line[i]) : strdup(lines.line[i]);
        status = path ? dataset_add_file(dataset, path, label, err) : err_memory(err, list);
        free(path);
    }
    if (status == STATUS_OK && lines.n == 0) status = err_set(err, STATUS_FORMAT, "%s: lists no images", list);
done:
    free(labels.sorted);
    free(base);
    lines_free(&lines);
    return status;
}

/* The lines of the file that option `key` names; none if there is no such option. */
static enum status read_names(const struct cfg *cfg, const char *data, const char *key, struct lines *lines,
                              struct err *err) {
    const struct cfg_option *option = cfg_option(cfg_find(cfg, ""), key);
    if (!option) return STATUS_OK;
    char *path = resolve(data, option->value);
    enum status status = path ? lines_read(lines, path, err) : err_memory(err, data);
    if (status != STATUS_OK) err_prefix(err, "%s:%d: %s", cfg->name, option->line, key);
    free(path);
    return status;
}

static const struct cfg_option *split_option(const struct cfg *cfg, enum dataset_split split) {
    static const char *const keys[][2] = {
        [DATASET_TRAIN] = {"train"}, [DATASET_VALID] = {"valid", "test"}, [DATASET_TEST] = {"test", "valid"}};
    const struct cfg_option *option = NULL;
    for (int i = 0; !option && i < 2 && keys[split][i]; i++) option = cfg_option(cfg_find(cfg, ""), keys[split][i]);
    return option;
}

/* Whether training and validation images come from different places. */
static bool has_split(const struct cfg *cfg) {
    const struct cfg_option *train = split_option(cfg, DATASET_TRAIN), *valid = split_option(cfg, DATASET_VALID);
    return train && valid && strcmp(train->value, valid->value) != 0;
}

/* The labels that are printed: names where there are as many, else the labels themselves. */
static enum status add_labels(struct dataset *dataset, const struct lines *labels, const struct lines *names,
                              int classes, struct err *err) {
    enum status status = STATUS_OK;
    const struct lines *shown = names->n >= classes ? names : labels;
    for (int i = 0; status == STATUS_OK && i < classes; i++) status = dataset_add_label(dataset, shown->line[i], err);
    return status;
}

static enum status read_labels(const struct cfg *cfg, const char *data, int *classes, struct lines *labels,
                               struct lines *names, struct err *err) {
    enum status status = cfg_check(cfg, data_schemas, err);
    if (status == STATUS_OK) status = cfg_int(cfg, cfg_find(cfg, ""), "classes", 1, DATASET_MAX_CLASSES, classes, err);
    if (status == STATUS_OK) status = read_names(cfg, data, "labels", labels, err);
    if (status == STATUS_OK) status = read_names(cfg, data, "names", names, err);
    return status;
}

enum status dataset_open_labels(struct dataset **out, const char *data, struct err *err) {
    struct cfg *cfg;
    struct lines labels = {0}, names = {0};
    struct dataset *dataset = NULL;
    int classes = 0;
    enum status status = cfg_load(&cfg, data, err);
    if (status != STATUS_OK) return status;
    status = read_labels(cfg, data, &classes, &labels, &names, err);
    const struct lines *shown = names.n ? &names : &labels;
    if (status == STATUS_OK && (shown->n == 0 || shown->n < classes))
        status = err_set(err, STATUS_FORMAT, "%s: classes=%d, but there are only %d names", data, classes, shown->n);
    if (status == STATUS_OK) status = dataset_new(&dataset, data, err);
    if (status == STATUS_OK) status = add_labels(dataset, shown, shown, classes ? classes : shown->n, err);
    if (status != STATUS_OK) dataset_close(&dataset);
    else *out = dataset;
    lines_free(&labels);
    lines_free(&names);
    cfg_destroy(&cfg);
    return status;
}

enum status dataset_read_data(struct dataset *dataset, const char *data, enum dataset_split split, struct err *err) {
    struct cfg *cfg = NULL;
    struct lines labels = {0}, names = {0};
    char *source = NULL;
    int classes = 0;
    enum status status = cfg_load(&cfg, data, err);
    if (status != STATUS_OK) {
        err_hint(err, "a dataset is a Darknet .data file or a folder");
        return status;
    }
    status = read_labels(cfg, data, &classes, &labels, &names, err);
    if (status != STATUS_OK) goto done;
    const struct cfg_option *option = split_option(cfg, split);
    if (!option) {
        status = err_set(err, STATUS_FORMAT, "%s: no '%s' in it", data, split == DATASET_TRAIN ? "train" : "valid");
        err_hint(err, "add %s = <list file or folder of class folders>", split == DATASET_TRAIN ? "train" : "valid");
        goto done;
    }
    source = resolve(data, option->value);
    if (!source) {
        status = err_memory(err, data);
        goto done;
    }
    const struct lines *paths = labels.n ? &labels : &names;
    if (!classes) classes = paths->n;
    if (paths->n > 0 && paths->n < classes) {
        status = err_set(err, STATUS_FORMAT, "%s: classes=%d, but there are only %d labels", data, classes, paths->n);
    } else if (dataset_is_folder(source)) {
        status = add_labels(dataset, paths, paths, paths->n ? classes : 0, err);
        if (status == STATUS_OK) status = dataset_read_folder(dataset, source, split, err);
        dataset->unsplit = dataset->unsplit && !has_split(cfg);
        if (status == STATUS_OK && classes && dataset->nclasses != classes)
            status = err_set(err, STATUS_FORMAT, "%s: classes=%d, but %s has %d classes", data, classes, source,
                             dataset->nclasses);
    } else if (paths->n == 0) {
        status = err_set(err, STATUS_FORMAT, "%s: no labels", data);
        err_hint(err, "add labels = <file with one label a line>");
    } else {
        status = add_labels(dataset, &labels, &names, classes, err);
        if (status == STATUS_OK) status = read_list(dataset, data, source, paths->line, classes, err);
        if (status == STATUS_OK) status = dataset_check(dataset, split == DATASET_TRAIN, err);
    }
done:
    free(source);
    lines_free(&labels);
    lines_free(&names);
    cfg_destroy(&cfg);
    return status;
}
