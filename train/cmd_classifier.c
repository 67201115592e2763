/* Darknet's habit: classifier train|valid|predict DATA CFG [WEIGHTS] [IMAGE...].
 * What it does is what train, eval and predict do; what it prints is as
 * Darknet prints it. */
#include "train/commands.h"

#include "common/file.h"
#include "common/log.h"
#include "common/options.h"
#include "common/pool.h"
#include "train/loss.h"
#include "train/measure.h"
#include "train/trainer.h"
#include "train/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATH = 4096, MAX_TOP = 1000 };

struct arguments {
    const char *data, *cfg, *weights, **images;
    int nimages, top, threads;
};

/* An option of a .data file; what it has if DATA is a folder is `fallback`. */
static enum status data_top(const char *data, int *top, struct err *err) {
    struct cfg *cfg;
    if (cfg_load(&cfg, data, NULL)) return STATUS_OK;
    enum status status = cfg_int(cfg, cfg_find(cfg, ""), "top", 1, MAX_TOP, top, err);
    cfg_destroy(&cfg);
    return status;
}

/* Darknet's place for weights: the folder that `backup` names, and there the
 * cfg's name. */
static enum status make_output(char output[MAX_PATH], const struct arguments *a, struct err *err) {
    struct cfg *cfg = NULL;
    const char *slash = strrchr(a->cfg, '/'), *name = slash ? slash + 1 : a->cfg, *dot = strrchr(name, '.');
    const char *folder = "backup";
    if (cfg_load(&cfg, a->data, NULL) == STATUS_OK) folder = cfg_string(cfg_find(cfg, ""), "backup", folder);
    int n = snprintf(output, MAX_PATH, "%s/%.*s.safetensors", folder, (int)(dot ? dot - name : (long)strlen(name)), name);
    enum status status = file_make_folder(folder, err);
    cfg_destroy(&cfg);
    if (!status && n >= MAX_PATH) status = err_set(err, STATUS_USAGE, "the path %.40s... is too long", output);
    return status;
}

static enum status train(const struct arguments *a, struct err *err) {
    char output[MAX_PATH];
    struct trainer_config config = trainer_defaults(ROBUST_SANDWICH);
    enum status status = make_output(output, a, err);
    if (status) return status;
    config.setup.data = a->data;
    config.setup.cfg = a->cfg;
    config.setup.from = a->weights;
    config.setup.threads = a->threads;
    config.output = output;
    return trainer_run(&config, err);
}

static enum status valid(const struct arguments *a, struct model *model, struct err *err) {
    struct dataset *dataset;
    struct network *network = NULL;
    struct loader *loader = NULL;
    struct plan *plan = NULL;
    struct loader_config loading = { .preproc = model->preproc, .batch = 64, .threads = a->threads };
    double accuracy;
    int images;
    enum status status = dataset_open(&dataset, a->data, DATASET_VALID, err);
    if (status) return status;
    loading.dataset = dataset;
    loading.preproc.fit = IMAGE_CROP; /* as Darknet's classifier valid */
    status = setup_check_classes(dataset, model, err);
    if (!status) status = loader_create(&loader, &loading, err);
    if (!status) status = network_create(&network, model, loading.batch, a->threads, err);
    if (!status) status = plan_create(&plan, model->blocks->nblocks, 0, err);
    if (!status) status = measure_plans(network, model, loader, &plan, 1, 1, "valid", &accuracy, &images, err);
    if (!status) printf("%d: top 1: %f\n", images, accuracy);
    plan_destroy(&plan);
    network_destroy(&network);
    loader_destroy(&loader);
    dataset_close(&dataset);
    return status;
}

static void print_top(const float *probabilities, int classes, char **names, int top) {
    bool *shown = calloc((size_t)classes, sizeof *shown);
    for (int k = 0; shown && k < top && k < classes; k++) {
        int best = -1;
        for (int c = 0; c < classes; c++)
            if (!shown[c] && (best < 0 || probabilities[c] > probabilities[best])) best = c;
        shown[best] = true;
        printf("%5.2f%%: %s\n", 100 * (double)probabilities[best], names[best]);
    }
    free(shown);
}

static enum status predict(const struct arguments *a, struct model *model, struct err *err) {
    struct dataset *labels = NULL;
    struct network *network = NULL;
    struct plan *plan = NULL;
    int classes = model->net->classes;
    float *input = malloc(net_shape_size(model->net->input) * sizeof *input);
    float *logits = malloc((size_t)classes * sizeof *logits);
    enum status status = input && logits ? STATUS_OK : err_memory(err, "prediction");
    if (!status && model->nlabels != classes) {
        status = dataset_open_labels(&labels, a->data, err);
        if (!status) status = setup_check_classes(labels, model, err);
    }
    if (!status) status = network_create(&network, model, 1, a->threads, err);
    if (!status) status = plan_create(&plan, model->blocks->nblocks, 0, err);
    for (int i = 0; !status && i < a->nimages; i++) {
        double began = log_now_s();
        uint8_t *bytes;
        size_t length;
        status = file_read(a->images[i], (size_t)1 << 30, &bytes, &length, err);
        if (status) break;
        status = image_preprocess(&model->preproc, a->images[i], bytes, length, input, err);
        free(bytes);
        if (!status) status = network_forward(network, plan, NETWORK_INFERENCE, input, 1, 0, logits, err);
        if (status) break;
        loss_softmax(logits, 1, classes, logits);
        log_info("%s: Predicted in %f seconds.", a->images[i], log_now_s() - began);
        print_top(logits, classes, labels ? labels->labels : model->labels, a->top);
    }
    plan_destroy(&plan);
    network_destroy(&network);
    dataset_close(&labels);
    free(input);
    free(logits);
    return status;
}

enum status cmd_classifier(int argc, char **argv, struct err *err) {
    struct arguments a = { .threads = pool_default_threads() };
    const struct option options[] = {
        { "--top", 't', OPTION_INT, &a.top, "N", "predict: labels to print; 0: as DATA says, else 1" },
        { "--threads", 0, OPTION_INT, &a.threads, "N", "threads that compute" },
        { 0 },
    };
    const struct options_command usage = {
        "classifier train|valid|predict DATA CFG [WEIGHTS] [IMAGE...]",
        "Darknet's commands: DATA a .data file, CFG a network, WEIGHTS Darknet's or a\n"
        "model file. train writes <backup>/<cfg's name>.safetensors.", options, 3, -1 };
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    const char *verb = argv[0];
    bool training = strcmp(verb, "train") == 0, predicting = strcmp(verb, "predict") == 0;
    a.data = argv[1];
    a.cfg = argv[2];
    a.weights = positional > 3 ? argv[3] : NULL;
    a.images = (const char **)argv + 4;
    a.nimages = positional - 4;
    if (!training && !predicting && strcmp(verb, "valid") != 0)
        return err_set(err, STATUS_USAGE, "classifier does train, valid or predict, not '%s'", verb);
    if (a.threads < 1 || a.top < 0) return err_set(err, STATUS_USAGE, "--threads is at least 1, --top 0");
    if (!training && !a.weights) return err_set(err, STATUS_USAGE, "classifier %s needs WEIGHTS", verb);
    if (predicting && a.nimages < 1) return err_set(err, STATUS_USAGE, "classifier predict needs an IMAGE");
    if (!predicting && a.nimages > 0) return err_set(err, STATUS_USAGE, "too many arguments: '%s'", argv[4]);
    if (training) return train(&a, err);
    if (predicting && a.top == 0) {
        a.top = 1;
        if ((status = data_top(a.data, &a.top, err))) return status;
    }
    struct model *model;
    if ((status = weights_load(&model, a.cfg, a.weights, err))) return status;
    status = predicting ? predict(&a, model, err) : valid(&a, model, err);
    model_destroy(&model);
    return status;
}
