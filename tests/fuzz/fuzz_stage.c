/* A frame at a stage: a message's fields and payload, behind a head that is in
 * order, go to the stage that they name, of three. What it makes of them is a
 * message that the next one reads, or the result. */
#include "tests/fuzz/fuzz.h"

#include "deploy/kernels/table.h"
#include "deploy/slices.h"
#include "deploy/stage.h"

#include <string.h>
#include <unistd.h>

const int fuzz_mutations = 150000;

enum { STAGES = 3, HEAD = 24, MOST = 1 << 16 };

static const char cfg_text[] =
    "[net]\nwidth=8\nheight=8\nchannels=3\n[prune]\nlevels=1,.5\nalign=2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=6\nsize=3\nstride=2\npad=1\nactivation=relu\n[slice]\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=1\nactivation=linear\n[route]\nlayers=-1,-2\n[slice]\n"
    "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n[avgpool]\n"
    "[connected]\noutput=5\nactivation=linear\n[softmax]\n";

static struct stage *stage[STAGES];

/* Stage `i`, by way of a file, as a worker gets it. */
static void open_stage(struct slices *slices, int i) {
    char path[] = "/tmp/espalier-fuzz-stage-XXXXXX";
    const uint8_t *bytes;
    struct err err;
    int fd = mkstemp(path);
    FUZZ_REQUIRE(fd >= 0 && !slices_bytes(slices, i, &bytes, &err));
    FUZZ_REQUIRE(write(fd, bytes, slices->size[i]) == (ssize_t)slices->size[i] && close(fd) == 0);
    if (stage_create(&stage[i], path, i, STAGES, NULL, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    unlink(path);
}

static void open_stages(void) {
    struct cfg *cfg = NULL;
    struct model *model = NULL;
    struct slices *slices = NULL;
    struct err err;
    FUZZ_REQUIRE(!kernels_limit("ref", &err)); /* plain C, so that a sanitizer sees every step */
    FUZZ_REQUIRE(!cfg_parse(&cfg, "fuzz", cfg_text, sizeof cfg_text - 1, &err) && !model_create(&model, cfg, 0, &err));
    for (int i = 0; i < model->net->nlayers; i++)
        for (size_t k = 0; k < net_weight_count(&model->net->layers[i]); k++)
            model->layers[i].weight[k] = (float)(k % 7) / 8 - 3. / 8;
    FUZZ_REQUIRE(!slices_create(&slices, model, STAGES, NULL, &err));
    for (int i = 0; i < STAGES; i++) open_stage(slices, i);
    slices_destroy(&slices);
    model_destroy(&model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t bytes[HEAD + MOST];
    static struct wire_message message, next;
    struct wire_message head = { .kind = WIRE_BYE, .session = 7 };
    struct packet packet = { 0 };
    struct err err;
    if (!stage[0]) open_stages();
    if (size > MOST) return 0;
    wire_write_head(&head, bytes);
    bytes[5] = WIRE_FRAME;
    for (int i = 0; i < 8; i++) bytes[8 + i] = (uint8_t)((uint64_t)(HEAD + size) >> 8 * i);
    memcpy(bytes + HEAD, data, size);
    if (wire_read(&message, bytes, HEAD + size, &err) || message.frame.stage >= STAGES) return 0;
    if (stage_run(stage[message.frame.stage], &message, 1, 0, 0, &packet, &err)) return 0;
    size_t length;
    const uint8_t *out = packet_bytes(&packet, &length);
    FUZZ_REQUIRE(!wire_read(&next, out, length, &err) && next.frame.stage == message.frame.stage + 1);
    packet_free(&packet);
    return 0;
}
