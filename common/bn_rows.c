#include "common/bn_rows.h"

#include "common/bn.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const double LEVEL_STEP = 1. / 64, LEAST_STEP = 1. / 256, MOST_STEP = 1. / 32;
static const double STEP_PER_OUTPUT = 1. / 2048; /* of corrections */
/* A channel that is constant has some, so that ratios exist. */
static const double LEAST_SIGMA = 1e-12;

/* What is stored of a channel in a row. */
struct coded {
    int16_t mean, scale;
};

static double sigma_of(const struct model *model, float var) {
    const double sigma = 1 / (double)bn_inverse_sigma(model, fmaxf(var, 0));
    return sigma > LEAST_SIGMA ? sigma : LEAST_SIGMA;
}

/* Files may hold anything; what is read is finite. */
static float bounded(double value) { return (float)fmin(fmax(value, -(double)FLT_MAX), (double)FLT_MAX); }

static float var_of(const struct model *model, double sigma) {
    const double eps = (double)model->bn_eps;
    if (model->bn_form == MODEL_BN_TORCH) return bounded(fmax(sigma * sigma - eps, 0));
    return sigma > eps ? bounded((sigma - eps) * (sigma - eps)) : 0;
}

static double correction_step(size_t outputs) {
    return fmin(fmax((double)outputs * STEP_PER_OUTPUT, LEAST_STEP), MOST_STEP);
}

static int16_t steps(double value, double step) {
    const double n = nearbyint(value / step);
    return n >= INT16_MAX ? INT16_MAX : n <= INT16_MIN ? INT16_MIN : isnan(n) ? 0 : (int16_t)n;
}

/* Of a level's row, from what row 0 has. */
static float level_var(const struct model *model, float var, int16_t scale) {
    return var_of(model, sigma_of(model, var) * exp(scale * LEVEL_STEP));
}

/* `at`: in mean and var, of an output in some row. */
static struct coded encode(const struct model *model, int layer, size_t at) {
    const struct model_layer *m = &model->layers[layer];
    const size_t outputs = (size_t)model_outputs(model, layer), o = at % outputs;
    if (at >= (size_t)bn_level_rows(model) * outputs) {
        const double step = correction_step(outputs);
        return (struct coded){steps((double)m->mean[at], step), steps((double)m->var[at], step)};
    }
    const int16_t scale = steps(log(sigma_of(model, m->var[at]) / sigma_of(model, m->var[o])), LEVEL_STEP);
    const double sigma = sigma_of(model, level_var(model, m->var[o], scale)); /* as it will be read */
    return (struct coded){steps(((double)m->mean[at] - (double)m->mean[o]) / sigma, LEVEL_STEP), scale};
}

static void decode(struct model *model, int layer, size_t at, struct coded c) {
    struct model_layer *m = &model->layers[layer];
    const size_t outputs = (size_t)model_outputs(model, layer), o = at % outputs;
    if (at >= (size_t)bn_level_rows(model) * outputs) {
        m->mean[at] = (float)(c.mean * correction_step(outputs));
        m->var[at] = (float)(c.scale * correction_step(outputs));
        return;
    }
    m->var[at] = level_var(model, m->var[o], c.scale);
    m->mean[at] = bounded((double)m->mean[o] + c.mean * LEVEL_STEP * sigma_of(model, m->var[at]));
}

void bn_rows_round(struct model *model) {
    for (int i = 0; i < model->net->nlayers; i++) {
        if (!model->layers[i].mean) continue;
        const size_t outputs = (size_t)model_outputs(model, i);
        for (size_t at = outputs; at < outputs * (size_t)model->nrows; at++) decode(model, i, at, encode(model, i, at));
    }
}

/* Channels of all rows but the first. */
static size_t count(const struct model *model) {
    size_t n = 0;
    for (int i = 0; i < model->net->nlayers; i++)
        if (model->layers[i].mean) n += (size_t)model_outputs(model, i) * (size_t)(model->nrows - 1);
    return n;
}

static void put(uint8_t *low, uint8_t *high, size_t at, int16_t n) {
    const unsigned folded = ((unsigned)(uint16_t)n << 1) ^ (n < 0 ? 0xffffu : 0);
    low[at] = (uint8_t)folded;
    high[at] = (uint8_t)(folded >> 8);
}

static int16_t get(const uint8_t *low, const uint8_t *high, size_t at) {
    const int folded = low[at] | high[at] << 8;
    return (int16_t)(folded & 1 ? -(folded >> 1) - 1 : folded >> 1);
}

/* Filtered data, that is, many small numbers at random, is what most of it is. */
static enum status deflate_all(uint8_t *from, size_t size, uint8_t **bytes, size_t *length, struct err *err) {
    z_stream z = {.next_in = from, .avail_in = (uInt)size};
    if (deflateInit2(&z, 9, Z_DEFLATED, 15, 9, Z_FILTERED) != Z_OK) return err_memory(err, "batch-norm rows");
    const uLong bound = deflateBound(&z, size);
    uint8_t *out = malloc(bound);
    if (!out) {
        deflateEnd(&z);
        return err_memory(err, "batch-norm rows");
    }
    z.next_out = out;
    z.avail_out = (uInt)bound;
    const int done = deflate(&z, Z_FINISH);
    *length = z.total_out;
    deflateEnd(&z);
    if (done != Z_STREAM_END) {
        free(out);
        return err_memory(err, "batch-norm rows");
    }
    *bytes = out;
    return STATUS_OK;
}

enum status bn_rows_pack(const struct model *model, uint8_t **bytes, size_t *length, struct err *err) {
    const size_t n = 2 * count(model);
    uint8_t *planes = malloc(2 * n + 1);
    if (!planes) return err_memory(err, "batch-norm rows");
    size_t k = 0;
    for (int i = 0; i < model->net->nlayers; i++) {
        if (!model->layers[i].mean) continue;
        const size_t outputs = (size_t)model_outputs(model, i), each = outputs * (size_t)(model->nrows - 1);
        for (size_t at = outputs; at < outputs + each; at++, k++) {
            const struct coded c = encode(model, i, at);
            put(planes, planes + n, k, c.mean);
            put(planes, planes + n, k + each, c.scale);
        }
        k += each;
    }
    enum status status = deflate_all(planes, 2 * n, bytes, length, err);
    free(planes);
    return status;
}

enum status bn_rows_unpack(struct model *model, const uint8_t *bytes, size_t length, const char *name, struct err *err) {
    const size_t n = 2 * count(model);
    uint8_t *planes = malloc(2 * n + 1);
    if (!planes) return err_memory(err, "batch-norm rows");
    uLongf size = 2 * n + 1;
    uLong used = length;
    if (uncompress2(planes, &size, bytes, &used) != Z_OK || size != 2 * n || used != length) {
        free(planes);
        return err_set(err, STATUS_FORMAT, "%s: tensor '" BN_ROWS_TENSOR "' does not hold the %zu numbers of %d rows", name, n,
                       model->nrows - 1);
    }
    size_t k = 0;
    for (int i = 0; i < model->net->nlayers; i++) {
        if (!model->layers[i].mean) continue;
        const size_t outputs = (size_t)model_outputs(model, i), each = outputs * (size_t)(model->nrows - 1);
        for (size_t at = outputs; at < outputs + each; at++, k++) {
            const struct coded c = {get(planes, planes + n, k), get(planes, planes + n, k + each)};
            decode(model, i, at, c);
        }
        k += each;
    }
    free(planes);
    return STATUS_OK;
}
