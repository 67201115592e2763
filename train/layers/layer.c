#include "train/layers/norm.h"

const struct layer_kind *layer_kind_of(enum net_kind kind) {
    static const struct layer_kind *const kinds[] = { &layer_convolutional, &layer_connected, &layer_batchnorm,
                                                      &layer_maxpool,       &layer_avgpool,   &layer_dropout,
                                                      &layer_shortcut,      &layer_route,     &layer_cost,
                                                      &layer_crop };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i]->kind == kind) return kinds[i];
    return NULL;
}

static size_t part_rows(const struct layer_tensor *t, const struct ops_part *part) {
    return (size_t)part->n * (size_t)t->h * (size_t)t->w;
}

enum status layer_read(struct ops *ops, const struct layer_tensor *in, const struct ops_part *part,
                       enum ops_scratch scratch, const float **values, struct err *err) {
    size_t first = (size_t)part->first * layer_image(in);
    if (!in->lazy) {
        *values = in->data + first;
        return STATUS_OK;
    }
    float *made;
    enum status status = ops_scratch(ops, scratch, (size_t)part->n * layer_image(in), &made, err);
    if (!status)
        status = norm_apply(in->lazy->norm, in->lazy->front + first, part_rows(in, part), in->c, in->lazy->rectifier,
                            made, err);
    *values = made;
    return status;
}

enum status layer_sums(struct ops *ops, const struct layer_tensor *in, const struct ops_part *part, const float *grad,
                       struct err *err) {
    (void)ops;
    if (!in->lazy) return STATUS_OK;
    const float *front = in->lazy->front + (size_t)part->first * layer_image(in);
    return norm_add_sums(in->lazy->norm, part->thread, front, grad, part_rows(in, part), in->c, in->lazy->rectifier, err);
}

void layer_sums_done(const struct layer_tensor *in) {
    if (in->lazy) norm_sums_done(in->lazy->norm);
}
