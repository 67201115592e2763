/* Weights from elsewhere: Darknet's .weights or PyTorch's safetensors, for a cfg. */
#ifndef ESPALIER_WEIGHTS_H
#define ESPALIER_WEIGHTS_H

#include "common/err.h"
#include "common/model.h"

/* A model of the cfg with one row of batch norm and the weights of a file, whose
 * content says what it is. From Darknet: preprocessing as its `classifier
 * predict`. From PyTorch (torch.h): as [net] says, images decoded exactly. A
 * model file is refused. */
enum status weights_import(struct model **model, const char *cfg, const char *weights, struct err *err) MUST_CHECK;
/* The same, or a model file, for which `cfg` is not read. */
enum status weights_load(struct model **model, const char *cfg, const char *weights, struct err *err) MUST_CHECK;

#endif
