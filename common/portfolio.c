#include "common/portfolio.h"

#include "common/json.h"
#include "common/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, VERSION = 1 };

static bool is_portfolio(const struct safetensors *file) {
    const char *format = safetensors_metadata(file, "format");
    return format && strcmp(format, "espalier-portfolio") == 0;
}

bool portfolio_is(const char *path) {
    struct safetensors *file;
    if (safetensors_open(&file, path, NULL)) return false;
    bool is = is_portfolio(file);
    safetensors_close(&file);
    return is;
}

/* ---- reading ---- */

static enum status wrong(const struct safetensors *file, int variant, const char *what, struct err *err) {
    return err_set(err, STATUS_FORMAT, "%s: variant %d %s", file->name, variant, what);
}

static enum status read_variant(const struct safetensors *file, const cJSON *item, int i, struct portfolio_variant *v,
                                struct err *err) {
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
    const cJSON *accuracy = cJSON_GetObjectItemCaseSensitive(item, "accuracy");
    int64_t bytes;
    char key[32];
    if (!cJSON_IsString(name) || !name->valuestring[0] || strlen(name->valuestring) >= sizeof v->name)
        return wrong(file, i, "has no name of 1 to 31 letters", err);
    strcpy(v->name, name->valuestring);
    v->accuracy = -1;
    if (!json_double(cJSON_GetObjectItemCaseSensitive(item, "sparsity"), 0, 1, &v->sparsity) ||
        !json_double(cJSON_GetObjectItemCaseSensitive(item, "parameters"), 0, 1e15, &v->parameters) ||
        !json_double(cJSON_GetObjectItemCaseSensitive(item, "multiply_adds"), 0, 1e18, &v->multiply_adds) ||
        (accuracy && !json_double(accuracy, 0, 1, &v->accuracy)))
        return wrong(file, i, "has a sparsity, parameters, multiply_adds or accuracy that cannot be", err);
    snprintf(key, sizeof key, "variant.%d", i);
    const struct safetensors_tensor *t = safetensors_find(file, key);
    if (!t || strcmp(t->dtype, "U8") != 0 || t->ndims != 1) return wrong(file, i, "is not in the file", err);
    if (!json_integer(cJSON_GetObjectItemCaseSensitive(item, "bytes"), 1, (int64_t)t->size, &bytes))
        return wrong(file, i, "has more bytes than the file", err);
    v->offset = (size_t)((const uint8_t *)t->data - file->bytes);
    v->bytes = (size_t)bytes;
    return v->offset % 8 ? wrong(file, i, "does not lie on a multiple of 8 bytes", err) : STATUS_OK;
}

static enum status read_list(const struct safetensors *file, const cJSON *list, struct portfolio *p, struct err *err) {
    const cJSON *item;
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (n < 1 || n > PORTFOLIO_MAX_VARIANTS || n != file->ntensors)
        return err_set(err, STATUS_FORMAT, "%s: a portfolio has 1 to %d variants, a tensor each; this one lists %d and has %d",
                       file->name, PORTFOLIO_MAX_VARIANTS, n, file->ntensors);
    cJSON_ArrayForEach(item, list) {
        enum status status = read_variant(file, item, p->nvariants, &p->variants[p->nvariants], err);
        if (status) return status;
        for (int i = 0; i < p->nvariants; i++)
            if (strcmp(p->variants[i].name, p->variants[p->nvariants].name) == 0)
                return wrong(file, p->nvariants, "has the name of another", err);
        p->nvariants++;
    }
    return STATUS_OK;
}

enum status portfolio_parse(struct portfolio *out, const struct safetensors *file, struct err *err) {
    const char *version = safetensors_metadata(file, "version"), *text = safetensors_metadata(file, "variants");
    struct portfolio p = {0};
    cJSON *list;
    if (!is_portfolio(file)) return err_set(err, STATUS_FORMAT, "%s is not a portfolio", file->name);
    if (!version || strcmp(version, "1") != 0)
        return err_set(err, STATUS_FORMAT, "%s: a portfolio of version '%.20s'; this program reads version %d", file->name,
                       version ? version : "", VERSION);
    if (!text) return err_set(err, STATUS_FORMAT, "%s: no list of variants", file->name);
    enum status status = json_parse(&list, file->name, text, err);
    if (status) return status;
    status = read_list(file, list, &p, err);
    cJSON_Delete(list);
    if (!status) *out = p;
    return status;
}

enum status portfolio_read(struct portfolio *portfolio, const char *path, struct err *err) {
    struct safetensors *file;
    enum status status = safetensors_open(&file, path, err);
    if (status) return status;
    status = portfolio_parse(portfolio, file, err);
    safetensors_close(&file);
    return status;
}

enum status portfolio_find(const struct portfolio *p, const char *variant, int *index, struct err *err) {
    char *end, names[200] = "";
    long number = strtol(variant, &end, 10);
    for (int i = 0; i < p->nvariants; i++)
        if (strcmp(p->variants[i].name, variant) == 0) {
            *index = i;
            return STATUS_OK;
        }
    if (end != variant && !*end && number >= 0 && number < p->nvariants) {
        *index = (int)number;
        return STATUS_OK;
    }
    for (int i = 0; i < p->nvariants; i++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", p->variants[i].name);
    }
    err_set(err, STATUS_USAGE, "the portfolio has no variant '%.40s'", variant);
    err_hint(err, "variants: %s; or numbers from 0 to %d", names, p->nvariants - 1);
    return STATUS_USAGE;
}

enum status portfolio_load(struct model **model, const char *path, const char *variant, unsigned how,
                           struct err *err) {
    struct portfolio p;
    int i = 0;
    struct safetensors *file;
    enum status status = safetensors_open(&file, path, err);
    if (status) return status;
    bool is = is_portfolio(file);
    if (is) status = portfolio_parse(&p, file, err);
    safetensors_close(&file);
    if (status) return status;
    if (!is && variant) {
        err_set(err, STATUS_USAGE, "%s is one model, without variants", path);
        err_hint(err, "leave --variant out; 'espalier-train shift' makes portfolios");
        return STATUS_USAGE;
    }
    if (!is) return model_load_how(model, path, how, err);
    if (variant) status = portfolio_find(&p, variant, &i, err);
    return status ? status : model_load_part(model, path, p.variants[i].offset, p.variants[i].bytes, how, err);
}

/* ---- writing ---- */

cJSON *portfolio_json(const struct portfolio *p) {
    cJSON *list = cJSON_CreateArray();
    bool good = list != NULL;
    for (int i = 0; good && i < p->nvariants; i++) {
        const struct portfolio_variant *v = &p->variants[i];
        cJSON *o = cJSON_CreateObject();
        good = json_append(list, o) && json_add(o, "name", cJSON_CreateString(v->name)) &&
               json_add(o, "bytes", cJSON_CreateNumber((double)v->bytes)) &&
               json_add(o, "sparsity", cJSON_CreateNumber(v->sparsity)) &&
               json_add(o, "parameters", cJSON_CreateNumber(v->parameters)) &&
               json_add(o, "multiply_adds", cJSON_CreateNumber(v->multiply_adds)) &&
               (v->accuracy < 0 || json_add(o, "accuracy", cJSON_CreateNumber(v->accuracy)));
    }
    if (good) return list;
    cJSON_Delete(list);
    return NULL;
}

static enum status add_tensor(struct safetensors_tensor *t, struct portfolio_variant *v, const struct model *model,
                              struct err *err) {
    uint8_t *bytes;
    size_t length;
    enum status status = model_serialize(model, &bytes, &length, err);
    if (status) return status;
    size_t padded = (length + ALIGN - 1) / ALIGN * ALIGN;
    uint8_t *room = realloc(bytes, padded);
    if (!room) {
        free(bytes);
        return err_memory(err, "portfolio");
    }
    memset(room + length, 0, padded - length);
    v->bytes = length;
    t->dtype = "U8";
    t->ndims = 1;
    t->shape[0] = (int64_t)padded;
    t->data = room;
    t->size = padded;
    return STATUS_OK;
}

/* What goes into the file. */
struct content {
    struct safetensors_tensor tensors[PORTFOLIO_MAX_VARIANTS];
    char names[PORTFOLIO_MAX_VARIANTS][32], *list;
    struct safetensors_pair pairs[3];
};

static void content_fini(struct content *c) {
    for (int i = 0; i < PORTFOLIO_MAX_VARIANTS; i++) free((void *)c->tensors[i].data);
    free(c->list);
}

static enum status content_init(struct content *c, struct portfolio *p, struct model *const *models, struct err *err) {
    enum status status = STATUS_OK;
    *c = (struct content){0};
    for (int i = 0; !status && i < p->nvariants; i++) {
        snprintf(c->names[i], sizeof c->names[i], "variant.%d", i);
        c->tensors[i].name = c->names[i];
        status = add_tensor(&c->tensors[i], &p->variants[i], models[i], err);
    }
    if (!status && !(c->list = json_text(portfolio_json(p), true))) status = err_memory(err, "portfolio");
    c->pairs[0] = (struct safetensors_pair){"format", "espalier-portfolio"};
    c->pairs[1] = (struct safetensors_pair){"version", "1"};
    c->pairs[2] = (struct safetensors_pair){"variants", c->list};
    return status;
}

enum status portfolio_write(struct portfolio *p, struct model *const *models, const char *path, struct err *err) {
    struct content c;
    enum status status = content_init(&c, p, models, err);
    if (!status) status = safetensors_write(path, c.tensors, p->nvariants, c.pairs, 3, err);
    content_fini(&c);
    return status;
}

enum status portfolio_serialize(struct portfolio *p, struct model *const *models, uint8_t **bytes, size_t *length,
                                struct err *err) {
    struct content c;
    enum status status = content_init(&c, p, models, err);
    if (!status) status = safetensors_serialize(c.tensors, p->nvariants, c.pairs, 3, bytes, length, err);
    content_fini(&c);
    return status;
}
