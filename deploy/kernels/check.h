/* Every kernel of an instruction set against the plain C reference: seeded
 * random and extreme data, odd sizes, every tail; guard bands; lanes that must
 * not be read hold NaN. Shared by the tests and by `selftest`. */
#ifndef ESPALIER_KERNELS_CHECK_H
#define ESPALIER_KERNELS_CHECK_H

#include "common/random.h"
#include "deploy/kernels/layout.h"
#include "deploy/kernels/table.h"

#include <stdbool.h>
#include <stdio.h>

struct check {
    const struct kernels *kernels; /* under test */
    int cases;                     /* how many random shapes */
    uint64_t seed;
    FILE *out;  /* what failed, and timings; NULL: nowhere */
    bool bench; /* time what passed */
    int passed, failed;
};

/* Each counts its shapes into passed and failed; one that finds no memory has failed. */
typedef void check_fn(struct check *check);
check_fn check_conv, check_winograd, check_depthwise, check_pooling, check_pointwise, check_peak;

/* All of them, NULL name behind the last. */
struct check_entry {
    const char *name;
    check_fn *run;
};
extern const struct check_entry check_entries[];

/* ---- what the checks are made of ---- */

/* Floats with guard bands on both sides; `data` is aligned to 64 bytes plus
 * `offset` floats. */
struct check_floats {
    float *data;
    size_t n;
    float *block;
};
bool check_alloc(struct check_floats *floats, size_t n, int offset);
void check_free(struct check_floats *floats);
/* Random values; `kind` 0: in [-1, 1); 1: zeros, denormals and magnitudes from 1e-20 to 1e8. */
float check_value(struct random *random, int kind);
/* Whether the guard bands are as check_alloc left them. */
bool check_guards(const struct check_floats *floats);

/* A map in panels with a border of zeros; all other floats, lanes past
 * `channels` included, are NaN. */
struct check_map {
    struct check_floats floats;
    struct layout layout;
    int channels, border;
};
bool check_map_alloc(struct check_map *map, int channels, int h, int w, int border, int pitch);
void check_map_fill(struct check_map *map, struct random *random, int kind);

/* Compares what two runs wrote. Channels [first, last) of lines [top, bottom)
 * must satisfy |a - b| <= 1e-6 |b| + tolerance, or tolerance times the value
 * that `bound` holds there, if it is given; floats outside, up to the next
 * multiple of the kernels' lanes, must be untouched (NaN). Reports the first
 * difference as `what`. */
struct check_region {
    int first, last, top, bottom;
};
bool check_same(struct check *check, const struct check_map *got, const struct check_map *expected,
                const struct check_map *bound, double tolerance, struct check_region region, const char *what);
/* Counts the shape; prints nothing. */
void check_count(struct check *check, bool passed);

/* Nanoseconds of one call, the best of several. */
double check_time(void (*call)(void *), void *context);
void check_report(struct check *check, const char *what, double ns, double ref_ns, double operations, double bytes);

#endif
