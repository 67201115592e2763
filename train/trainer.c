#include "train/trainer.h"

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "train/allocate.h"
#include "train/checkpoint.h"
#include "train/measure.h"
#include "train/precision.h"
#include "train/report.h"
#include "train/soft_mask.h"
#include "train/step.h"
#include "train/summary.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DEFAULT_EPOCHS = 30,
    LINES_PER_EPOCH = 20,
    LOOK_BATCHES = 10, /* for the batch-norm rows of a look at accuracy */
    LOOK_IMAGES = 1000,
    TAYLOR_BATCHES = 20,
    TAYLOR_EPOCH = INT_MAX / 4, /* of the calibration images: whose batches importance is told from */
};
/* Of the running averages that the progress bar shows. */
static const double SMOOTHING = .97;

struct trainer {
    const struct trainer_config *config;
    struct setup *setup;
    struct model *model; /* the setup's */
    struct network *network;
    struct step *step;
    struct soft_mask *soft; /* NULL: none */
    struct loader *images, *calibration, *held_out; /* held_out NULL: none */
    char *settings, *checkpoint_path;
    int steps, per_epoch, done;
    int robust_begin; /* step */
    int allocate_at;  /* step behind which counts are chosen, if they are; the last one: when the training is done */
    struct report report;
    struct checkpoint_progress progress;
    double clock_s; /* up to which progress counts the time */
};

struct trainer_config trainer_defaults(enum robust_mode mode) {
    return (struct trainer_config){
        .setup = { .hold_out = -1, .seed = 1 },
        .robust = robust_defaults(mode),
        .order = ORDER_L1,
        .epochs = -1,
        .allocate_from = .75,
        .calibrate = calibrate_defaults(),
        .measure_plans = 24,
        .cache_mib = 2048,
    };
}

/* ---- what the run is ------------------------------------------------------- */

/* All that the result depends on, as a JSON object; NULL: out of memory. */
static char *settings_json(const struct trainer *t) {
    const struct trainer_config *c = t->config;
    const struct model *m = t->model;
    char hash[65];
    cJSON *root = cJSON_CreateObject();
    model_hash(m->cfg->text, m->cfg->length, hash);
    bool good = root && json_add(root, "cfg_sha256", cJSON_CreateString(hash));
    if (c->setup.from) good = good && json_add(root, "from", cJSON_CreateString(c->setup.from));
    const struct {
        const char *key;
        double value;
    } numbers[] = {
        { "images", t->setup->train->n },
        { "held_out", t->setup->held_out ? t->setup->held_out->n : 0 },
        { "seed", (double)c->setup.seed },
        { "batch", t->setup->batch },
        { "subdivisions", t->setup->subdivisions },
        { "steps", t->steps },
        { "robust_from", c->robust.from },
        { "robust_full", c->robust.full },
        { "robust_plans", c->robust.plans },
        { "robust_cuts", c->robust.max_cuts },
        { "robust_link", c->robust.link },
        { "robust_groups", c->robust.groups },
        { "robust_random_channels", c->robust.channels == ROBUST_RANDOM },
        { "robust_weight", c->robust.weight },
        { "distill", c->robust.distill },
        { "order_every", c->order_every },
        { "allocate", c->allocate },
        { "allocate_from", c->allocate ? c->allocate_from : 0 },
        { "keep_zeros", c->keep_zeros },
        { "soft_mask", c->soft_mask },
        { "begin_epoch", c->begin_epoch },
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        good = good && json_add(root, numbers[i].key, cJSON_CreateNumber(numbers[i].value));
    good = good && json_add(root, "precision", cJSON_CreateString(precision_name(c->precision)));
    good = good && json_add(root, "robust", cJSON_CreateString(robust_name(c->robust.mode)));
    good = good && json_add(root, "order", cJSON_CreateString(order_name(c->order)));
    return json_text(root, good);
}

/* Number of steps, and of steps in an epoch. */
static enum status count_steps(struct trainer *t, struct err *err) {
    struct setup *setup = t->setup;
    struct schedule *schedule = &setup->schedule;
    int batches = loader_batches(t->images), epochs = t->config->epochs >= 0 ? t->config->epochs : schedule->epochs;
    t->per_epoch = batches / setup->subdivisions > 0 ? batches / setup->subdivisions : 1;
    double steps = (double)epochs * batches / setup->subdivisions;
    if (t->config->epochs < 0 && epochs == 0)
        steps = schedule->max_batches > 0 ? schedule->max_batches : (double)DEFAULT_EPOCHS * t->per_epoch;
    if (steps > INT_MAX / 2) return err_set(err, STATUS_LIMIT, "%g training steps are too many", steps);
    t->steps = (int)steps;
    if (t->config->robust.mode != ROBUST_NONE) t->robust_begin = (int)(t->config->robust.from * steps);
    if (t->config->allocate) t->allocate_at = t->config->robust.mode == ROBUST_NONE ? t->steps : (int)(t->config->allocate_from * steps);
    schedule->max_batches = t->steps; /* what poly, cosine and onecycle end at */
    return STATUS_OK;
}

/* ---- opening --------------------------------------------------------------- */

static enum status open_loaders(struct trainer *t, struct err *err) {
    const struct setup *setup = t->setup;
    struct loader_config loading = {
        .dataset = setup->train,
        .preproc = t->model->preproc,
        .augment = &setup->augment,
        .batch = setup->batch / setup->subdivisions,
        .threads = t->config->setup.threads,
        .seed = t->config->setup.seed,
        .cache_bytes = (size_t)t->config->cache_mib << 20,
    };
    enum status status = loader_create(&t->images, &loading, err);
    if (status) return status;
    /* Augmented as in training: what the layers behind learnt to expect. Images
     * as they come cost a point of accuracy. */
    loading.seed = ~loading.seed;
    loading.cache_bytes = 0;
    status = loader_create(&t->calibration, &loading, err);
    if (status || !setup->held_out) return status;
    loading.dataset = setup->held_out;
    loading.augment = NULL;
    return loader_create(&t->held_out, &loading, err);
}

static enum status keep_zeros(struct trainer *t, struct err *err) {
    enum status status = step_keep_zeros(t->step, err);
    struct network_view view = network_view(t->network);
    if (!status) log_info("%zu of %zu weights are zero and stay so", t->step->mask->zeros, sparsity_weights(&view));
    return status;
}

static enum status open_mask(struct trainer *t, struct err *err) {
    struct network_view view = network_view(t->network);
    enum status status = soft_mask_create(&t->soft, t->model, &view, err);
    if (status) return status;
    t->soft->begin = t->robust_begin;
    t->soft->end = t->robust_begin + (t->steps - t->robust_begin) / 2;
    t->step->soft = t->soft;
    return STATUS_OK;
}

static enum status open_network(struct trainer *t, struct err *err) {
    const struct trainer_config *config = t->config;
    const struct setup *setup = t->setup;
    const struct schedule *schedule = &setup->schedule;
    enum status status = network_create(&t->network, t->model, setup->batch / setup->subdivisions,
                                        config->setup.threads, err);
    if (status) return status;
    struct step_config stepping = {
        .robust = config->robust,
        .robust_begin = t->robust_begin,
        .allocate_at = t->allocate_at,
        .sgd = { 0, schedule->momentum, schedule->decay, schedule->nesterov },
        .label_smoothing = schedule->label_smoothing,
        .batch = setup->batch,
        .subdivisions = setup->subdivisions,
        .seed = config->setup.seed,
    };
    network_set_precision(t->network, config->precision);
    setup_weights(t->setup, t->network, config->setup.seed);
    status = step_create(&t->step, &stepping, t->network, t->model, err);
    if (!status && config->soft_mask) status = open_mask(t, err);
    return !status && config->keep_zeros ? keep_zeros(t, err) : status;
}

/* Behind a failure to write. */
static enum status say_what_is_left(const struct trainer *t, enum status status, struct err *err) {
    if (access(t->checkpoint_path, F_OK) == 0)
        err_hint(err, "%s stays; once there is room, go on with the same command and --resume", t->checkpoint_path);
    return status;
}

static void count_time(struct trainer *t) {
    double now = log_now_s();
    t->progress.seconds += now - t->clock_s;
    t->progress.epoch_seconds += now - t->clock_s;
    t->clock_s = now;
}

static struct checkpoint make_checkpoint(const struct trainer *t) {
    struct checkpoint c = { .step = t->done, .progress = t->progress, .preproc = t->model->preproc,
                            .levels = t->model->levels, .settings = t->settings };
    if (!t->soft) return c;
    c.extras[0] = (struct checkpoint_extra){ "extra.importance", t->soft->importance, (size_t)t->soft->nunits };
    c.extras[1] = (struct checkpoint_extra){ "extra.velocity", t->soft->velocity, (size_t)t->soft->nunits };
    return c;
}

static enum status save_checkpoint(struct trainer *t, struct err *err) {
    struct network_view view = network_view(t->network);
    enum status status = step_check(t->step, t->done - 1, err);
    if (status) return status;
    count_time(t);
    struct checkpoint checkpoint = make_checkpoint(t);
    status = checkpoint_save(t->checkpoint_path, &view, t->step->sgd, &checkpoint, err);
    return status ? say_what_is_left(t, status, err) : STATUS_OK;
}

/* Images of the step that comes next. */
static enum status seek_images(const struct trainer *t, struct err *err) {
    int batches = loader_batches(t->images);
    long next = (long)t->done * t->setup->subdivisions;
    return loader_seek(t->images, (int)(next / batches), (int)(next % batches), err);
}

static enum status resume(struct trainer *t, struct err *err) {
    struct network_view view = network_view(t->network);
    struct checkpoint checkpoint = make_checkpoint(t);
    if (access(t->checkpoint_path, F_OK) != 0) {
        err_set(err, STATUS_USAGE, "nothing to resume: there is no %s", t->checkpoint_path);
        err_hint(err, "a finished run removes its checkpoint; begin anew without --resume");
        return STATUS_USAGE;
    }
    enum status status = checkpoint_load(t->checkpoint_path, &view, t->step->sgd, &checkpoint, err);
    if (status) return status;
    t->done = checkpoint.step;
    t->progress = checkpoint.progress;
    log_info("resuming %s behind step %d of %d", t->config->output, t->done, t->steps);
    return seek_images(t, err);
}

/* The network's channels, and the optimizer's memory of them, in that order. Takes it over. */
static enum status permute(struct trainer *t, struct order *order, struct err *err) {
    struct network_view view = network_view(t->network);
    enum status status = order_apply_values(order, &view, view.values, err);
    if (!status) status = order_apply_values(order, &view, t->step->sgd->velocity, err);
    order_destroy(&order);
    network_store(t->network, t->model);
    return status;
}

/* By the importance learnt so far. */
static enum status apply_mask(struct trainer *t, struct err *err) {
    struct order *order;
    int entered;
    enum status status = soft_mask_order(t->soft, &order, &entered, err);
    if (status) return status;
    report_mask(&t->report, t->done, t->soft->temperature, entered);
    log_info("soft mask at temperature %.3g: %d channels came into the narrowest level", t->soft->temperature, entered);
    return permute(t, order, err);
}

static enum status apply_order(struct trainer *t, struct err *err) {
    struct order *order;
    struct taylor *taylor = NULL;
    enum status status = STATUS_OK;
    network_store(t->network, t->model);
    if (t->config->order == ORDER_TAYLOR) {
        status = loader_seek(t->calibration, TAYLOR_EPOCH, 0, err);
        if (!status) status = taylor_create(&taylor, t->network, t->model, t->calibration, TAYLOR_BATCHES, err);
    }
    if (!status) status = order_create(&order, t->model, t->config->order, t->config->setup.seed, taylor, err);
    taylor_destroy(&taylor);
    return status ? status : permute(t, order, err);
}

static enum status allocate(struct trainer *t, struct err *err) {
    network_store(t->network, t->model);
    return allocate_by_sensitivity(t->network, t->model, t->held_out, err);
}

/* A run of hours must not fail at its end for want of a folder. */
static enum status check_output(const struct trainer *t, struct err *err) {
    const char *output = t->config->output, *slash = strrchr(output, '/');
    struct stat st;
    char *folder = slash ? strndup(output, (size_t)(slash - output) + 1) : strdup(".");
    if (!folder) return err_memory(err, "output");
    enum status status = STATUS_OK;
    if (access(folder, W_OK | X_OK) != 0) status = err_errno(err, "cannot write to the folder %s", folder);
    else if (stat(output, &st) == 0 && S_ISDIR(st.st_mode))
        status = err_set(err, STATUS_USAGE, "%s is a folder; -o names a file", output);
    free(folder);
    return status;
}

static enum status check_mask(const struct trainer_config *c, struct err *err) {
    if (!c->soft_mask) return STATUS_OK;
    if (c->robust.mode == ROBUST_NONE)
        return err_set(err, STATUS_USAGE, "--soft-mask learns from pruned passes: it needs --robust sandwich or drop");
    if (c->robust.groups > 0 || c->robust.channels == ROBUST_RANDOM || c->order_every || c->allocate)
        return err_set(err, STATUS_USAGE, "--soft-mask goes without --robust-groups, --robust-channels random, "
                                          "--order-every and --allocate, which order or count channels otherwise");
    return STATUS_OK;
}

static enum status open_run(struct trainer *t, struct err *err) {
    const struct trainer_config *config = t->config;
    enum status status = check_mask(config, err);
    if (!status) status = check_output(t, err);
    if (!status && config->allocate && config->setup.hold_out == 0)
        status = err_set(err, STATUS_USAGE, "--allocate sensitivity measures on held-out images, and there are none");
    if (!status && config->allocate && !(config->allocate_from >= config->robust.from && config->allocate_from <= 1))
        status = err_set(err, STATUS_USAGE, "--allocate-from is %g, not between --robust-from, %g, and 1",
                         config->allocate_from, config->robust.from);
    if (!status && config->keep_zeros && (!config->setup.from || config->robust.mode != ROBUST_NONE || config->order_every))
        status = err_set(err, STATUS_USAGE, "--keep-zeros needs --from and --robust none, without --order-every");
    if (!status) status = setup_create(&t->setup, &config->setup, err);
    if (status) return status;
    t->model = t->setup->model;
    if ((status = open_loaders(t, err)) || (status = count_steps(t, err)) || (status = open_network(t, err)))
        return status;
    t->settings = settings_json(t);
    if (!t->settings || asprintf(&t->checkpoint_path, "%s.checkpoint", config->output) < 0) {
        t->checkpoint_path = NULL;
        return err_memory(err, "settings");
    }
    file_replace_tidy(config->output);
    if (!config->resume && access(t->checkpoint_path, F_OK) == 0)
        log_warn("%s, of an unfinished run, will be replaced; --resume would go on with it", t->checkpoint_path);
    t->done = (long)config->begin_epoch * t->per_epoch < t->steps ? config->begin_epoch * t->per_epoch : t->steps;
    if (config->resume) status = resume(t, err);
    else if (t->done > 0) status = seek_images(t, err);
    else if (config->setup.from && config->robust.mode != ROBUST_NONE && t->robust_begin == 0) status = apply_order(t, err);
    t->clock_s = log_now_s();
    if (status) return status;
    return report_open(&t->report, config->log, config->resume ? t->done : -1, t->per_epoch, t->settings, err);
}

static void close_run(struct trainer *t) {
    step_destroy(&t->step);
    soft_mask_destroy(&t->soft);
    network_destroy(&t->network);
    loader_destroy(&t->images);
    loader_destroy(&t->calibration);
    loader_destroy(&t->held_out);
    setup_destroy(&t->setup);
    free(t->settings);
    free(t->checkpoint_path);
}

/* ---- steps ----------------------------------------------------------------- */

/* A quick look at the held-out accuracy of the widest, middle and narrowest
 * level, on some thousand of the images. */
static enum status look(struct trainer *t, struct report_epoch *epoch, struct err *err) {
    int nlevels = t->model->levels->nlevels, measured, stride = t->setup->held_out->n / LOOK_IMAGES;
    const int levels[] = { 0, nlevels / 2, nlevels - 1 };
    if (stride < 1) stride = 1;
    enum status status = STATUS_OK;
    for (int i = 0; !status && i < 3; i++) {
        if (i > 0 && levels[i] == levels[i - 1]) continue;
        struct plan *plan = NULL;
        double accuracy;
        status = loader_seek(t->calibration, INT_MAX / 2 + epoch->epoch, 0, err);
        if (!status)
            status = calibrate_uniform(t->network, t->model, t->calibration, levels[i], LOOK_BATCHES, err);
        if (!status) status = plan_create(&plan, t->model->blocks->nblocks, levels[i], err);
        if (!status)
            status = measure_plans(t->network, t->model, t->held_out, &plan, 1, stride, NULL, &accuracy, &measured, err);
        plan_destroy(&plan);
        epoch->levels[epoch->nlevels] = levels[i];
        epoch->held_out[epoch->nlevels++] = accuracy;
    }
    return status;
}

static enum status end_epoch(struct trainer *t, struct err *err) {
    count_time(t);
    struct report_epoch epoch = { .epoch = t->done / t->per_epoch, .step = t->done,
                                  .seconds = t->progress.epoch_seconds };
    char held_out[120] = "";
    enum status status = STATUS_OK;
    bool last = t->done == t->steps;
    int every = t->config->order_every;
    if (t->soft && t->done > t->soft->begin && t->done < t->soft->end) status = apply_mask(t, err);
    if (!status && every > 0 && epoch.epoch % every == 0 && t->done * 2 <= t->steps) status = apply_order(t, err);
    if (!status && t->config->keep && epoch.epoch == t->config->keep_epoch) {
        network_store(t->network, t->model);
        status = model_save(t->model, t->config->keep, err);
    }
    if (!status && t->held_out && !last) status = look(t, &epoch, err);
    if (status) return status;
    epoch.loss = t->progress.epoch_loss / t->progress.epoch_steps;
    epoch.accuracy = (double)t->progress.epoch_correct / t->progress.epoch_images;
    for (int i = 0; i < epoch.nlevels; i++) {
        size_t n = strlen(held_out);
        snprintf(held_out + n, sizeof held_out - n, "%s level %d %.1f%%", i ? "," : "; held out:", epoch.levels[i],
                 100 * epoch.held_out[i]);
    }
    log_info("epoch %d: loss %.3f, accuracy %.1f%%%s, %.0f s", epoch.epoch, epoch.loss, 100 * epoch.accuracy,
             held_out, epoch.seconds);
    report_epoch(&t->report, &epoch);
    return STATUS_OK;
}

static enum status stopped(struct trainer *t, struct err *err) {
    enum status status = save_checkpoint(t, err);
    if (status) return status;
    err_set(err, STATUS_CANCELLED, "stopped behind step %d of %d", t->done, t->steps);
    err_hint(err, "go on with the same command and --resume");
    return STATUS_CANCELLED;
}

/* Running averages, as the progress bar and the log show them. */
struct averages {
    double loss, accuracy, weight, line_began_s;
    long line_images;
};

static void average(struct averages *a, const struct step_result *result) {
    a->line_images += result->images;
    a->weight = SMOOTHING * a->weight + 1 - SMOOTHING;
    a->loss += (1 - SMOOTHING) * (result->loss - a->loss);
    a->accuracy += (1 - SMOOTHING) * ((double)result->correct / result->images - a->accuracy);
}

/* Shows where the run stands; every `lines` steps in the log, too. */
static void show(struct trainer *t, struct averages *a, struct log_progress *progress, int first, float rate) {
    int lines = t->per_epoch / LINES_PER_EPOCH > 0 ? t->per_epoch / LINES_PER_EPOCH : 1;
    struct report_step line = {
        .step = t->done,
        .epoch = (t->done - 1) / t->per_epoch + 1,
        .loss = a->loss / a->weight,
        .accuracy = a->accuracy / a->weight,
        .rate = (double)rate,
        .images_per_s = (double)a->line_images / (log_now_s() - a->line_began_s + 1e-9),
    };
    char detail[120];
    snprintf(detail, sizeof detail, "loss=%.3f acc=%.3f lr=%.2g img/s=%.0f", line.loss, line.accuracy,
             line.rate, line.images_per_s);
    if (t->done == t->steps) log_progress_end(progress, detail);
    else log_progress_update(progress, t->done - first, detail);
    if (t->done % lines != 0) return;
    report_step(&t->report, &line);
    a->line_images = 0;
    a->line_began_s = log_now_s();
}

static enum status one_step(struct trainer *t, float rate, struct averages *averages, struct err *err) {
    struct step_result result;
    enum status status = step_run(t->step, t->images, t->done, rate, &result, err);
    if (status) return status;
    if (t->done % t->per_epoch == 0) t->progress = (struct checkpoint_progress){ .seconds = t->progress.seconds };
    t->done++;
    t->progress.epoch_loss += result.loss;
    t->progress.epoch_steps++;
    t->progress.epoch_correct += result.correct;
    t->progress.epoch_images += result.images;
    average(averages, &result);
    return STATUS_OK;
}

static enum status run_steps(struct trainer *t, struct err *err) {
    struct log_progress progress;
    struct averages averages = { .line_began_s = log_now_s() };
    int first = t->done, every = t->config->checkpoint_every > 0 ? t->config->checkpoint_every : t->per_epoch;
    enum status status = STATUS_OK;
    if (first == t->steps) return STATUS_OK;
    log_progress_start(&progress, "train", t->steps - first);
    while (!status && t->done < t->steps) {
        float rate = schedule_rate(&t->setup->schedule, t->done + 1);
        if (t->config->stop && *t->config->stop) status = stopped(t, err);
        else status = one_step(t, rate, &averages, err);
        if (status) break;
        show(t, &averages, &progress, first, rate);
        if (t->done == t->robust_begin) status = apply_order(t, err);
        if (!status && t->soft && t->done == t->soft->end && t->done > t->soft->begin) status = apply_mask(t, err);
        if (!status && t->done == t->allocate_at && t->done < t->steps) status = allocate(t, err);
        if (!status && t->done % t->per_epoch == 0) status = end_epoch(t, err);
        if (!status && (t->done % every == 0 || t->done == t->steps)) status = save_checkpoint(t, err);
    }
    if (status) log_progress_abandon(&progress);
    return status;
}

/* ---- the end --------------------------------------------------------------- */

/* The settings, and how it ended. */
static bool add_test(cJSON *root, const struct measure_test *test) {
    cJSON *list = cJSON_AddArrayToObject(root, "random_plans");
    bool good = list != NULL;
    for (int i = 0; good && i < test->plans.n; i++) {
        const struct plan *plan = test->plans.plans[i];
        cJSON *item = cJSON_CreateObject();
        good = json_append(list, item) && json_add(item, "level", cJSON_CreateIntArray(plan->level, plan->nblocks)) &&
               json_add(item, "link", cJSON_CreateIntArray(plan->link, plan->nblocks)) &&
               json_add(item, "accuracy", cJSON_CreateNumber(test->accuracy[i]));
    }
    return good;
}

static char *training_json(const struct trainer *t, const double *uniform, const struct measure_test *test) {
    cJSON *root = cJSON_Parse(t->settings), *list = uniform ? cJSON_AddArrayToObject(root, "uniform") : NULL;
    bool good = root != NULL && (!uniform || list);
    for (int i = 0; good && uniform && i < t->model->levels->nlevels; i++)
        good = json_append(list, cJSON_CreateNumber(uniform[i]));
    if (good && t->model->accuracy) {
        good = json_add(root, "accuracy_model_error", cJSON_CreateNumber(t->model->accuracy->held_out_error)) &&
               json_add(root, "accuracy_model_worst", cJSON_CreateNumber(t->model->accuracy->held_out_worst)) &&
               json_add(root, "measured_images", cJSON_CreateNumber(t->model->accuracy->samples)) && add_test(root, test);
    }
    return json_text(root, good);
}

static enum status calibrate(struct trainer *t, struct err *err) {
    struct calibrate_config config = t->config->calibrate;
    config.seed = t->config->setup.seed;
    enum status status = loader_seek(t->calibration, 0, 0, err);
    if (!status) status = calibrate_run(t->network, t->model, t->calibration, &config, err);
    return status;
}

/* The order, the counts, the batch-norm rows, and what they are worth. */
static enum status complete(struct trainer *t, double *uniform, struct measure_test *test, struct err *err) {
    const struct trainer_config *config = t->config;
    struct model *model = t->model;
    enum status status = STATUS_OK;
    if (config->robust.mode == ROBUST_NONE && config->order != ORDER_NONE) status = apply_order(t, err);
    if (!status && config->allocate && t->allocate_at == t->steps) status = allocate(t, err);
    if (!status) {
        network_store(t->network, model);
        status = calibrate(t, err);
    }
    if (!status && t->held_out)
        status = measure_model(t->network, model, t->held_out, config->measure_plans, config->setup.seed, uniform, test, err);
    if (status) return status;
    free(model->training);
    model->training = training_json(t, t->held_out ? uniform : NULL, test);
    if (!model->training) return err_memory(err, "training record");
    model->darknet.seen = (uint64_t)t->steps * (uint64_t)t->setup->batch;
    return STATUS_OK;
}

static enum status write_summary(struct trainer *t, const double *uniform, const struct measure_test *test,
                                 struct err *err) {
    const struct checkpoint_progress *p = &t->progress;
    count_time(t);
    struct summary summary = {
        .config = t->config,
        .setup = t->setup,
        .steps = t->steps,
        .seconds = p->seconds,
        .loss = p->epoch_steps ? p->epoch_loss / p->epoch_steps : -1,
        .accuracy = p->epoch_images ? (double)p->epoch_correct / p->epoch_images : 0,
        .uniform = uniform,
        .test = test,
    };
    return summary_write(&summary, err);
}

/* The model goes first: once it is there, the checkpoint is not needed, whatever becomes of the rest. */
static enum status finish(struct trainer *t, struct err *err) {
    const struct trainer_config *config = t->config;
    const struct model *model = t->model;
    double accuracy[PLAN_MAX_LEVELS], *uniform = t->held_out ? accuracy : NULL;
    struct measure_test test = { 0 };
    enum status status = complete(t, accuracy, &test, err);
    if (!status && (status = model_save(model, config->output, err))) status = say_what_is_left(t, status, err);
    if (!status) {
        unlink(t->checkpoint_path);
        report_done(&t->report, model->training);
        status = write_summary(t, uniform, &test, err);
    }
    measure_test_free(&test);
    if (status) return status;
    if (!uniform) log_warn("no images were held out: %s has no accuracy model", config->output);
    else if (model->accuracy)
        log_info("%s: accuracy model off by %.2f points on average, %.2f at worst, over %d random plans (%d images)",
                 config->output, 100 * model->accuracy->held_out_error, 100 * model->accuracy->held_out_worst,
                 config->measure_plans, model->accuracy->samples);
    log_info("summary: %s.txt", config->output);
    if (uniform && !config->quiet) status = report_levels(model, uniform, config->json, stdout, err);
    return status ? status : report_close(&t->report, err);
}

enum status trainer_run(const struct trainer_config *config, struct err *err) {
    struct trainer t = { .config = config };
    enum status status = robust_check(&config->robust, err);
    if (!status) status = open_run(&t, err);
    if (!status) {
        log_info("%s: %d images, %d held out, %d steps of %d; %s, order %s; seed %llu, %d threads", config->output,
                 t.setup->train->n, t.setup->held_out ? t.setup->held_out->n : 0, t.steps, t.setup->batch,
                 robust_name(config->robust.mode), order_name(config->order),
                 (unsigned long long)config->setup.seed, config->setup.threads);
        status = run_steps(&t, err);
    }
    if (!status) status = finish(&t, err);
    struct err ignored;
    if (report_close(&t.report, &ignored)) log_warn("%s", ignored.text);
    close_run(&t);
    return status;
}
