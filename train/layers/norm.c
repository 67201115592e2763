#include "train/layers/norm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Arrays over channels, one behind the other. All but WHOLE_* are compact. */
enum array { MEAN, VAR, SCALE, SHIFT, GAMMA, SUM_G, SUM_GX, A, B, D, WHOLE_MEAN, WHOLE_VAR, ARRAYS };

struct norm {
    struct layer_context context;
    int channels; /* at full width */
    int kept;     /* of the last pass */
    bool gaps;    /* the last pass's channels were no prefix */
    float *values;
};

static float *array(const struct norm *norm, enum array which) {
    return norm->values + (size_t)which * (size_t)norm->channels;
}

enum status norm_create(struct norm **out, const struct layer_context *context, struct err *err) {
    struct norm *norm = calloc(1, sizeof *norm);
    if (!norm) return err_memory(err, "batch norm");
    norm->context = *context;
    norm->channels = model_outputs(context->model, context->index);
    norm->values = calloc((size_t)norm->channels * ARRAYS, sizeof *norm->values);
    if (!norm->values) {
        free(norm);
        return err_memory(err, "batch norm");
    }
    *out = norm;
    return STATUS_OK;
}

void norm_destroy(struct norm **norm) {
    if (!*norm) return;
    free((*norm)->values);
    free(*norm);
    *norm = NULL;
}

/* The pass's channels of a whole array, one behind the other. */
static void gather(const struct layer_tensor *t, const float *whole, float *compact) {
    for (int i = 0; i < t->nranges; i++)
        memcpy(compact + t->ranges[i].offset, whole + t->ranges[i].first, (size_t)t->ranges[i].count * sizeof *compact);
}

static void scatter_add(const struct layer_tensor *t, const float *compact, float *whole) {
    for (int i = 0; i < t->nranges; i++)
        for (int c = 0; c < t->ranges[i].count; c++) whole[t->ranges[i].first + c] += compact[t->ranges[i].offset + c];
}

/* Where a trained array's row for this plan begins: most models have one. */
static float *row_of(const struct norm *norm, const struct layer_pass *pass, float *rows) {
    int nrows = norm->context.model->layers[norm->context.index].gamma_rows;
    return rows + (nrows > 1 ? (size_t)pass->row * (size_t)norm->channels : 0);
}

static float inverse_sigma(const struct model *model, float var) {
    return model->bn_form == MODEL_BN_DARKNET ? 1 / (sqrtf(var) + model->bn_eps) : 1 / sqrtf(var + model->bn_eps);
}

/* d(1/sigma)/d(var). */
static float inverse_sigma_slope(const struct model *model, float var) {
    float s = inverse_sigma(model, var);
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

enum status norm_forward(struct norm *norm, const struct layer_pass *pass, const float *x, struct ops_rectifier r,
                         float *y, struct err *err) {
    const struct layer_context *k = &norm->context;
    const struct layer_tensor *t = &pass->out;
    float *mean = array(norm, MEAN), *var = array(norm, VAR), *scale = array(norm, SCALE), *shift = array(norm, SHIFT);
    size_t rows = layer_rows(pass, t);
    if (pass->mode == NETWORK_INFERENCE) {
        const struct model_layer *m = &k->model->layers[k->index];
        size_t row = (size_t)pass->row * (size_t)norm->channels;
        gather(t, m->mean + row, mean);
        gather(t, m->var + row, var);
    } else {
        enum status status = ops_norm_stats(k->ops, x, rows, t->c, mean, var, err);
        if (status) return status;
        note_stats(norm, t);
    }
    gather(t, row_of(norm, pass, k->params.gamma), array(norm, GAMMA));
    if (k->params.beta) gather(t, row_of(norm, pass, k->params.beta), shift);
    else memset(shift, 0, (size_t)t->c * sizeof *shift);
    for (int c = 0; c < t->c; c++) {
        scale[c] = array(norm, GAMMA)[c] * inverse_sigma(k->model, var[c]);
        shift[c] -= mean[c] * scale[c];
    }
    return ops_norm_apply(k->ops, x, rows, t->c, scale, shift, r, y, err);
}

enum status norm_repeat(struct norm *norm, const struct layer_pass *pass, const float *x, float *y, struct err *err) {
    return ops_norm_apply(norm->context.ops, x, layer_rows(pass, &pass->out), pass->out.c, array(norm, SCALE),
                          array(norm, SHIFT), ops_linear, y, err);
}

/* With g = dL/d(x * scale + shift), s = 1/sigma and M rows:
 *   dL/dvar = gamma * s'(var) * sum g (x - mean)
 *   dL/dx = gamma * s * (g - mean of g) + dL/dvar * 2 (x - mean) / M
 * which is a * g + b * x + d per channel. */
enum status norm_backward(struct norm *norm, const struct layer_pass *pass, const float *x, const float *dy,
                          struct ops_rectifier r, float *dx, struct err *err) {
    const struct layer_context *k = &norm->context;
    const struct layer_tensor *t = &pass->out;
    size_t rows = layer_rows(pass, t);
    float *mean = array(norm, MEAN), *var = array(norm, VAR), *scale = array(norm, SCALE), *shift = array(norm, SHIFT);
    float *sum_g = array(norm, SUM_G), *sum_gx = array(norm, SUM_GX);
    float *a = array(norm, A), *b = array(norm, B), *d = array(norm, D);
    enum status status = ops_norm_sums(k->ops, x, dy, rows, t->c, mean, scale, shift, r, sum_g, sum_gx, err);
    if (status) return status;
    for (int c = 0; c < t->c; c++) {
        float dvar = array(norm, GAMMA)[c] * inverse_sigma_slope(k->model, var[c]) * sum_gx[c];
        a[c] = scale[c];
        b[c] = 2 * dvar / (float)rows;
        d[c] = -a[c] * sum_g[c] / (float)rows - b[c] * mean[c];
        sum_gx[c] *= inverse_sigma(k->model, var[c]);
    }
    scatter_add(t, sum_gx, row_of(norm, pass, k->params.dgamma));
    if (k->params.dbeta) scatter_add(t, sum_g, row_of(norm, pass, k->params.dbeta));
    return ops_norm_backward(k->ops, x, dy, rows, t->c, scale, shift, r, a, b, d, dx, err);
}

void norm_batch_stats(const struct norm *norm, const float **mean, const float **var, int *channels) {
    *mean = array(norm, norm->gaps ? WHOLE_MEAN : MEAN);
    *var = array(norm, norm->gaps ? WHOLE_VAR : VAR);
    *channels = norm->gaps ? norm->channels : norm->kept;
}
