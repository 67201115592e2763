#include "deploy/simulate.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double latency_ms(const struct simulate_frame *f) {
    return (f->stored_s - f->due_s) * 1e3;
}

/* The first frame from `i` on that begins SIMULATE_STEADY frames in time (or
 * as many as there are); nframes if none does. */
static int steady_from(const struct simulate_frame *frames, int nframes, double slo_ms, int i) {
    int run = 0;
    for (; i < nframes && run < SIMULATE_STEADY; i++) run = latency_ms(&frames[i]) <= slo_ms ? run + 1 : 0;
    return i - run;
}

static int first_due(const struct simulate_frame *frames, int nframes, double at_s) {
    int i = 0;
    while (i < nframes && frames[i].due_s < at_s) i++;
    return i;
}

int simulate_windows(const struct simulate_event *events, int nevents, const struct simulate_frame *frames,
                     int nframes, double slo_ms, struct simulate_window *windows) {
    for (int i = 0; i < nevents; i++) { /* by begin */
        int k = i;
        for (; k > 0 && windows[k - 1].from_s > events[i].from_s; k--) windows[k] = windows[k - 1];
        windows[k] = (struct simulate_window){events[i].from_s, events[i].to_s, 0};
    }
    int n = 0;
    for (int i = 0; i < nevents; i++) {
        if (n > 0 && windows[i].from_s <= windows[n - 1].end_s)
            windows[n - 1].to_s = fmax(windows[n - 1].to_s, windows[i].to_s);
        else
            windows[n++] = windows[i];
        struct simulate_window *w = &windows[n - 1];
        int clear = steady_from(frames, nframes, slo_ms, first_due(frames, nframes, w->to_s));
        w->end_s = fmax(w->to_s, clear < nframes ? frames[clear].due_s : frames[nframes - 1].due_s + 1e-9);
    }
    return n;
}

static bool inside(const struct simulate_window *windows, int nwindows, double due_s) {
    for (int i = 0; i < nwindows; i++)
        if (due_s >= windows[i].from_s && due_s < windows[i].end_s) return true;
    return false;
}

static void react(const struct simulate_frame *frames, int nframes, double slo_ms, const struct simulate_window *w,
                  struct simulate_summary *r) {
    int first = first_due(frames, nframes, w->from_s), late = first;
    while (late < nframes && frames[late].due_s < w->end_s && latency_ms(&frames[late]) <= slo_ms) late++;
    if (late == nframes || frames[late].due_s >= w->end_s) return;
    int back = late, steady = steady_from(frames, nframes, slo_ms, late);
    while (back < nframes && latency_ms(&frames[back]) > slo_ms) back++;
    double steady_s = steady < nframes ? frames[steady].due_s : frames[nframes - 1].due_s;
    if (back - first > r->reaction) r->reaction = back - first;
    if (steady - first > r->settled) r->settled = steady - first;
    r->settled_s = fmax(r->settled_s, steady_s - w->from_s);
}

enum status simulate_summarise(const struct simulate_frame *frames, int nframes, double slo_ms, double full,
                               const struct simulate_window *windows, int nwindows, enum simulate_part part,
                               struct simulate_summary *summary, struct err *err) {
    double *ms = malloc((size_t)(nframes > 0 ? nframes : 1) * sizeof *ms);
    if (!ms) return err_memory(err, "summary");
    struct simulate_summary r = {0};
    int within = 0;
    double first_s = 0, last_s = 0;
    for (int i = 0; i < nframes; i++) {
        const struct simulate_frame *f = &frames[i];
        if (part != SIMULATE_ALL && inside(windows, nwindows, f->due_s) != (part == SIMULATE_INSIDE)) continue;
        if (r.frames == 0) first_s = f->due_s;
        last_s = fmax(last_s, f->stored_s);
        within += latency_ms(f) <= slo_ms;
        r.accuracy += f->accuracy;
        ms[r.frames++] = latency_ms(f);
    }
    for (int i = 0; i < nwindows; i++) {
        react(frames, nframes, slo_ms, &windows[i], &r);
        double until_s = i + 1 < nwindows ? windows[i + 1].from_s : INFINITY;
        for (int k = 0; k < nframes; k++)
            if (frames[k].due_s >= windows[i].to_s && frames[k].due_s < until_s && frames[k].accuracy < full - 1e-9)
                r.recovery_s = fmax(r.recovery_s, frames[k].due_s - windows[i].to_s);
    }
    if (r.frames > 0) {
        qsort(ms, (size_t)r.frames, sizeof *ms, by_value);
        r.attainment = (double)within / r.frames;
        r.accuracy /= r.frames;
        r.p50_ms = ms[r.frames / 2];
        r.p95_ms = ms[r.frames * 95 / 100];
        r.p99_ms = ms[r.frames * 99 / 100];
        r.worst_ms = ms[r.frames - 1];
        r.fps = last_s > first_s ? r.frames / (last_s - first_s) : 0;
    }
    free(ms);
    *summary = r;
    return STATUS_OK;
}
