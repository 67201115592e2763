/* A camera's stream, in pieces: the first byte says how long they are. How it
 * is cut makes no difference to the frames, and every byte is accounted for. */
#include "tests/fuzz/fuzz.h"

#include "deploy/jpeg_stream.h"

#include <stdbool.h>
#include <string.h>

const int fuzz_mutations = 50000;

enum { LIMIT = 1 << 14 };

struct outcome {
    uint64_t frames, bytes, skipped, damaged, sum;
};

static struct outcome feed(const uint8_t *data, size_t size, size_t piece) {
    struct jpeg_stream stream;
    struct outcome o = {0};
    struct err err;
    jpeg_stream_init(&stream, LIMIT);
    while (size > 0) {
        const size_t n = size < piece ? size : piece;
        FUZZ_REQUIRE(!jpeg_stream_append(&stream, data, n, &err));
        data += n;
        size -= n;
        size_t length;
        for (uint8_t *frame; (frame = jpeg_stream_take(&stream, &length, &err)); free(frame)) {
            FUZZ_REQUIRE(length >= 4 && length <= LIMIT && frame[0] == 0xff && frame[1] == 0xd8 &&
                         frame[length - 2] == 0xff && frame[length - 1] == 0xd9);
            o.frames++;
            o.bytes += length;
            for (size_t i = 0; i < length; i++) o.sum = o.sum * 31 + frame[i];
        }
        FUZZ_REQUIRE(stream.length <= LIMIT + (64 << 10) + 4 + piece); /* a frame, or a segment that is awaited */
    }
    jpeg_stream_end(&stream);
    o.skipped = stream.skipped;
    o.damaged = stream.damaged;
    jpeg_stream_fini(&stream);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    const struct outcome whole = feed(data + 1, size - 1, size), cut = feed(data + 1, size - 1, 1 + (size_t)data[0]);
    FUZZ_REQUIRE(memcmp(&whole, &cut, sizeof whole) == 0);
    FUZZ_REQUIRE(whole.bytes + whole.skipped <= size - 1);
    FUZZ_REQUIRE(whole.damaged || whole.bytes + whole.skipped == size - 1);
    return 0;
}
