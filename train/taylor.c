#include "train/taylor.h"

#include "train/loss.h"

#include <stdlib.h>
#include <string.h>

/* Adds value * gradient of every element to that of its channel. */
static void add_products(const struct model *model, const struct network_view *view, double **products) {
    for (int i = 0; i < view->nparams; i++) {
        const struct network_param *p = &view->params[i];
        bool norm = model->layers[p->layer].gamma != NULL;
        if (norm != (p->role == NETWORK_GAMMA || p->role == NETWORK_BETA)) continue;
        int channels = model_outputs(model, p->layer);
        bool rows = p->role == NETWORK_GAMMA || p->role == NETWORK_BETA; /* [rows, channels] */
        size_t inner = rows ? 1 : p->size / (size_t)channels;
        for (size_t k = 0; k < p->size; k++)
            products[p->layer][k / inner % (size_t)channels] +=
                (double)view->values[p->offset + k] * (double)view->grads[p->offset + k];
    }
}

static enum status pass(struct taylor *taylor, struct network *network, const struct model *model,
                        const struct loader_batch *batch, const struct plan *plan, double **products, struct err *err) {
    struct network_view view = network_view(network);
    int classes = model->net->classes, correct;
    float *logits = malloc((size_t)batch->n * (size_t)classes * 2 * sizeof *logits);
    if (!logits) return err_memory(err, "importance");
    float *dlogits = logits + (size_t)batch->n * (size_t)classes;
    memset(view.grads, 0, view.size * sizeof *view.grads);
    enum status status = network_forward(network, plan, NETWORK_TRAIN, batch->input, batch->n, 0, logits, err);
    if (!status) {
        loss_labels(logits, batch->labels, batch->n, classes, 0, 1, dlogits, &correct);
        status = network_backward(network, dlogits, err);
    }
    if (!status) add_products(model, &view, products);
    memset(view.grads, 0, view.size * sizeof *view.grads);
    for (int i = 0; !status && i < taylor->nlayers; i++)
        for (int c = 0; taylor->importance[i] && c < model_outputs(model, i); c++) {
            taylor->importance[i][c] += products[i][c] * products[i][c];
            products[i][c] = 0;
        }
    free(logits);
    return status;
}

static enum status create_channels(double ***channels, const struct model *model, struct err *err) {
    int nlayers = model->net->nlayers;
    double **list = calloc((size_t)nlayers, sizeof *list);
    if (!list) return err_memory(err, "importance");
    *channels = list;
    for (int i = 0; i < nlayers; i++) {
        if (!net_has_weights(&model->net->layers[i])) continue;
        list[i] = calloc((size_t)model_outputs(model, i), sizeof **list);
        if (!list[i]) return err_memory(err, "importance");
    }
    return STATUS_OK;
}

static void destroy_channels(double **channels, int nlayers) {
    for (int i = 0; channels && i < nlayers; i++) free(channels[i]);
    free(channels);
}

enum status taylor_create(struct taylor **out, struct network *network, const struct model *model,
                          struct loader *images, int batches, struct err *err) {
    struct taylor *taylor = calloc(1, sizeof *taylor);
    if (!taylor) return err_memory(err, "importance");
    taylor->nlayers = model->net->nlayers;
    double **products = NULL;
    struct plan *plan = NULL;
    enum status status = create_channels(&taylor->importance, model, err);
    if (!status) status = create_channels(&products, model, err);
    if (!status) status = plan_create(&plan, model->blocks->nblocks, 0, err);
    for (int b = 0; !status && b < batches; b++) {
        struct loader_batch batch;
        status = loader_next(images, &batch, err);
        if (!status) status = pass(taylor, network, model, &batch, plan, products, err);
    }
    plan_destroy(&plan);
    destroy_channels(products, taylor->nlayers);
    if (status) taylor_destroy(&taylor);
    else *out = taylor;
    return status;
}

void taylor_destroy(struct taylor **taylor) {
    if (!*taylor) return;
    destroy_channels((*taylor)->importance, (*taylor)->nlayers);
    free(*taylor);
    *taylor = NULL;
}
