#include "common/accuracy.h"

#include "common/json.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What a sample can vary in a block: its level, how far that is below or above
 * what arrives, its level again where it is below, and the codec at its entrance. */
enum { AXIS_BLOCK, AXIS_MISSING, AXIS_NARROW, AXIS_SURPLUS, AXIS_CODEC, AXES };
enum { FINENESSES = CODEC_COUNT / 2 }; /* codecs come in pairs, without and with zlib */
_Static_assert(CODEC_F32Z == CODEC_F32 + 1 && CODEC_Q4TZ == CODEC_Q4T + 1 && CODEC_COUNT % 2 == 0, "pairs");

enum status accuracy_create(struct accuracy **out, int nblocks, int nlevels, struct err *err) {
    assert(nblocks > 0 && nblocks <= PLAN_MAX_BLOCKS && nlevels > 0 && nlevels <= PLAN_MAX_LEVELS);
    struct accuracy *a = calloc(1, sizeof *a);
    size_t n = (size_t)nblocks * (size_t)nlevels;
    if (a) a->block = calloc(4 * n + (size_t)nblocks * CODEC_COUNT, sizeof *a->block);
    if (!a || !a->block) {
        free(a);
        return err_memory(err, "accuracy model");
    }
    a->nblocks = nblocks;
    a->nlevels = nlevels;
    a->missing = a->block + n;
    a->narrow = a->missing + n;
    a->surplus = a->narrow + n;
    a->codec = a->surplus + n;
    *out = a;
    return STATUS_OK;
}

void accuracy_destroy(struct accuracy **accuracy_pointer) {
    struct accuracy *a = *accuracy_pointer;
    if (!a) return;
    free(a->block);
    free(a);
    *accuracy_pointer = NULL;
}

static int arriving(const struct plan *plan, int b) {
    return plan->link[b] > plan->level[b - 1] ? plan->link[b] : plan->level[b - 1];
}

double accuracy_step(const struct accuracy *a, int b, int own, int in) {
    int row = b * a->nlevels;
    return in > own ? a->missing[row + in - own] + a->narrow[row + own] : a->surplus[row + own - in];
}

double accuracy_predict(const struct accuracy *a, const struct plan *plan) {
    assert(plan->nblocks == a->nblocks);
    double value = a->base;
    for (int b = 0; b < a->nblocks; b++) {
        value -= a->block[b * a->nlevels + plan->level[b]];
        if (b > 0)
            value -= accuracy_step(a, b, plan->level[b], arriving(plan, b)) + a->codec[b * CODEC_COUNT + (int)plan->codec[b]];
    }
    return value;
}

double accuracy_error(const struct accuracy *accuracy, const struct accuracy_sample *samples, int nsamples,
                      double *worst) {
    double sum = 0, largest = 0;
    for (int s = 0; s < nsamples; s++) {
        double error = fabs(accuracy_predict(accuracy, samples[s].plan) - samples[s].accuracy);
        sum += error;
        if (error > largest) largest = error;
    }
    if (worst) *worst = largest;
    return nsamples ? sum / nsamples : 0;
}

/* ---- fitting ----
 *
 * A cost is a sum of non-negative increments, so that it never falls with the
 * level. Least squares under these bounds is convex; coordinate descent, one
 * (block, axis) at a time, reaches its optimum. The samples enter a step only
 * through the sum of their residuals and their number at each rank (level or
 * fineness), so the increments of one axis are solved on those few buckets. */

struct fit {
    int nblocks, nsamples;
    uint8_t *rank;     /* [nblocks][AXES][nsamples] */
    double *increment; /* [nblocks][AXES][PLAN_MAX_LEVELS], [0] unused */
    double *residual;  /* [nsamples] measured - predicted */
};

static int plan_rank(const struct plan *plan, int block, int axis) {
    if (axis == AXIS_BLOCK) return plan->level[block];
    if (block == 0) return 0;
    if (axis == AXIS_CODEC) return (int)plan->codec[block] / 2;
    int step = arriving(plan, block) - plan->level[block];
    if (axis == AXIS_NARROW) return step > 0 ? plan->level[block] : 0;
    if (axis == AXIS_SURPLUS) step = -step;
    return step > 0 ? step : 0;
}

/* Improves the increments of one block and axis; returns the largest change. */
static double fit_axis(struct fit *fit, int block, int axis, int ranks) {
    const uint8_t *rank = fit->rank + ((size_t)block * AXES + (size_t)axis) * (size_t)fit->nsamples;
    double *increment = fit->increment + ((size_t)block * AXES + (size_t)axis) * PLAN_MAX_LEVELS;
    double sum[PLAN_MAX_LEVELS] = {0}, count[PLAN_MAX_LEVELS] = {0}, change[PLAN_MAX_LEVELS] = {0};
    for (int s = 0; s < fit->nsamples; s++) {
        sum[rank[s]] += fit->residual[s];
        count[rank[s]] += 1;
    }
    for (int round = 0; round < 20; round++)
        for (int k = 1; k < ranks; k++) {
            double total = 0, n = 0;
            for (int r = k; r < ranks; r++) {
                total += sum[r];
                n += count[r];
            }
            if (count[k] == 0) continue; /* as much as the rank before: what lies above is told by its own samples */
            double step = fmax(-total / n, -(increment[k] + change[k]));
            change[k] += step;
            for (int r = k; r < ranks; r++) sum[r] += step * count[r];
        }
    double largest = 0, added[PLAN_MAX_LEVELS] = {0};
    for (int k = 1; k < ranks; k++) {
        increment[k] += change[k];
        added[k] = added[k - 1] + change[k];
        largest = fmax(largest, fabs(change[k]));
    }
    if (largest > 0)
        for (int s = 0; s < fit->nsamples; s++) fit->residual[s] += added[rank[s]];
    return largest;
}

static void fit_solve(struct fit *fit, double *base, int nlevels) {
    const int sweeps = 5000;
    const double enough = 1e-9;
    for (int sweep = 0; sweep < sweeps; sweep++) {
        double mean = 0;
        for (int s = 0; s < fit->nsamples; s++) mean += fit->residual[s] / fit->nsamples;
        double step = fmin(fmax(*base + mean, 0), 1) - *base, largest = fabs(step);
        *base += step;
        for (int s = 0; s < fit->nsamples; s++) fit->residual[s] -= step;
        for (int b = 0; b < fit->nblocks; b++)
            for (int axis = 0; axis < AXES; axis++)
                largest = fmax(largest, fit_axis(fit, b, axis, axis == AXIS_CODEC ? FINENESSES : nlevels));
        if (largest < enough) break;
    }
}

enum status accuracy_fit(struct accuracy *a, const struct accuracy_sample *samples, int nsamples, struct err *err) {
    if (nsamples < 1) return err_set(err, STATUS_USAGE, "the accuracy model needs at least one measured plan");
    size_t axes = (size_t)a->nblocks * AXES;
    struct fit fit = {.nblocks = a->nblocks, .nsamples = nsamples};
    fit.rank = malloc(axes * (size_t)nsamples);
    fit.increment = calloc(axes * PLAN_MAX_LEVELS, sizeof *fit.increment);
    fit.residual = malloc((size_t)nsamples * sizeof *fit.residual);
    enum status status = STATUS_OK;
    if (!fit.rank || !fit.increment || !fit.residual) {
        status = err_memory(err, "fitting the accuracy model");
    } else {
        for (int s = 0; s < nsamples; s++) {
            assert(samples[s].plan->nblocks == a->nblocks);
            fit.residual[s] = samples[s].accuracy;
            for (size_t i = 0; i < axes; i++)
                fit.rank[i * (size_t)nsamples + (size_t)s] =
                    (uint8_t)plan_rank(samples[s].plan, (int)(i / AXES), (int)(i % AXES));
        }
        a->links = a->codecs = false;
        for (int s = 0; s < nsamples; s++)
            for (int b = 1; b < a->nblocks; b++) {
                a->links |= samples[s].plan->link[b] > 0;
                a->codecs |= samples[s].plan->codec[b] >= CODEC_Q8;
            }
        a->base = 0;
        fit_solve(&fit, &a->base, a->nlevels);
        for (int b = 0; b < a->nblocks; b++) {
            const double *increment = fit.increment + (size_t)b * AXES * PLAN_MAX_LEVELS;
            double *block = a->block + b * a->nlevels;
            double *missing = a->missing + b * a->nlevels, *narrow = a->narrow + b * a->nlevels;
            double *surplus = a->surplus + b * a->nlevels;
            double *codec = a->codec + b * CODEC_COUNT;
            block[0] = missing[0] = narrow[0] = surplus[0] = codec[CODEC_F32] = codec[CODEC_F32Z] = 0;
            for (int l = 1; l < a->nlevels; l++) {
                block[l] = block[l - 1] + increment[AXIS_BLOCK * PLAN_MAX_LEVELS + l];
                missing[l] = missing[l - 1] + increment[AXIS_MISSING * PLAN_MAX_LEVELS + l];
                narrow[l] = narrow[l - 1] + increment[AXIS_NARROW * PLAN_MAX_LEVELS + l];
                surplus[l] = surplus[l - 1] + increment[AXIS_SURPLUS * PLAN_MAX_LEVELS + l];
            }
            for (int c = 2; c < CODEC_COUNT; c++)
                codec[c] = codec[c / 2 * 2 - 2] + increment[AXIS_CODEC * PLAN_MAX_LEVELS + c / 2];
        }
        a->fit_error = accuracy_error(a, samples, nsamples, NULL);
    }
    free(fit.rank);
    free(fit.increment);
    free(fit.residual);
    return status;
}

/* ---- as text ---- */

char *accuracy_json(const struct accuracy *a) {
    cJSON *root = cJSON_CreateObject();
    const bool good = root && json_add(root, "blocks", cJSON_CreateNumber(a->nblocks)) &&
                      json_add(root, "levels", cJSON_CreateNumber(a->nlevels)) &&
                      json_add(root, "base", cJSON_CreateNumber(a->base)) &&
                      json_add(root, "block", json_matrix(a->block, a->nblocks, a->nlevels)) &&
                      json_add(root, "missing", json_matrix(a->missing, a->nblocks, a->nlevels)) &&
                      json_add(root, "narrow", json_matrix(a->narrow, a->nblocks, a->nlevels)) &&
                      json_add(root, "surplus", json_matrix(a->surplus, a->nblocks, a->nlevels)) &&
                      json_add(root, "codec", json_matrix(a->codec, a->nblocks, CODEC_COUNT)) &&
                      json_add(root, "links", cJSON_CreateBool(a->links)) &&
                      json_add(root, "codecs", cJSON_CreateBool(a->codecs)) &&
                      json_add(root, "samples", cJSON_CreateNumber(a->samples)) &&
                      json_add(root, "fit_error", cJSON_CreateNumber(a->fit_error)) &&
                      json_add(root, "held_out_error", cJSON_CreateNumber(a->held_out_error)) &&
                      json_add(root, "held_out_worst", cJSON_CreateNumber(a->held_out_worst));
    return json_text(root, good);
}

/* Rows of costs: finite, from 0 on. Costs of levels must not fall. */
static enum status parse_costs(const cJSON *root, const char *key, int rows, int columns, bool rising, double *costs,
                               struct err *err) {
    const cJSON *matrix = cJSON_GetObjectItemCaseSensitive(root, key), *row;
    if (!cJSON_IsArray(matrix) || cJSON_GetArraySize(matrix) != rows)
        return err_set(err, STATUS_FORMAT, "accuracy: '%s' must have %d rows, one per block", key, rows);
    int r = 0;
    cJSON_ArrayForEach(row, matrix) {
        double *cost = costs + (ptrdiff_t)r * columns;
        if (!json_doubles(row, columns, 0, 1e6, cost) || cost[0] != 0)
            return err_set(err, STATUS_FORMAT, "accuracy: row %d of '%s' must be %d costs, the first 0", r, key,
                           columns);
        for (int i = 1; rising && i < columns; i++)
            if (cost[i] < cost[i - 1])
                return err_set(err, STATUS_FORMAT, "accuracy: row %d of '%s' falls at level %d", r, key, i);
        r++;
    }
    return STATUS_OK;
}

enum status accuracy_parse(struct accuracy **out, const char *json, int nblocks, int nlevels, struct err *err) {
    cJSON *root;
    enum status status = json_parse(&root, "accuracy", json, err);
    if (status) return status;
    struct accuracy *a = NULL;
    int blocks = 0, levels = 0;
    if (!json_int(cJSON_GetObjectItemCaseSensitive(root, "blocks"), nblocks, nblocks, &blocks) ||
        !json_int(cJSON_GetObjectItemCaseSensitive(root, "levels"), nlevels, nlevels, &levels))
        status = err_set(err, STATUS_FORMAT, "accuracy: must be for %d blocks and %d levels", nblocks, nlevels);
    if (!status) status = accuracy_create(&a, nblocks, nlevels, err);
    if (!status &&
        (!json_double(cJSON_GetObjectItemCaseSensitive(root, "base"), 0, 1, &a->base) ||
         !json_int(cJSON_GetObjectItemCaseSensitive(root, "samples"), 0, INT32_MAX, &a->samples) ||
         !json_double(cJSON_GetObjectItemCaseSensitive(root, "fit_error"), 0, 1e6, &a->fit_error) ||
         !json_double(cJSON_GetObjectItemCaseSensitive(root, "held_out_error"), 0, 1e6, &a->held_out_error) ||
         !json_double(cJSON_GetObjectItemCaseSensitive(root, "held_out_worst"), 0, 1e6, &a->held_out_worst)))
        status = err_set(err, STATUS_FORMAT, "accuracy: base, samples or an error is missing or out of range");
    if (!status) status = parse_costs(root, "block", nblocks, nlevels, true, a->block, err);
    /* Files without them measured capped links alone, behind which so many levels are missing. */
    bool steps = cJSON_HasObjectItem(root, "missing") || cJSON_HasObjectItem(root, "surplus");
    if (!status) status = parse_costs(root, steps ? "missing" : "link", nblocks, nlevels, true, a->missing, err);
    if (!status && steps) status = parse_costs(root, "surplus", nblocks, nlevels, true, a->surplus, err);
    if (!status && cJSON_HasObjectItem(root, "narrow")) /* not in the first such files */
        status = parse_costs(root, "narrow", nblocks, nlevels, true, a->narrow, err);
    if (!status) status = parse_costs(root, "codec", nblocks, CODEC_COUNT, false, a->codec, err);
    /* Files without the flags measured links, and no codec. */
    if (a) a->links = !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(root, "links"));
    if (a) a->codecs = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "codecs"));
    cJSON_Delete(root);
    if (status) accuracy_destroy(&a);
    else *out = a;
    return status;
}

enum status accuracy_slice(struct accuracy **part, const struct accuracy *whole, int first, int nblocks,
                           struct err *err) {
    assert(first >= 0 && nblocks > 0 && first <= whole->nblocks - nblocks);
    struct accuracy *a;
    enum status status = accuracy_create(&a, nblocks, whole->nlevels, err);
    if (status) return status;
    size_t n = (size_t)nblocks * (size_t)a->nlevels;
    memcpy(a->block, whole->block + (ptrdiff_t)first * a->nlevels, n * sizeof *a->block);
    memcpy(a->missing, whole->missing + (ptrdiff_t)first * a->nlevels, n * sizeof *a->missing);
    memcpy(a->narrow, whole->narrow + (ptrdiff_t)first * a->nlevels, n * sizeof *a->narrow);
    memcpy(a->surplus, whole->surplus + (ptrdiff_t)first * a->nlevels, n * sizeof *a->surplus);
    memcpy(a->codec, whole->codec + (ptrdiff_t)first * CODEC_COUNT, (size_t)nblocks * CODEC_COUNT * sizeof *a->codec);
    a->base = whole->base;
    a->links = whole->links;
    a->codecs = whole->codecs;
    a->samples = whole->samples;
    a->fit_error = whole->fit_error;
    a->held_out_error = whole->held_out_error;
    a->held_out_worst = whole->held_out_worst;
    *part = a;
    return STATUS_OK;
}
