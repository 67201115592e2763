#include "train/plot.h"

#include "common/file.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LOG = 1 << 30 };

static enum status add_log(struct plot *plot, const char *path, struct err *err) {
    struct plot_log log = { 0 }, *larger;
    uint8_t *text;
    size_t length;
    enum status status = file_read(path, MAX_LOG, &text, &length, err);
    if (status) return status;
    status = plot_read_log(&log, path, (const char *)text, err);
    free(text);
    if (status) return status;
    larger = realloc(plot->logs, (size_t)(plot->nlogs + 1) * sizeof *larger);
    if (!larger) {
        free(log.name);
        free(log.steps);
        free(log.looks);
        return err_memory(err, path);
    }
    plot->logs = larger;
    plot->logs[plot->nlogs++] = log;
    return STATUS_OK;
}

static enum status add_model(struct plot *plot, const char *path, struct err *err) {
    struct plot_model model = { 0 }, *larger;
    enum status status = plot_read_model(&model, path, plot->profile, err);
    if (status) return status;
    larger = realloc(plot->models, (size_t)(plot->nmodels + 1) * sizeof *larger);
    if (!larger) {
        free(model.name);
        free(model.uniform);
        free(model.random);
        return err_memory(err, path);
    }
    plot->models = larger;
    plot->models[plot->nmodels++] = model;
    return STATUS_OK;
}

enum status plot_add(struct plot *plot, const char *path, struct err *err) {
    static const char first[] = "{\"kind\":";
    char begin[sizeof first] = "";
    FILE *file = fopen(path, "rb");
    if (!file) return err_errno(err, "cannot open %s", path);
    size_t n = fread(begin, 1, sizeof first - 1, file);
    fclose(file);
    return n == sizeof first - 1 && memcmp(begin, first, n) == 0 ? add_log(plot, path, err) : add_model(plot, path, err);
}

void plot_fini(struct plot *plot) {
    profile_destroy(&plot->profile);
    for (int i = 0; i < plot->nlogs; i++) {
        free(plot->logs[i].name);
        free(plot->logs[i].steps);
        free(plot->logs[i].looks);
    }
    for (int i = 0; i < plot->nmodels; i++) {
        free(plot->models[i].name);
        free(plot->models[i].uniform);
        free(plot->models[i].random);
    }
    free(plot->logs);
    free(plot->models);
    *plot = (struct plot){ 0 };
}
