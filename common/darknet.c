#include "common/darknet.h"

#include "common/cfg_writer.h"
#include "common/file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const float DARKNET_EPS = 1e-6f;

/* ---- the header ---- */

struct header {
    int32_t major, minor, revision;
    uint64_t seen;
};

/* `seen` has 8 bytes, or 4. */
static bool wide_seen(const struct header *h) {
    return (int64_t)h->major * 10 + h->minor >= 2 && h->major < 1000 && h->minor < 1000;
}
static bool transposed(const struct header *h) { return h->major > 1000 || h->minor > 1000; }
static size_t header_size(const struct header *h) { return 12 + (wide_seen(h) ? 8 : 4); }

/* ---- the order of the floats ---- */

struct blob {
    int layer;
    float *data;    /* NULL: `constant` throughout (written only) */
    float constant;
    size_t count;
    int columns;   /* connected weights: inputs, else 0 */
    bool variance; /* where the forms of batch norm differ */
};

static void add_blob(struct blob *blobs, int *n, int layer, float *data, size_t count) {
    blobs[(*n)++] = (struct blob){.layer = layer, .data = data, .count = count};
}
static void add_constant(struct blob *blobs, int *n, int layer, float constant, size_t count) {
    blobs[(*n)++] = (struct blob){.layer = layer, .constant = constant, .count = count};
}

/* Whether [batchnorm] layers are written as convolutions of weight 1. */
static bool replaces_batchnorm(const struct model *model) { return model->bn_form != MODEL_BN_DARKNET; }

/* All of a model's tensors as Darknet orders them; room for 5 a layer.
 * `replaced`: [batchnorm] is a convolution there. */
static int list_blobs(const struct model *model, bool replaced, struct blob *blobs) {
    int n = 0;
    for (int i = 0; i < model->net->nlayers; i++) {
        const struct net_layer *l = &model->net->layers[i];
        const struct model_layer *m = &model->layers[i];
        if (!net_has_weights(l)) continue;
        size_t o = (size_t)model_outputs(model, i);
        bool alone = replaced && l->kind == NET_BATCHNORM;
        if (alone) add_constant(blobs, &n, i, 0, o);
        if (m->bias) add_blob(blobs, &n, i, m->bias, o);
        if (m->beta) add_blob(blobs, &n, i, m->beta, o);
        if (l->kind == NET_CONNECTED) {
            add_blob(blobs, &n, i, m->weight, net_weight_count(l));
            blobs[n - 1].columns = (int)net_shape_size(l->in);
        }
        if (m->gamma) {
            add_blob(blobs, &n, i, m->gamma, o);
            add_blob(blobs, &n, i, m->mean, o);
            add_blob(blobs, &n, i, m->var, o);
            blobs[n - 1].variance = true;
        }
        if (l->kind == NET_CONVOLUTIONAL) add_blob(blobs, &n, i, m->weight, net_weight_count(l));
        if (alone) add_constant(blobs, &n, i, 1, o);
    }
    return n;
}

static struct blob *new_blobs(const struct model *model, bool replaced, int *n) {
    struct blob *blobs = malloc((size_t)model->net->nlayers * 5 * sizeof *blobs);
    if (blobs) *n = list_blobs(model, replaced, blobs);
    return blobs;
}

/* Options that change what Darknet reads or writes, and that are not supported here. */
static enum status check_options(const struct model *model, struct err *err) {
    static const char *const keys[] = {"flipped", "dontload", "dontloadscales", "numload", "dontsave"};
    for (int i = 0; i < model->net->nlayers; i++) {
        const struct cfg_section *section = net_section(model->cfg, i);
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            const struct cfg_option *option = cfg_option(section, keys[k]);
            if (option && strcmp(option->value, "0") != 0)
                return cfg_error(model->cfg, option->line, err, "'%s' is not supported when weights are converted",
                                 keys[k]);
        }
    }
    return STATUS_OK;
}

/* ---- reading ---- */

static enum status read_header(FILE *in, const char *path, struct header *h, struct err *err) {
    int32_t version[3];
    bool good = fread(version, sizeof version, 1, in) == 1;
    if (good) {
        *h = (struct header){.major = version[0], .minor = version[1], .revision = version[2]};
        uint32_t narrow = 0;
        if (wide_seen(h)) good = fread(&h->seen, sizeof h->seen, 1, in) == 1;
        else good = fread(&narrow, sizeof narrow, 1, in) == 1;
        if (narrow) h->seen = narrow;
    }
    return good ? STATUS_OK : err_set(err, STATUS_FORMAT, "%s: too short for the header of a .weights file", path);
}

static enum status check_size(const struct model *model, const char *path, const struct blob *blobs, int n,
                              size_t header, size_t size, struct err *err) {
    size_t end = header;
    for (int i = 0; i < n; i++) {
        end += blobs[i].count * sizeof(float);
        if (end > size)
            return err_set(err, STATUS_FORMAT, "%s: too short: layer %d (%s) of %.150s needs it to byte %zu, it has %zu",
                           path, blobs[i].layer, net_kind_name(model->net->layers[blobs[i].layer].kind),
                           model->cfg->name, end, size);
    }
    if (end == size) return STATUS_OK;
    return err_set(err, STATUS_FORMAT, "%s: too long: the last layer of %.150s ends at byte %zu, the file has %zu", path,
                   model->cfg->name, end, size);
}

/* [rows][columns] -> [columns][rows] */
static enum status transpose(float *data, size_t rows, size_t columns, struct err *err) {
    float *copy = malloc(rows * columns * sizeof *copy);
    if (!copy) return err_memory(err, "weights");
    memcpy(copy, data, rows * columns * sizeof *copy);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) data[c * rows + r] = copy[r * columns + c];
    free(copy);
    return STATUS_OK;
}

enum status darknet_read(struct model *model, const char *path, struct err *err) {
    enum status status = check_options(model, err);
    if (status) return status;
    FILE *in = fopen(path, "rbe");
    if (!in) return err_errno(err, "cannot open %s", path);
    int n = 0;
    struct blob *blobs = new_blobs(model, false, &n);
    struct header header;
    struct stat st;
    if (!blobs) status = err_memory(err, path);
    else if (fstat(fileno(in), &st) != 0) status = err_errno(err, "cannot read %s", path);
    else if (!S_ISREG(st.st_mode)) status = err_set(err, STATUS_IO, "%s is not a regular file", path);
    else status = read_header(in, path, &header, err);
    if (!status) status = check_size(model, path, blobs, n, header_size(&header), (size_t)st.st_size, err);
    for (int i = 0; !status && i < n; i++) {
        const struct blob *b = &blobs[i];
        if (fread(b->data, sizeof(float), b->count, in) != b->count)
            status = err_set(err, STATUS_IO, "cannot read %s: %s", path, ferror(in) ? strerror(errno) : "it was cut short");
        else if (b->columns && transposed(&header))
            status = transpose(b->data, (size_t)b->columns, b->count / (size_t)b->columns, err);
    }
    if (!status) {
        model->bn_form = MODEL_BN_DARKNET;
        model->bn_eps = DARKNET_EPS;
        model->darknet.major = header.major;
        model->darknet.minor = header.minor;
        model->darknet.revision = header.revision;
        model->darknet.seen = header.seen;
    }
    free(blobs);
    fclose(in);
    return status;
}

/* ---- writing ---- */

/* Whether a first layer must do what Darknet does not: normalise the input. */
static bool normalises(const struct model *model) {
    if (model->ends.nincoming || model->preproc.c > 4) return false;
    for (int c = 0; c < model->preproc.c; c++)
        if (model->preproc.mean[c] != 0 || model->preproc.std[c] != 1) return true;
    return false;
}

static void write_normalisation(const struct model *model, FILE *out) {
    for (int c = 0; c < model->preproc.c; c++)
        fwrite(&(float){-model->preproc.mean[c] / model->preproc.std[c]}, sizeof(float), 1, out);
    for (int c = 0; c < model->preproc.c; c++) fwrite(&(float){1 / model->preproc.std[c]}, sizeof(float), 1, out);
}

static float darknet_variance(const struct model *model, float var) {
    double eps = (double)model->bn_eps;
    double deviation = model->bn_form == MODEL_BN_TORCH ? sqrt((double)var + eps) : sqrt((double)var) + eps;
    double root = fmax(deviation - (double)DARKNET_EPS, 0);
    return (float)(root * root);
}

static enum status write_blob(const struct model *model, const struct blob *b, bool turned, FILE *out,
                              struct err *err) {
    bool converts = b->variance && (model->bn_form != MODEL_BN_DARKNET || model->bn_eps != DARKNET_EPS);
    if (!b->data) {
        for (size_t i = 0; i < b->count; i++) fwrite(&b->constant, sizeof(float), 1, out);
        return STATUS_OK;
    }
    if (converts) {
        for (size_t i = 0; i < b->count; i++) fwrite(&(float){darknet_variance(model, b->data[i])}, sizeof(float), 1, out);
        return STATUS_OK;
    }
    if (!b->columns || !turned) {
        fwrite(b->data, sizeof(float), b->count, out);
        return STATUS_OK;
    }
    float *copy = malloc(b->count * sizeof *copy);
    if (!copy) return err_memory(err, "weights");
    memcpy(copy, b->data, b->count * sizeof *copy);
    enum status status = transpose(copy, b->count / (size_t)b->columns, (size_t)b->columns, err);
    if (!status) fwrite(copy, sizeof(float), b->count, out);
    free(copy);
    return status;
}

enum status darknet_write(const struct model *model, const char *path, struct err *err) {
    enum status status = check_options(model, err);
    if (status) return status;
    struct header h = {model->darknet.major, model->darknet.minor, model->darknet.revision, model->darknet.seen};
    struct file_replace file;
    int n = 0;
    struct blob *blobs = new_blobs(model, replaces_batchnorm(model), &n);
    if (!blobs) return err_memory(err, path);
    status = file_replace_open(&file, path, err);
    if (status) {
        free(blobs);
        return status;
    }
    /* The stream remembers a failed write; the commit reports it. */
    fwrite((int32_t[]){h.major, h.minor, h.revision}, sizeof(int32_t), 3, file.stream);
    if (wide_seen(&h)) fwrite(&h.seen, sizeof h.seen, 1, file.stream);
    else fwrite(&(uint32_t){(uint32_t)h.seen}, sizeof(uint32_t), 1, file.stream);
    if (normalises(model)) write_normalisation(model, file.stream);
    for (int i = 0; !status && i < n; i++) status = write_blob(model, &blobs[i], transposed(&h), file.stream, err);
    free(blobs);
    if (status) file_replace_abort(&file);
    else status = file_replace_commit(&file, err);
    return status;
}

/* ---- the cfg ---- */

static void write_net_section(struct cfg_writer *w, const struct cfg_section *net) {
    static const char *const known[] = {
        "batch",      "subdivisions", "width",     "height",    "channels",   "inputs",   "learning_rate", "momentum",
        "decay",      "time_steps",   "notruth",   "random",    "adam",       "B1",       "B2",            "eps",
        "max_crop",   "min_crop",     "max_ratio", "min_ratio", "center",     "clip",     "angle",         "aspect",
        "saturation", "exposure",     "hue",       "burn_in",   "power",      "step",     "scale",         "steps",
        "scales",     "gamma",        "max_batches"};
    static const char *const policies[] = {"random", "poly", "constant", "step", "exp", "sigmoid", "steps"};
    cfg_writer_section(w, net->name);
    for (int i = 0; i < net->noptions; i++) {
        const struct cfg_option *o = &net->options[i];
        bool keep = false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) keep |= strcmp(o->key, known[k]) == 0;
        for (size_t k = 0; k < sizeof policies / sizeof *policies; k++)
            keep |= strcmp(o->key, "policy") == 0 && strcmp(o->value, policies[k]) == 0;
        if (keep) cfg_writer_option(w, o->key, "%s", o->value);
    }
}

/* A 1x1 convolution of each channel by itself. */
static void write_per_channel(struct cfg_writer *w, int channels, bool batch_normalize) {
    cfg_writer_section(w, "convolutional");
    if (batch_normalize) cfg_writer_option(w, "batch_normalize", "1");
    cfg_writer_option(w, "filters", "%d", channels);
    cfg_writer_option(w, "groups", "%d", channels);
    cfg_writer_option(w, "size", "1");
    cfg_writer_option(w, "stride", "1");
    cfg_writer_option(w, "activation", "linear");
}

static enum status check_layer(const struct model *model, int layer, struct err *err) {
    const struct net_layer *l = &model->net->layers[layer];
    enum status status = STATUS_OK;
    if (l->activation == ACTIVATION_RELU6) {
        status = cfg_error(model->cfg, l->line, err, "Darknet has no relu6 (layer %d)", layer);
        err_hint(err, "train the network with activation=relu if Darknet is to run it");
    }
    if (l->kind == NET_CONVOLUTIONAL && l->size == 1 && l->pad > 0)
        status = cfg_error(model->cfg, l->line, err, "Darknet cannot run a padded 1x1 convolution (layer %d)", layer);
    return status;
}

/* A convolution whose stride Darknet would forget. */
static bool strides_alone(const struct net_layer *l) {
    return l->kind == NET_CONVOLUTIONAL && l->size == 1 && l->stride > 1;
}

static void write_layer(const struct model *model, struct cfg_writer *w, int layer, const int *new_index) {
    static const char *const except[] = {"torch", "torch_bn", "stride", NULL}, *const ours[] = {"torch", "torch_bn", NULL};
    const struct net_layer *l = &model->net->layers[layer];
    const struct cfg_section *section = net_section(model->cfg, layer);
    if (l->kind == NET_BATCHNORM && replaces_batchnorm(model)) {
        write_per_channel(w, l->in.c, true);
        return;
    }
    if (strides_alone(l)) {
        cfg_writer_section(w, "maxpool");
        cfg_writer_option(w, "size", "1");
        cfg_writer_option(w, "stride", "%d", l->stride);
    }
    cfg_writer_layer(w, section, l, new_index, new_index[layer + 1], strides_alone(l) ? except : ours);
}

enum status darknet_cfg(const struct model *model, char **text, struct err *err) {
    const struct net *net = model->net;
    struct cfg_writer w = {0};
    enum status status = STATUS_OK;
    int *new_index = malloc(((size_t)net->nlayers + 1) * sizeof *new_index);
    if (!new_index) return err_memory(err, model->cfg->name);
    new_index[0] = normalises(model) ? 0 : -1;
    for (int i = 0; !status && i < net->nlayers; i++) {
        status = check_layer(model, i, err);
        new_index[i + 1] = new_index[i] + (strides_alone(&net->layers[i]) ? 2 : 1);
    }
    write_net_section(&w, &model->cfg->sections[0]);
    if (normalises(model)) write_per_channel(&w, net->input.c, false);
    for (int i = 0; !status && i < net->nlayers; i++) write_layer(model, &w, i, new_index);
    free(new_index);
    if (!status && w.failed) status = err_memory(err, model->cfg->name);
    if (status) cfg_writer_free(&w);
    else *text = w.text;
    return status;
}
