#include "common/activation.h"

#include <math.h>
#include <string.h>

static const char *const names[ACTIVATION_COUNT] = {
    [ACTIVATION_LINEAR] = "linear", [ACTIVATION_RELU] = "relu",         [ACTIVATION_RELU6] = "relu6",
    [ACTIVATION_LEAKY] = "leaky",   [ACTIVATION_LOGISTIC] = "logistic", [ACTIVATION_LOGGY] = "loggy",
    [ACTIVATION_TANH] = "tanh",     [ACTIVATION_ELU] = "elu",           [ACTIVATION_SELU] = "selu",
    [ACTIVATION_RELIE] = "relie",   [ACTIVATION_RAMP] = "ramp",         [ACTIVATION_HARDTAN] = "hardtan",
    [ACTIVATION_LHTAN] = "lhtan",   [ACTIVATION_PLSE] = "plse",
};

/* Klambauer et al., Self-Normalizing Neural Networks, to Darknet's digits. */
static const float selu_scale = 1.0507f, selu_alpha = 1.6732f;

const char *activation_name(enum activation activation) { return names[activation]; }

enum activation activation_parse(const char *name) {
    for (int i = 0; i < ACTIVATION_COUNT; i++)
        if (strcmp(names[i], name) == 0) return (enum activation)i;
    return ACTIVATION_COUNT;
}

static float logistic(float x) { return 1 / (1 + expf(-x)); }

float activation_apply(enum activation activation, float x) {
    switch (activation) {
    case ACTIVATION_LINEAR: return x;
    case ACTIVATION_RELU: return x > 0 ? x : 0;
    case ACTIVATION_RELU6: return x > 0 ? (x < 6 ? x : 6) : 0;
    case ACTIVATION_LEAKY: return x > 0 ? x : 0.1f * x;
    case ACTIVATION_LOGISTIC: return logistic(x);
    case ACTIVATION_LOGGY: return 2 * logistic(x) - 1;
    case ACTIVATION_TANH: return tanhf(x);
    case ACTIVATION_ELU: return x >= 0 ? x : expm1f(x);
    case ACTIVATION_SELU: return x >= 0 ? selu_scale * x : selu_scale * selu_alpha * expm1f(x);
    case ACTIVATION_RELIE: return x > 0 ? x : 0.01f * x;
    case ACTIVATION_RAMP: return (x > 0 ? x : 0) + 0.1f * x;
    case ACTIVATION_HARDTAN: return x < -1 ? -1 : x > 1 ? 1 : x;
    case ACTIVATION_LHTAN: return x < 0 ? 0.001f * x : x > 1 ? 0.001f * (x - 1) + 1 : x;
    case ACTIVATION_PLSE: return x < -4 ? 0.01f * (x + 4) : x > 4 ? 0.01f * (x - 4) + 1 : 0.125f * x + 0.5f;
    case ACTIVATION_COUNT: break;
    }
    return x;
}

float activation_derivative(enum activation activation, float x) {
    switch (activation) {
    case ACTIVATION_LINEAR: return 1;
    case ACTIVATION_RELU: return x > 0;
    case ACTIVATION_RELU6: return x > 0 && x < 6;
    case ACTIVATION_LEAKY: return x > 0 ? 1 : 0.1f;
    case ACTIVATION_LOGISTIC: return logistic(x) * (1 - logistic(x));
    case ACTIVATION_LOGGY: return 2 * logistic(x) * (1 - logistic(x));
    case ACTIVATION_TANH: return 1 - tanhf(x) * tanhf(x);
    case ACTIVATION_ELU: return x >= 0 ? 1 : expf(x);
    case ACTIVATION_SELU: return x >= 0 ? selu_scale : selu_scale * selu_alpha * expf(x);
    case ACTIVATION_RELIE: return x > 0 ? 1 : 0.01f;
    case ACTIVATION_RAMP: return (x > 0) + 0.1f;
    case ACTIVATION_HARDTAN: return x > -1 && x < 1;
    case ACTIVATION_LHTAN: return x > 0 && x < 1 ? 1 : 0.001f;
    case ACTIVATION_PLSE: return x < -4 || x > 4 ? 0.01f : 0.125f;
    case ACTIVATION_COUNT: break;
    }
    return 1;
}
