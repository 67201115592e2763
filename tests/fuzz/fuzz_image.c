/* An image: one byte that says how to decode it (bit 0 fast, bit 1 one
 * channel, bits 2 and 3 the fit), then the file. What decodes becomes an input. */
#include "tests/fuzz/fuzz.h"

#include "common/image.h"

const int fuzz_mutations = 4000;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    enum { SIDE = 24 };
    const struct image_preproc preproc = {.c = data[0] & 2 ? 1 : 3,
                                          .h = SIDE,
                                          .w = SIDE + 1,
                                          .fit = (enum image_fit)((data[0] >> 2 & 3) % 3),
                                          .decode = data[0] & 1 ? IMAGE_FAST : IMAGE_EXACT,
                                          .std = {1, 1, 1, 1}};
    float *input = malloc((size_t)preproc.c * SIDE * (SIDE + 1) * sizeof *input);
    struct err err;
    if (input && !image_preprocess(&preproc, "fuzz", data + 1, size - 1, input, &err))
        for (int i = 0; i < preproc.c * SIDE * (SIDE + 1); i++)
            FUZZ_REQUIRE(input[i] >= -1e-4f && input[i] <= 1.0001f);
    free(input);
    return 0;
}
