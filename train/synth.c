/* An interrupted run may be repeated: the file .synth, which states the
 * options, comes first, and synth.data, which makes it a dataset, last. */
#include "train/synth.h"

#include "common/cfg.h"
#include "common/file.h"
#include "common/image.h"
#include "common/log.h"
#include "common/pool.h"
#include "train/synth/picture.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CLASSES = 16, MAX_IMAGES = 1000000, MIN_SIZE = 64, MAX_SIZE = 1920, QUALITY_LOW = 72, QUALITY_HIGH = 92 };
static const char *const EMPTY = "empty";

enum split { SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST, SPLITS };
static const char *const split_names[SPLITS] = {"train", "valid", "test"};

struct synth {
    const struct synth_config *config;
    const char *folder;
    int nclasses;
    const char *labels[MAX_CLASSES];
    const struct species *species[MAX_CLASSES]; /* NULL: empty */
    struct painter *painters;                   /* one per thread */
    struct log_progress progress;
    atomic_int done;
    atomic_bool failed;
    enum status failure; /* the first, with its text */
    struct err failure_err;
};

struct synth_config synth_defaults(void) {
    return (struct synth_config){.images = 6000, .size = 160, .seed = 1, .threads = pool_default_threads()};
}

/* ---- classes -------------------------------------------------------------------- */

/* Class number i of all, sorted by name: the species, with "empty" among them. */
static const char *class_name(int i) {
    int before = 0; /* species that come before "empty" */
    while (before < species_count && strcmp(species_table[before].name, EMPTY) < 0) before++;
    return i == before ? EMPTY : species_table[i < before ? i : i - 1].name;
}

static const struct species *species_of(const char *name) {
    for (int i = 0; i < species_count; i++)
        if (strcmp(species_table[i].name, name) == 0) return &species_table[i];
    return NULL;
}

const char *synth_class_names(void) {
    static char text[256];
    size_t used = 0;
    for (int i = 0; i <= species_count && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? "," : "", class_name(i));
    return text;
}

static bool is_chosen(const char *classes, const char *name) {
    size_t length = strlen(name);
    for (const char *p = classes; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strncmp(p, name, length) == 0 && (p[length] == ',' || p[length] == '\0')) return true;
    return false;
}

static enum status unknown_class(const char *word, struct err *err) {
    const char *names[MAX_CLASSES];
    for (int i = 0; i <= species_count; i++) names[i] = class_name(i);
    const char *near = cfg_nearest(word, names, species_count + 1);
    err_set(err, STATUS_USAGE, "there is no class '%s'", word);
    err_hint(err, near ? "did you mean '%s'?" : "classes are %s", near ? near : synth_class_names());
    return STATUS_USAGE;
}

/* The classes asked for, in the order of their names whatever order they were asked in. */
static enum status choose_classes(struct synth *s, const char *classes, struct err *err) {
    for (const char *p = classes; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(p, ","), p);
        if (strcmp(word, EMPTY) != 0 && !species_of(word)) return unknown_class(word, err);
    }
    for (int i = 0; i <= species_count; i++) {
        const char *name = class_name(i);
        if (classes && !is_chosen(classes, name)) continue;
        s->labels[s->nclasses] = name;
        s->species[s->nclasses++] = species_of(name);
    }
    if (s->nclasses < 2) return err_set(err, STATUS_USAGE, "a dataset needs at least two classes");
    return STATUS_OK;
}

/* ---- pictures ------------------------------------------------------------------- */

/* Where image number i goes: every class has the same share of every split. */
static enum split split_of(const struct synth *s, int i) {
    int in_class = i / s->nclasses % 10;
    return in_class == 8 ? SPLIT_VALID : in_class == 9 ? SPLIT_TEST : SPLIT_TRAIN;
}

static void image_path(const struct synth *s, int i, char *path, size_t size) {
    snprintf(path, size, "%s/%s/%06d.jpg", split_names[split_of(s, i)], s->labels[i % s->nclasses], i);
}

static enum status write_bytes(const char *folder, const char *name, const void *bytes, size_t length,
                               struct err *err) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return err_set(err, STATUS_LIMIT, "the path %s/%s is too long", folder, name);
    FILE *file = fopen(path, "wbe");
    if (!file) return err_errno(err, "cannot write %s", path);
    bool good = fwrite(bytes, 1, length, file) == length;
    if (fclose(file) != 0 || !good) return err_errno(err, "cannot write %s", path);
    return STATUS_OK;
}

static enum status draw_image(struct synth *s, int i, struct painter *painter, struct err *err) {
    char path[128];
    uint8_t *jpeg;
    size_t length;
    struct random random = random_stream(s->config->seed, 0, (uint64_t)i);
    int quality = QUALITY_LOW + random_below(&random, QUALITY_HIGH - QUALITY_LOW + 1);
    painter_draw(painter, s->species[i % s->nclasses], random);
    struct image_u8 image = {.c = 3, .h = painter->picture.h, .w = painter->picture.w, .data = painter->bytes};
    enum status status = image_encode_jpeg(&image, quality, &jpeg, &length, err);
    if (status != STATUS_OK) return status;
    image_path(s, i, path, sizeof path);
    status = write_bytes(s->folder, path, jpeg, length, err);
    free(jpeg);
    return status;
}

static void draw_task(void *context, int i, int thread) {
    struct synth *s = context;
    struct err err = {0};
    if (atomic_load(&s->failed)) return;
    enum status status = draw_image(s, i, &s->painters[thread], &err);
    if (status != STATUS_OK && !atomic_exchange(&s->failed, true)) {
        s->failure_err = err;
        s->failure = status;
    }
    int done = atomic_fetch_add(&s->done, 1) + 1;
    if (thread == 0) log_progress_update(&s->progress, done, NULL);
}

static enum status draw_all(struct synth *s, struct err *err) {
    struct pool *pool = NULL;
    int threads = s->config->threads, painters = 0;
    enum status status = pool_create(&pool, threads, err);
    if (status != STATUS_OK) return status;
    s->painters = calloc((size_t)threads, sizeof *s->painters);
    if (!s->painters) status = err_memory(err, "canvas");
    for (; status == STATUS_OK && painters < threads; painters++)
        status = painter_init(&s->painters[painters], s->config->size, s->config->size * 3 / 4, err);
    if (status == STATUS_OK) {
        log_progress_start(&s->progress, "drawing", s->config->images);
        pool_run(pool, s->config->images, draw_task, s);
        log_progress_end(&s->progress, NULL);
        if (s->failure && err) *err = s->failure_err;
        status = s->failure;
    }
    for (int i = 0; i < painters; i++) painter_fini(&s->painters[i]);
    free(s->painters);
    pool_destroy(&pool);
    return status;
}

/* ---- files ---------------------------------------------------------------------- */

static enum status make_folders(const struct synth *s, struct err *err) {
    enum status status = STATUS_OK;
    for (int split = 0; status == STATUS_OK && split < SPLITS; split++)
        for (int c = 0; status == STATUS_OK && c < s->nclasses; c++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s/%s", s->folder, split_names[split], s->labels[c]);
            status = file_make_folder(path, err);
        }
    return status;
}

static enum status write_lists(const struct synth *s, struct err *err) {
    enum status status = STATUS_OK;
    for (int split = 0; status == STATUS_OK && split < SPLITS; split++) {
        char *text = NULL, name[32], path[128];
        size_t length = 0;
        FILE *memory = open_memstream(&text, &length);
        if (!memory) return err_memory(err, "list");
        for (int i = 0; i < s->config->images; i++) {
            if (split_of(s, i) != (enum split)split) continue;
            image_path(s, i, path, sizeof path);
            fprintf(memory, "%s\n", path);
        }
        bool good = fclose(memory) == 0;
        snprintf(name, sizeof name, "%s.list", split_names[split]);
        status = good ? write_bytes(s->folder, name, text, length, err) : err_memory(err, "list");
        free(text);
    }
    return status;
}

static enum status write_descriptors(const struct synth *s, const char *options, struct err *err) {
    char labels[512], data[1024];
    size_t used = 0;
    for (int c = 0; c < s->nclasses; c++)
        used += (size_t)snprintf(labels + used, sizeof labels - used, "%s\n", s->labels[c]);
    enum status status = write_bytes(s->folder, "synth.labels", labels, used, err);
    if (status == STATUS_OK) status = write_lists(s, err);
    if (status != STATUS_OK) return status;
    int length = snprintf(data, sizeof data,
                          "# %sclasses = %d\ntrain = train.list\nvalid = valid.list\ntest = test.list\n"
                          "labels = synth.labels\n",
                          options, s->nclasses);
    return write_bytes(s->folder, "synth.data", data, (size_t)length, err);
}

/* Refuses a folder with anything in it that is not of this very dataset. */
static enum status check_folder(const struct synth *s, const char *options, struct err *err) {
    char path[4096];
    uint8_t *there = NULL;
    size_t length = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/.synth", s->folder) >= sizeof path - 64)
        return err_set(err, STATUS_LIMIT, "the path %s is too long", s->folder);
    enum status status;
    if (access(path, F_OK) == 0) {
        status = file_read(path, sizeof path, &there, &length, err);
        if (status != STATUS_OK) return status;
        bool same = strcmp((const char *)there, options) == 0;
        if (!same) {
            status = err_set(err, STATUS_USAGE, "%s holds another dataset: %.*s", s->folder,
                             (int)strcspn((const char *)there, "\n"), (const char *)there);
            err_hint(err, "remove it, or choose another folder");
        }
        free(there);
        return status;
    }
    DIR *dir = opendir(s->folder);
    if (!dir) return errno == ENOENT ? STATUS_OK : err_errno(err, "cannot read the folder %s", s->folder);
    bool empty = true;
    for (struct dirent *e; (e = readdir(dir));)
        empty = empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    closedir(dir);
    if (empty) return STATUS_OK;
    status = err_set(err, STATUS_USAGE, "%s is not empty, and not a drawn dataset", s->folder);
    err_hint(err, "choose another folder");
    return status;
}

enum status synth_write(const char *folder, const struct synth_config *config, struct err *err) {
    struct synth s = {.config = config, .folder = folder};
    enum status status = choose_classes(&s, config->classes, err);
    if (status != STATUS_OK) return status;
    if (config->images < 10 * s.nclasses || config->images > MAX_IMAGES)
        return err_set(err, STATUS_USAGE, "%d images: at least ten per class and at most %d can be drawn",
                       config->images, MAX_IMAGES);
    if (config->size < MIN_SIZE || config->size > MAX_SIZE)
        return err_set(err, STATUS_USAGE, "a width of %d pixels: between %d and %d are possible", config->size,
                       MIN_SIZE, MAX_SIZE);
    char options[512], classes[256] = "";
    for (int c = 0; c < s.nclasses; c++)
        snprintf(classes + strlen(classes), sizeof classes - strlen(classes), "%s%s", c ? "," : "", s.labels[c]);
    snprintf(options, sizeof options, "espalier-train synth --images %d --size %d --seed %llu --classes %s\n",
             config->images, config->size, (unsigned long long)config->seed, classes);
    status = check_folder(&s, options, err);
    if (status == STATUS_OK) status = file_make_folder(folder, err);
    if (status == STATUS_OK) status = write_bytes(folder, ".synth", options, strlen(options), err);
    if (status == STATUS_OK) status = make_folders(&s, err);
    if (status == STATUS_OK) status = draw_all(&s, err);
    if (status == STATUS_OK) status = write_descriptors(&s, options, err);
    return status;
}
