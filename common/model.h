/* The model: a network, its weights most important channel first, batch-norm
 * rows for pruned widths, level table, accuracy model, labels, preprocessing.
 * One safetensors file.
 *
 * Tensors, for layer i: `layers.i.weight` [O, I/groups, KH, KW] or [O, I] f32;
 * `layers.i.bias` [O] where there is no batch norm; `layers.i.bn.gamma` and
 * `layers.i.bn.beta` [1 or R, O]; `layers.i.bn.mean` and `.var` [1, O], of full
 * width, and `bn.rows` (common/bn_rows.h), the other R - 1 rows of all layers.
 * A [batchnorm] layer has gamma, mean, var, and no beta, as Darknet's. In files of version 1
 * mean and var are [R, O].
 *
 * Metadata (strings): format "espalier", version, cfg (text), labels (JSON
 * list), preproc, levels (JSON: {"ratio":[...],"keep":[[units per group]...]}),
 * bn_rows (R: 1, or as common/bn.h says), bn_eps, bn_form
 * ("torch": sqrt(var + eps); "darknet": sqrt(var) + eps), accuracy, training
 * (JSON: how it was trained), darknet ("major minor revision seen"), crc32 (of
 * all the rest; checked when it is there), and in a slice file slice (JSON: {"first_layer", "first_block", "incoming":
 * [[channels, unit]...], "outgoing": bool, "parent": content hash}). */
#ifndef ESPALIER_MODEL_H
#define ESPALIER_MODEL_H

#include "common/accuracy.h"
#include "common/blocks.h"
#include "common/cfg.h"
#include "common/err.h"
#include "common/groups.h"
#include "common/image.h"
#include "common/net.h"
#include "common/plan.h"
#include "common/safetensors.h"

#include <stdint.h>

/* Pointers into the model's storage; NULL where a layer has no such tensor.
 * Writable only if the model was made by model_create. */
struct model_layer {
    float *weight, *bias;
    float *gamma, *beta; /* [gamma_rows, O] */
    float *mean, *var;   /* [model.nrows, O] */
    int gamma_rows;      /* 1 or model.nrows */
};

enum model_bn_form { MODEL_BN_TORCH, MODEL_BN_DARKNET };

struct model {
    struct cfg *cfg;
    struct net *net;
    struct blocks *blocks;
    struct groups *groups;
    struct levels *levels;
    struct model_layer *layers; /* [nlayers] */

    int nrows; /* R: 1, or bn_rows(nlevels); see common/bn.h */
    enum model_bn_form bn_form;
    float bn_eps;

    struct image_preproc preproc;
    int nlabels;
    char **labels;
    struct accuracy *accuracy; /* NULL: not measured */
    char *training;            /* JSON text, or NULL */

    struct {
        int32_t major, minor, revision;
        uint64_t seen;
    } darknet;

    /* A slice of a larger model: where it began there; otherwise 0, 0. */
    int first_layer, first_block;
    struct groups_ends ends; /* owned */
    char parent[65]; /* content hash (hex) of the model that it was cut from, or "" */

    bool unverified;          /* MODEL_UNVERIFIED, and it has a checksum */
    struct safetensors *file; /* the mapping that the weights lie in, or NULL */
    float *storage;           /* one owned block: all tensors, 64-byte aligned, or, of a file's, mean and var */
};

/* Weights and batch-norm rows of a model that is made rather than loaded. */
enum { MODEL_MAX_FLOATS = 1 << 30 };

/* From a cfg (taken over on success): graph, groups, levels, zeroed weights
 * (gamma and var 1) with room for `nrows` batch-norm rows; gamma and beta have
 * one. `nrows` is 1, or 0: as many as common/bn.h has for a network that is pruned
 * while it runs, corrections 0. Batch norm is of the
 * torch form, eps 1e-5. Preprocessing: the net's size, letterbox, exact, mean
 * 0, std 1. STATUS_LIMIT, before anything is allocated for them, if the weights
 * are more than MODEL_MAX_FLOATS. */
enum status model_create(struct model **model, struct cfg *cfg, int nrows, struct err *err) MUST_CHECK;
/* As model_create for a network that begins or ends at a cut (`ends` is copied). */
enum status model_create_slice(struct model **model, struct cfg *cfg, int nrows,
                               const struct groups_ends *ends, struct err *err) MUST_CHECK;
enum status model_load(struct model **model, const char *path, struct err *err) MUST_CHECK;
/* How to load; a set. */
enum {
    MODEL_UNVERIFIED = 1, /* leave the checksum, which reads every byte, to model_verify */
    MODEL_LOW_MEMORY = 2, /* pages that were read for the checksum need not stay in memory */
};
enum status model_load_how(struct model **model, const char *path, unsigned how, struct err *err) MUST_CHECK;
/* From a part of a file: safetensors_open_part. */
enum status model_load_part(struct model **model, const char *path, size_t offset, size_t length, unsigned how,
                            struct err *err) MUST_CHECK;
/* Whether a model loaded unverified is undamaged; of others that is known. */
enum status model_verify(const struct model *model, struct err *err) MUST_CHECK;
/* Says that n weights will not be read soon: their pages, where they lie in a
 * mapped file, leave the memory. They come back when they are read. */
void model_release(const struct model *model, const float *weights, size_t n);
/* Takes over `file` on success. */
enum status model_from_safetensors(struct model **model, struct safetensors *file, struct err *err) MUST_CHECK;
/* Atomically, see safetensors_write. */
enum status model_save(const struct model *model, const char *path, struct err *err) MUST_CHECK;
/* The file's bytes, malloc'ed. */
enum status model_serialize(const struct model *model, uint8_t **bytes, size_t *length, struct err *err) MUST_CHECK;
void model_destroy(struct model **model);

/* Outputs O of a layer with weights. */
int model_outputs(const struct model *model, int layer);
/* SHA-256 of bytes, as lower-case hex: how workers name and check what they are sent. */
void model_hash(const void *bytes, size_t length, char hex[65]);

#endif
