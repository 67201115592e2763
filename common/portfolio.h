/* A portfolio: one file with several variants of a network, each a whole model,
 * so that a device can take the one that fits the moment.
 *
 * A safetensors file: for each variant a tensor `variant.N` (U8) that holds the
 * bytes of its model file, filled up with zeros to a multiple of 64. Metadata:
 * format "espalier-portfolio", version, and variants (JSON: a list of {"name",
 * "bytes" (of the model file), "parameters", "multiply_adds", "accuracy" (of
 * held-out images; missing if not measured), "sparsity" (of the sparse network
 * that it was made of)}). Largest first. */
#ifndef ESPALIER_PORTFOLIO_H
#define ESPALIER_PORTFOLIO_H

#include "common/err.h"
#include "common/json.h"
#include "common/model.h"

#include <stdbool.h>

enum { PORTFOLIO_MAX_VARIANTS = 32 };

struct portfolio_variant {
    char name[32];
    double sparsity, parameters, multiply_adds;
    double accuracy;       /* -1: not measured */
    size_t offset, bytes;  /* of its model file, in the file */
};

struct portfolio {
    int nvariants;
    struct portfolio_variant variants[PORTFOLIO_MAX_VARIANTS];
};

/* Whether a file is one: false also if it cannot be read. */
bool portfolio_is(const char *path);
enum status portfolio_parse(struct portfolio *portfolio, const struct safetensors *file, struct err *err) MUST_CHECK;
/* The list alone. */
enum status portfolio_read(struct portfolio *portfolio, const char *path, struct err *err) MUST_CHECK;
/* The list of variants as its metadata has it, or NULL. */
cJSON *portfolio_json(const struct portfolio *portfolio);
/* By name, or by number from 0 on. */
enum status portfolio_find(const struct portfolio *portfolio, const char *variant, int *index,
                           struct err *err) MUST_CHECK;
/* A model file, or a variant of a portfolio (NULL: the first), loaded as model_load_how says. To ask for
 * a variant of a model file is STATUS_USAGE. */
enum status portfolio_load(struct model **model, const char *path, const char *variant, unsigned how,
                           struct err *err) MUST_CHECK;

/* Writes it whole or not at all. models: [nvariants]; `bytes` and `offset` of the variants are set. */
enum status portfolio_write(struct portfolio *portfolio, struct model *const *models, const char *path,
                            struct err *err) MUST_CHECK;
/* The same as one malloc'ed buffer. */
enum status portfolio_serialize(struct portfolio *portfolio, struct model *const *models, uint8_t **bytes,
                                size_t *length, struct err *err) MUST_CHECK;

#endif
