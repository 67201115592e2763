/* What the readers of dataset kinds share: a dataset under construction. */
#ifndef ESPALIER_DATASET_BUILD_H
#define ESPALIER_DATASET_BUILD_H

#include "train/dataset.h"

#include <stdbool.h>

/* Most samples and classes of a dataset; what is counted fits an int. */
enum { DATASET_MAX_SAMPLES = 100 * 1000 * 1000, DATASET_MAX_CLASSES = 1000 * 1000 };

enum status dataset_new(struct dataset **dataset, const char *name, struct err *err) MUST_CHECK;
/* The label's text is copied. */
enum status dataset_add_label(struct dataset *dataset, const char *label, struct err *err) MUST_CHECK;
/* The path is copied. */
enum status dataset_add_file(struct dataset *dataset, const char *path, int label, struct err *err) MUST_CHECK;
/* `n` samples of dataset->c * h * w bytes each; takes over `bytes`, on failure too. */
enum status dataset_add_raw(struct dataset *dataset, uint8_t *bytes, const uint8_t *labels, int n,
                            struct err *err) MUST_CHECK;
/* At least one sample, and each class met at least once (`every_class`; otherwise a warning). */
enum status dataset_check(const struct dataset *dataset, bool every_class, struct err *err) MUST_CHECK;

bool dataset_is_folder(const char *path);
/* "folder/name", malloc'ed. */
char *dataset_join(const char *folder, const char *name);
/* Whether folder/name is there. */
bool dataset_has(const char *folder, const char *name);

/* Each reader fills a dataset made by dataset_new. */

/* A Darknet .data file. */
enum status dataset_read_data(struct dataset *dataset, const char *path, enum dataset_split split,
                              struct err *err) MUST_CHECK;
/* A folder of any kind. The readers of folders add labels where the dataset has
 * none yet; else what they find must be among those it has. */
enum status dataset_read_folder(struct dataset *dataset, const char *folder, enum dataset_split split,
                                struct err *err) MUST_CHECK;
/* A folder with train/ and others, or class folders only. */
enum status dataset_read_tree(struct dataset *dataset, const char *folder, enum dataset_split split,
                              struct err *err) MUST_CHECK;
/* Whether the folder holds CIFAR-10's or IDX files. */
bool dataset_is_cifar(const char *folder);
bool dataset_is_idx(const char *folder);
enum status dataset_read_cifar(struct dataset *dataset, const char *folder, enum dataset_split split,
                               struct err *err) MUST_CHECK;
enum status dataset_read_idx(struct dataset *dataset, const char *folder, enum dataset_split split,
                             struct err *err) MUST_CHECK;

#endif
