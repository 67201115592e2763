#include "deploy/kernels/check.h"

#include "common/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64 };

const struct check_entry check_entries[] = {
    {"conv", check_conv},       {"winograd", check_winograd},   {"depthwise", check_depthwise},
    {"pooling", check_pooling}, {"pointwise", check_pointwise}, {"peak", check_peak},
    {0},
};

bool check_alloc(struct check_floats *f, size_t n, int offset) {
    size_t total = (n + 2 * GUARD + (size_t)offset + 15) / 16 * 16;
    f->block = aligned_alloc(64, total * sizeof(float));
    if (!f->block) return false;
    for (size_t i = 0; i < total; i++) f->block[i] = NAN;
    f->data = f->block + GUARD + offset;
    f->n = n;
    return true;
}

void check_free(struct check_floats *f) {
    free(f->block);
    *f = (struct check_floats){0};
}

bool check_guards(const struct check_floats *f) {
    for (const float *p = f->block; p < f->data; p++)
        if (!isnan(*p)) return false;
    for (size_t i = f->n; i < f->n + GUARD; i++)
        if (!isnan(f->data[i])) return false;
    return true;
}

float check_value(struct random *random, int kind) {
    float value = (float)random_between(random, -1, 1);
    if (kind == 0) return value;
    switch (random_below(random, 8)) {
    case 0: return 0;
    case 1: return -0.0f;
    case 2: return value * 1e-39f;
    case 3: return value * 1e-20f;
    case 4: return value * 1e8f;
    default: return value;
    }
}

bool check_map_alloc(struct check_map *map, int channels, int h, int w, int border, int pitch) {
    const ptrdiff_t line = (ptrdiff_t)(w + 2 * border) * pitch, panel = line * (h + 2 * border);
    const int panels = (channels + PANEL - 1) / PANEL;
    map->channels = channels;
    map->border = border;
    if (!check_alloc(&map->floats, (size_t)(panel * panels), 0)) return false;
    map->layout = (struct layout){map->floats.data + border * line + border * pitch, line, panel, pitch, h, w};
    return true;
}

void check_map_fill(struct check_map *map, struct random *random, int kind) {
    const struct layout *l = &map->layout;
    for (int c = 0; c < map->channels; c++)
        for (int i = -map->border; i < l->h + map->border; i++)
            for (int j = -map->border; j < l->w + map->border; j++) {
                bool inside = i >= 0 && i < l->h && j >= 0 && j < l->w;
                l->origin[c / PANEL * l->panel + i * l->line + j * l->pitch + c % PANEL] =
                    inside ? check_value(random, kind) : 0;
            }
}

static bool differ(struct check *check, const char *what, const char *why, int c, int i, int j, float got,
                   float expected) {
    if (check->out)
        fprintf(check->out, "FAIL %s %s, seed %llu: %s at channel %d, line %d, column %d: %.9g, expected %.9g\n",
                check->kernels->isa, what, (unsigned long long)check->seed, why, c, i, j, (double)got,
                (double)expected);
    return false;
}

bool check_same(struct check *check, const struct check_map *got, const struct check_map *expected,
                const struct check_map *bound, double tolerance, struct check_region r, const char *what) {
    const struct layout *l = &got->layout;
    const int b = got->border, lanes = check->kernels->lanes, panels = (got->channels + PANEL - 1) / PANEL;
    const int written = (r.last + lanes - 1) / lanes * lanes;
    for (int c = 0; c < panels * PANEL; c++)
        for (int i = -b; i < l->h + b; i++)
            for (int j = -b; j < l->w + b; j++) {
                const ptrdiff_t at = c / PANEL * l->panel + i * l->line + j * l->pitch + c % PANEL;
                const float g = l->origin[at], e = expected->layout.origin[at];
                const bool mine = i >= r.top && i < r.bottom && j >= 0 && j < l->w && c >= r.first;
                if (!mine || c >= written) {
                    if (!isnan(g)) return differ(check, what, "written out of place", c, i, j, g, NAN);
                } else if (c < r.last) {
                    const double scale = bound ? (double)bound->layout.origin[at] : 1;
                    if (!(fabs((double)g - (double)e) <= tolerance * scale + 1e-6 * fabs((double)e)))
                        return differ(check, what, "differs", c, i, j, g, e);
                }
            }
    return check_guards(&got->floats) || differ(check, what, "written outside of the map", 0, 0, 0, 0, NAN);
}

void check_count(struct check *check, bool passed) {
    if (passed) check->passed++;
    else check->failed++;
}

double check_time(void (*call)(void *), void *context) {
    double best = INFINITY;
    const double begin = log_now_s();
    for (int round = 0; round < 1000 && (round < 3 || log_now_s() - begin < 0.2); round++) {
        const double start = log_now_s();
        call(context);
        best = fmin(best, log_now_s() - start);
    }
    return best * 1e9;
}

void check_report(struct check *check, const char *what, double ns, double ref_ns, double operations, double bytes) {
    if (!check->out) return;
    fprintf(check->out, "  %-7s %-44s %12.0f ns", check->kernels->isa, what, ns);
    if (operations > 0) fprintf(check->out, " %8.2f GFLOP/s", operations / ns);
    else fprintf(check->out, " %8.2f GB/s   ", bytes / ns);
    fprintf(check->out, " %8.1fx ref\n", ref_ns / ns);
}
