/* Weights in PyTorch's form: a safetensors file of a state_dict.
 *
 * The cfg is the mapping table: a layer's option `torch` names the module
 * (torch.nn.Conv2d or Linear) that it takes its weights from, `torch_bn` the
 * BatchNorm behind it:
 *
 *   layer              tensor                      here
 *   convolutional      TORCH.weight [O,I/g,K,K]    layers.N.weight, alike
 *   connected          TORCH.weight [O,I]          layers.N.weight, alike
 *   either             TORCH.bias                  layers.N.bias; with batch norm taken off its mean
 *   with batch norm    TORCH_BN.weight, .bias      layers.N.bn.gamma, .bn.beta
 *                      TORCH_BN.running_mean, _var layers.N.bn.mean, .bn.var
 *
 * num_batches_tracked is of no use here. Source: PyTorch's documentation of
 * torch.nn.Conv2d, Linear and BatchNorm2d, whose form of batch norm is
 * sqrt(var + eps), eps 1e-5. */
#ifndef ESPALIER_TORCH_H
#define ESPALIER_TORCH_H

#include "common/err.h"
#include "common/model.h"
#include "common/safetensors.h"

/* Fills the weights and row 0 of the batch norm of a model made by model_create. A layer
 * whose cfg names no module, a tensor that is missing, has another shape or is
 * left over, is STATUS_FORMAT and named; the model is not to be used then. */
enum status torch_read(struct model *model, const struct safetensors *file, struct err *err) MUST_CHECK;

#endif
