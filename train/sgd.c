#include "train/sgd.h"

#include <stdlib.h>
#include <string.h>

enum status sgd_create(struct sgd **out, size_t size, struct err *err) {
    struct sgd *sgd = malloc(sizeof *sgd);
    float *velocity = calloc(size ? size : 1, sizeof *velocity);
    if (!sgd || !velocity) {
        free(sgd);
        free(velocity);
        return err_memory(err, "optimizer");
    }
    *sgd = (struct sgd){ velocity, size };
    *out = sgd;
    return STATUS_OK;
}

void sgd_destroy(struct sgd **sgd) {
    if (!*sgd) return;
    free((*sgd)->velocity);
    free(*sgd);
    *sgd = NULL;
}

struct update {
    struct sgd_config config; /* decay as it applies to this parameter */
    float *values, *grads, *velocity;
};

static void update_run(void *context, size_t first, size_t count) {
    const struct update *u = context;
    float *restrict w = u->values + first, *restrict v = u->velocity + first;
    const float *restrict grad = u->grads + first;
    const float rate = u->config.rate, momentum = u->config.momentum, decay = u->config.decay;
    if (u->config.nesterov) {
        for (size_t i = 0; i < count; i++) {
            float g = grad[i] + decay * w[i];
            v[i] = momentum * v[i] + g;
            w[i] -= rate * (g + momentum * v[i]);
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            v[i] = momentum * v[i] + grad[i] + decay * w[i];
            w[i] -= rate * v[i];
        }
    }
}

void sgd_step(struct sgd *sgd, const struct sgd_config *config, const struct network_view *view,
              const struct reach *reach) {
    struct update update = { *config, view->values, view->grads, sgd->velocity };
    for (int i = 0; i < view->nparams; i++) {
        const struct network_param *param = &view->params[i];
        update.config.decay = param->role == NETWORK_WEIGHT ? config->decay : 0;
        reach_each(reach, param, update_run, &update);
    }
    memset(view->grads, 0, view->size * sizeof *view->grads);
}
