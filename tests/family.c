#include "tests/family.h"

#include "common/cfg_writer.h"
#include "deploy/engine.h"
#include "deploy/selftest.h"
#include "train/network.h"

#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* What the option becomes, in `text`; or its own value. */
static const char *changed(const struct cfg_option *o, int side, bool relu, int outputs, char text[16]) {
    int value = 0;
    if (side && (is(o->key, "width") || is(o->key, "height"))) value = side;
    if (side && (is(o->key, "crop_width") || is(o->key, "crop_height"))) value = side * 7 / 8;
    if (outputs && is(o->key, "output")) value = outputs;
    if (relu && is(o->value, "relu6")) return "relu";
    if (!value) return o->value;
    snprintf(text, 16, "%d", value);
    return text;
}

/* Behind all strides of a known network something is left of 64 pixels. */
static int small_side(int side) { return side > 100 ? 64 + side % 32 : side; }

enum status family_cfg(struct cfg **out, const char *path, bool relu, int outputs, struct err *err) {
    struct cfg *cfg;
    int side = 0;
    struct cfg_writer w = {0};
    enum status status = cfg_load(&cfg, path, err);
    if (status) return status;
    status = cfg_int(cfg, &cfg->sections[0], "width", 1, 1 << 14, &side, err);
    if (status) {
        cfg_destroy(&cfg);
        return status;
    }
    side = small_side(side);
    int last = 0; /* connected */
    for (int i = 0; i < cfg->nsections; i++)
        if (is(cfg->sections[i].name, "connected")) last = i;
    for (int i = 0; i < cfg->nsections; i++) {
        const struct cfg_section *s = &cfg->sections[i];
        cfg_writer_section(&w, s->name);
        for (int k = 0; k < s->noptions; k++) {
            char text[16];
            cfg_writer_option(&w, s->options[k].key, "%s",
                              changed(&s->options[k], side, relu, i == last ? 0 : outputs, text));
        }
    }
    cfg_destroy(&cfg);
    return cfg_writer_finish(&w, path, out, err);
}

static int top_of(const float *outputs, int n) {
    int top = 0;
    for (int i = 1; i < n; i++)
        if (outputs[i] > outputs[top]) top = i;
    return top;
}

static int sample_at(int k, int n) { return (int)((long)k * n / FAMILY_SAMPLES); }

void family_print(const char *name, int side, const float *outputs, int n) {
    float largest = 0;
    for (int i = 0; i < n; i++) largest = fmaxf(largest, fabsf(outputs[i]));
    printf("%s %d %d %d %.6g", name, side, n, top_of(outputs, n), (double)largest);
    for (int k = 0; k < FAMILY_SAMPLES; k++) printf(" %.6g", (double)outputs[sample_at(k, n)]);
    printf("\n");
}

bool family_find(const char *path, const char *name, struct family_golden *g) {
    char line[1024], word[64];
    bool found = false;
    FILE *in = fopen(path, "r");
    while (in && !found && fgets(line, sizeof line, in)) {
        int used = 0;
        found = sscanf(line, "%63s %d %d %d %f%n", word, &g->side, &g->classes, &g->top, &g->largest, &used) == 5 &&
                is(word, name);
        char *at = line + used;
        for (int k = 0; found && k < FAMILY_SAMPLES; k++) g->sample[k] = strtof(at, &at);
    }
    if (in) fclose(in);
    return found;
}

bool family_agrees(const struct family_golden *g, const float *outputs, int n, double *worst) {
    *worst = INFINITY;
    if (n != g->classes || !(g->largest > 0)) return false;
    double error = 0;
    for (int k = 0; k < FAMILY_SAMPLES; k++) {
        const double d = fabs((double)outputs[sample_at(k, n)] - (double)g->sample[k]);
        if (!(d <= error)) error = isnan(d) ? INFINITY : d;
    }
    *worst = error / (double)g->largest;
    return *worst <= 1e-4 && top_of(outputs, n) == g->top;
}

static enum status compare(const struct family_golden *golden, struct model *model, struct engine *engine,
                           struct network *network, struct plan *plan, const char *name, const char *whose,
                           struct err *err) {
    const int n = model->net->classes;
    float *input = malloc(net_shape_size(model->net->input) * sizeof *input), *logits = malloc((size_t)n * sizeof *logits);
    float *output = malloc(engine_output_max(engine) * sizeof *output);
    double by_engine, by_trainer;
    enum status status = input && logits && output ? STATUS_OK : err_memory(err, name);
    if (!status) {
        selftest_input(model, input);
        engine_run(engine, input, output);
        if (!family_agrees(golden, engine_logits(engine), n, &by_engine))
            status = err_set(err, STATUS_FORMAT, "%s: the engine is off %s's outputs by %g", name, whose, by_engine);
    }
    if (!status) status = network_forward(network, plan, NETWORK_INFERENCE, input, 1, 0, logits, err);
    if (!status && !family_agrees(golden, logits, n, &by_trainer))
        status = err_set(err, STATUS_FORMAT, "%s: the trainer is off %s's outputs by %g", name, whose, by_trainer);
    if (!status)
        printf("%s: off %s's outputs by %.1e (engine), %.1e (trainer) of the largest magnitude\n", name, whose,
               by_engine, by_trainer);
    free(input);
    free(output);
    free(logits);
    return status;
}

enum status family_check(struct model *model, const char *path, const char *name, const char *whose, struct err *err) {
    struct engine *engine = NULL;
    struct network *network = NULL;
    struct plan *plan = NULL;
    struct family_golden golden;
    const struct engine_config config = engine_defaults();
    if (!family_find(path, name, &golden)) return err_set(err, STATUS_FORMAT, "%s: not in %s", name, path);
    if (golden.side != model->net->input.h)
        return err_set(err, STATUS_FORMAT, "%s: the line in %s is for inputs of %d pixels", name, path, golden.side);
    enum status status = engine_create(&engine, model, &config, err);
    if (!status) status = network_create(&network, model, 1, 1, err);
    if (!status) status = plan_create(&plan, model->blocks->nblocks, 0, err);
    if (!status) status = compare(&golden, model, engine, network, plan, name, whose, err);
    plan_destroy(&plan);
    network_destroy(&network);
    engine_destroy(&engine);
    return status;
}

void family_reuse_memory(void) {
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
}
