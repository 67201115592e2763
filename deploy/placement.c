#include "deploy/placement.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum status placement_create(struct placement **out, int nhosts, int nblocks, struct err *err) {
    if (nhosts < 1 || nblocks < nhosts)
        return err_set(err, STATUS_USAGE, "%d blocks cannot be shared by %d hosts, one at least each", nblocks, nhosts);
    struct placement *p = calloc(1, sizeof *p);
    if (!p) return err_memory(err, "placement");
    size_t n = (size_t)nhosts * (size_t)nblocks;
    p->compute = calloc(4 * n + (size_t)nhosts, sizeof *p->compute);
    if (!p->compute) {
        free(p);
        return err_memory(err, "placement");
    }
    p->nhosts = nhosts;
    p->nblocks = nblocks;
    p->link = p->compute + n;
    p->encode = p->link + n;
    p->decode = p->encode + n;
    p->delay = p->decode + n;
    *out = p;
    return STATUS_OK;
}

void placement_destroy(struct placement **placement) {
    struct placement *p = *placement;
    if (!p) return;
    free(p->compute);
    free(p);
    *placement = NULL;
}

double placement_stage_ms(const struct placement *p, int host, int first, int last) {
    double ms = p->decode[host * p->nblocks + first];
    for (int b = first; b <= last; b++) ms += p->compute[host * p->nblocks + b];
    if (host + 1 < p->nhosts && last + 1 < p->nblocks) ms += p->encode[(host + 1) * p->nblocks + last + 1];
    return ms;
}

double placement_load_ms(const struct placement *p, int host, int first) {
    return p->link[host * p->nblocks + first];
}

struct placement_value placement_evaluate(const struct placement *p, const int *first) {
    struct placement_value v = {0};
    for (int h = 0; h < p->nhosts; h++) {
        double stage = placement_stage_ms(p, h, first[h], first[h + 1] - 1), load = placement_load_ms(p, h, first[h]);
        v.largest_ms = fmax(v.largest_ms, fmax(stage, load));
        v.sum_ms += load + p->delay[h] + stage;
    }
    return v;
}

/* Dynamic programming from the last host backwards: best[h][b] is the best of
 * hosts h.. on blocks b.., by largest (if `minimax`) or by sum of those whose
 * stages and loads do not exceed `limit`. next[h][b]: where host h + 1 begins. */
static double fill(const struct placement *p, bool minimax, double limit, double *best, int *next) {
    int n = p->nblocks;
    for (int h = p->nhosts - 1; h >= 0; h--)
        for (int b = 0; b < n; b++) {
            double least = DBL_MAX, load = placement_load_ms(p, h, b), work = p->decode[h * n + b];
            bool last = h + 1 == p->nhosts;
            for (int e = b + 1; e <= n; e++) {
                work += p->compute[h * n + e - 1];
                if (last ? e < n : e == n) continue; /* the last host takes all, the others leave some */
                double stage = last ? work : work + p->encode[(h + 1) * n + e];
                double rest = last ? 0 : best[(h + 1) * n + e];
                if (rest == DBL_MAX || stage > limit || load > limit) continue;
                double value = minimax ? fmax(rest, fmax(stage, load)) : rest + (load + p->delay[h] + stage);
                if (value >= least) continue;
                least = value;
                next[h * n + b] = e;
            }
            best[h * n + b] = least;
        }
    return best[0];
}

enum status placement_solve(const struct placement *p, enum placement_objective objective, int *first,
                            struct placement_value *value, struct err *err) {
    size_t n = (size_t)p->nhosts * (size_t)p->nblocks;
    for (size_t i = 0; i < 4 * n + (size_t)p->nhosts; i++)
        if (!(p->compute[i] >= 0 && isfinite(p->compute[i])))
            return err_set(err, STATUS_USAGE, "placement: %g ms is no time", p->compute[i]);
    double *best = malloc(n * sizeof *best);
    int *next = malloc(n * sizeof *next);
    enum status status = best && next ? STATUS_OK : err_memory(err, "placement");
    if (!status) {
        double limit = DBL_MAX;
        if (objective == PLACEMENT_THROUGHPUT) limit = fill(p, true, DBL_MAX, best, next);
        fill(p, false, limit, best, next);
        first[0] = 0;
        for (int h = 0; h < p->nhosts; h++) first[h + 1] = next[h * p->nblocks + first[h]];
        *value = placement_evaluate(p, first);
    }
    free(best);
    free(next);
    return status;
}
