/* What `info` tells about a model beyond what the file says outright. */
#ifndef ESPALIER_INFO_H
#define ESPALIER_INFO_H

#include "common/err.h"
#include "common/json.h"
#include "common/model.h"

#include <stdbool.h>
#include <stddef.h>

struct info {
    const char *path;
    const struct model *model;
    double parameters; /* weights, biases, gamma, beta */
    bool has_bn;
    double work[PLAN_MAX_LEVELS];     /* multiply-adds with all blocks at the level */
    double accuracy[PLAN_MAX_LEVELS]; /* expected then; where there is an accuracy model */
};

enum status info_gather(struct info *info, const char *path, const struct model *model, struct err *err) MUST_CHECK;
/* The prune groups of a layer's output: "3", or "1+4" for a concatenation. */
void info_groups_text(const struct info *info, int layer, char *text, size_t size);
/* NULL if memory ran out. */
cJSON *info_json(const struct info *info);

#endif
