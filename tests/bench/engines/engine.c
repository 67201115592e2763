/* Times the layers of a network, one after the other as a network runs them, so
 * that each finds the caches as its neighbours leave them.
 *
 *   ENGINE LAYERS THREADS
 *
 * LAYERS: a line "connected c h w filters size stride pad groups" for each. The
 * outputs of all are checked at a few places, then "ready" is printed. Each
 * line on standard input, a number of passes, is answered by a line with each
 * layer's milliseconds: medians of the passes. */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <stddef.h>

#include "engine.h"

enum { MAX_LAYERS = 256, MAX_PASSES = 1000, PLACES = 20 };

void engine_need(int good, const char *text) {
    if (good) return;
    fprintf(stderr, "%s\n", text);
    exit(1);
}

float *engine_floats(size_t n) {
    const size_t bytes = (n * sizeof(float) + 127) / 64 * 64;
    float *p = aligned_alloc(64, bytes);
    engine_need(p != NULL, "out of memory");
    memset(p, 0, bytes);
    return p;
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static float *random_floats(size_t n, float scale) {
    static uint32_t state = 1;
    float *p = engine_floats(n);
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = scale * ((float)(state >> 8) / (1 << 23) - 1);
    }
    return p;
}

static double expected(const struct layer *l, const float *input, const float *weights, int filter, int y, int x) {
    const int each = l->c / l->groups, first = filter / (l->filters / l->groups) * each;
    double sum = 0;
    for (int c = 0; c < each; c++)
        for (int i = 0; i < l->size; i++)
            for (int j = 0; j < l->size; j++) {
                const int iy = y * l->stride - l->pad + i, ix = x * l->stride - l->pad + j;
                if (iy < 0 || iy >= l->h || ix < 0 || ix >= l->w) continue;
                sum += (double)input[((size_t)(first + c) * (size_t)l->h + (size_t)iy) * (size_t)l->w + (size_t)ix] *
                       (double)weights[(((size_t)filter * (size_t)each + (size_t)c) * (size_t)l->size + (size_t)i) *
                                           (size_t)l->size + (size_t)j];
            }
    return sum;
}

static void check(const struct layer *l, void *state, const float *input, const float *weights, int index) {
    for (int k = 0; k < PLACES; k++) {
        const int filter = l->filters * k / PLACES, y = l->out_h * k / PLACES, x = l->out_w * (PLACES - 1 - k) / PLACES;
        const double want = fmax(0, expected(l, input, weights, filter, y, x));
        const double got = fmax(0, (double)engine.output(state, filter, y, x));
        if (fabs(got - want) <= 1e-3) continue;
        fprintf(stderr, "layer %d, filter %d at %d, %d: %g, and not %g\n", index, filter, y, x, got, want);
        exit(1);
    }
}

static int read_layers(const char *path, struct layer *layers) {
    FILE *in = fopen(path, "r");
    engine_need(in != NULL, "no list of layers");
    int n = 0;
    struct layer l;
    while (n < MAX_LAYERS && fscanf(in, "%d %d %d %d %d %d %d %d %d", &l.connected, &l.c, &l.h, &l.w, &l.filters, &l.size,
                                    &l.stride, &l.pad, &l.groups) == 9) {
        l.out_h = (l.h + 2 * l.pad - l.size) / l.stride + 1;
        l.out_w = (l.w + 2 * l.pad - l.size) / l.stride + 1;
        layers[n++] = l;
    }
    fclose(in);
    return n;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static struct layer layers[MAX_LAYERS];
    static void *states[MAX_LAYERS];
    static double ms[MAX_LAYERS][MAX_PASSES];
    engine_need(argc == 3, "usage: ENGINE LAYERS THREADS");
    const int n = read_layers(argv[1], layers);
    engine.open(atoi(argv[2]));
    for (int i = 0; i < n; i++) {
        const struct layer *l = &layers[i];
        const size_t inputs = (size_t)l->c / (size_t)l->groups * (size_t)l->size * (size_t)l->size;
        float *input = random_floats((size_t)l->c * (size_t)l->h * (size_t)l->w, 1);
        float *weights = random_floats((size_t)l->filters * inputs, 1 / sqrtf((float)inputs));
        states[i] = engine.create(l, input, weights);
        engine.run(states[i]);
        check(l, states[i], input, weights, i);
        free(input);
        free(weights);
    }
    puts("ready");
    fflush(stdout);
    for (int passes; scanf("%d", &passes) == 1;) {
        engine_need(passes > 0 && passes <= MAX_PASSES, "too many passes");
        for (int p = 0; p < passes; p++)
            for (int i = 0; i < n; i++) {
                const double start = now_ms();
                engine.run(states[i]);
                ms[i][p] = now_ms() - start;
            }
        for (int i = 0; i < n; i++) {
            qsort(ms[i], (size_t)passes, sizeof ms[i][0], compare);
            printf("%s%.6f", i ? " " : "", ms[i][passes / 2]);
        }
        puts("");
        fflush(stdout);
    }
    return 0;
}
