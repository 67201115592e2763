/* Seeded random numbers: small, the same on every machine.
 *
 * A stream is named by up to three numbers (a seed and, say, an epoch and a
 * sample), so that nothing has to be carried along to continue it elsewhere.
 * Source: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
 * generators, 2014). Not for keys. */
#ifndef ESPALIER_RANDOM_H
#define ESPALIER_RANDOM_H

#include <math.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random) {
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The stream of (seed, a, b): unrelated to those of other numbers. */
static inline struct random random_stream(uint64_t seed, uint64_t a, uint64_t b) {
    struct random random = { seed };
    random.state = random_next(&random) ^ a;
    random.state = random_next(&random) ^ b;
    random.state = random_next(&random);
    return random;
}

/* In [0, 1). */
static inline double random_uniform(struct random *random) {
    return (double)(random_next(random) >> 11) * 0x1p-53;
}

static inline double random_between(struct random *random, double low, double high) {
    return low + (high - low) * random_uniform(random);
}

/* In [0, n), n > 0; the bias is below n / 2^32. */
static inline int random_below(struct random *random, int n) {
    return (int)(((random_next(random) >> 32) * (uint32_t)n) >> 32);
}

/* Mean 0, variance 1. */
static inline double random_normal(struct random *random) {
    double r = sqrt(-2 * log(1 - random_uniform(random)));
    return r * cos(6.283185307179586 * random_uniform(random));
}

#endif
