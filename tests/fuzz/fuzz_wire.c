/* A message as it comes off the network. One that is accepted is written back
 * bit for bit; the documents that some carry are parsed, too. */
#include "tests/fuzz/fuzz.h"

#include "common/profile.h"
#include "deploy/wire.h"

#include <string.h>

const int fuzz_mutations = 200000;

static void parse_profile(const struct wire_message *message) {
    struct profile *profile = NULL;
    struct err err;
    char *text = strndup((const char *)message->payload, message->payload_length);
    if (text && !profile_parse(&profile, "fuzz", text, &err))
        FUZZ_REQUIRE(profile_ms(profile, profile->nblocks - 1, profile->nlevels - 1, profile->nlevels - 1) >= 0);
    profile_destroy(&profile);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct wire_message message;
    static uint8_t head[WIRE_MAX_HEAD];
    struct err err;
    if (wire_read(&message, data, size, &err)) return 0;
    const size_t length = wire_head_size(&message);
    FUZZ_REQUIRE(length <= WIRE_MAX_HEAD && length + message.payload_length == size);
    wire_write_head(&message, head);
    struct wire_message *again = malloc(sizeof *again);
    uint8_t *bytes = malloc(size);
    FUZZ_REQUIRE(again && bytes);
    memcpy(bytes, head, length);
    memcpy(bytes + length, message.payload, message.payload_length);
    FUZZ_REQUIRE(!wire_read(again, bytes, size, &err) && wire_head_size(again) == length);
    wire_write_head(again, bytes);
    FUZZ_REQUIRE(memcmp(head, bytes, length) == 0);
    free(again);
    free(bytes);
    if (message.kind == WIRE_MEASURED) parse_profile(&message);
    return 0;
}
