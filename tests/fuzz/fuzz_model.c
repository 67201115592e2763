/* A model file, or a portfolio of them. A model that loads runs, at every uniform level, within a limit of
 * memory.
 *
 * The input is the header's text, a zero byte, and the data: the length field
 * and the padding come here, so that a mutation may lengthen the text. An input
 * that does not begin like a header is the file as it is. */
#include "tests/fuzz/fuzz.h"

#include "common/model.h"
#include "common/portfolio.h"
#include "deploy/engine.h"
#include "deploy/kernels/table.h"

#include <string.h>

const int fuzz_mutations = 8000;

/* So that an input is a matter of milliseconds. */
static bool is_small(const struct model *model) {
    double work = 0;
    for (int i = 0; i < model->net->nlayers; i++)
        work += net_multiply_adds(&model->net->layers[i]) + (double)net_shape_size(model->net->layers[i].out);
    return work < 1e6 && model->net->nlayers < 100;
}

static void run_engine(const struct model *model) {
    struct engine *engine = NULL;
    struct plan *plan = NULL;
    struct engine_config config = engine_defaults();
    config.kernels = kernels_at(0); /* plain C, so that a sanitizer sees every step */
    config.max_bytes = (size_t)64 << 20;
    struct err err;
    if (engine_create(&engine, model, &config, &err)) return;
    float *input = calloc(engine_input_max(engine), sizeof *input);
    float *output = calloc(engine_output_max(engine), sizeof *output);
    if (input && output && !plan_create(&plan, model->blocks->nblocks, 0, &err))
        for (int level = 0; level < model->levels->nlevels; level++) {
            for (int b = 0; b < plan->nblocks; b++) plan->level[b] = level;
            engine_set_plan(engine, plan);
            engine_run(engine, input, output);
        }
    free(input);
    free(output);
    plan_destroy(&plan);
    engine_destroy(&engine);
}

/* What is read is written, and read again. */
static void write_and_read(const struct model *model) {
    uint8_t *bytes;
    size_t length;
    struct err err;
    if (model_serialize(model, &bytes, &length, &err)) return;
    struct safetensors *file = NULL;
    struct model *again = NULL;
    FUZZ_REQUIRE(!safetensors_parse(&file, "again", bytes, length, &err));
    if (model_from_safetensors(&again, file, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    model_destroy(&again);
    free(bytes);
}

/* The file that an input stands for, malloc'ed. */
static uint8_t *file_of(const uint8_t *data, size_t size, size_t *length) {
    const uint8_t *zero = size && data[0] == '{' ? memchr(data, 0, size) : NULL;
    uint8_t *bytes = malloc(size + 16);
    FUZZ_REQUIRE(bytes);
    *length = size;
    memcpy(bytes, data, size);
    if (!zero) return bytes;
    const size_t text = (size_t)(zero - data), left = size - text - 1;
    const uint64_t header = (text + 7) / 8 * 8;
    memcpy(bytes, &header, 8);
    memset(bytes + 8, ' ', header);
    memcpy(bytes + 8, data, text);
    memcpy(bytes + 8 + header, zero + 1, left);
    *length = 8 + header + left;
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t length;
    uint8_t *bytes = file_of(data, size, &length);
    struct safetensors *file = NULL;
    struct model *model = NULL;
    struct err err;
    if (!safetensors_parse(&file, "fuzz", bytes, length, &err)) {
        struct portfolio portfolio;
        if (!portfolio_parse(&portfolio, file, &err))
            for (int i = 0; i < portfolio.nvariants; i++)
                FUZZ_REQUIRE(portfolio.variants[i].offset <= length &&
                             portfolio.variants[i].bytes <= length - portfolio.variants[i].offset);
        if (model_from_safetensors(&model, file, &err)) {
            safetensors_close(&file);
        } else if (is_small(model)) {
            run_engine(model);
            write_and_read(model);
        }
    }
    model_destroy(&model);
    free(bytes);
    return 0;
}
