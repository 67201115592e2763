#include "train/units.h"

#include <stdlib.h>

/* unit[c]: that of channel c of the tensor. */
static void list_units(const struct shrink_units *units, int tensor, int *unit) {
    int n;
    const struct segment *s = groups_segments(units->groups, tensor, &n);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < s[i].channels; c++) unit[s[i].first + c] = units->first[s[i].group] + c / s[i].unit;
}

enum status units_each(const struct model *model, const struct shrink_units *units, int layer, units_visit *visit,
                       void *context, struct err *err) {
    const struct net_layer *l = &model->net->layers[layer];
    int grouped = l->kind == NET_CONVOLUTIONAL ? l->groups : 1;
    int inputs = l->in.c / grouped, outputs = l->filters / grouped;
    size_t taps = net_weight_count(l) / (size_t)l->filters / (size_t)inputs, first = 0;
    int *written = malloc(((size_t)l->filters + (size_t)l->in.c) * sizeof *written);
    if (!written) return err_memory(err, "units");
    int *read = written + l->filters;
    list_units(units, layer, written);
    list_units(units, l->inputs[0], read);
    for (int o = 0; o < l->filters; o++)
        for (int c = 0; c < inputs; c++, first += taps)
            visit(context, written[o], read[o / outputs * inputs + c], first, taps);
    free(written);
    return STATUS_OK;
}
