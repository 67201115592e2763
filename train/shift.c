#include "train/shift.h"

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/portfolio.h"
#include "common/shrink.h"
#include "train/magnitude.h"
#include "train/measure.h"
#include "train/removable.h"
#include "train/report.h"
#include "train/sparsity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHOWN_IMAGES = 500, BATCH = 128, MAX_SETTINGS = 1 << 20 };

struct shift {
    const struct shift_config *config;
    char *folder;
    struct setup *setup; /* of the one-level network: images to make variants with */
    struct dataset *shown; /* training images that show what is removable */
    struct portfolio portfolio;
    struct model *variants[PORTFOLIO_MAX_VARIANTS];
    double making_s[PORTFOLIO_MAX_VARIANTS], sparse_accuracy[PORTFOLIO_MAX_VARIANTS];
};

struct shift_config shift_defaults(void) {
    struct trainer_config train = trainer_defaults(ROBUST_NONE);
    train.order = ORDER_NONE;
    train.measure_plans = 0;
    train.quiet = true;
    return (struct shift_config){ .train = train, .rewind = 1, .share = .5, .tolerance = .001 };
}

/* A file of the run, malloc'ed: "<folder>/<name><suffix>". */
static char *path_of(const struct shift *s, const char *name, const char *suffix) {
    char *path;
    return asprintf(&path, "%s/%s%s", s->folder, name, suffix) < 0 ? NULL : path;
}

/* Index 0 is the network that is not sparse. */
static void name_of(const struct shift *s, int index, char name[32]) {
    if (index == 0) snprintf(name, 32, "dense");
    else snprintf(name, 32, "%g", s->config->sparsities[index - 1]);
}

/* ---- the folder ---- */

/* All that the trainings depend on; NULL: out of memory. */
static char *settings_json(const struct shift *s, const struct cfg *cfg) {
    const struct shift_config *c = s->config;
    char hash[65];
    model_hash(cfg->text, cfg->length, hash);
    cJSON *root = cJSON_CreateObject();
    bool good = root && json_add(root, "data", cJSON_CreateString(c->train.setup.data)) &&
                json_add(root, "cfg_sha256", cJSON_CreateString(hash)) &&
                json_add(root, "sparsities", cJSON_CreateDoubleArray(c->sparsities, c->nsparsities)) &&
                json_add(root, "epochs", cJSON_CreateNumber(c->train.epochs)) &&
                json_add(root, "batch", cJSON_CreateNumber(c->train.setup.batch)) &&
                json_add(root, "hold_out", cJSON_CreateNumber(c->train.setup.hold_out)) &&
                json_add(root, "seed", cJSON_CreateNumber((double)c->train.setup.seed)) &&
                json_add(root, "precision", cJSON_CreateNumber(c->train.precision)) &&
                json_add(root, "rewind", cJSON_CreateNumber(c->rewind)) &&
                json_add(root, "share", cJSON_CreateNumber(c->share));
    return json_text(root, good);
}

static enum status write_text(const char *path, const char *text, struct err *err) {
    struct file_replace file;
    enum status status = file_replace_open(&file, path, err);
    if (status) return status;
    fputs(text, file.stream);
    return file_replace_commit(&file, err);
}

/* A folder of another run is left alone. */
static enum status check_settings(const struct shift *s, const struct cfg *cfg, struct err *err) {
    char *path = path_of(s, "settings.json", ""), *settings = settings_json(s, cfg);
    uint8_t *found = NULL;
    size_t length;
    enum status status = path && settings ? STATUS_OK : err_memory(err, "settings");
    if (!status && access(path, F_OK) != 0) status = write_text(path, settings, err);
    else if (!status) {
        status = file_read(path, MAX_SETTINGS, &found, &length, err);
        if (!status && strcmp((const char *)found, settings) != 0) {
            err_set(err, STATUS_USAGE, "%s holds the trainings of other settings", s->folder);
            err_hint(err, "remove it, or take another -o, to begin anew");
            status = STATUS_USAGE;
        } else if (!status) {
            log_info("going on with what is finished in %s", s->folder);
        }
    }
    free(found);
    free(path);
    free(settings);
    return status;
}

/* The network of the cfg with one level, so that no rows for others are estimated. */
static enum status one_level_cfg(const char *path, struct cfg **cfg, struct err *err) {
    struct model *model;
    enum status status = setup_model(&model, path, err);
    if (status) return status;
    int nlayers = model->net->nlayers, *held = malloc(((size_t)nlayers + 1) * sizeof *held);
    for (int i = -1; held && i < nlayers; i++) held[i + 1] = net_shape_of(model->net, i).c;
    status = held ? shrink_cfg(model, held, SHRINK_ONE_LEVEL, cfg, err) : err_memory(err, path);
    free(held);
    model_destroy(&model);
    return status;
}

static enum status open_folder(struct shift *s, struct err *err) {
    struct cfg *cfg;
    if (asprintf(&s->folder, "%s.rounds", s->config->output) < 0) {
        s->folder = NULL;
        return err_memory(err, "folder");
    }
    enum status status = one_level_cfg(s->config->train.setup.cfg, &cfg, err);
    if (status) return status;
    char *path = path_of(s, "net.cfg", "");
    status = path ? file_make_folder(s->folder, err) : err_memory(err, "folder");
    if (!status) status = check_settings(s, cfg, err);
    if (!status) status = write_text(path, cfg->text, err);
    free(path);
    cfg_destroy(&cfg);
    return status;
}

/* ---- training ---- */

/* Trains round `index` from `start` (NULL: from the beginning), unless it is there. */
static enum status train_round(const struct shift *s, int index, const char *start, struct err *err) {
    struct trainer_config config = s->config->train;
    char name[32];
    name_of(s, index, name);
    char *output = path_of(s, name, ".safetensors"), *cfg = path_of(s, "net.cfg", ""), *log = path_of(s, name, ".jsonl");
    char *rewind = path_of(s, "rewind", ".safetensors"), *checkpoint = path_of(s, name, ".safetensors.checkpoint");
    enum status status = output && cfg && log && rewind && checkpoint ? STATUS_OK : err_memory(err, "round");
    if (!status && access(output, F_OK) != 0) {
        config.setup.cfg = cfg;
        config.setup.from = start;
        config.output = output;
        config.log = log;
        config.keep_zeros = start != NULL;
        config.begin_epoch = start ? s->config->rewind : 0;
        config.keep = start ? NULL : rewind;
        config.keep_epoch = s->config->rewind;
        config.resume = access(checkpoint, F_OK) == 0;
        status = trainer_run(&config, err);
        if (status == STATUS_CANCELLED) err_hint(err, "the same command goes on");
    }
    free(output);
    free(cfg);
    free(log);
    free(rewind);
    free(checkpoint);
    return status;
}

/* The weights of `rewind` where `model`, pruned, keeps them. */
static enum status prune_and_rewind(const struct shift *s, struct model *model, const struct model *rewind,
                                    const char *path, double sparsity, struct err *err) {
    struct network *network;
    enum status status = network_create(&network, model, 1, 1, err);
    if (status) return status;
    struct sparsity_mask *mask = NULL;
    struct network_view view = network_view(network);
    status = magnitude_prune(network, model, sparsity, s->config->share, err);
    if (!status) status = sparsity_mask_create(&mask, &view, err);
    if (!status) {
        struct model *start = NULL;
        struct shrink_units *units;
        network_load(network, rewind);
        sparsity_mask_apply(mask, view.values);
        status = shrink_units_create(&units, rewind->groups, err);
        if (!status) status = shrink_model(rewind, units, SHRINK_ONE_LEVEL, &start, err);
        if (!status) {
            network_store(network, start);
            status = model_save(start, path, err);
        }
        model_destroy(&start);
        shrink_units_destroy(&units);
    }
    sparsity_mask_destroy(&mask);
    network_destroy(&network);
    return status;
}

static enum status load_round(const struct shift *s, int index, const char *suffix, struct model **model, struct err *err) {
    char name[32];
    if (index >= 0) name_of(s, index, name);
    else strcpy(name, "rewind");
    char *path = path_of(s, name, suffix);
    enum status status = path ? model_load(model, path, err) : err_memory(err, "round");
    free(path);
    return status;
}

static enum status run_round(const struct shift *s, int index, struct err *err) {
    char name[32];
    struct model *before = NULL, *rewind = NULL;
    name_of(s, index, name);
    if (index == 0) return train_round(s, 0, NULL, err);
    char *start = path_of(s, name, ".start");
    enum status status = start ? STATUS_OK : err_memory(err, "round");
    if (!status && access(start, F_OK) != 0) {
        status = load_round(s, index - 1, ".safetensors", &before, err);
        if (!status) status = load_round(s, -1, ".safetensors", &rewind, err);
        if (!status)
            status = prune_and_rewind(s, before, rewind, start, s->config->sparsities[index - 1], err);
        model_destroy(&before);
        model_destroy(&rewind);
    }
    if (!status) log_info("sparsity %s", name);
    if (!status) status = train_round(s, index, start, err);
    free(start);
    return status;
}

/* ---- variants ---- */

static enum status open_images(struct shift *s, struct err *err) {
    struct setup_config setup = s->config->train.setup;
    char *cfg = path_of(s, "net.cfg", "");
    setup.cfg = cfg;
    setup.from = NULL;
    enum status status = cfg ? setup_create(&s->setup, &setup, err) : err_memory(err, "images");
    free(cfg);
    if (status) return status;
    int n = s->setup->train->n;
    if (n <= SHOWN_IMAGES) return STATUS_OK; /* all of them */
    return dataset_hold_out(s->setup->train, SHOWN_IMAGES, setup.seed, &s->shown, err);
}

static enum status evaluating(const struct shift *s, const struct dataset *images, const struct model *model,
                              struct loader **loader, struct err *err) {
    struct loader_config loading = { .dataset = images, .preproc = model->preproc, .batch = BATCH,
                                     .threads = s->config->train.setup.threads };
    return loader_create(loader, &loading, err);
}

/* Accuracy on the held-out images; -1 if there are none. */
static enum status measure(const struct shift *s, struct model *model, double *accuracy, int *images, struct err *err) {
    struct network *network = NULL;
    struct loader *loader = NULL;
    struct plan *plan = NULL;
    *accuracy = -1;
    *images = 0;
    if (!s->setup->held_out) return STATUS_OK;
    enum status status = evaluating(s, s->setup->held_out, model, &loader, err);
    if (!status) status = network_create(&network, model, BATCH, s->config->train.setup.threads, err);
    if (!status) status = plan_create(&plan, model->blocks->nblocks, 0, err);
    if (!status) status = measure_plans(network, model, loader, &plan, 1, 1, NULL, accuracy, images, err);
    plan_destroy(&plan);
    network_destroy(&network);
    loader_destroy(&loader);
    return status;
}

static enum status describe(const struct model *model, struct portfolio_variant *v, struct err *err) {
    struct report_size size;
    struct plan *plan;
    enum status status = plan_create(&plan, model->blocks->nblocks, 0, err);
    if (!status) status = report_size(model, plan, &size, err);
    plan_destroy(&plan);
    if (status) return status;
    v->parameters = size.parameters;
    v->multiply_adds = size.multiply_adds;
    return STATUS_OK;
}

static enum status keep_accuracy(struct model *model, double accuracy, int images, struct err *err) {
    if (accuracy < 0) return STATUS_OK;
    enum status status = accuracy_create(&model->accuracy, model->blocks->nblocks, 1, err);
    if (status) return status;
    model->accuracy->base = accuracy;
    model->accuracy->samples = images;
    return STATUS_OK;
}

static enum status make_variant(struct shift *s, int index, struct err *err) {
    struct model *sparse;
    struct loader *images = NULL;
    struct portfolio_variant *v = &s->portfolio.variants[index];
    struct removable_config removing = { s->config->tolerance, s->config->train.setup.threads };
    double began = log_now_s();
    int measured;
    enum status status = load_round(s, index, ".safetensors", &sparse, err);
    if (status) return status;
    status = evaluating(s, s->shown ? s->shown : s->setup->train, sparse, &images, err);
    if (!status) status = removable_cut(sparse, images, &removing, &s->variants[index], err);
    s->making_s[index] = log_now_s() - began;
    if (!status) {
        s->portfolio.nvariants = index + 1;
        name_of(s, index, v->name);
        v->sparsity = index ? s->config->sparsities[index - 1] : 0;
        status = describe(s->variants[index], v, err);
    }
    if (!status) status = measure(s, sparse, &s->sparse_accuracy[index], &measured, err);
    if (!status) status = measure(s, s->variants[index], &v->accuracy, &measured, err);
    if (!status) status = keep_accuracy(s->variants[index], v->accuracy, measured, err);
    loader_destroy(&images);
    model_destroy(&sparse);
    return status;
}

/* ---- the end ---- */

static enum status print_json(const struct shift *s, struct err *err) {
    for (int i = 0; i < s->portfolio.nvariants; i++) {
        const struct portfolio_variant *v = &s->portfolio.variants[i];
        cJSON *o = cJSON_CreateObject();
        bool good = o && json_add(o, "variant", cJSON_CreateString(v->name)) &&
                    json_add(o, "sparsity", cJSON_CreateNumber(v->sparsity)) &&
                    json_add(o, "bytes", cJSON_CreateNumber((double)v->bytes)) &&
                    json_add(o, "parameters", cJSON_CreateNumber(v->parameters)) &&
                    json_add(o, "multiply_adds", cJSON_CreateNumber(v->multiply_adds)) &&
                    json_add(o, "seconds", cJSON_CreateNumber(s->making_s[i])) &&
                    (v->accuracy < 0 || (json_add(o, "accuracy", cJSON_CreateNumber(v->accuracy)) &&
                                         json_add(o, "sparse_accuracy", cJSON_CreateNumber(s->sparse_accuracy[i]))));
        const enum status status = json_print(o, good, err);
        if (status) return status;
    }
    return STATUS_OK;
}

static void print(const struct shift *s) {
    const struct portfolio_variant *dense = &s->portfolio.variants[0];
    printf("variant    parameters         multiply-adds     accuracy  sparse  made in\n");
    for (int i = 0; i < s->portfolio.nvariants; i++) {
        const struct portfolio_variant *v = &s->portfolio.variants[i];
        printf("%-8s %12.0f %5.1f%% %13.0f %5.1f%%  ", v->name, v->parameters, 100 * v->parameters / dense->parameters,
               v->multiply_adds, 100 * v->multiply_adds / dense->multiply_adds);
        if (v->accuracy < 0) printf("%7s  %6s", "-", "-");
        else printf("%6.2f%%  %5.2f%%", 100 * v->accuracy, 100 * s->sparse_accuracy[i]);
        printf("  %.1f s\n", s->making_s[i]);
    }
}

static void close_shift(struct shift *s) {
    for (int i = 0; i < PORTFOLIO_MAX_VARIANTS; i++) model_destroy(&s->variants[i]);
    dataset_close(&s->shown);
    setup_destroy(&s->setup);
    free(s->folder);
}

enum status shift_run(const struct shift_config *config, struct err *err) {
    struct shift s = { .config = config };
    enum status status = open_folder(&s, err);
    for (int i = 0; !status && i <= config->nsparsities; i++) status = run_round(&s, i, err);
    if (!status) status = open_images(&s, err);
    for (int i = 0; !status && i <= config->nsparsities; i++) status = make_variant(&s, i, err);
    if (!status) status = portfolio_write(&s.portfolio, s.variants, config->output, err);
    if (!status && config->train.json) status = print_json(&s, err);
    else if (!status) print(&s);
    close_shift(&s);
    return status;
}
