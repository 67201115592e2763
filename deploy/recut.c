#include "deploy/recut.h"

#include "deploy/placement.h"

#include <stdlib.h>
#include <string.h>

static const double WINDOW_S = 5;
enum { SAMPLES = 63 };

/* Of one stage: measured over profiled times of this window's first frames, and
 * the sum of the windows' medians since better cuts began to pay. */
struct slowdown {
    double sample[SAMPLES];
    int count;
    double sum;
    int windows;
};

struct recut {
    int nstages, nblocks, nlevels;
    int *first;
    double *ms;   /* [nstages][own][incoming] of the present slices */
    double *full; /* [nstages][nblocks] at the levels to be best for, shared by the stage's workers */
    double *link_bytes, *bytes_per_s;
    struct slowdown *slowdown; /* [nstages] */
    double *factor;            /* [nstages], for solving */
    struct placement *placement;
    double patience_s, window_s;
    double window_from_s, since_s; /* -1: not yet */
};

static size_t slice_at(const struct recut *r, int stage, int own, int incoming) {
    return ((size_t)stage * (size_t)r->nlevels + (size_t)own) * (size_t)r->nlevels + (size_t)incoming;
}

static void fill(struct recut *r, const struct recut_stage *stages) {
    for (int s = 0; s < r->nstages; s++) {
        const struct profile *p = stages[s].profile;
        for (int own = 0; own < r->nlevels; own++)
            for (int in = 0; in < r->nlevels; in++)
                for (int b = r->first[s]; b < r->first[s + 1]; b++)
                    r->ms[slice_at(r, s, own, in)] += profile_ms(p, b, own, b == r->first[s] ? in : own);
        for (int b = 0; b < r->nblocks; b++) {
            int own = stages[s].level[b], in = b ? stages[s].level[b - 1] : 0;
            r->full[s * r->nblocks + b] = profile_ms(p, b, own, in) / stages[s].workers;
        }
    }
}

enum status recut_create(struct recut **out, const struct recut_stage *stages, int nstages, const int *first,
                         const double *link_bytes, double patience_s, struct err *err) {
    struct recut *r = calloc(1, sizeof *r);
    if (!r) return err_memory(err, "cuts");
    size_t n = (size_t)nstages;
    r->nstages = nstages;
    r->nblocks = first[nstages];
    r->nlevels = stages[0].profile->nlevels;
    r->patience_s = patience_s;
    r->window_s = patience_s < 8 * WINDOW_S ? patience_s / 8 : WINDOW_S;
    r->window_from_s = r->since_s = -1;
    r->first = malloc((n + 1) * sizeof *r->first);
    r->ms = calloc(n * (size_t)(r->nlevels * r->nlevels), sizeof *r->ms);
    r->full = calloc(n * (size_t)r->nblocks, sizeof *r->full);
    r->link_bytes = malloc((size_t)r->nblocks * sizeof *r->link_bytes);
    r->bytes_per_s = calloc(n, sizeof *r->bytes_per_s);
    r->slowdown = calloc(n, sizeof *r->slowdown);
    r->factor = calloc(n, sizeof *r->factor);
    bool good = r->first && r->ms && r->full && r->link_bytes && r->bytes_per_s && r->slowdown && r->factor;
    enum status status = good ? placement_create(&r->placement, nstages, r->nblocks, err) : err_memory(err, "cuts");
    if (status) {
        recut_destroy(&r);
        return status;
    }
    memcpy(r->first, first, (n + 1) * sizeof *first);
    memcpy(r->link_bytes, link_bytes, (size_t)r->nblocks * sizeof *link_bytes);
    fill(r, stages);
    *out = r;
    return STATUS_OK;
}

void recut_destroy(struct recut **recut) {
    struct recut *r = *recut;
    if (!r) return;
    placement_destroy(&r->placement);
    free(r->first);
    free(r->ms);
    free(r->full);
    free(r->link_bytes);
    free(r->bytes_per_s);
    free(r->slowdown);
    free(r->factor);
    free(r);
    *recut = NULL;
}

void recut_report(struct recut *r, int stage, int level, int incoming, double compute_ms) {
    if (stage < 0 || stage >= r->nstages || level < 0 || level >= r->nlevels || incoming < 0 ||
        incoming >= r->nlevels || !(compute_ms >= 0 && compute_ms < 1e9))
        return;
    struct slowdown *s = &r->slowdown[stage];
    double profiled_ms = r->ms[slice_at(r, stage, level, incoming)];
    if (s->count < SAMPLES && profiled_ms > 0) s->sample[s->count++] = compute_ms / profiled_ms;
}

void recut_link(struct recut *r, int stage, double bytes_per_s) {
    if (stage > 0 && stage < r->nstages) r->bytes_per_s[stage] = bytes_per_s;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Into r->factor; false: a stage has done no frame in this window. */
static bool find_medians(struct recut *r) {
    for (int s = 0; s < r->nstages; s++) {
        struct slowdown *d = &r->slowdown[s];
        if (!d->count) return false;
        qsort(d->sample, (size_t)d->count, sizeof *d->sample, ascending);
        r->factor[s] = d->sample[d->count / 2];
    }
    return true;
}

/* The best cuts under r->factor; returns what is gained, 0: not known. */
static double best(struct recut *r, int *first) {
    struct placement_value value;
    for (int s = 0; s < r->nstages; s++) {
        double factor = r->factor[s];
        if (!(factor > 0)) return 0;
        for (int b = 0; b < r->nblocks; b++) {
            r->placement->compute[s * r->nblocks + b] = factor * r->full[s * r->nblocks + b];
            r->placement->link[s * r->nblocks + b] =
                s && r->bytes_per_s[s] > 0 ? r->link_bytes[b] / r->bytes_per_s[s] * 1e3 : 0;
        }
    }
    if (placement_solve(r->placement, PLACEMENT_THROUGHPUT, first, &value, NULL) || value.largest_ms <= 0) return 0;
    return placement_evaluate(r->placement, r->first).largest_ms / value.largest_ms;
}

bool recut_decide(struct recut *r, double now_s, int *first, double *gain) {
    if (r->window_from_s < 0) r->window_from_s = now_s;
    if (now_s - r->window_from_s < r->window_s) return false;
    double pays = find_medians(r) ? best(r, first) : 0;
    bool here = pays > 0 && pays < RECUT_GAIN; /* 0: the window says nothing */
    bool begins = here || r->since_s < 0;
    if (begins) r->since_s = here ? now_s : r->window_from_s;
    for (int s = 0; s < r->nstages; s++) {
        struct slowdown *d = &r->slowdown[s];
        if (begins) d->sum = d->windows = 0;
        if (pays >= RECUT_GAIN) d->sum += r->factor[s], d->windows++;
        d->count = 0;
    }
    r->window_from_s = now_s;
    if (pays < RECUT_GAIN || now_s - r->since_s < r->patience_s) return false;
    for (int s = 0; s < r->nstages; s++) {
        r->factor[s] = r->slowdown[s].sum / r->slowdown[s].windows;
        r->slowdown[s].sum = r->slowdown[s].windows = 0;
    }
    r->since_s = now_s; /* not again at once, if they are not moved */
    *gain = best(r, first);
    return *gain >= RECUT_GAIN;
}
