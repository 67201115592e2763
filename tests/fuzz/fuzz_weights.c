/* Darknet's weights: the text of a cfg, a zero byte, and the .weights file for
 * it. What is read is written back bit for bit. */
#include "tests/fuzz/fuzz.h"

#include "common/darknet.h"
#include "common/file.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const int fuzz_mutations = 4000;

static bool is_small(const struct cfg *cfg) {
    struct net *net = NULL;
    struct err err;
    double weights = 0;
    if (cfg->nsections > 40 || net_create(&net, cfg, &err)) return false;
    for (int i = 0; i < net->nlayers; i++)
        weights += (double)net_weight_count(&net->layers[i]) + 100.0 * net->layers[i].out.c;
    net_destroy(&net);
    return weights < 1e5;
}

static void write_back(const struct model *model, const uint8_t *expected, size_t size) {
    char *text = NULL, copy[64]; /* in memory: darknet_write waits for the disk */
    uint8_t *bytes;
    size_t length;
    struct err err;
    if (!darknet_cfg(model, &text, &err)) FUZZ_REQUIRE(text[0]);
    free(text);
    snprintf(copy, sizeof copy, "/dev/shm/espalier-fuzz-%ld.weights", (long)getpid());
    FUZZ_REQUIRE(!darknet_write(model, copy, &err) && !file_read(copy, 1 << 24, &bytes, &length, &err));
    unlink(copy);
    /* Transposed weights are written upright. */
    const bool upright = model->darknet.major <= 1000 && model->darknet.minor <= 1000;
    FUZZ_REQUIRE(length == size && (!upright || memcmp(bytes, expected, size) == 0));
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = memchr(data, 0, size);
    const size_t text = zero ? (size_t)(zero - data) : size, weights = zero ? size - text - 1 : 0;
    struct cfg *cfg = NULL;
    struct model *model = NULL;
    struct err err;
    if (cfg_parse(&cfg, "fuzz", (const char *)data, text, &err)) return 0;
    if (!is_small(cfg) || model_create(&model, cfg, 1, &err)) {
        cfg_destroy(&cfg);
        return 0;
    }
    const int fd = memfd_create("weights", MFD_CLOEXEC);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    FUZZ_REQUIRE(fd >= 0 && write(fd, data + size - weights, weights) == (ssize_t)weights);
    if (!darknet_read(model, path, &err)) write_back(model, data + size - weights, weights);
    close(fd);
    model_destroy(&model);
    return 0;
}
