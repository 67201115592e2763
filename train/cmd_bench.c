/* bench: how fast a network trains here. */
#include "train/commands.h"

#include "common/json.h"
#include "common/options.h"
#include "common/pool.h"
#include "train/precision.h"
#include "train/timing.h"

#include <stdio.h>
#include <stdlib.h>

/* A layer below this share of the processor's peak is marked. */
static const double WELL_USED = .7;

static double share(const struct timing *t, double flops, double seconds) {
    return seconds > 0 ? flops / seconds / t->peak_flops : 0;
}

/* Of a step of plain training. */
static double step_flops(const struct timing *t) {
    double sum = 0;
    for (int i = 0; i < t->nlayers; i++) sum += t->layers[i].forward_flops + t->layers[i].backward_flops;
    return sum;
}

/* ---- text ---- */

static void print_direction(const struct timing *t, double flops, double seconds) {
    printf(" %9.3f", 1e3 * seconds);
    if (flops > 0) printf(" %8.1f %6.1f%%", flops / seconds / 1e9, 100 * share(t, flops, seconds));
    else printf(" %8s %7s", "", "");
}

static void print_layers(const struct timing *t) {
    double layers_s = 0, below_s = 0;
    int below = 0, heavy = 0;
    printf("\n%5s %-14s %-12s %9s %8s %7s %9s %8s %7s\n", "layer", "kind", "out", "fwd ms", "GFLOP/s", "of peak",
           "bwd ms", "GFLOP/s", "of peak");
    for (int i = 0; i < t->nlayers; i++) {
        const struct timing_layer *l = &t->layers[i];
        const struct net_layer *layer = &t->model->net->layers[i];
        double seconds = l->forward_s + l->backward_s, flops = l->forward_flops + l->backward_flops;
        bool low = flops > 0 && share(t, flops, seconds) < WELL_USED;
        char shape[32];
        snprintf(shape, sizeof shape, "%dx%dx%d", layer->out.w, layer->out.h, layer->out.c);
        printf("%5d %-14s %-12s", i, net_kind_name(layer->kind), shape);
        print_direction(t, l->forward_flops, l->forward_s);
        print_direction(t, l->backward_flops, l->backward_s);
        printf("%s\n", low ? " <" : "");
        layers_s += seconds;
        heavy += flops > 0;
        below += low;
        if (low) below_s += seconds;
    }
    printf("layers %.1f ms, loss, images and update %.1f ms of a step\n"
           "<: below %.0f%% of peak: %d of %d layers with weights, %.0f%% of the step's time\n",
           1e3 * layers_s, 1e3 * (t->median_s - layers_s), 100 * WELL_USED, below, heavy, 100 * below_s / t->median_s);
}

static void print(const struct timing *t, const struct timing_config *config) {
    bool plain = config->robust.mode == ROBUST_NONE;
    printf("%s, batch %d, %s%s, %d thread%s: %.1f images/s (%.2f ms a step, at best %.2f; median of %d)\n",
           config->cfg, t->batch, precision_name(config->precision), plain ? "" : ", robust", t->threads, t->threads == 1 ? "" : "s",
           t->batch / t->median_s, 1e3 * t->median_s, 1e3 * t->min_s, t->steps);
    printf("%.0f parameters, %.0f multiply-adds an image; peak memory %.1f MiB", t->parameters, t->multiply_adds,
           t->peak_mib);
    if (plain)
        printf("; %.1f GFLOP/s, %.1f%% of the processor's %.1f", step_flops(t) / t->median_s / 1e9,
               100 * share(t, step_flops(t), t->median_s), t->peak_flops / 1e9);
    printf("\n");
    if (config->layers) print_layers(t);
}

/* ---- JSON ---- */

static bool add(cJSON *object, const char *key, double value) {
    return json_add(object, key, cJSON_CreateNumber(value));
}

static bool add_layers(cJSON *root, const struct timing *t) {
    cJSON *list = cJSON_AddArrayToObject(root, "layers");
    bool good = list != NULL;
    for (int i = 0; good && i < t->nlayers; i++) {
        const struct timing_layer *l = &t->layers[i];
        cJSON *o = cJSON_CreateObject();
        good = json_append(list, o) && add(o, "layer", i) &&
               json_add(o, "kind", cJSON_CreateString(net_kind_name(t->model->net->layers[i].kind))) &&
               add(o, "forward_ms", 1e3 * l->forward_s) && add(o, "backward_ms", 1e3 * l->backward_s) &&
               add(o, "forward_flops", l->forward_flops) && add(o, "backward_flops", l->backward_flops) &&
               add(o, "forward_share_of_peak", share(t, l->forward_flops, l->forward_s)) &&
               add(o, "backward_share_of_peak", share(t, l->backward_flops, l->backward_s));
    }
    return good;
}

static enum status print_json(const struct timing *t, const struct timing_config *config, struct err *err) {
    cJSON *root = cJSON_CreateObject();
    bool good = root && json_add(root, "cfg", cJSON_CreateString(config->cfg)) &&
                json_add(root, "robust", cJSON_CreateString(robust_name(config->robust.mode))) &&
                json_add(root, "precision", cJSON_CreateString(precision_name(config->precision))) &&
                add(root, "batch", t->batch) && add(root, "threads", t->threads) && add(root, "steps", t->steps) &&
                add(root, "images_per_s", t->batch / t->median_s) && add(root, "median_ms", 1e3 * t->median_s) &&
                add(root, "min_ms", 1e3 * t->min_s) && add(root, "parameters", t->parameters) &&
                add(root, "multiply_adds", t->multiply_adds) && add(root, "peak_mib", t->peak_mib) &&
                add(root, "peak_gflops", t->peak_flops / 1e9) &&
                (!config->layers || add_layers(root, t));
    return json_print(root, good, err);
}

enum status cmd_bench(int argc, char **argv, struct err *err) {
    struct timing_config c = { .steps = 20, .threads = pool_default_threads(), .seed = 1 };
    const char *robust = robust_name(ROBUST_NONE), *precision = "f32";
    bool json = false;
    const struct option options[] = {
        { "--batch", 0, OPTION_INT, &c.batch, "N", "images per step, in one part; 0: as [net] says" },
        { "--steps", 0, OPTION_INT, &c.steps, "N", "steps that are timed" },
        { "--robust", 0, OPTION_STRING, &robust, "HOW", "as in train" },
        { "--precision", 0, OPTION_STRING, &precision, "P", "as in train" },
        { "--layers", 0, OPTION_FLAG, &c.layers, NULL, "each layer's time, forward and backward (plain training)" },
        { "--threads", 0, OPTION_INT, &c.threads, "N", "threads that train" },
        { "--json", 0, OPTION_FLAG, &json, NULL, "one JSON object" },
        { 0 },
    };
    const struct options_command usage = { "bench CFG",
                                           "How fast a network trains on this machine, on random images in memory.",
                                           options, 1, 1 };
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    enum robust_mode mode = robust_parse(robust);
    if (mode == ROBUST_COUNT)
        return err_set(err, STATUS_USAGE, "--robust is none, drop or sandwich, not '%s'", robust);
    if (c.steps < 1 || c.steps > 1000000 || c.batch < 0 || c.batch > 1 << 20 || c.threads < 1)
        return err_set(err, STATUS_USAGE, "--steps and --threads are at least 1, --batch 0");
    if (c.layers && mode != ROBUST_NONE)
        return err_set(err, STATUS_USAGE, "--layers is for plain training: otherwise a layer has many widths");
    if ((status = precision_parse(precision, &c.precision, err))) return status;
    c.cfg = argv[0];
    c.robust = robust_defaults(mode);
    struct timing *timing;
    if ((status = timing_run(&timing, &c, err))) return status;
    if (json) status = print_json(timing, &c, err);
    else print(timing, &c);
    timing_destroy(&timing);
    return status;
}
