/* The metadata of a model file: the text values beside the tensors (model.h
 * lists them). Reading checks every count, index and number against the graph
 * that the cfg describes. `crc32` (of every other value, and of the tensors'
 * names and bytes) tells a damaged file from one that is merely odd. */
#ifndef ESPALIER_MODEL_META_H
#define ESPALIER_MODEL_META_H

#include "common/model.h"

enum { MODEL_META_MAX = 16 };

struct model_meta {
    int npairs;
    struct safetensors_pair pairs[MODEL_META_MAX];
    char *text[MODEL_META_MAX]; /* the values, malloc'ed */
};

enum status model_meta_make(struct model_meta *meta, const struct model *model, struct err *err) MUST_CHECK;
/* Adds the checksum; the last step before writing. */
enum status model_meta_seal(struct model_meta *meta, const struct safetensors_tensor *tensors, int ntensors,
                            struct err *err) MUST_CHECK;
void model_meta_free(struct model_meta *meta);

/* That it is a model of ours, in a version that can be read. */
enum status model_meta_check(const struct safetensors *file, struct err *err) MUST_CHECK;
/* That it is undamaged; reads every byte. `release`: pages read need not stay in memory. */
enum status model_meta_verify(const struct safetensors *file, bool release, struct err *err) MUST_CHECK;
enum status model_meta_cfg(const struct safetensors *file, struct cfg **cfg, struct err *err) MUST_CHECK;
/* Fills first_layer, first_block, ends and parent of a slice; leaves zeroes otherwise. */
enum status model_meta_slice(const struct safetensors *file, struct model *model, struct err *err) MUST_CHECK;
/* Needs model->groups. */
enum status model_meta_levels(const struct safetensors *file, struct model *model, struct err *err) MUST_CHECK;
/* Batch-norm rows and form. Needs model->levels. */
enum status model_meta_rows(const struct safetensors *file, struct model *model, struct err *err) MUST_CHECK;
/* Labels, preprocessing, accuracy, training, Darknet's header. */
enum status model_meta_rest(const struct safetensors *file, struct model *model, struct err *err) MUST_CHECK;

#endif
