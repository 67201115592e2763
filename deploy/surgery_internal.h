/* What slicing and pruning a model share. */
#ifndef ESPALIER_SURGERY_INTERNAL_H
#define ESPALIER_SURGERY_INTERNAL_H

#include "common/model.h"

/* Batch-norm form, preprocessing, Darknet's header, training record, and
 * labels where the part holds the last layer. */
enum status surgery_copy_facts(const struct model *model, struct model *part, struct err *err) MUST_CHECK;

#endif
