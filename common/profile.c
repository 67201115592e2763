#include "common/profile.h"

#include "common/json.h"

#include <stdlib.h>
#include <string.h>

static size_t cells(const struct profile *p) {
    return (size_t)p->nblocks * (size_t)p->nlevels * (size_t)p->nlevels;
}

enum status profile_create(struct profile **out, int nblocks, int nlevels, struct err *err) {
    struct profile *p = calloc(1, sizeof *p);
    if (!p) return err_memory(err, "profile");
    p->nblocks = nblocks;
    p->nlevels = nlevels;
    p->ms = calloc(cells(p), sizeof *p->ms);
    if (!p->ms) {
        free(p);
        return err_memory(err, "profile");
    }
    *out = p;
    return STATUS_OK;
}

void profile_destroy(struct profile **profile) {
    if (!*profile) return;
    free((*profile)->ms);
    free(*profile);
    *profile = NULL;
}

double profile_ms(const struct profile *p, int block, int own, int incoming) {
    return p->ms[((size_t)block * (size_t)p->nlevels + (size_t)own) * (size_t)p->nlevels + (size_t)incoming];
}

/* ---- JSON ---- */

static bool add_codecs(cJSON *root, const char *key, const double *ns) {
    cJSON *object = cJSON_CreateObject();
    bool good = object != NULL;
    for (int c = 0; good && c < CODEC_COUNT; c++)
        good = json_add(object, codec_name((enum codec)c), cJSON_CreateNumber(ns[c]));
    if (good) return json_add(root, key, object);
    cJSON_Delete(object);
    return false;
}

static bool add_clocks(cJSON *root, const struct profile *p) {
    cJSON *list = p->nclocks ? cJSON_AddArrayToObject(root, "clocks") : NULL;
    bool good = list || !p->nclocks;
    for (int i = 0; good && i < p->nclocks; i++) {
        cJSON *clock = cJSON_CreateObject();
        good = json_append(list, clock) && json_add(clock, "mhz", cJSON_CreateNumber(p->clocks[i].mhz)) &&
               json_add(clock, "frame_ms", cJSON_CreateDoubleArray(p->clocks[i].frame_ms, p->nlevels));
    }
    return good;
}

static bool fill(cJSON *root, const struct profile *p) {
    cJSON *blocks = cJSON_CreateArray();
    bool good = json_add(root, "device", cJSON_CreateString(p->device)) &&
                json_add(root, "threads", cJSON_CreateNumber(p->threads)) &&
                json_add(root, "nblocks", cJSON_CreateNumber(p->nblocks)) &&
                json_add(root, "nlevels", cJSON_CreateNumber(p->nlevels)) && blocks;
    const size_t block = (size_t)p->nlevels * (size_t)p->nlevels;
    for (int b = 0; good && b < p->nblocks; b++)
        good = json_append(blocks, json_matrix(p->ms + (size_t)b * block, p->nlevels, p->nlevels));
    if (!good) {
        cJSON_Delete(blocks);
        return false;
    }
    return json_add(root, "ms", blocks) && add_codecs(root, "encode_ns", p->encode_ns) &&
           add_codecs(root, "decode_ns", p->decode_ns) && add_clocks(root, p);
}

char *profile_json(const struct profile *p) {
    cJSON *root = cJSON_CreateObject();
    return json_text(root, root && fill(root, p));
}

static bool read_codecs(const cJSON *object, double *ns) {
    for (int c = 0; c < CODEC_COUNT; c++)
        if (!json_double(cJSON_GetObjectItemCaseSensitive(object, codec_name((enum codec)c)), 0, 1e9, &ns[c]))
            return false;
    return true;
}

static bool read_clocks(const cJSON *list, struct profile *p) {
    const cJSON *item;
    if (!list) return true;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > PROFILE_MAX_CLOCKS) return false;
    cJSON_ArrayForEach(item, list) {
        struct profile_clock *clock = &p->clocks[p->nclocks];
        const double least = p->nclocks ? clock[-1].mhz + 1e-3 : 1e-3;
        if (!json_double(cJSON_GetObjectItemCaseSensitive(item, "mhz"), least, 1e6, &clock->mhz) ||
            !json_doubles(cJSON_GetObjectItemCaseSensitive(item, "frame_ms"), p->nlevels, 1e-9, 1e9, clock->frame_ms))
            return false;
        p->nclocks++;
    }
    return true;
}

static bool read(const cJSON *root, struct profile *p) {
    const cJSON *device = cJSON_GetObjectItemCaseSensitive(root, "device");
    const cJSON *blocks = cJSON_GetObjectItemCaseSensitive(root, "ms");
    if (!cJSON_IsString(device) || strlen(device->valuestring) >= sizeof p->device || !cJSON_IsArray(blocks) ||
        cJSON_GetArraySize(blocks) != p->nblocks ||
        !json_int(cJSON_GetObjectItemCaseSensitive(root, "threads"), 1, 1 << 16, &p->threads))
        return false;
    strcpy(p->device, device->valuestring);
    double *row = p->ms;
    const cJSON *block, *own;
    cJSON_ArrayForEach(block, blocks) {
        if (!cJSON_IsArray(block) || cJSON_GetArraySize(block) != p->nlevels) return false;
        cJSON_ArrayForEach(own, block) {
            if (!json_doubles(own, p->nlevels, 0, 1e9, row)) return false;
            row += p->nlevels;
        }
    }
    return read_codecs(cJSON_GetObjectItemCaseSensitive(root, "encode_ns"), p->encode_ns) &&
           read_codecs(cJSON_GetObjectItemCaseSensitive(root, "decode_ns"), p->decode_ns) &&
           read_clocks(cJSON_GetObjectItemCaseSensitive(root, "clocks"), p);
}

enum status profile_parse(struct profile **out, const char *name, const char *json, struct err *err) {
    cJSON *root = NULL;
    struct profile *p = NULL;
    int nblocks, nlevels;
    enum status status = json_parse(&root, name, json, err);
    if (status) return status;
    if (!json_int(cJSON_GetObjectItemCaseSensitive(root, "nblocks"), 1, PLAN_MAX_BLOCKS, &nblocks) ||
        !json_int(cJSON_GetObjectItemCaseSensitive(root, "nlevels"), 1, PLAN_MAX_LEVELS, &nlevels))
        status = err_set(err, STATUS_FORMAT, "%s is not a profile: numbers of blocks and levels are missing or too large",
                         name);
    if (!status) status = profile_create(&p, nblocks, nlevels, err);
    if (!status && !read(root, p))
        status = err_set(err, STATUS_FORMAT, "%s is not a profile of %d blocks and %d levels", name, nblocks, nlevels);
    cJSON_Delete(root);
    if (status) profile_destroy(&p);
    else *out = p;
    return status;
}
