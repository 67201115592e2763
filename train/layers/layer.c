#include "train/layers/layer.h"

const struct layer_kind *layer_kind_of(enum net_kind kind) {
    static const struct layer_kind *const kinds[] = { &layer_convolutional, &layer_connected, &layer_batchnorm,
                                                      &layer_maxpool,       &layer_avgpool,   &layer_dropout,
                                                      &layer_shortcut,      &layer_route,     &layer_cost,
                                                      &layer_crop };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i]->kind == kind) return kinds[i];
    return NULL;
}
