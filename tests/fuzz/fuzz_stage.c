/* A frame at a stage: a message's fields and payload, behind a head that is in
 * order, go to the stage that they name, of three, of a model and of a portfolio. What it makes
 * of them is a message that the next one reads, or the result. */
#include "tests/fuzz/fuzz.h"

#include "deploy/kernels/table.h"
#include "deploy/slices.h"
#include "deploy/stage.h"

#include <string.h>
#include <unistd.h>

const int fuzz_mutations = 150000;

enum { STAGES = 3, HEAD = 24, MOST = 1 << 16 };

/* Of a portfolio's variants the second layer has 6 and 4 channels. */
static const char cfg_format[] =
    "[net]\nwidth=8\nheight=8\nchannels=3\n[prune]\nlevels=1,.5\nalign=2\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\nactivation=relu\n"
    "[convolutional]\nbatch_normalize=1\nfilters=%d\nsize=3\nstride=2\npad=1\nactivation=relu\n[slice]\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=1\nactivation=linear\n[route]\nlayers=-1,-2\n[slice]\n"
    "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n[avgpool]\n"
    "[connected]\noutput=5\nactivation=linear\n[softmax]\n";

static struct stage *stage[2][STAGES]; /* of the model, of the portfolio */

/* Stage `i`, by way of a file, as a worker gets it. */
static void open_stage(struct slices *slices, int i, struct stage **opened) {
    char path[] = "/tmp/espalier-fuzz-stage-XXXXXX";
    const uint8_t *bytes;
    struct err err;
    int fd = mkstemp(path);
    FUZZ_REQUIRE(fd >= 0 && !slices_bytes(slices, i, &bytes, &err));
    FUZZ_REQUIRE(write(fd, bytes, slices->size[i]) == (ssize_t)slices->size[i] && close(fd) == 0);
    if (stage_create(opened, path, i, STAGES, NULL, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    unlink(path);
}

static struct model *make_model(int filters) {
    char text[sizeof cfg_format + 16];
    struct cfg *cfg = NULL;
    struct model *model = NULL;
    struct err err;
    int length = snprintf(text, sizeof text, cfg_format, filters);
    FUZZ_REQUIRE(!cfg_parse(&cfg, "fuzz", text, (size_t)length, &err) && !model_create(&model, cfg, 0, &err));
    for (int i = 0; i < model->net->nlayers; i++)
        for (size_t k = 0; k < net_weight_count(&model->net->layers[i]); k++)
            model->layers[i].weight[k] = (float)(k % 7) / 8 - 3. / 8;
    return model;
}

static struct portfolio_model *make_portfolio(struct model *const *models) {
    char path[] = "/tmp/espalier-fuzz-portfolio-XXXXXX";
    struct portfolio p = { .nvariants = 2, .variants = { { .name = "a", .multiply_adds = 2 }, { .name = "b", .multiply_adds = 1 } } };
    struct portfolio_model *portfolio = NULL;
    struct err err;
    int fd = mkstemp(path);
    FUZZ_REQUIRE(fd >= 0 && !close(fd) && !portfolio_write(&p, models, path, &err));
    FUZZ_REQUIRE(!portfolio_model_open(&portfolio, path, &err));
    unlink(path);
    return portfolio;
}

static void open_stages(void) {
    struct model *models[2];
    struct slices *slices = NULL;
    struct err err;
    FUZZ_REQUIRE(!kernels_limit("ref", &err)); /* plain C, so that a sanitizer sees every step */
    for (int i = 0; i < 2; i++) models[i] = make_model(6 - 2 * i);
    FUZZ_REQUIRE(!slices_create(&slices, models[0], STAGES, NULL, &err));
    for (int i = 0; i < STAGES; i++) open_stage(slices, i, &stage[0][i]);
    slices_destroy(&slices);
    struct portfolio_model *portfolio = make_portfolio(models);
    FUZZ_REQUIRE(!slices_create_portfolio(&slices, portfolio, STAGES, NULL, &err));
    for (int i = 0; i < STAGES; i++) open_stage(slices, i, &stage[1][i]);
    slices_destroy(&slices);
    portfolio_model_close(&portfolio);
    for (int i = 0; i < 2; i++) model_destroy(&models[i]);
}

static void run(struct stage *at, const struct wire_message *message) {
    static struct wire_message next;
    struct packet packet = { 0 };
    struct err err;
    if (stage_run(at, message, 1, 0, 0, &packet, &err)) return;
    size_t length;
    const uint8_t *out = packet_bytes(&packet, &length);
    FUZZ_REQUIRE(!wire_read(&next, out, length, &err) && next.frame.stage == message->frame.stage + 1);
    packet_free(&packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t bytes[HEAD + MOST];
    static struct wire_message message;
    struct wire_message head = { .kind = WIRE_BYE, .session = 7 };
    struct err err;
    if (!stage[0][0]) open_stages();
    if (size > MOST) return 0;
    wire_write_head(&head, bytes);
    bytes[5] = WIRE_FRAME;
    for (int i = 0; i < 8; i++) bytes[8 + i] = (uint8_t)((uint64_t)(HEAD + size) >> 8 * i);
    memcpy(bytes + HEAD, data, size);
    if (wire_read(&message, bytes, HEAD + size, &err) || message.frame.stage >= STAGES) return 0;
    for (int of = 0; of < 2; of++) run(stage[of][message.frame.stage], &message);
    return 0;
}
