#include "train/weights.h"

#include "common/darknet.h"
#include "train/preproc.h"
#include "train/torch.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum content { SAFETENSORS, ZIP, OTHER };

/* By how the file begins. A .weights file begins with 0, 2, which would be a
 * header of 8 GiB. */
static enum content recognize(const char *path) {
    uint8_t start[9] = {0};
    FILE *in = fopen(path, "rbe");
    const size_t n = in ? fread(start, 1, sizeof start, in) : 0;
    if (in) fclose(in);
    uint64_t header;
    memcpy(&header, start, sizeof header);
    if (n == sizeof start && header < (uint64_t)1 << 32 && start[8] == '{') return SAFETENSORS;
    return memcmp(start, "PK\3\4", 4) == 0 ? ZIP : OTHER;
}

static enum status refuse_zip(const char *path, struct err *err) {
    err_set(err, STATUS_FORMAT, "%s is a zip file, as torch.save writes; the weights are needed as safetensors", path);
    err_hint(err, "in Python: safetensors.torch.save_file(torch.load('%.80s'), 'weights.safetensors')", path);
    return STATUS_FORMAT;
}

static enum status read_torch(struct model *model, const struct safetensors *file, struct err *err) {
    const char *format = safetensors_metadata(file, "format");
    if (format && strcmp(format, "espalier") == 0) {
        err_set(err, STATUS_FORMAT, "%s is a model already", file->name);
        err_hint(err, "use it as it is, or 'espalier-train train --from'");
        return STATUS_FORMAT;
    }
    enum status status = preproc_read(&model->preproc, model->cfg, err);
    return status ? status : torch_read(model, file, err);
}

enum status weights_import(struct model **out, const char *cfg_path, const char *weights, struct err *err) {
    struct cfg *cfg;
    struct model *model;
    struct safetensors *file = NULL;
    enum status status = cfg_load(&cfg, cfg_path, err);
    if (status) return status;
    status = model_create(&model, cfg, 1, err);
    if (status) {
        cfg_destroy(&cfg);
        return status;
    }
    switch (recognize(weights)) {
    case SAFETENSORS:
        status = safetensors_open(&file, weights, err);
        if (!status) status = read_torch(model, file, err);
        safetensors_close(&file);
        break;
    case ZIP: status = refuse_zip(weights, err); break;
    case OTHER: status = darknet_read(model, weights, err); break;
    }
    if (status) model_destroy(&model);
    else *out = model;
    return status;
}

static bool has_suffix(const char *text, const char *suffix) {
    const size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

enum status weights_load(struct model **model, const char *cfg, const char *weights, struct err *err) {
    struct safetensors *file;
    if (has_suffix(weights, ".weights")) return weights_import(model, cfg, weights, err);
    enum status status = safetensors_open(&file, weights, err);
    if (status) return status;
    if (!safetensors_metadata(file, "cfg")) {
        safetensors_close(&file);
        return weights_import(model, cfg, weights, err);
    }
    status = model_from_safetensors(model, file, err);
    if (status) safetensors_close(&file);
    return status;
}
