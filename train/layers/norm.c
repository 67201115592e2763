#include "train/layers/norm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Arrays over channels, one behind the other. All but WHOLE_* are compact. */
enum array { MEAN, VAR, SCALE, SHIFT, GAMMA, A, B, D, WHOLE_MEAN, WHOLE_VAR, ARRAYS };
/* Of each thread: running moments of the batch, and the sums for backward. */
enum thread_array { MOMENT_MEAN, MOMENT_SQUARE, SUM_G, SUM_GX, THREAD_ARRAYS };

struct norm {
    struct layer_context context;
    int channels; /* at full width */
    int kept;     /* of the last pass */
    bool gaps;    /* the last pass's channels were no prefix */
    bool summed;
    float *values;
    double *sums;   /* [threads][THREAD_ARRAYS][channels] */
    double *counts; /* [threads] rows in the moments */
};

static float *array(const struct norm *norm, enum array which) {
    return norm->values + (size_t)which * (size_t)norm->channels;
}

static double *thread_array(const struct norm *norm, int thread, enum thread_array which) {
    return norm->sums + ((size_t)thread * THREAD_ARRAYS + (size_t)which) * (size_t)norm->channels;
}

enum status norm_create(struct norm **out, const struct layer_context *context, struct err *err) {
    struct norm *norm = calloc(1, sizeof *norm);
    if (!norm) return err_memory(err, "batch norm");
    norm->context = *context;
    norm->channels = model_outputs(context->model, context->index);
    size_t channels = (size_t)norm->channels, threads = (size_t)ops_threads(context->ops);
    norm->values = calloc(channels * ARRAYS, sizeof *norm->values);
    norm->sums = calloc(channels * THREAD_ARRAYS * threads, sizeof *norm->sums);
    norm->counts = calloc(threads, sizeof *norm->counts);
    if (!norm->values || !norm->sums || !norm->counts) {
        norm_destroy(&norm);
        return err_memory(err, "batch norm");
    }
    *out = norm;
    return STATUS_OK;
}

void norm_destroy(struct norm **norm) {
    if (!*norm) return;
    free((*norm)->values);
    free((*norm)->sums);
    free((*norm)->counts);
    free(*norm);
    *norm = NULL;
}

static void clear_sums(struct norm *norm) {
    size_t bytes = (size_t)norm->channels * sizeof(double);
    for (int t = 0; t < ops_threads(norm->context.ops); t++) {
        memset(thread_array(norm, t, SUM_G), 0, bytes);
        memset(thread_array(norm, t, SUM_GX), 0, bytes);
    }
    norm->summed = false;
}

void norm_begin(struct norm *norm) {
    size_t bytes = (size_t)norm->channels * sizeof(double);
    for (int t = 0; t < ops_threads(norm->context.ops); t++) {
        memset(thread_array(norm, t, MOMENT_MEAN), 0, bytes);
        memset(thread_array(norm, t, MOMENT_SQUARE), 0, bytes);
        norm->counts[t] = 0;
    }
    clear_sums(norm);
}

/* The pass's channels of a whole array, one behind the other. */
static void gather(const struct layer_tensor *t, const float *whole, float *compact) {
    for (int i = 0; i < t->nranges; i++)
        memcpy(compact + t->ranges[i].offset, whole + t->ranges[i].first, (size_t)t->ranges[i].count * sizeof *compact);
}

static void scatter_add(const struct layer_tensor *t, const double *compact, float *whole) {
    for (int i = 0; i < t->nranges; i++)
        for (int c = 0; c < t->ranges[i].count; c++)
            whole[t->ranges[i].first + c] += (float)compact[t->ranges[i].offset + c];
}

/* Where a trained array's row for this plan begins: most models have one. */
static float *row_of(const struct norm *norm, const struct layer_pass *pass, float *rows) {
    int nrows = norm->context.model->layers[norm->context.index].gamma_rows;
    return rows + (nrows > 1 ? (size_t)pass->norm->row * (size_t)norm->channels : 0);
}

/* d(1/sigma)/d(var). */
static float inverse_sigma_slope(const struct model *model, float var) {
    float s = bn_inverse_sigma(model, var);
    if (model->bn_form == MODEL_BN_TORCH) return -0.5f * s * s * s;
    return var > 0 ? -0.5f * s * s / sqrtf(var) : 0;
}

static void note_stats(struct norm *norm, const struct layer_tensor *t) {
    norm->kept = t->c;
    norm->gaps = t->nranges > 1;
    if (!norm->gaps) return;
    float *mean = array(norm, WHOLE_MEAN), *var = array(norm, WHOLE_VAR);
    for (int c = 0; c < norm->channels; c++) mean[c] = 0, var[c] = 1;
    for (int i = 0; i < t->nranges; i++) {
        struct layer_range r = t->ranges[i];
        memcpy(mean + r.first, array(norm, MEAN) + r.offset, (size_t)r.count * sizeof *mean);
        memcpy(var + r.first, array(norm, VAR) + r.offset, (size_t)r.count * sizeof *var);
    }
}

/* ---- forward ---- */

enum status norm_add_moments(struct norm *norm, int thread, const float *x, size_t rows, int c, struct err *err) {
    struct ops_moments moments = { norm->counts[thread], thread_array(norm, thread, MOMENT_MEAN),
                                   thread_array(norm, thread, MOMENT_SQUARE) };
    enum status status = ops_norm_moments(norm->context.ops, x, rows, c, &moments, err);
    norm->counts[thread] = moments.count;
    return status;
}

/* The batch's mean and variance from the threads' moments, in their order. */
static void join_moments(const struct norm *norm, int channel, float *mean, float *var) {
    double count = 0, m = 0, square = 0;
    for (int t = 0; t < ops_threads(norm->context.ops); t++) {
        double n = norm->counts[t], step = thread_array(norm, t, MOMENT_MEAN)[channel] - m;
        if (n == 0) continue;
        m += step * n / (count + n);
        square += thread_array(norm, t, MOMENT_SQUARE)[channel] + step * step * count * n / (count + n);
        count += n;
    }
    *mean = (float)m;
    *var = (float)(square / count);
}

void norm_set(struct norm *norm, const struct layer_pass *pass) {
    const struct layer_context *k = &norm->context;
    const struct layer_tensor *t = &pass->out;
    float *mean = array(norm, MEAN), *var = array(norm, VAR), *scale = array(norm, SCALE), *shift = array(norm, SHIFT);
    if (pass->mode == NETWORK_INFERENCE) {
        bn_stats(k->model, k->index, pass->norm, array(norm, WHOLE_MEAN), array(norm, WHOLE_VAR));
        gather(t, array(norm, WHOLE_MEAN), mean);
        gather(t, array(norm, WHOLE_VAR), var);
    } else {
        for (int c = 0; c < t->c; c++) join_moments(norm, c, &mean[c], &var[c]);
        note_stats(norm, t);
    }
    gather(t, row_of(norm, pass, k->params.gamma), array(norm, GAMMA));
    if (k->params.beta) gather(t, row_of(norm, pass, k->params.beta), shift);
    else memset(shift, 0, (size_t)t->c * sizeof *shift);
    for (int c = 0; c < t->c; c++) {
        scale[c] = array(norm, GAMMA)[c] * bn_inverse_sigma(k->model, var[c]);
        shift[c] -= mean[c] * scale[c];
    }
}

void norm_affine(const struct norm *norm, const float **scale, const float **shift) {
    *scale = array(norm, SCALE);
    *shift = array(norm, SHIFT);
}

enum status norm_apply(const struct norm *norm, const float *x, size_t rows, int c, struct ops_rectifier r, float *y,
                       struct err *err) {
    return ops_norm_apply(norm->context.ops, x, rows, c, array(norm, SCALE), array(norm, SHIFT), r, y, err);
}

/* ---- backward ---- */

enum status norm_add_sums(struct norm *norm, int thread, const float *x, const float *dy, size_t rows, int c,
                          struct ops_rectifier r, struct err *err) {
    return ops_norm_sums(norm->context.ops, x, dy, rows, c, array(norm, MEAN), array(norm, SCALE), array(norm, SHIFT), r,
                         thread_array(norm, thread, SUM_G), thread_array(norm, thread, SUM_GX), err);
}

void norm_sums_done(struct norm *norm) { norm->summed = true; }
bool norm_has_sums(const struct norm *norm) { return norm->summed; }

/* With g = dL/d(x * scale + shift), s = 1/sigma and M rows:
 *   dL/dvar = gamma * s'(var) * sum g (x - mean)
 *   dL/dx = gamma * s * (g - mean of g) + dL/dvar * 2 (x - mean) / M
 * which is a * g + b * x + d per channel. */
void norm_set_gradient(struct norm *norm, const struct layer_pass *pass) {
    const struct layer_context *k = &norm->context;
    const struct layer_tensor *t = &pass->out;
    const float *mean = array(norm, MEAN), *var = array(norm, VAR), *scale = array(norm, SCALE);
    float *a = array(norm, A), *b = array(norm, B), *d = array(norm, D);
    double *sum_g = thread_array(norm, 0, SUM_G), *sum_gx = thread_array(norm, 0, SUM_GX);
    double rows = (double)layer_rows(pass, t);
    for (int c = 0; c < t->c; c++) {
        for (int i = 1; i < ops_threads(k->ops); i++) {
            sum_g[c] += thread_array(norm, i, SUM_G)[c];
            sum_gx[c] += thread_array(norm, i, SUM_GX)[c];
        }
        double dvar = (double)array(norm, GAMMA)[c] * (double)inverse_sigma_slope(k->model, var[c]) * sum_gx[c];
        a[c] = scale[c];
        b[c] = (float)(2 * dvar / rows);
        d[c] = (float)(-(double)a[c] * sum_g[c] / rows) - b[c] * mean[c];
        sum_gx[c] *= (double)bn_inverse_sigma(k->model, var[c]);
    }
    scatter_add(t, sum_gx, row_of(norm, pass, k->params.dgamma));
    if (k->params.dbeta) scatter_add(t, sum_g, row_of(norm, pass, k->params.dbeta));
    clear_sums(norm);
}

enum status norm_gradient(const struct norm *norm, const float *x, const float *dy, size_t rows, int c,
                          struct ops_rectifier r, float *dx, struct err *err) {
    return ops_norm_backward(norm->context.ops, x, dy, rows, c, array(norm, SCALE), array(norm, SHIFT), r,
                             array(norm, A), array(norm, B), array(norm, D), dx, err);
}

void norm_batch_stats(const struct norm *norm, const float **mean, const float **var, int *channels) {
    *mean = array(norm, norm->gaps ? WHOLE_MEAN : MEAN);
    *var = array(norm, norm->gaps ? WHOLE_VAR : VAR);
    *channels = norm->gaps ? norm->channels : norm->kept;
}
