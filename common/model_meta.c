#include "common/bn.h"
#include "common/model_meta.h"

#include "common/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const char FORMAT[] = "espalier";
enum { VERSION = 2, MAX_LABELS = 1 << 20 };

/* ---- writing ---- */

/* Adds a value; `text` (NULL: an allocation failed) is freed. */
static bool put(struct model_meta *meta, const char *key, char *text) {
    char *clean = text ? safetensors_utf8(text) : NULL;
    free(text);
    if (!clean) return false;
    meta->text[meta->npairs] = clean;
    meta->pairs[meta->npairs++] = (struct safetensors_pair){key, clean};
    return true;
}

static char *labels_text(const struct model *model) {
    cJSON *list = cJSON_CreateArray();
    bool good = list != NULL;
    for (int i = 0; good && i < model->nlabels; i++) good = json_append(list, cJSON_CreateString(model->labels[i]));
    return json_text(list, good);
}

/* Floats are written with the digits that bring them back. */
static cJSON *float_item(float value) {
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)value);
    return cJSON_CreateRaw(text);
}

static char *levels_text(const struct levels *levels) {
    cJSON *root = cJSON_CreateObject();
    cJSON *ratio = root ? cJSON_AddArrayToObject(root, "ratio") : NULL;
    cJSON *keep = root ? cJSON_AddArrayToObject(root, "keep") : NULL;
    bool good = ratio && keep;
    for (int l = 0; good && l < levels->nlevels; l++)
        good = json_append(ratio, float_item(levels->ratio[l])) &&
               json_append(keep, cJSON_CreateIntArray(levels->keep + (ptrdiff_t)l * levels->ngroups, levels->ngroups));
    return json_text(root, good);
}

static char *slice_text(const struct model *model) {
    cJSON *root = cJSON_CreateObject();
    cJSON *incoming = root ? cJSON_AddArrayToObject(root, "incoming") : NULL;
    bool good = incoming && json_add(root, "first_layer", cJSON_CreateNumber(model->first_layer)) &&
                json_add(root, "first_block", cJSON_CreateNumber(model->first_block)) &&
                json_add(root, "outgoing", cJSON_CreateBool(model->ends.outgoing)) &&
                json_add(root, "parent", cJSON_CreateString(model->parent));
    for (int i = 0; good && i < model->ends.nincoming; i++)
        good = json_append(incoming, cJSON_CreateIntArray((int[]){model->ends.incoming[i].channels,
                                                                  model->ends.incoming[i].unit}, 2));
    return json_text(root, good);
}

static char *format_text(const char *format, ...) PRINTF_LIKE(1, 2);
static char *format_text(const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) text = NULL;
    va_end(args);
    return text;
}

static bool is_slice(const struct model *model) {
    return model->ends.nincoming > 0 || model->ends.outgoing || model->parent[0] != 0;
}
/* Only images are preprocessed. */
static bool has_preproc(int channels) { return channels == 1 || channels == 3; }

enum status model_meta_make(struct model_meta *meta, const struct model *model, struct err *err) {
    *meta = (struct model_meta){0};
    bool good = put(meta, "format", strdup(FORMAT)) && put(meta, "version", format_text("%d", VERSION)) &&
                put(meta, "cfg", strdup(model->cfg->text)) && put(meta, "levels", levels_text(model->levels)) &&
                put(meta, "bn_rows", format_text("%d", model->nrows)) &&
                put(meta, "bn_eps", format_text("%.9g", (double)model->bn_eps)) &&
                put(meta, "bn_form", strdup(model->bn_form == MODEL_BN_TORCH ? "torch" : "darknet")) &&
                put(meta, "darknet",
                    format_text("%" PRId32 " %" PRId32 " %" PRId32 " %" PRIu64, model->darknet.major,
                                model->darknet.minor, model->darknet.revision, model->darknet.seen)) &&
                (!has_preproc(model->preproc.c) || put(meta, "preproc", image_preproc_json(&model->preproc))) &&
                (!model->nlabels || put(meta, "labels", labels_text(model))) &&
                (!model->accuracy || put(meta, "accuracy", accuracy_json(model->accuracy))) &&
                (!model->training || put(meta, "training", strdup(model->training))) &&
                (!is_slice(model) || put(meta, "slice", slice_text(model)));
    if (good) return STATUS_OK;
    model_meta_free(meta);
    return err_memory(err, "model metadata");
}

static uint32_t add_text(uint32_t crc, const char *text) {
    return (uint32_t)crc32_z(crc, (const unsigned char *)text, strlen(text) + 1);
}

/* One CRC for each value and each tensor, put together in whatever order they
 * come. `release`: the file whose tensors need not stay in memory, or NULL. */
static uint32_t checksum(const struct safetensors_pair *pairs, int npairs, const struct safetensors_tensor *tensors,
                         int ntensors, const struct safetensors *release) {
    uint32_t sum = 0;
    for (int i = 0; i < npairs; i++)
        if (strcmp(pairs[i].key, "crc32") != 0) sum ^= add_text(add_text(0, pairs[i].key), pairs[i].value);
    for (int i = 0; i < ntensors; i++) {
        sum ^= (uint32_t)crc32_z(add_text(0, tensors[i].name), tensors[i].data, tensors[i].size);
        if (release) safetensors_release(release, tensors[i].data, tensors[i].size);
    }
    return sum;
}

enum status model_meta_seal(struct model_meta *meta, const struct safetensors_tensor *tensors, int ntensors,
                            struct err *err) {
    uint32_t crc = checksum(meta->pairs, meta->npairs, tensors, ntensors, NULL);
    return put(meta, "crc32", format_text("%08" PRIx32, crc)) ? STATUS_OK : err_memory(err, "model metadata");
}

void model_meta_free(struct model_meta *meta) {
    for (int i = 0; i < meta->npairs; i++) free(meta->text[i]);
    *meta = (struct model_meta){0};
}

/* ---- reading ---- */

static enum status need(const struct safetensors *file, const char *key, const char **text, struct err *err) {
    *text = safetensors_metadata(file, key);
    if (*text) return STATUS_OK;
    return err_set(err, STATUS_FORMAT, "%s: metadata '%s' is missing", file->name, key);
}

static enum status bad(const struct safetensors *file, const char *key, const char *why, struct err *err) {
    return err_set(err, STATUS_FORMAT, "%s: metadata '%s' %s", file->name, key, why);
}

/* The value of `key` as JSON; *root stays NULL if there is no such key. */
static enum status parse_value(const struct safetensors *file, const char *key, cJSON **root, struct err *err) {
    const char *text = safetensors_metadata(file, key);
    *root = NULL;
    if (!text) return STATUS_OK;
    char name[200];
    snprintf(name, sizeof name, "%.150s: metadata '%s'", file->name, key);
    return json_parse(root, name, text, err);
}

/* "1 2 3": exactly n whole numbers. */
static bool read_numbers(const char *text, int n, int64_t *values) {
    for (int i = 0; i < n; i++) {
        int used = 0;
        if (sscanf(text, i ? " %19" SCNd64 "%n" : "%19" SCNd64 "%n", &values[i], &used) != 1) return false;
        text += used;
    }
    return *text == '\0';
}

enum status model_meta_verify(const struct safetensors *file, bool release, struct err *err) {
    const char *stated = safetensors_metadata(file, "crc32");
    if (!stated) return STATUS_OK;
    char computed[16];
    snprintf(computed, sizeof computed, "%08" PRIx32,
             checksum(file->metadata, file->nmetadata, file->tensors, file->ntensors, release ? file : NULL));
    if (strcmp(stated, computed) == 0) return STATUS_OK;
    err_set(err, STATUS_FORMAT, "%s is damaged: its checksum is %s, it states %.16s", file->name, computed, stated);
    err_hint(err, "copy it again; if you changed it on purpose, remove 'crc32' from its metadata");
    return STATUS_FORMAT;
}

enum status model_meta_check(const struct safetensors *file, struct err *err) {
    const char *format = safetensors_metadata(file, "format"), *text;
    if (format && strcmp(format, "espalier-portfolio") == 0) {
        err_set(err, STATUS_FORMAT, "%s is a portfolio of several models; one is needed here", file->name);
        err_hint(err, "take one out: 'espalier-deploy prune %.60s --variant NAME --plan 0 -o MODEL'", file->name);
        return STATUS_FORMAT;
    }
    if (!format || strcmp(format, FORMAT) != 0) {
        err_set(err, STATUS_FORMAT, "%s is a safetensors file, but not a model of Espalier's", file->name);
        err_hint(err, "models are made by 'espalier-train train' and 'espalier-train convert'");
        return STATUS_FORMAT;
    }
    enum status status = need(file, "version", &text, err);
    int64_t version;
    if (status) return status;
    if (!read_numbers(text, 1, &version) || version < 1) return bad(file, "version", "is not a number", err);
    if (version > VERSION) {
        err_set(err, STATUS_FORMAT, "%s has the model format %" PRId64 "; this program reads up to %d", file->name,
                version, VERSION);
        err_hint(err, "install a newer Espalier on this machine");
        return STATUS_FORMAT;
    }
    return STATUS_OK;
}

enum status model_meta_cfg(const struct safetensors *file, struct cfg **cfg, struct err *err) {
    const char *text;
    enum status status = need(file, "cfg", &text, err);
    if (status) return status;
    char name[200];
    snprintf(name, sizeof name, "%.180s, its cfg", file->name);
    return cfg_parse(cfg, name, text, strlen(text), err);
}

static bool is_hash(const char *text) {
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

enum status model_meta_slice(const struct safetensors *file, struct model *model, struct err *err) {
    cJSON *root;
    enum status status = parse_value(file, "slice", &root, err);
    if (status || !root) return status;
    const cJSON *incoming = cJSON_GetObjectItemCaseSensitive(root, "incoming"), *pair;
    const cJSON *outgoing = cJSON_GetObjectItemCaseSensitive(root, "outgoing");
    const cJSON *parent = cJSON_GetObjectItemCaseSensitive(root, "parent");
    int most = model->net->input.c, n = cJSON_GetArraySize(incoming);
    if (!json_int(cJSON_GetObjectItemCaseSensitive(root, "first_layer"), 0, 1 << 20, &model->first_layer) ||
        !json_int(cJSON_GetObjectItemCaseSensitive(root, "first_block"), 0, 1 << 20, &model->first_block) ||
        !cJSON_IsArray(incoming) || n > most || !cJSON_IsBool(outgoing) || !cJSON_IsString(parent) ||
        (parent->valuestring[0] != '\0' && !is_hash(parent->valuestring))) {
        status = bad(file, "slice", "lacks first_layer, first_block, incoming, outgoing or parent, or has a wrong one", err);
        goto done;
    }
    memcpy(model->parent, parent->valuestring, strlen(parent->valuestring) + 1);
    model->ends.outgoing = cJSON_IsTrue(outgoing);
    if (n) model->ends.incoming = calloc((size_t)n, sizeof *model->ends.incoming);
    if (n && !model->ends.incoming) {
        status = err_memory(err, file->name);
        goto done;
    }
    cJSON_ArrayForEach(pair, incoming) {
        int values[2];
        if (!json_ints(pair, 2, 1, most, values)) {
            status = bad(file, "slice", "has an impossible incoming segment", err);
            goto done;
        }
        model->ends.incoming[model->ends.nincoming++] = (struct groups_incoming){values[0], values[1]};
    }
done:
    cJSON_Delete(root);
    return status;
}

/* Ratios fall from 1, counts never grow and lie in [1, units]. */
static bool levels_are_sound(const struct levels *levels, const struct groups *groups) {
    for (int l = 0; l < levels->nlevels; l++) {
        if (l == 0 ? levels->ratio[0] != 1 : !(levels->ratio[l] > 0 && levels->ratio[l] < levels->ratio[l - 1]))
            return false;
        for (int g = 0; g < levels->ngroups; g++) {
            int keep = levels_keep(levels, l, g);
            if (l == 0 ? keep != groups->group[g].units : keep < 1 || keep > levels_keep(levels, l - 1, g)) return false;
        }
    }
    return true;
}

enum status model_meta_levels(const struct safetensors *file, struct model *model, struct err *err) {
    cJSON *root;
    enum status status = parse_value(file, "levels", &root, err);
    if (status) return status;
    const cJSON *ratio = cJSON_GetObjectItemCaseSensitive(root, "ratio"), *row;
    const cJSON *keep = cJSON_GetObjectItemCaseSensitive(root, "keep");
    int n = cJSON_GetArraySize(ratio), ngroups = model->groups->ngroups;
    double ratios[PLAN_MAX_LEVELS];
    struct levels *levels = NULL;
    if (n < 1 || n > PLAN_MAX_LEVELS || !json_doubles(ratio, n, 0, 1, ratios) || !cJSON_IsArray(keep) ||
        cJSON_GetArraySize(keep) != n) {
        status = bad(file, "levels", "needs 'ratio' and 'keep' of up to 16 levels", err);
        goto done;
    }
    levels = calloc(1, sizeof *levels);
    if (levels) {
        levels->ratio = calloc((size_t)n, sizeof *levels->ratio);
        levels->keep = calloc((size_t)n * (size_t)ngroups, sizeof *levels->keep);
    }
    if (!levels || !levels->ratio || !levels->keep) {
        status = err_memory(err, file->name);
        goto done;
    }
    levels->nlevels = n;
    levels->ngroups = ngroups;
    int l = 0;
    cJSON_ArrayForEach(row, keep) {
        levels->ratio[l] = (float)ratios[l];
        if (!json_ints(row, ngroups, 1, INT32_MAX, levels->keep + (ptrdiff_t)l * ngroups)) {
            status = err_set(err, STATUS_FORMAT, "%s: metadata 'levels', level %d needs %d counts, one per prune group",
                             file->name, l, ngroups);
            goto done;
        }
        l++;
    }
    if (!levels_are_sound(levels, model->groups)) {
        status = bad(file, "levels", "must begin with all channels and fall from level to level", err);
        goto done;
    }
    model->levels = levels;
    levels = NULL;
done:
    levels_destroy(&levels);
    cJSON_Delete(root);
    return status;
}

static enum status read_rows(const struct safetensors *file, struct model *model, const char *text, struct err *err) {
    int64_t rows;
    if (!read_numbers(text, 1, &rows) || (rows != 1 && rows != bn_rows(model->levels->nlevels)))
        return err_set(err, STATUS_FORMAT, "%s: metadata 'bn_rows' is neither 1 nor %d, for %d levels", file->name,
                       bn_rows(model->levels->nlevels), model->levels->nlevels);
    model->nrows = (int)rows;
    return STATUS_OK;
}

enum status model_meta_rows(const struct safetensors *file, struct model *model, struct err *err) {
    const char *eps, *form, *rows;
    enum status status;
    if ((status = need(file, "bn_eps", &eps, err)) || (status = need(file, "bn_form", &form, err)) ||
        (status = need(file, "bn_rows", &rows, err)) || (status = read_rows(file, model, rows, err)))
        return status;
    char *end;
    float value = strtof(eps, &end);
    if (end == eps || *end != '\0' || !(value >= 0 && value <= 1)) return bad(file, "bn_eps", "is not from 0 to 1", err);
    model->bn_eps = value;
    if (strcmp(form, "torch") == 0) model->bn_form = MODEL_BN_TORCH;
    else if (strcmp(form, "darknet") == 0) model->bn_form = MODEL_BN_DARKNET;
    else return bad(file, "bn_form", "is neither torch nor darknet", err);
    return STATUS_OK;
}

static enum status read_labels(const struct safetensors *file, struct model *model, struct err *err) {
    cJSON *list;
    enum status status = parse_value(file, "labels", &list, err);
    if (status || !list) return status;
    int n = cJSON_GetArraySize(list), classes = model->ends.outgoing ? 0 : model->net->classes;
    if (!cJSON_IsArray(list) || n != classes || n > MAX_LABELS) {
        status = err_set(err, STATUS_FORMAT, "%s: has %d labels for %d classes", file->name, n, classes);
        goto done;
    }
    model->labels = calloc((size_t)n, sizeof *model->labels);
    if (!model->labels) {
        status = err_memory(err, file->name);
        goto done;
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsString(item)) {
            status = bad(file, "labels", "must be a list of strings", err);
            goto done;
        }
        char *label = strdup(item->valuestring);
        if (!label) {
            status = err_memory(err, file->name);
            goto done;
        }
        model->labels[model->nlabels++] = label;
    }
done:
    cJSON_Delete(list);
    return status;
}

static enum status read_preproc(const struct safetensors *file, struct model *model, struct err *err) {
    struct net_shape in = model->net->input;
    bool image = model->ends.nincoming == 0; /* the network reads an image of this shape */
    const char *text = safetensors_metadata(file, "preproc");
    if (!text) return image && has_preproc(in.c) ? need(file, "preproc", &text, err) : STATUS_OK;
    struct image_preproc p;
    enum status status = image_preproc_parse(&p, text, err);
    if (status) {
        err_prefix(err, "%s", file->name);
        return status;
    }
    if (image && (p.c != in.c || p.h != in.h || p.w != in.w))
        return err_set(err, STATUS_FORMAT, "%s: preprocesses to %dx%dx%d, its network takes %dx%dx%d", file->name, p.c,
                       p.h, p.w, in.c, in.h, in.w);
    model->preproc = p;
    return STATUS_OK;
}

static enum status read_darknet(const struct safetensors *file, struct model *model, struct err *err) {
    const char *text = safetensors_metadata(file, "darknet");
    if (!text) return STATUS_OK;
    int32_t major, minor, revision;
    uint64_t seen;
    int used = 0;
    if (sscanf(text, "%10" SCNd32 " %10" SCNd32 " %10" SCNd32 " %20" SCNu64 "%n", &major, &minor, &revision, &seen,
               &used) != 4 || text[used] != '\0')
        return bad(file, "darknet", "is not 'major minor revision seen'", err);
    model->darknet.major = major;
    model->darknet.minor = minor;
    model->darknet.revision = revision;
    model->darknet.seen = seen;
    return STATUS_OK;
}

enum status model_meta_rest(const struct safetensors *file, struct model *model, struct err *err) {
    enum status status;
    cJSON *training;
    if ((status = read_labels(file, model, err)) || (status = read_preproc(file, model, err)) ||
        (status = read_darknet(file, model, err)) || (status = parse_value(file, "training", &training, err)))
        return status;
    cJSON_Delete(training); /* carried as it is, once it is sound */
    const char *text = safetensors_metadata(file, "training");
    if (text && !(model->training = strdup(text))) return err_memory(err, file->name);
    text = safetensors_metadata(file, "accuracy");
    if (!text) return STATUS_OK;
    status = accuracy_parse(&model->accuracy, text, model->blocks->nblocks, model->levels->nlevels, err);
    if (status) err_prefix(err, "%s", file->name);
    return status;
}
