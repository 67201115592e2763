/* Darknet's activation functions, and relu6, as scalar functions: the one
 * definition that trainer and engine share. */
#ifndef ESPALIER_ACTIVATION_H
#define ESPALIER_ACTIVATION_H

enum activation {
    ACTIVATION_LINEAR,
    ACTIVATION_RELU,
    ACTIVATION_RELU6,
    ACTIVATION_LEAKY, /* slope 0.1 */
    ACTIVATION_LOGISTIC,
    ACTIVATION_LOGGY, /* 2*logistic - 1 */
    ACTIVATION_TANH,
    ACTIVATION_ELU,
    ACTIVATION_SELU,
    ACTIVATION_RELIE, /* x > 0 ? x : 0.01 x */
    ACTIVATION_RAMP,  /* x*(x>0) + 0.1 x */
    ACTIVATION_HARDTAN,
    ACTIVATION_LHTAN,
    ACTIVATION_PLSE,
    ACTIVATION_COUNT
};

/* The name as in a cfg. */
const char *activation_name(enum activation activation);
/* ACTIVATION_COUNT if there is none of that name. */
enum activation activation_parse(const char *name);
float activation_apply(enum activation activation, float x);
/* Derivative at the input x (at a kink: the one Darknet uses). */
float activation_derivative(enum activation activation, float x);

#endif
