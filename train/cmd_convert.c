/* convert: from Darknet's or PyTorch's weights to a model file, and back to Darknet's. */
#include "train/commands.h"

#include "common/darknet.h"
#include "common/file.h"
#include "common/log.h"
#include "common/model.h"
#include "common/options.h"
#include "train/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LABEL_BYTES = 64 << 20, MAX_PATH = 4096 };

/* One label a line, in the order of the classes, as in Darknet's names files. */
static enum status read_labels(struct model *model, const char *path, struct err *err) {
    uint8_t *bytes;
    size_t length;
    int classes = model->net->classes;
    enum status status = file_read(path, MAX_LABEL_BYTES, &bytes, &length, err);
    if (status) return status;
    char **labels = calloc((size_t)classes, sizeof *labels);
    if (!labels) status = err_memory(err, path);
    int n = 0;
    for (char *line = (char *)bytes, *end = line + length; !status && line < end && n < classes; n++) {
        size_t chars = strcspn(line, "\n");
        char *next = line + chars + 1;
        while (chars && strchr(" \t\r", line[chars - 1])) chars--;
        labels[n] = strndup(line, chars);
        if (!labels[n]) status = err_memory(err, path);
        line = next;
    }
    free(bytes);
    if (!status && n < classes)
        status = err_set(err, STATUS_FORMAT, "%s: holds %d labels for %d classes", path, n, classes);
    if (status) {
        for (int i = 0; labels && i < n; i++) free(labels[i]);
        free(labels);
        return status;
    }
    model->labels = labels;
    model->nlabels = n;
    return STATUS_OK;
}

static enum status to_model(const char *cfg, const char *weights, const char *labels, const char *output,
                            struct err *err) {
    struct model *model;
    enum status status = weights_import(&model, cfg, weights, err);
    if (status) return status;
    if (labels) status = read_labels(model, labels, err);
    if (!status) status = model_save(model, output, err);
    if (!status) log_info("%s: %d layers, %d classes", output, model->net->nlayers, model->net->classes);
    model_destroy(&model);
    return status;
}

static enum status write_text(const char *path, const char *text, struct err *err) {
    struct file_replace file;
    enum status status = file_replace_open(&file, path, err);
    if (status) return status;
    fputs(text, file.stream); /* the commit reports a failure */
    return file_replace_commit(&file, err);
}

/* Darknet's .data file and the labels that it names. */
static enum status write_labels(const struct model *model, const char *stem, struct err *err) {
    char path[MAX_PATH + 16];
    struct file_replace file;
    snprintf(path, sizeof path, "%s.labels", stem);
    enum status status = file_replace_open(&file, path, err);
    if (status) return status;
    for (int i = 0; i < model->nlabels; i++) fprintf(file.stream, "%s\n", model->labels[i]);
    if ((status = file_replace_commit(&file, err))) return status;
    snprintf(path, sizeof path, "%s.data", stem);
    if ((status = file_replace_open(&file, path, err))) return status;
    fprintf(file.stream, "classes=%d\nlabels=%s.labels\nnames=%s.labels\ntop=%d\n", model->nlabels, stem, stem,
            model->nlabels < 5 ? model->nlabels : 5);
    return file_replace_commit(&file, err);
}

/* FOLDER/<the model's name without its suffix> */
static enum status make_stem(char stem[MAX_PATH], const char *folder, const char *model, struct err *err) {
    const char *slash = strrchr(model, '/'), *name = slash ? slash + 1 : model, *dot = strrchr(name, '.');
    int n = snprintf(stem, MAX_PATH, "%s/%.*s", folder, (int)(dot && dot != name ? (size_t)(dot - name) : strlen(name)), name);
    if (n >= 0 && n < MAX_PATH) return STATUS_OK;
    return err_set(err, STATUS_USAGE, "the path %.40s... is too long", folder);
}

static enum status to_darknet(const char *model_path, const char *folder, struct err *err) {
    char stem[MAX_PATH], path[MAX_PATH + 16], *text = NULL;
    struct model *model;
    enum status status = make_stem(stem, folder, model_path, err);
    if (!status) status = model_load(&model, model_path, err);
    if (status) return status;
    if ((status = darknet_cfg(model, &text, err)) || (status = file_make_folder(folder, err))) goto done;
    snprintf(path, sizeof path, "%s.weights", stem);
    if ((status = darknet_write(model, path, err))) goto done;
    if (model->nlabels && (status = write_labels(model, stem, err))) goto done;
    snprintf(path, sizeof path, "%s.cfg", stem);
    if ((status = write_text(path, text, err))) goto done;
    log_info("%s.cfg and %s.weights are what Darknet runs", stem, stem);
    if (model->nrows > 1) log_info("batch norm is that of level 0; 'espalier-deploy prune' makes a model of another plan");
done:
    free(text);
    model_destroy(&model);
    return status;
}

enum status cmd_convert(int argc, char **argv, struct err *err) {
    const char *cfg = NULL, *weights = NULL, *labels = NULL, *output = NULL, *folder = NULL;
    const struct option options[] = {
        { "--cfg", 0, OPTION_STRING, &cfg, "CFG", "the network: Darknet's cfg, or one with PyTorch's names, cfg/tv-*.cfg" },
        { "--weights", 0, OPTION_STRING, &weights, "FILE", "Darknet's .weights, or a safetensors file of PyTorch's tensors" },
        { "--labels", 0, OPTION_STRING, &labels, "FILE", "one label a line, in the order of the classes" },
        { "--output", 'o', OPTION_STRING, &output, "MODEL", "the model file to write" },
        { "--to-darknet", 0, OPTION_STRING, &folder, "DIR", "write MODEL as cfg, weights, data and labels there" },
        { 0 },
    };
    const struct options_command usage = { "convert [MODEL]",
                                           "From Darknet: convert --cfg CFG --weights FILE -o MODEL\n"
                                           "From PyTorch: convert --cfg cfg/tv-NAME.cfg --weights FILE -o MODEL\n"
                                           "To Darknet:   convert MODEL --to-darknet DIR", options, 0, 1 };
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (positional == 1 && folder && !cfg && !weights && !labels && !output) return to_darknet(argv[0], folder, err);
    if (positional == 0 && !folder && cfg && weights && output) return to_model(cfg, weights, labels, output, err);
    err_set(err, STATUS_USAGE, "convert takes --cfg, --weights and -o, or MODEL and --to-darknet");
    err_hint(err, "see 'espalier-train convert --help'");
    return STATUS_USAGE;
}
