/* Every section and option of a network cfg: Darknet's, by its names, and ours. */
#include "common/net.h"

#define IGNORED NULL

static const struct cfg_key net_keys[] = {
    {"width", "input width, pixels"},
    {"height", "input height, pixels"},
    {"channels", "input channels"},
    {"inputs", "number of inputs, where there is no image"},
    {"batch", "images per training step"},
    {"subdivisions", "parts that a step is worked off in, to save memory"},
    {"learning_rate", "peak learning rate"},
    {"momentum", "of SGD"},
    {"decay", "weight decay; not on batch norm or bias"},
    {"nesterov", "1: Nesterov momentum"},
    {"policy", "constant, step, steps, exp, poly, sig, cosine, onecycle"},
    {"burn_in", "steps of rising learning rate"},
    {"power", "exponent of policy poly and of burn_in"},
    {"step", "policy step, sig: steps between changes"},
    {"scale", "policy step: factor"},
    {"steps", "policy steps: where it changes"},
    {"scales", "policy steps: factors"},
    {"gamma", "policy exp, sig"},
    {"max_batches", "training steps in all"},
    {"epochs", "training length in epochs, instead of max_batches"},
    {"warmup", "policy onecycle: share of the steps that rise"},
    {"label_smoothing", "share of the target spread over all classes"},
    {"flip", "1: mirror at random"},
    {"pad_crop", "border of zeros, then a random crop back to size"},
    {"min_crop", "shorter side after random resizing, lower end"},
    {"max_crop", "upper end"},
    {"angle", "random rotation, degrees"},
    {"aspect", "random aspect ratio"},
    {"hue", "random hue shift"},
    {"saturation", "random saturation factor"},
    {"exposure", "random exposure factor"},
    {"mean", "subtracted from the input, per channel"},
    {"std", "divides the input, per channel"},
    {"fit", "crop, letterbox or stretch: how an image becomes the input"},
    {"resize", "with fit=crop: the shorter side becomes this first, as in torchvision"},
    {"center", IGNORED},
    {"min_ratio", IGNORED},
    {"max_ratio", IGNORED},
    {"adam", IGNORED},
    {"B1", IGNORED},
    {"B2", IGNORED},
    {"eps", IGNORED},
    {"time_steps", IGNORED},
    {"notruth", IGNORED},
    {"random", IGNORED},
    {"num_classes", IGNORED},
    {"clip", IGNORED},
    {"seen", IGNORED},
    {NULL, NULL},
};

/* Options that every Darknet layer may carry. */
#define LAYER_KEYS                                                                                                     \
    {"stopbackward", IGNORED}, {"dontload", IGNORED}, {"dontloadscales", IGNORED}, {"dontsave", IGNORED},              \
        {"onlyforward", IGNORED}, {"numload", IGNORED}, {"clip", IGNORED}, {"learning_rate", IGNORED},                 \
        {"smooth", IGNORED}, {NULL, NULL}

static const struct cfg_key convolutional_keys[] = {
    {"filters", "output channels"},
    {"size", "kernel side"},
    {"stride", "stride"},
    {"pad", "1: padding is size/2"},
    {"padding", "zeros on each side"},
    {"groups", "convolution groups; equal to the channels: depthwise"},
    {"batch_normalize", "1: batch norm"},
    {"activation", "activation"},
    {"torch", "PyTorch's name of the module that its weights come from"},
    {"torch_bn", "and of that of its batch norm"},
    {"flipped", IGNORED},
    {"binary", "refused unless 0"},
    {"xnor", "refused unless 0"},
    {"dot", IGNORED},
    LAYER_KEYS,
};
static const struct cfg_key connected_keys[] = {
    {"output", "outputs"},
    {"activation", "activation"},
    {"batch_normalize", "1: batch norm"},
    {"torch", "PyTorch's name of the module that its weights come from"},
    {"torch_bn", "and of that of its batch norm"},
    LAYER_KEYS};
static const struct cfg_key batchnorm_keys[] = {LAYER_KEYS};
static const struct cfg_key maxpool_keys[] = {
    {"size", "window side"}, {"stride", "stride"}, {"padding", "border in all, both sides together"}, LAYER_KEYS};
static const struct cfg_key avgpool_keys[] = {LAYER_KEYS};
static const struct cfg_key dropout_keys[] = {{"probability", "share dropped"}, LAYER_KEYS};
static const struct cfg_key shortcut_keys[] = {{"from", "layer whose output is added"},
                                               {"activation", "activation"},
                                               {"alpha", "factor of the own branch"},
                                               {"beta", "factor of what is added"},
                                               LAYER_KEYS};
static const struct cfg_key route_keys[] = {{"layers", "layers whose outputs are concatenated"}, LAYER_KEYS};
static const struct cfg_key softmax_keys[] = {{"groups", "groups normalised on their own"},
                                              {"temperature", "divides the logits"},
                                              {"spatial", "refused unless 0"},
                                              {"tree", "refused"},
                                              {"noloss", IGNORED},
                                              LAYER_KEYS};
static const struct cfg_key cost_keys[] = {
    {"type", "sse: with a softmax in front, cross-entropy as in Darknet"}, {"scale", IGNORED}, {"ratio", IGNORED},
    {"noobj", IGNORED}, {"thresh", IGNORED}, LAYER_KEYS};
static const struct cfg_key crop_keys[] = {{"crop_width", "output width"},
                                           {"crop_height", "output height"},
                                           {"flip", "1: mirror at random in training"},
                                           {"angle", "random rotation, degrees"},
                                           {"saturation", "random saturation factor"},
                                           {"exposure", "random exposure factor"},
                                           {"noadjust", "1: values as they come, else 2x-1"},
                                           {"shift", IGNORED},
                                           LAYER_KEYS};

static const struct cfg_key prune_keys[] = {
    {"levels", "share of the channels kept, level by level"},
    {"align", "kept counts are multiples of this"},
    {"whole", "layers whose channels are never pruned"},
    {"link", "levels that a link may cap its channels at"},
    {NULL, NULL},
};
static const struct cfg_key slice_keys[] = {{NULL, NULL}};

const struct cfg_schema net_schemas[] = {
    {"net", net_keys},
    {"network", net_keys},
    {"convolutional", convolutional_keys},
    {"conv", convolutional_keys},
    {"connected", connected_keys},
    {"conn", connected_keys},
    {"batchnorm", batchnorm_keys},
    {"maxpool", maxpool_keys},
    {"max", maxpool_keys},
    {"avgpool", avgpool_keys},
    {"avg", avgpool_keys},
    {"dropout", dropout_keys},
    {"shortcut", shortcut_keys},
    {"route", route_keys},
    {"softmax", softmax_keys},
    {"soft", softmax_keys},
    {"cost", cost_keys},
    {"crop", crop_keys},
    {"prune", prune_keys},
    {"slice", slice_keys},
    {NULL, NULL},
};
