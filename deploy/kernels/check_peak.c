#include "deploy/kernels/check.h"

#include <math.h>

/* What measures the machine must do what it says, too: the sum of whole
 * numbers is exact, and a round has the operations of whole vectors. */
void check_peak(struct check *check) {
    for (int i = 0; i < check->cases; i++) {
        struct random random = random_stream(check->seed, (uint64_t)i, 0);
        struct check_floats x;
        const size_t n = 128 * (size_t)(1 + random_below(&random, 20));
        bool good = check_alloc(&x, n, 0);
        double sum = 0;
        for (size_t k = 0; good && k < n; k++) sum += (double)(x.data[k] = (float)random_below(&random, 100));
        float sink = 0;
        good = good && (double)check->kernels->peak_read(x.data, n) == sum;
        const double operations = check->kernels->peak_fma(1 + i, &sink);
        good = good && isfinite(sink) && operations > 0 && fmod(operations, 2) == 0;
        check_free(&x);
        check_count(check, good);
    }
}
