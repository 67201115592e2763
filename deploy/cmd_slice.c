/* slice: each slice of a model as a model file of its own. */
#include "deploy/commands.h"

#include "common/file.h"
#include "common/json.h"
#include "common/options.h"
#include "deploy/surgery.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATH = 4096 };

struct cutting {
    const struct model *model;
    int nslices, *first;    /* first blocks, room for nblocks */
    struct model **slices; /* [nslices] */
    const char *folder, *name; /* files are FOLDER/NAME.K.safetensors */
    int name_length;
    bool json;
};

static int last_block(const struct cutting *c, int k) {
    return (k + 1 < c->nslices ? c->first[k + 1] : c->model->blocks->nblocks) - 1;
}

/* All of them before the first file is written. */
static enum status make_slices(struct cutting *c, const char *cuts, struct err *err) {
    enum status status = blocks_parse_cuts(c->model->blocks, cuts, c->first, &c->nslices, err);
    if (status) return status;
    if (c->nslices == 1) {
        err_set(err, STATUS_USAGE, "nothing to cut: give --cuts, the layers that slices end behind");
        err_hint(err, "'espalier-deploy info' lists the cut points");
        return STATUS_USAGE;
    }
    c->slices = calloc((size_t)c->nslices, sizeof(struct model *));
    if (!c->slices) return err_memory(err, "slices");
    for (int k = 0; !status && k < c->nslices; k++)
        status = surgery_slice(c->model, c->first[k], last_block(c, k), &c->slices[k], err);
    return status;
}

static enum status print_slice(const struct cutting *c, int k, const char *path, struct err *err) {
    const struct blocks *blocks = c->model->blocks;
    int first = c->first[k], last = last_block(c, k);
    int layers[2] = {c->model->first_layer + blocks->block[first].first, c->model->first_layer + blocks->block[last].last};
    int numbers[2] = {c->model->first_block + first, c->model->first_block + last};
    if (!c->json) {
        printf("%s: layers %d to %d, blocks %d to %d\n", path, layers[0], layers[1], numbers[0], numbers[1]);
        return STATUS_OK;
    }
    cJSON *root = cJSON_CreateObject();
    bool good = root && json_add(root, "file", cJSON_CreateString(path)) &&
                json_add(root, "layers", cJSON_CreateIntArray(layers, 2)) &&
                json_add(root, "blocks", cJSON_CreateIntArray(numbers, 2));
    return json_print(root, good, err);
}

static enum status write_slices(const struct cutting *c, struct err *err) {
    enum status status = file_make_folder(c->folder, err);
    for (int k = 0; !status && k < c->nslices; k++) {
        char path[MAX_PATH];
        int n = snprintf(path, sizeof path, "%s/%.*s.%d.safetensors", c->folder, c->name_length, c->name, k);
        if (n < 0 || n >= MAX_PATH) return err_set(err, STATUS_USAGE, "the path %.40s... is too long", c->folder);
        status = model_save(c->slices[k], path, err);
        if (!status) status = print_slice(c, k, path, err);
    }
    return status;
}

static enum status cut(const char *path, const char *cuts, const char *folder, bool json, struct err *err) {
    struct model *model;
    enum status status = model_load(&model, path, err);
    if (status) return status;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    struct cutting c = {.model = model, .folder = folder, .name = name, .json = json,
                        .name_length = (int)(dot && dot != name ? (size_t)(dot - name) : strlen(name)),
                        .first = malloc((size_t)model->blocks->nblocks * sizeof(int))};
    if (!c.first) status = err_memory(err, "slices");
    if (!status) status = make_slices(&c, cuts, err);
    if (!status) status = write_slices(&c, err);
    for (int k = 0; c.slices && k < c.nslices; k++) model_destroy(&c.slices[k]);
    free(c.slices);
    free(c.first);
    model_destroy(&model);
    return status;
}

enum status cmd_slice(int argc, char **argv, struct err *err) {
    const char *cuts = NULL, *folder = NULL;
    bool json = false;
    const struct option options[] = {
        {"--cuts", 0, OPTION_STRING, &cuts, "LAYERS", "slices end behind these layers: 8,15; else as [slice] says"},
        {"--output", 'o', OPTION_STRING, &folder, "DIR", "where MODEL.0.safetensors and so on are written"},
        {"--json", 0, OPTION_FLAG, &json, NULL, "one JSON line per file"},
        {0},
    };
    const struct options_command usage = {"slice MODEL -o DIR", "Each slice of a model as a model file of its own.", options,
                                          1, 1};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (!folder) return err_set(err, STATUS_USAGE, "slice needs -o DIR");
    return cut(argv[0], cuts, folder, json, err);
}
