/* A coded feature map: bytes for codec, channels and values per channel, then
 * the code. What decodes is encoded and decoded again. */
#include "tests/fuzz/fuzz.h"

#include "deploy/codec.h"

#include <string.h>

const int fuzz_mutations = 50000;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return 0;
    const enum codec codec = (enum codec)(data[0] % CODEC_COUNT);
    const int c = 1 + data[1] % 32, hw = 1 + data[2];
    const size_t n = (size_t)c * (size_t)hw;
    struct codec_state *state = NULL;
    struct err err;
    if (codec_create(&state, &err)) return 0;
    float *map = malloc(n * sizeof *map), *again = malloc(n * sizeof *again);
    uint8_t *code = malloc(codec_raw_size(codec, c, hw));
    FUZZ_REQUIRE(map && again && code);
    if (!codec_decode(state, codec, data + 3, size - 3, c, hw, map, &err)) {
        size_t length;
        FUZZ_REQUIRE(!codec_encode(state, codec, map, c, hw, code, &length, &err));
        FUZZ_REQUIRE(length <= codec_raw_size(codec, c, hw));
        FUZZ_REQUIRE(!codec_decode(state, codec, code, length, c, hw, again, &err));
        if (codec == CODEC_F32 || codec == CODEC_F32Z) FUZZ_REQUIRE(memcmp(map, again, n * sizeof *map) == 0);
    }
    free(map);
    free(again);
    free(code);
    codec_destroy(&state);
    return 0;
}
