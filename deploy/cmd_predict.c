/* predict: what is on an image. */
#include "deploy/commands.h"

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/options.h"
#include "deploy/device.h"
#include "deploy/engine.h"
#include "deploy/steady_clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 256 << 20 };

struct predictor {
    struct device device;
    struct engine *engine;
    struct image_preproc preproc;
    int top, classes;
    bool json;
    float *input, *probs;
    int *ranking; /* classes, most probable first */
    struct steady_clock *clock; /* NULL: the plan stays */
};

static void predictor_close(struct predictor *p) {
    steady_clock_close(&p->clock);
    engine_destroy(&p->engine);
    device_close(&p->device);
    free(p->input);
    free(p->probs);
    free(p->ranking);
}

static enum status check_model(const struct model *model, const char *path, struct err *err) {
    if (!model->ends.nincoming && !model->ends.outgoing) return STATUS_OK;
    err_set(err, STATUS_USAGE, "%s is one slice of a model: it %s", path,
            model->ends.nincoming ? "takes a feature map, not an image" : "ends in a feature map, not in classes");
    err_hint(err, "predict takes a whole model; 'run' runs slices");
    return STATUS_USAGE;
}

static enum status predictor_open(struct predictor *p, const struct device_options *options,
                                  const struct steady_options *steady, const char *decode, struct err *err) {
    enum status status = device_open(&p->device, options, err);
    if (status) return status;
    const struct model *model = p->device.model;
    p->preproc = model->preproc;
    if (decode) p->preproc.decode = strcmp(decode, "fast") == 0 ? IMAGE_FAST : IMAGE_EXACT;
    const struct engine_config config = device_engine(&p->device);
    if ((status = check_model(model, options->model, err)) ||
        (status = engine_create(&p->engine, model, &config, err)))
        return status;
    engine_set_plan(p->engine, p->device.plan);
    if (steady->profile && (status = steady_clock_open(&p->clock, steady, model, 0, NULL, err))) return status;
    const struct engine_tensor out = engine_output(p->engine);
    p->classes = out.c * out.h * out.w;
    p->input = malloc(engine_input_max(p->engine) * sizeof *p->input);
    p->probs = malloc(engine_output_max(p->engine) * sizeof *p->probs);
    p->ranking = malloc(engine_output_max(p->engine) * sizeof *p->ranking);
    return p->input && p->probs && p->ranking ? STATUS_OK : err_memory(err, "prediction");
}

static void rank(struct predictor *p) {
    const int top = p->top < p->classes ? p->top : p->classes;
    for (int i = 0; i < p->classes; i++) p->ranking[i] = i;
    for (int k = 0; k < top; k++) {
        int best = k;
        for (int i = k + 1; i < p->classes; i++)
            if (p->probs[p->ranking[i]] > p->probs[p->ranking[best]]) best = i;
        const int class = p->ranking[best];
        memmove(p->ranking + k + 1, p->ranking + k, (size_t)(best - k) * sizeof *p->ranking);
        p->ranking[k] = class;
    }
}

static const char *label_of(const struct predictor *p, int class, char number[16]) {
    const struct model *m = p->device.model;
    if (class < m->nlabels) return m->labels[class];
    snprintf(number, 16, "%d", class);
    return number;
}

/* ---- results ---- */

static cJSON *top_list(const struct predictor *p) {
    cJSON *list = cJSON_CreateArray();
    bool good = list != NULL;
    for (int k = 0; good && k < p->top && k < p->classes; k++) {
        char number[16];
        cJSON *entry = cJSON_CreateObject();
        const int class = p->ranking[k];
        good = json_append(list, entry) &&
               json_add(entry, "label", cJSON_CreateString(label_of(p, class, number))) &&
               json_add(entry, "prob", cJSON_CreateNumber((double)p->probs[class]));
    }
    if (good) return list;
    cJSON_Delete(list);
    return NULL;
}

/* What the clock was, and what plan that called for. */
static bool add_clock(cJSON *object, const struct predictor *p) {
    return json_add(object, "mhz", cJSON_CreateNumber(p->clock->state.mhz)) &&
           json_add(object, "expected_ms", cJSON_CreateNumber(steady_expected_ms(p->clock->steady))) &&
           json_add(object, "levels", cJSON_CreateIntArray(p->device.plan->level, p->device.plan->nblocks));
}

static enum status print_json(const struct predictor *p, const char *path, double ms, double load_ms, struct err *err) {
    char number[16];
    cJSON *object = cJSON_CreateObject();
    const bool good = object && json_add(object, "file", cJSON_CreateString(path)) &&
                      json_add(object, "probs", cJSON_CreateFloatArray(p->probs, p->classes)) &&
                      json_add(object, "label", cJSON_CreateString(label_of(p, p->ranking[0], number))) &&
                      json_add(object, "ms", cJSON_CreateNumber(ms)) && json_add(object, "load_ms", cJSON_CreateNumber(load_ms)) &&
                      json_add(object, "top", top_list(p)) && (!p->clock || add_clock(object, p));
    return json_print(object, good, err);
}

static void print_text(const struct predictor *p, const char *path, double ms, double load_ms) {
    printf("%s: %.2f ms (and %.2f ms to read it)\n", path, ms, load_ms);
    for (int k = 0; k < p->top && k < p->classes; k++) {
        char number[16];
        printf("  %6.2f%%  %s\n", 100 * (double)p->probs[p->ranking[k]], label_of(p, p->ranking[k], number));
    }
}

/* The plan that the clock calls for. */
static void keep_steady(struct predictor *p) {
    const struct plan *plan = steady_clock_plan(p->clock);
    memcpy(p->device.plan->level, plan->level, (size_t)plan->nblocks * sizeof *plan->level);
    engine_set_plan(p->engine, p->device.plan);
}

static enum status predict(struct predictor *p, const char *path, struct err *err) {
    uint8_t *bytes = NULL;
    size_t length;
    const double start = log_now_s();
    enum status status = file_read(path, MAX_FILE, &bytes, &length, err);
    if (!status) status = image_preprocess(&p->preproc, path, bytes, length, p->input, err);
    free(bytes);
    if (status) return status;
    const double loaded = log_now_s();
    if (p->clock) keep_steady(p);
    engine_run(p->engine, p->input, p->probs);
    const double ms = (log_now_s() - loaded) * 1e3, load_ms = (loaded - start) * 1e3;
    if (p->clock) steady_observe(p->clock->steady, ms);
    rank(p);
    if (p->json) return print_json(p, path, ms, load_ms, err);
    print_text(p, path, ms, load_ms);
    return STATUS_OK;
}

/* All images; one that cannot be read is named, the others are predicted all
 * the same. The caller prints the last error. */
static enum status predict_all(struct predictor *p, char **paths, int n, struct err *err) {
    enum status failed = STATUS_OK;
    for (int i = 0; i < n; i++) {
        struct err why = {0};
        enum status status = predict(p, paths[i], &why);
        if (!status) continue;
        if (failed) err_print(log_program(), err);
        failed = status;
        *err = why;
    }
    return failed;
}

enum status cmd_predict(int argc, char **argv, struct err *err) {
    struct device_options device = device_defaults();
    struct predictor p = {.top = 5};
    struct steady_options steady = steady_options_defaults();
    const char *decode = NULL;
    const struct option options[] = {
        {"--variant", 0, OPTION_STRING, &device.variant, "NAME", "of a portfolio: a name that info shows, or a number; else the first"},
        {"--plan", 0, OPTION_STRING, &device.plan, "P", "a level for all blocks, or one per slice: 0,2,4"},
        {"--link", 0, OPTION_STRING, &device.link, "L", "per cut a cap on the channels that cross: 1,0"},
        {"--cuts", 0, OPTION_STRING, &device.cuts, "LAYERS", "slices end behind these layers: 8,15; else as [slice] says"},
        {"--top", 0, OPTION_INT, &p.top, "K", "classes to print"},
        {"--json", 0, OPTION_FLAG, &p.json, NULL, "a line of JSON for each image"},
        {"--decode", 0, OPTION_STRING, &decode, "HOW", "exact or fast; else as the model says"},
        {"--cache", 0, OPTION_STRING, &device.cache, "DIR", "keep packed weights there: the next start is faster"},
        {"--low-memory", 0, OPTION_FLAG, &device.low_memory, NULL, "less memory, more time"},
        {"--steady", 0, OPTION_STRING, &steady.profile, "FILE", "the plan by the cores' clock, from what profile --frequencies wrote"},
        {"--steady-ms", 0, OPTION_DOUBLE, &steady.target_ms, "MS", "of a frame; 0: the least that all clocks can hold"},
        {"--cpufreq", 0, OPTION_STRING, &steady.cpufreq, "DIR", "where the clock is read"},
        {"--throttled", 0, OPTION_STRING, &steady.throttled, "FILE", "the firmware's flags; else a Raspberry Pi's, where there are any"},
        {"--threads", 0, OPTION_INT, &device.threads, "N", "threads to compute with"},
        {"--cpu-mask", 0, OPTION_STRING, &device.cpu_mask, "ISA", "no kernels above this instruction set"},
        {0},
    };
    const struct options_command usage = {"predict MODEL IMAGE...", "Predicts what is on images.", options, 2, -1};
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (decode && strcmp(decode, "exact") != 0 && strcmp(decode, "fast") != 0)
        return err_set(err, STATUS_USAGE, "--decode is exact or fast, not '%.40s'", decode);
    if (p.top < 1) return err_set(err, STATUS_USAGE, "--top is at least 1");
    if (steady.profile && (strcmp(device.plan, "0") != 0 || device.link))
        return err_set(err, STATUS_USAGE, "--steady chooses the plan; leave out --plan and --link");
    device.model = argv[0];
    status = predictor_open(&p, &device, &steady, decode, err);
    if (!status) status = predict_all(&p, argv + 1, positional - 1, err);
    predictor_close(&p);
    return status;
}
