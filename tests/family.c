#include "tests/family.h"

#include "common/cfg_writer.h"

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

void family_reuse_memory(void) {
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
}
