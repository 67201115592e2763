#include "common/net.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far above any classifier, low enough that no product of shapes overflows. */
enum { MAX_SIDE = 1 << 14, MAX_CHANNELS = 1 << 17, MAX_LAYERS = 4096, MAX_INPUTS = 512 };
static const double max_elements = 1 << 30, max_weights = 1 << 30;

static const struct {
    const char *name, *alias;
    enum net_kind kind;
} kinds[] = {
    {"convolutional", "conv", NET_CONVOLUTIONAL},
    {"connected", "conn", NET_CONNECTED},
    {"batchnorm", "batchnorm", NET_BATCHNORM},
    {"maxpool", "max", NET_MAXPOOL},
    {"avgpool", "avg", NET_AVGPOOL},
    {"dropout", "dropout", NET_DROPOUT},
    {"shortcut", "shortcut", NET_SHORTCUT},
    {"route", "route", NET_ROUTE},
    {"softmax", "soft", NET_SOFTMAX},
    {"cost", "cost", NET_COST},
    {"crop", "crop", NET_CROP},
};
enum { NKINDS = sizeof kinds / sizeof kinds[0] };

/* Sections of Darknet's that are known, but not run here. */
static const char *const refused[] = {"activation", "crnn",   "deconvolutional", "deconv", "detection", "gru",
                                      "iseg",       "l2norm", "local",           "lrn",    "logistic",  "lstm",
                                      "normalization", "region", "reorg",        "rnn",    "upsample",  "yolo"};

static int find_kind(const char *name) {
    for (int i = 0; i < NKINDS; i++)
        if (strcmp(kinds[i].name, name) == 0 || strcmp(kinds[i].alias, name) == 0) return (int)kinds[i].kind;
    return -1;
}

const char *net_kind_name(enum net_kind kind) {
    for (int i = 0; i < NKINDS; i++)
        if (kinds[i].kind == kind) return kinds[i].name;
    return "?";
}

struct net_shape net_shape_of(const struct net *net, int index) {
    return index < 0 ? net->input : net->layers[index].out;
}

size_t net_shape_size(struct net_shape shape) { return (size_t)shape.c * (size_t)shape.h * (size_t)shape.w; }

bool net_has_weights(const struct net_layer *layer) {
    return layer->kind == NET_CONVOLUTIONAL || layer->kind == NET_CONNECTED || layer->kind == NET_BATCHNORM;
}

size_t net_weight_count(const struct net_layer *layer) {
    if (layer->kind == NET_CONVOLUTIONAL)
        return (size_t)layer->filters * (size_t)(layer->in.c / layer->groups) * (size_t)layer->size * (size_t)layer->size;
    if (layer->kind == NET_CONNECTED) return (size_t)layer->filters * net_shape_size(layer->in);
    return 0;
}

double net_multiply_adds(const struct net_layer *layer) {
    double positions = layer->kind == NET_CONVOLUTIONAL ? (double)layer->out.h * layer->out.w : 1;
    return positions * (double)net_weight_count(layer);
}

int net_logits_layer(const struct net *net) {
    for (int i = 0; i < net->nlayers; i++)
        if (net->layers[i].kind == NET_SOFTMAX) return net->layers[i].inputs[0];
    int last = net->nlayers - 1;
    while (last > 0 && net->layers[last].kind == NET_COST) last--;
    return last;
}

const struct cfg_section *net_section(const struct cfg *cfg, int layer) {
    for (int i = 0, n = 0; i < cfg->nsections; i++)
        if (find_kind(cfg->sections[i].name) >= 0 && n++ == layer) return &cfg->sections[i];
    return NULL;
}

/* ---- building ---- */

struct builder {
    const struct cfg *cfg;
    struct net *net;
    const struct cfg_section *section;
    struct net_layer *layer; /* being built; inputs[0] and `in` are set */
    int index;
};

static enum status fail(const struct builder *b, struct err *err, const char *text) {
    return cfg_error(b->cfg, b->section->line, err, "[%s] (layer %d) %s", b->section->name, b->index, text);
}

static enum status read_int(const struct builder *b, const char *key, int min, int max, int *value, struct err *err) {
    return cfg_int(b->cfg, b->section, key, min, max, value, err);
}

static enum status read_activation(const struct builder *b, const char *fallback, struct err *err) {
    const char *name = cfg_string(b->section, "activation", fallback);
    b->layer->activation = activation_parse(name);
    if (b->layer->activation != ACTIVATION_COUNT) return STATUS_OK;
    const char *names[ACTIVATION_COUNT];
    for (int i = 0; i < ACTIVATION_COUNT; i++) names[i] = activation_name((enum activation)i);
    const char *near = cfg_nearest(name, names, ACTIVATION_COUNT);
    const struct cfg_option *option = cfg_option(b->section, "activation");
    enum status status = cfg_error(b->cfg, option->line, err, "unknown activation '%.40s'", name);
    if (near) err_hint(err, "did you mean '%s'?", near);
    return status;
}

/* Options that would change what the layer computes, and that are not run here. */
static enum status refuse_flag(const struct builder *b, const char *key, struct err *err) {
    const struct cfg_option *option = cfg_option(b->section, key);
    if (!option || strcmp(option->value, "0") == 0) return STATUS_OK;
    return cfg_error(b->cfg, option->line, err, "'%s' in [%s] is not supported", key, b->section->name);
}

static enum status build_convolutional(struct builder *b, struct err *err) {
    struct net_layer *l = b->layer;
    bool pad = false;
    l->filters = l->size = l->stride = l->groups = 1;
    enum status status;
    if ((status = read_int(b, "filters", 1, MAX_CHANNELS, &l->filters, err)) ||
        (status = read_int(b, "size", 1, 255, &l->size, err)) ||
        (status = read_int(b, "stride", 1, 255, &l->stride, err)) ||
        (status = cfg_bool(b->cfg, b->section, "pad", &pad, err)) ||
        (status = read_int(b, "padding", 0, 255, &l->pad, err)) ||
        (status = read_int(b, "groups", 1, MAX_CHANNELS, &l->groups, err)) ||
        (status = cfg_bool(b->cfg, b->section, "batch_normalize", &l->batch_normalize, err)) ||
        (status = refuse_flag(b, "binary", err)) || (status = refuse_flag(b, "xnor", err)) ||
        (status = read_activation(b, "logistic", err)))
        return status;
    if (pad) l->pad = l->size / 2;
    if (l->in.c % l->groups || l->filters % l->groups)
        return fail(b, err, "has groups that do not divide its channels and filters");
    if (l->in.h + 2 * l->pad < l->size || l->in.w + 2 * l->pad < l->size)
        return fail(b, err, "has a kernel larger than its padded input");
    l->out = (struct net_shape){l->filters, (l->in.h + 2 * l->pad - l->size) / l->stride + 1,
                                (l->in.w + 2 * l->pad - l->size) / l->stride + 1};
    return STATUS_OK;
}

static enum status build_connected(struct builder *b, struct err *err) {
    struct net_layer *l = b->layer;
    l->filters = l->groups = 1;
    enum status status;
    if ((status = read_int(b, "output", 1, MAX_CHANNELS, &l->filters, err)) ||
        (status = cfg_bool(b->cfg, b->section, "batch_normalize", &l->batch_normalize, err)) ||
        (status = read_activation(b, "logistic", err)))
        return status;
    l->out = (struct net_shape){l->filters, 1, 1};
    return STATUS_OK;
}

static enum status build_maxpool(struct builder *b, struct err *err) {
    struct net_layer *l = b->layer;
    l->stride = 1;
    enum status status;
    if ((status = read_int(b, "stride", 1, 255, &l->stride, err))) return status;
    l->size = l->stride;
    if ((status = read_int(b, "size", 1, 255, &l->size, err))) return status;
    l->pad = l->size - 1;
    if ((status = read_int(b, "padding", 0, 255, &l->pad, err))) return status;
    if (l->pad > 2 * (l->size - 1)) return fail(b, err, "has padding beyond its window");
    if (l->in.h + l->pad < l->size || l->in.w + l->pad < l->size)
        return fail(b, err, "has a window larger than its padded input");
    l->out = (struct net_shape){l->in.c, (l->in.h + l->pad - l->size) / l->stride + 1,
                                (l->in.w + l->pad - l->size) / l->stride + 1};
    /* Every window must hold a real value: the last one starts at -pad/2 + (out-1)*stride. */
    if (l->pad / 2 >= l->size || (l->out.h - 1) * l->stride - l->pad / 2 >= l->in.h ||
        (l->out.w - 1) * l->stride - l->pad / 2 >= l->in.w)
        return fail(b, err, "has windows that lie wholly in the padding");
    return STATUS_OK;
}

static enum status build_avgpool(struct builder *b, struct err *err) {
    (void)err;
    b->layer->out = (struct net_shape){b->layer->in.c, 1, 1};
    return STATUS_OK;
}

static enum status build_same(struct builder *b, struct err *err) {
    (void)err;
    b->layer->out = b->layer->in;
    return STATUS_OK;
}

static enum status build_dropout(struct builder *b, struct err *err) {
    b->layer->probability = 0.5f;
    b->layer->out = b->layer->in;
    return cfg_float(b->cfg, b->section, "probability", 0, 0.999, &b->layer->probability, err);
}

/* A layer named relative to this one (negative) or absolutely. */
static enum status resolve(const struct builder *b, int named, int line, int *index, struct err *err) {
    int i = named < 0 ? b->index + named : named;
    if (i < 0 || i >= b->index)
        return cfg_error(b->cfg, line, err, "layer %d is not before layer %d", named < 0 ? i : named, b->index);
    *index = i;
    return STATUS_OK;
}

static enum status build_shortcut(struct builder *b, struct err *err) {
    struct net_layer *l = b->layer;
    int from = 0;
    enum status status;
    const struct cfg_option *option = cfg_option(b->section, "from");
    if (!option) return fail(b, err, "needs 'from': the layer whose output it adds");
    l->alpha = l->beta = 1;
    if ((status = read_int(b, "from", -MAX_LAYERS, MAX_LAYERS, &from, err)) ||
        (status = cfg_float(b->cfg, b->section, "alpha", -1e6, 1e6, &l->alpha, err)) ||
        (status = cfg_float(b->cfg, b->section, "beta", -1e6, 1e6, &l->beta, err)) ||
        (status = read_activation(b, "linear", err)) || (status = resolve(b, from, option->line, &from, err)))
        return status;
    int *inputs = realloc(l->inputs, 2 * sizeof *inputs);
    if (!inputs) return err_memory(err, b->cfg->name);
    l->inputs = inputs;
    inputs[1] = from;
    l->ninputs = 2;
    l->out = l->in;
    /* Darknet samples the finer of the two maps at whole steps. */
    struct net_shape a = l->out, f = net_shape_of(b->net, from);
    bool down = f.h >= a.h && f.w >= a.w && f.h / a.h == f.w / a.w;
    bool up = f.h <= a.h && f.w <= a.w && a.h / f.h == a.w / f.w;
    if (!down && !up) return fail(b, err, "adds maps whose heights and widths differ by different factors");
    /* Darknet scales the own branch only where both maps have values. */
    if (l->alpha != 1 && (f.c < a.c || f.h < a.h || f.w < a.w))
        return fail(b, err, "has 'alpha' and adds a smaller map, which is not supported");
    return STATUS_OK;
}

static enum status build_route(struct builder *b, struct err *err) {
    struct net_layer *l = b->layer;
    int *layers = NULL, n = 0;
    enum status status = cfg_ints(b->cfg, b->section, "layers", &layers, &n, err);
    if (status) return status;
    if (n == 0) return fail(b, err, "needs 'layers': the layers whose outputs it joins");
    if (n > MAX_INPUTS) {
        free(layers);
        return fail(b, err, "joins too many layers");
    }
    int line = cfg_option(b->section, "layers")->line, channels = 0;
    for (int i = 0; i < n; i++) {
        status = resolve(b, layers[i], line, &layers[i], err);
        if (status) {
            free(layers);
            return status;
        }
        struct net_shape s = net_shape_of(b->net, layers[i]), first = net_shape_of(b->net, layers[0]);
        if (s.h != first.h || s.w != first.w) {
            status = cfg_error(b->cfg, line, err, "[route] joins maps of %dx%d (layer %d) and %dx%d (layer %d)",
                               first.w, first.h, layers[0], s.w, s.h, layers[i]);
            free(layers);
            return status;
        }
        channels += s.c;
        l->out = (struct net_shape){channels, s.h, s.w};
    }
    free(l->inputs);
    l->inputs = layers;
    l->ninputs = n;
    l->in = l->out;
    return STATUS_OK;
}

static enum status build_softmax(struct builder *b, struct err *err) {
    struct net_layer *l = b->layer;
    l->softmax_groups = 1;
    l->temperature = 1;
    l->out = l->in;
    enum status status;
    if ((status = read_int(b, "groups", 1, MAX_CHANNELS, &l->softmax_groups, err)) ||
        (status = cfg_float(b->cfg, b->section, "temperature", 1e-6, 1e6, &l->temperature, err)) ||
        (status = refuse_flag(b, "spatial", err)) || (status = refuse_flag(b, "tree", err)))
        return status;
    if (net_shape_size(l->in) % (size_t)l->softmax_groups) return fail(b, err, "has groups that do not divide its inputs");
    return STATUS_OK;
}

static enum status build_cost(struct builder *b, struct err *err) {
    b->layer->out = b->layer->in;
    const char *type = cfg_string(b->section, "type", "sse");
    if (strcmp(type, "sse") != 0) return fail(b, err, "has a type other than sse, which is not supported");
    return STATUS_OK;
}

static enum status build_crop(struct builder *b, struct err *err) {
    struct net_layer *l = b->layer;
    int h = 1, w = 1;
    l->saturation = l->exposure = 1;
    enum status status;
    if ((status = read_int(b, "crop_height", 1, MAX_SIDE, &h, err)) ||
        (status = read_int(b, "crop_width", 1, MAX_SIDE, &w, err)) ||
        (status = cfg_bool(b->cfg, b->section, "flip", &l->flip, err)) ||
        (status = cfg_bool(b->cfg, b->section, "noadjust", &l->noadjust, err)) ||
        (status = cfg_float(b->cfg, b->section, "angle", 0, 360, &l->angle, err)) ||
        (status = cfg_float(b->cfg, b->section, "saturation", 0, 100, &l->saturation, err)) ||
        (status = cfg_float(b->cfg, b->section, "exposure", 0, 100, &l->exposure, err)))
        return status;
    if (h > l->in.h || w > l->in.w) return fail(b, err, "crops to more than its input");
    l->out = (struct net_shape){l->in.c, h, w};
    return STATUS_OK;
}

static enum status (*const build[])(struct builder *, struct err *) = {
    [NET_CONVOLUTIONAL] = build_convolutional,
    [NET_CONNECTED] = build_connected,
    [NET_BATCHNORM] = build_same,
    [NET_MAXPOOL] = build_maxpool,
    [NET_AVGPOOL] = build_avgpool,
    [NET_DROPOUT] = build_dropout,
    [NET_SHORTCUT] = build_shortcut,
    [NET_ROUTE] = build_route,
    [NET_SOFTMAX] = build_softmax,
    [NET_COST] = build_cost,
    [NET_CROP] = build_crop,
};

static enum status check_size(const struct builder *b, struct err *err) {
    const struct net_layer *l = b->layer;
    if ((double)l->out.c * l->out.h * l->out.w > max_elements || l->out.c > MAX_CHANNELS)
        return fail(b, err, "puts out more values than are supported");
    double weights = l->kind == NET_CONVOLUTIONAL
                         ? (double)l->filters * (l->in.c / l->groups) * l->size * l->size
                     : l->kind == NET_CONNECTED ? (double)l->filters * l->in.c * l->in.h * l->in.w
                                                : 0;
    if (weights > max_weights) return fail(b, err, "has more weights than are supported");
    return STATUS_OK;
}

static enum status build_layer(struct builder *b, struct err *err) {
    struct net_layer *l = b->layer;
    *l = (struct net_layer){.kind = (enum net_kind)find_kind(b->section->name), .line = b->section->line};
    l->inputs = malloc(sizeof *l->inputs);
    if (!l->inputs) return err_memory(err, b->cfg->name);
    l->ninputs = 1;
    l->inputs[0] = b->index - 1;
    l->in = net_shape_of(b->net, b->index - 1);
    enum status status = build[l->kind](b, err);
    return status ? status : check_size(b, err);
}

static enum status read_input(const struct cfg *cfg, struct net *net, struct err *err) {
    if (cfg->nsections == 0) return err_set(err, STATUS_FORMAT, "%s: holds no sections", cfg->name);
    const struct cfg_section *section = &cfg->sections[0];
    if (strcmp(section->name, "net") != 0 && strcmp(section->name, "network") != 0)
        return cfg_error(cfg, section->line, err, "the first section must be [net], not [%s]", section->name);
    int inputs = 0;
    enum status status;
    if ((status = cfg_int(cfg, section, "channels", 0, MAX_CHANNELS, &net->input.c, err)) ||
        (status = cfg_int(cfg, section, "height", 0, MAX_SIDE, &net->input.h, err)) ||
        (status = cfg_int(cfg, section, "width", 0, MAX_SIDE, &net->input.w, err)) ||
        (status = cfg_int(cfg, section, "inputs", 0, MAX_CHANNELS, &inputs, err)))
        return status;
    if (inputs && !net->input.h && !net->input.w) net->input = (struct net_shape){inputs, 1, 1};
    if (!net->input.c || !net->input.h || !net->input.w)
        return cfg_error(cfg, section->line, err, "[net] needs width, height and channels");
    if ((double)net->input.c * net->input.h * net->input.w > max_elements)
        return cfg_error(cfg, section->line, err, "[net] asks for an input of more values than are supported");
    return STATUS_OK;
}

static enum status check_sections(const struct cfg *cfg, struct err *err) {
    for (int i = 0; i < cfg->nsections; i++) {
        const struct cfg_section *section = &cfg->sections[i];
        for (size_t k = 0; k < sizeof refused / sizeof refused[0]; k++)
            if (strcmp(section->name, refused[k]) == 0) {
                enum status status = cfg_error(cfg, section->line, err,
                                               "Darknet's [%s] is not supported; Espalier runs classifiers", section->name);
                return status;
            }
        bool net = strcmp(section->name, "net") == 0 || strcmp(section->name, "network") == 0;
        if (net && i > 0) return cfg_error(cfg, section->line, err, "[net] may only come first");
    }
    return cfg_check(cfg, net_schemas, err);
}

enum status net_create(struct net **out, const struct cfg *cfg, struct err *err) {
    enum status status = check_sections(cfg, err);
    if (status) return status;
    int n = 0;
    for (int i = 0; i < cfg->nsections; i++) n += find_kind(cfg->sections[i].name) >= 0;
    struct net *net = calloc(1, sizeof *net);
    if (!net) return err_memory(err, cfg->name);
    status = read_input(cfg, net, err);
    if (status) goto fail;
    if (n == 0 || n > MAX_LAYERS) {
        status = err_set(err, STATUS_FORMAT, "%s: has %d layers; from 1 to %d are possible", cfg->name, n, MAX_LAYERS);
        goto fail;
    }
    net->layers = calloc((size_t)n, sizeof *net->layers);
    if (!net->layers) {
        status = err_memory(err, cfg->name);
        goto fail;
    }
    for (int i = 0; i < cfg->nsections; i++) {
        if (find_kind(cfg->sections[i].name) < 0) continue;
        struct builder b = {cfg, net, &cfg->sections[i], &net->layers[net->nlayers], net->nlayers};
        net->nlayers++; /* so that a half-built layer is freed too */
        status = build_layer(&b, err);
        if (status) goto fail;
    }
    net->classes = (int)net_shape_size(net_shape_of(net, net_logits_layer(net)));
    *out = net;
    return STATUS_OK;
fail:
    net_destroy(&net);
    return status;
}

void net_destroy(struct net **net_pointer) {
    struct net *net = *net_pointer;
    if (!net) return;
    for (int i = 0; i < net->nlayers; i++) free(net->layers[i].inputs);
    free(net->layers);
    free(net);
    *net_pointer = NULL;
}
