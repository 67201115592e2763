/* The median of a few measured values. */
#ifndef ESPALIER_MEDIAN_H
#define ESPALIER_MEDIAN_H

#include <stdlib.h>

static inline int median_compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* values: [n], n at least 1; sorted by the call. Of an even number the mean of the middle two. */
static inline double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, median_compare);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

#endif
