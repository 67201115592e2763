#include "deploy/surgery_internal.h"

#include <stdlib.h>
#include <string.h>

static enum status copy_labels(const struct model *model, struct model *part, struct err *err) {
    if (!model->nlabels || part->ends.outgoing) return STATUS_OK;
    part->labels = calloc((size_t)model->nlabels, sizeof *part->labels);
    if (!part->labels) return err_memory(err, "labels");
    for (int i = 0; i < model->nlabels; i++, part->nlabels++)
        if (!(part->labels[i] = strdup(model->labels[i]))) return err_memory(err, "labels");
    return STATUS_OK;
}

enum status surgery_copy_facts(const struct model *model, struct model *part, struct err *err) {
    part->bn_form = model->bn_form;
    part->bn_eps = model->bn_eps;
    part->preproc = model->preproc;
    part->darknet = model->darknet;
    if (model->training && !(part->training = strdup(model->training))) return err_memory(err, "model");
    return copy_labels(model, part, err);
}
