#include "common/safetensors.h"

#include "common/file.h"
#include "common/json.h"

#include <assert.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data is little-endian and used as it lies");

enum {
    LENGTH_BYTES = 8, /* of the header's length, in front of it */
    ALIGNMENT = 64,   /* of the data, in files written here */
    MAX_HEADER = 16 << 20,
    MAX_DEPTH = 4,       /* of the JSON: header, tensor, list; one to spare */
    MAX_VALUES = 1 << 20 /* JSON values: bounds the parser's memory to some 64 MiB */
};

struct storage {
    void *map;
    size_t map_length;
    cJSON *header;                           /* names, dtypes, keys and values point into it */
    const struct safetensors_tensor **by_name; /* [ntensors] */
};

static int dtype_size(const char *dtype) {
    static const struct {
        const char *name;
        int size;
    } table[] = {{"BOOL", 1}, {"U8", 1},   {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2},
                 {"F16", 2},  {"BF16", 2}, {"I32", 4}, {"U32", 4},     {"F32", 4},     {"I64", 8}, {"U64", 8},
                 {"F64", 8}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(dtype, table[i].name) == 0) return table[i].size;
    return 0;
}

/* Bytes of the UTF-8 character at `p`, 0 if it is not one. */
static size_t utf8_length(const uint8_t *p, const uint8_t *end) {
    size_t n = *p < 0x80 ? 1 : *p >= 0xC2 && *p < 0xE0 ? 2 : *p >= 0xE0 && *p < 0xF0 ? 3 : *p >= 0xF0 && *p < 0xF5 ? 4 : 0;
    if (n == 0 || (size_t)(end - p) < n) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    if ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] > 0x9F) || (*p == 0xF0 && p[1] < 0x90) ||
        (*p == 0xF4 && p[1] > 0x8F))
        return 0;
    return n;
}

/* ---- reading ---- */

/* What must hold before the header is given to the JSON parser. */
static enum status scan_header(const char *name, const uint8_t *text, size_t n, struct err *err) {
    const uint8_t *end = text + n;
    bool in_string = false;
    int depth = 0, values = 1;
    for (const uint8_t *p = text; p < end;) {
        size_t step = utf8_length(p, end);
        if (!step) return err_set(err, STATUS_FORMAT, "%s: the header is not UTF-8 at byte %td", name, p - text);
        bool blank = *p == ' ' || *p == '\n' || *p == '\r' || *p == '\t';
        if (*p < 0x20 && (in_string || !blank))
            return err_set(err, STATUS_FORMAT, "%s: the header has a control character at byte %td", name, p - text);
        if (in_string && *p == '\\') {
            if (end - p >= 6 && memcmp(p + 1, "u0000", 5) == 0)
                return err_set(err, STATUS_FORMAT, "%s: the header has a zero character at byte %td", name, p - text);
            step = end - p >= 2 ? 2 : 1;
        } else if (*p == '"') {
            in_string = !in_string;
        } else if (!in_string) {
            if (*p == '{' || *p == '[') depth++;
            if (*p == '}' || *p == ']') depth--;
            if (*p == ',' || *p == '[' || *p == '{') values++;
            if (depth > MAX_DEPTH)
                return err_set(err, STATUS_FORMAT, "%s: the header is nested deeper than safetensors allows", name);
            if (values > MAX_VALUES)
                return err_set(err, STATUS_LIMIT, "%s: the header holds more than %d values", name, MAX_VALUES);
        }
        p += step;
    }
    return STATUS_OK;
}

static enum status read_tensor(const struct safetensors *file, const cJSON *item, const uint8_t *data,
                               size_t data_length, struct safetensors_tensor *tensor, struct err *err) {
    const char *name = item->string;
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    if (!cJSON_IsObject(item) || !cJSON_IsString(dtype) || !cJSON_IsArray(shape) || !cJSON_IsArray(offsets) ||
        cJSON_GetArraySize(item) != 3)
        return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' must have dtype, shape and data_offsets, no more",
                       file->name, name);
    struct safetensors_tensor t = {.name = name, .dtype = dtype->valuestring};
    int bytes = dtype_size(t.dtype);
    if (!bytes)
        return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' has the unknown dtype '%.20s'", file->name, name,
                       t.dtype);
    size_t size = (size_t)bytes;
    const cJSON *dim;
    cJSON_ArrayForEach(dim, shape) {
        if (t.ndims == SAFETENSORS_MAX_DIMS)
            return err_set(err, STATUS_LIMIT, "%s: tensor '%.80s' has more than %d dimensions", file->name, name,
                           SAFETENSORS_MAX_DIMS);
        int64_t d;
        if (!json_integer(dim, 0, INT64_MAX, &d) || __builtin_mul_overflow(size, (size_t)d, &size))
            return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' has an impossible shape", file->name, name);
        t.shape[t.ndims++] = d;
    }
    int64_t begin, end;
    if (cJSON_GetArraySize(offsets) != 2 || !json_integer(cJSON_GetArrayItem(offsets, 0), 0, INT64_MAX, &begin) ||
        !json_integer(cJSON_GetArrayItem(offsets, 1), begin, INT64_MAX, &end))
        return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' has impossible data_offsets", file->name, name);
    if ((uint64_t)end > data_length)
        return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' ends at byte %lld of %zu: the file is cut short or damaged",
                       file->name, name, (long long)end, data_length);
    if ((uint64_t)(end - begin) != size)
        return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' has %lld bytes, its shape and dtype need %zu",
                       file->name, name, (long long)(end - begin), size);
    t.data = data + begin;
    t.size = size;
    *tensor = t;
    return STATUS_OK;
}

static int compare_offset(const void *a, const void *b) {
    const struct safetensors_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size); /* empty ones first */
}
static int compare_name(const void *a, const void *b) {
    return strcmp((*(const struct safetensors_tensor *const *)a)->name,
                  (*(const struct safetensors_tensor *const *)b)->name);
}
static int compare_key(const void *a, const void *b) {
    return strcmp(((const struct safetensors_pair *)a)->key, ((const struct safetensors_pair *)b)->key);
}

static enum status read_metadata(struct safetensors *file, const cJSON *metadata, struct err *err) {
    if (!cJSON_IsObject(metadata))
        return err_set(err, STATUS_FORMAT, "%s: __metadata__ must be an object", file->name);
    file->metadata = calloc((size_t)cJSON_GetArraySize(metadata) + 1, sizeof *file->metadata);
    if (!file->metadata) return err_memory(err, file->name);
    const cJSON *item;
    cJSON_ArrayForEach(item, metadata) {
        if (!cJSON_IsString(item))
            return err_set(err, STATUS_FORMAT, "%s: metadata '%.80s' must be a string", file->name, item->string);
        file->metadata[file->nmetadata++] =
            (struct safetensors_pair){.key = item->string, .value = item->valuestring};
    }
    qsort(file->metadata, (size_t)file->nmetadata, sizeof *file->metadata, compare_key);
    for (int i = 1; i < file->nmetadata; i++)
        if (strcmp(file->metadata[i - 1].key, file->metadata[i].key) == 0)
            return err_set(err, STATUS_FORMAT, "%s: metadata '%.80s' is there twice", file->name,
                           file->metadata[i].key);
    return STATUS_OK;
}

/* No name twice; the tensors fill the data, each beginning where the one before ends. */
static enum status check_tensors(const struct safetensors *file, const uint8_t *data, size_t data_length,
                                 struct err *err) {
    const struct storage *storage = file->storage;
    for (int i = 1; i < file->ntensors; i++)
        if (strcmp(storage->by_name[i - 1]->name, storage->by_name[i]->name) == 0)
            return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' is there twice", file->name,
                           storage->by_name[i]->name);
    const uint8_t *end = data;
    for (int i = 0; i < file->ntensors; i++) {
        const struct safetensors_tensor *t = &file->tensors[i];
        if ((const uint8_t *)t->data != end)
            return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' %s", file->name, t->name,
                           (const uint8_t *)t->data < end ? "overlaps the one before it"
                                                          : "does not begin where the one before it ends");
        end += t->size;
    }
    if (end != data + data_length)
        return err_set(err, STATUS_FORMAT, "%s: %zu bytes behind the last tensor", file->name,
                       (size_t)(data + data_length - end));
    return STATUS_OK;
}

static enum status read_header(struct safetensors *file, struct err *err) {
    struct storage *storage = file->storage;
    uint64_t n;
    if (file->length < LENGTH_BYTES + 2)
        return err_set(err, STATUS_FORMAT, "%s: %zu bytes is too short for a safetensors file", file->name,
                       file->length);
    memcpy(&n, file->bytes, sizeof n);
    if (n > file->length - LENGTH_BYTES)
        return err_set(err, STATUS_FORMAT,
                       "%s: not a safetensors file, or cut short: it states a header of %llu bytes, and has %zu",
                       file->name, (unsigned long long)n, file->length - LENGTH_BYTES);
    if (n > MAX_HEADER)
        return err_set(err, STATUS_LIMIT, "%s: its header of %llu bytes is longer than the limit of %d", file->name,
                       (unsigned long long)n, MAX_HEADER);
    const uint8_t *text = file->bytes + LENGTH_BYTES;
    if (n < 2 || text[0] != '{')
        return err_set(err, STATUS_FORMAT, "%s: not a safetensors file: its header is not a JSON object", file->name);
    enum status status = scan_header(file->name, text, (size_t)n, err);
    if (status) return status;

    char *copy = malloc((size_t)n + 1); /* the parser wants an end that it can see */
    if (!copy) return err_memory(err, file->name);
    memcpy(copy, text, (size_t)n);
    copy[n] = '\0';
    storage->header = cJSON_ParseWithOpts(copy, NULL, true);
    free(copy);
    if (!storage->header) return err_set(err, STATUS_FORMAT, "%s: the header is not valid JSON", file->name);

    const uint8_t *data = text + n;
    size_t data_length = file->length - LENGTH_BYTES - (size_t)n;
    size_t room = (size_t)cJSON_GetArraySize(storage->header) + 1;
    file->tensors = calloc(room, sizeof *file->tensors);
    storage->by_name = calloc(room, sizeof *storage->by_name);
    if (!file->tensors || !storage->by_name) return err_memory(err, file->name);
    const cJSON *item;
    cJSON_ArrayForEach(item, storage->header) {
        if (strcmp(item->string, "__metadata__") == 0) {
            if (file->metadata) return err_set(err, STATUS_FORMAT, "%s: __metadata__ is there twice", file->name);
            status = read_metadata(file, item, err);
        } else {
            status = read_tensor(file, item, data, data_length, &file->tensors[file->ntensors], err);
            file->ntensors++;
        }
        if (status) return status;
    }
    qsort(file->tensors, (size_t)file->ntensors, sizeof *file->tensors, compare_offset);
    for (int i = 0; i < file->ntensors; i++) storage->by_name[i] = &file->tensors[i];
    qsort(storage->by_name, (size_t)file->ntensors, sizeof *storage->by_name, compare_name);
    return check_tensors(file, data, data_length, err);
}

enum status safetensors_parse(struct safetensors **out, const char *name, const void *bytes, size_t length,
                              struct err *err) {
    struct safetensors *file = calloc(1, sizeof *file);
    if (!file) return err_memory(err, name);
    file->storage = calloc(1, sizeof(struct storage));
    file->name = strdup(name);
    file->bytes = bytes;
    file->length = length;
    enum status status = file->storage && file->name ? read_header(file, err) : err_memory(err, name);
    if (status) {
        safetensors_close(&file);
        return status;
    }
    *out = file;
    return STATUS_OK;
}

/* The part must lie in the file; `length` 0: to its end. */
static enum status find_part(const char *path, int fd, size_t offset, size_t *length, struct timespec *modified,
                             struct err *err) {
    struct stat st;
    if (fstat(fd, &st) != 0) return err_errno(err, "cannot read %s", path);
    *modified = st.st_mtim;
    if (S_ISDIR(st.st_mode)) return err_set(err, STATUS_IO, "%s is a folder, not a model file", path);
    if (!S_ISREG(st.st_mode)) return err_set(err, STATUS_IO, "%s is not a regular file", path);
    if (offset > (size_t)st.st_size || *length > (size_t)st.st_size - offset)
        return err_set(err, STATUS_FORMAT, "%s: cut short: %lld bytes, and %zu are needed", path, (long long)st.st_size,
                       offset + *length);
    if (*length == 0) *length = (size_t)st.st_size - offset;
    if (*length < LENGTH_BYTES + 2)
        return err_set(err, STATUS_FORMAT, "%s: %zu bytes is too short for a safetensors file", path, *length);
    return STATUS_OK;
}

enum status safetensors_open_part(struct safetensors **out, const char *path, size_t offset, size_t length,
                                  struct err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_errno(err, "cannot open %s", path);
    struct timespec modified;
    enum status status = find_part(path, fd, offset, &length, &modified, err);
    if (status) {
        close(fd);
        return status;
    }
    size_t ahead = offset % (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map = mmap(NULL, length + ahead, PROT_READ, MAP_PRIVATE, fd, (off_t)(offset - ahead));
    if (map == MAP_FAILED) status = err_errno(err, "cannot map %s", path);
    close(fd);
    if (status) return status;
    struct safetensors *file;
    status = safetensors_parse(&file, path, map + ahead, length, err);
    if (status) {
        munmap(map, length + ahead);
        return status;
    }
    struct storage *storage = file->storage;
    storage->map = map;
    storage->map_length = length + ahead;
    file->modified = modified;
    *out = file;
    return STATUS_OK;
}

enum status safetensors_open(struct safetensors **out, const char *path, struct err *err) {
    return safetensors_open_part(out, path, 0, 0, err);
}

void safetensors_release(const struct safetensors *file, const void *data, size_t size) {
    const struct storage *storage = file->storage;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data;
    const uintptr_t first = (begin + page - 1) / page * page, end = (begin + size) / page * page;
    if (storage->map && end > first) madvise((void *)first, end - first, MADV_DONTNEED); /* only a wish */
}

void safetensors_close(struct safetensors **file_pointer) {
    struct safetensors *file = *file_pointer;
    if (!file) return;
    struct storage *storage = file->storage;
    if (storage) {
        if (storage->map) munmap(storage->map, storage->map_length);
        cJSON_Delete(storage->header);
        free(storage->by_name);
        free(storage);
    }
    free(file->tensors);
    free(file->metadata);
    free(file->name);
    free(file);
    *file_pointer = NULL;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name) {
    const struct storage *storage = file->storage;
    int low = 0, high = file->ntensors;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(name, storage->by_name[middle]->name);
        if (order == 0) return storage->by_name[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

const char *safetensors_metadata(const struct safetensors *file, const char *key) {
    for (int i = 0; i < file->nmetadata; i++)
        if (strcmp(file->metadata[i].key, key) == 0) return file->metadata[i].value;
    return NULL;
}

static void shape_text(char *text, size_t size, int ndims, const int64_t *shape) {
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < ndims && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (used < size) snprintf(text + used, size - used, "]");
}

enum status safetensors_f32(const struct safetensors *file, const char *name, int ndims, const int64_t *shape,
                            const float **data, struct err *err) {
    const struct safetensors_tensor *t = safetensors_find(file, name);
    if (!t) return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' is missing", file->name, name);
    if (strcmp(t->dtype, "F32") != 0)
        return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' is %s, not F32", file->name, name, t->dtype);
    if (t->ndims != ndims || memcmp(t->shape, shape, (size_t)ndims * sizeof *shape) != 0) {
        char has[100], needs[100];
        shape_text(has, sizeof has, t->ndims, t->shape);
        shape_text(needs, sizeof needs, ndims, shape);
        return err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' has the shape %s, %s is needed", file->name, name, has,
                       needs);
    }
    if ((uintptr_t)t->data % sizeof(float) != 0) {
        enum status status =
            err_set(err, STATUS_FORMAT, "%s: tensor '%.80s' does not lie on a multiple of 4 bytes", file->name, name);
        err_hint(err, "load and save the file with a present version of Python's safetensors");
        return status;
    }
    *data = t->data;
    return STATUS_OK;
}

/* ---- writing ---- */

char *safetensors_utf8(const char *text) {
    size_t n = strlen(text);
    const uint8_t *p = (const uint8_t *)text, *end = p + n;
    char *clean = malloc(3 * n + 1), *out = clean;
    if (!clean) return NULL;
    while (p < end) {
        size_t step = utf8_length(p, end);
        memcpy(out, step ? (const char *)p : "\xEF\xBF\xBD", step ? step : 3);
        out += step ? step : 3;
        p += step ? step : 1;
    }
    *out = '\0';
    return clean;
}

static bool add_metadata(cJSON *object, const struct safetensors_pair *pair) {
    char *clean = safetensors_utf8(pair->value);
    bool good = clean && json_add(object, pair->key, cJSON_CreateString(clean));
    free(clean);
    return good;
}

static bool describe(cJSON *header, const struct safetensors_tensor *t, size_t *offset) {
    size_t size = (size_t)dtype_size(t->dtype);
    assert(size && t->ndims >= 0 && t->ndims <= SAFETENSORS_MAX_DIMS);
    cJSON *entry = cJSON_CreateObject();
    bool ok = entry && json_add(entry, "dtype", cJSON_CreateString(t->dtype));
    cJSON *shape = ok ? cJSON_AddArrayToObject(entry, "shape") : NULL;
    cJSON *offsets = ok ? cJSON_AddArrayToObject(entry, "data_offsets") : NULL;
    ok = shape && offsets;
    for (int i = 0; i < t->ndims; i++) {
        size *= (size_t)t->shape[i];
        ok = ok && json_append(shape, cJSON_CreateNumber((double)t->shape[i]));
    }
    assert(size == t->size);
    ok = ok && json_append(offsets, cJSON_CreateNumber((double)*offset)) &&
         json_append(offsets, cJSON_CreateNumber((double)(*offset + t->size)));
    *offset += t->size;
    if (ok) return json_add(header, t->name, entry);
    cJSON_Delete(entry);
    return false;
}

/* Length field, JSON and padding: `*prefix` is malloc'ed. */
static enum status make_prefix(const struct safetensors_tensor *tensors, int ntensors,
                               const struct safetensors_pair *metadata, int nmetadata, char **prefix,
                               size_t *prefix_length, size_t *data_length, struct err *err) {
    cJSON *header = cJSON_CreateObject();
    bool ok = header != NULL;
    if (ok && nmetadata) {
        cJSON *object = cJSON_AddObjectToObject(header, "__metadata__");
        ok = object != NULL;
        for (int i = 0; ok && i < nmetadata; i++) ok = add_metadata(object, &metadata[i]);
    }
    size_t offset = 0;
    for (int i = 0; ok && i < ntensors; i++) ok = describe(header, &tensors[i], &offset);
    char *json = ok ? cJSON_PrintUnformatted(header) : NULL;
    cJSON_Delete(header);
    if (!json) return err_memory(err, "model header");
    size_t n = strlen(json);
    size_t padded = (LENGTH_BYTES + n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *bytes = NULL;
    enum status status = STATUS_OK;
    if (padded - LENGTH_BYTES > MAX_HEADER)
        status = err_set(err, STATUS_LIMIT, "the model's header has %zu bytes, more than the limit of %d", n, MAX_HEADER);
    else if (!(bytes = malloc(padded)))
        status = err_memory(err, "model header");
    if (!status) {
        uint64_t stated = padded - LENGTH_BYTES;
        memcpy(bytes, &stated, sizeof stated);
        memcpy(bytes + LENGTH_BYTES, json, n);
        memset(bytes + LENGTH_BYTES + n, ' ', padded - LENGTH_BYTES - n);
        *prefix = bytes;
        *prefix_length = padded;
        *data_length = offset;
    }
    free(json);
    return status;
}

enum status safetensors_write(const char *path, const struct safetensors_tensor *tensors, int ntensors,
                              const struct safetensors_pair *metadata, int nmetadata, struct err *err) {
    char *prefix;
    size_t prefix_length, data_length;
    enum status status =
        make_prefix(tensors, ntensors, metadata, nmetadata, &prefix, &prefix_length, &data_length, err);
    if (status) return status;
    struct file_replace file;
    status = file_replace_open(&file, path, err);
    if (!status) {
        fwrite(prefix, 1, prefix_length, file.stream); /* commit sees a failed write */
        for (int i = 0; i < ntensors; i++)
            if (tensors[i].size) fwrite(tensors[i].data, 1, tensors[i].size, file.stream);
        status = file_replace_commit(&file, err);
    }
    free(prefix);
    return status;
}

enum status safetensors_serialize(const struct safetensors_tensor *tensors, int ntensors,
                                  const struct safetensors_pair *metadata, int nmetadata, uint8_t **bytes,
                                  size_t *length, struct err *err) {
    char *prefix;
    size_t prefix_length, data_length;
    enum status status =
        make_prefix(tensors, ntensors, metadata, nmetadata, &prefix, &prefix_length, &data_length, err);
    if (status) return status;
    uint8_t *all = malloc(prefix_length + data_length), *p = all;
    if (!all) {
        free(prefix);
        return err_memory(err, "model file");
    }
    memcpy(p, prefix, prefix_length);
    p += prefix_length;
    for (int i = 0; i < ntensors; i++) {
        if (tensors[i].size) memcpy(p, tensors[i].data, tensors[i].size);
        p += tensors[i].size;
    }
    free(prefix);
    *bytes = all;
    *length = prefix_length + data_length;
    return STATUS_OK;
}
