#include "deploy/bench.h"

/* Effective: operations of the direct convolution over time. */
static double gflops(double multiply_adds, double ms) { return ms > 0 ? 2 * multiply_adds / ms / 1e6 : 0; }

static void print_layers(const struct bench *b, const struct model *model, FILE *out) {
    fprintf(out, "\nlayer kind           kernel           out              median ms     min ms   multiply-adds   GFLOP/s  of peak       bytes\n");
    for (int i = 0; i < b->nlayers; i++) {
        const struct bench_layer *l = &b->layers[i];
        const struct net_layer *layer = &model->net->layers[i];
        char shape[32];
        snprintf(shape, sizeof shape, "%dx%dx%d", layer->out.w, layer->out.h, layer->out.c);
        fprintf(out, "%5d %-14s %-16s %-16s %9.4f %10.4f %15.0f", i, net_kind_name(layer->kind), l->kernel, shape,
                l->median_ms, l->min_ms, l->multiply_adds);
        const double rate = gflops(l->multiply_adds, l->min_ms);
        if (l->multiply_adds > 0) fprintf(out, " %9.1f %7.1f%%", rate, 100 * rate / b->peak_gflops);
        else fprintf(out, "%19s", "");
        fprintf(out, " %11.0f\n", l->bytes);
    }
}

void bench_print(const struct bench *b, const struct model *model, FILE *out) {
    fprintf(out, "%s, %d thread%s: peak %.1f GFLOP/s, reads %.1f GB/s; engine %.1f MB, ready in %.1f ms, peak memory %.1f MB, "
            "%.2f times the weights%s\n",
            b->isa, b->threads, b->threads == 1 ? "" : "s", b->peak_gflops, b->read_gbs, (double)b->engine_bytes / 1e6,
            b->create_ms, (double)b->resident_max / 1e6, (double)b->resident_max / (double)b->weight_bytes,
            b->random ? "; random weights" : "");
    fprintf(out, "level  ratio  median ms     min ms  of first  multiply-adds  of first   GFLOP/s  of peak  runs\n");
    for (int i = 0; i < b->ntimes; i++) {
        const struct bench_time *t = &b->times[i], *first = &b->times[0];
        if (b->one_plan) fprintf(out, " plan      -");
        else fprintf(out, "%5d  %5.3f", i, (double)model->levels->ratio[i]);
        const double rate = gflops(t->multiply_adds, t->min_ms);
        fprintf(out, " %10.4f %10.4f %8.1f%% %14.0f %8.1f%% %9.1f %7.1f%% %5d\n", t->median_ms, t->min_ms,
                100 * t->median_ms / first->median_ms, t->multiply_adds,
                first->multiply_adds > 0 ? 100 * t->multiply_adds / first->multiply_adds : 0, rate,
                100 * rate / b->peak_gflops, t->runs);
    }
    if (b->nlayers) print_layers(b, model, out);
    if (b->switches.n)
        fprintf(out, "\nlevel switch: median %.2f us, 99%% below %.2f us, at most %.2f us (%d switches)\n",
                b->switches.median_us, b->switches.p99_us, b->switches.max_us, b->switches.n);
    const struct bench_decode *d = &b->decode;
    if (d->path)
        fprintf(out, "\n%s, %dx%d, %.1f MB, to %dx%d: fast decoding %.1f ms, exact %.1f ms (medians)\n", d->path, d->w, d->h,
                (double)d->bytes / 1e6, d->to_w, d->to_h, d->fast_ms, d->exact_ms);
}

/* ---- JSON ---- */

static bool add_number(cJSON *object, const char *key, double value) {
    return json_add(object, key, cJSON_CreateNumber(value));
}

static cJSON *time_json(const struct bench *b, const struct model *model, int i) {
    const struct bench_time *t = &b->times[i];
    cJSON *o = cJSON_CreateObject();
    const double rate = gflops(t->multiply_adds, t->min_ms);
    if (o && (b->one_plan || (add_number(o, "level", i) && add_number(o, "ratio", (double)model->levels->ratio[i]))) &&
        add_number(o, "median_ms", t->median_ms) && add_number(o, "min_ms", t->min_ms) &&
        add_number(o, "runs", t->runs) && add_number(o, "multiply_adds", t->multiply_adds) &&
        add_number(o, "gflops", rate) && add_number(o, "share_of_peak", rate / b->peak_gflops))
        return o;
    cJSON_Delete(o);
    return NULL;
}

static cJSON *layer_json(const struct bench *b, const struct model *model, int i) {
    const struct bench_layer *l = &b->layers[i];
    cJSON *o = cJSON_CreateObject();
    if (o && add_number(o, "layer", i) &&
        json_add(o, "kind", cJSON_CreateString(net_kind_name(model->net->layers[i].kind))) &&
        json_add(o, "kernel", cJSON_CreateString(l->kernel)) && add_number(o, "median_ms", l->median_ms) &&
        add_number(o, "min_ms", l->min_ms) && add_number(o, "multiply_adds", l->multiply_adds) &&
        add_number(o, "share_of_peak", gflops(l->multiply_adds, l->min_ms) / b->peak_gflops) &&
        add_number(o, "bytes", l->bytes))
        return o;
    cJSON_Delete(o);
    return NULL;
}

static cJSON *list_json(const struct bench *b, const struct model *model, int n,
                        cJSON *(*entry)(const struct bench *, const struct model *, int)) {
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; list && i < n; i++)
        if (!json_append(list, entry(b, model, i))) {
            cJSON_Delete(list);
            list = NULL;
        }
    return list;
}

static cJSON *switches_json(const struct bench *b) {
    cJSON *o = cJSON_CreateObject();
    if (o && add_number(o, "n", b->switches.n) && add_number(o, "median", b->switches.median_us) &&
        add_number(o, "p99", b->switches.p99_us) && add_number(o, "max", b->switches.max_us))
        return o;
    cJSON_Delete(o);
    return NULL;
}

static cJSON *decode_json(const struct bench *b) {
    const struct bench_decode *d = &b->decode;
    cJSON *o = cJSON_CreateObject();
    if (o && json_add(o, "file", cJSON_CreateString(d->path)) && add_number(o, "bytes", (double)d->bytes) &&
        add_number(o, "width", d->w) && add_number(o, "height", d->h) && add_number(o, "fast_ms", d->fast_ms) &&
        add_number(o, "exact_ms", d->exact_ms))
        return o;
    cJSON_Delete(o);
    return NULL;
}

cJSON *bench_json(const struct bench *b, const struct model *model) {
    cJSON *o = cJSON_CreateObject();
    const bool good = o && json_add(o, "isa", cJSON_CreateString(b->isa)) && add_number(o, "threads", b->threads) &&
                      add_number(o, "peak_gflops", b->peak_gflops) && add_number(o, "read_gbs", b->read_gbs) &&
                      add_number(o, "weight_bytes", (double)b->weight_bytes) && add_number(o, "engine_bytes", (double)b->engine_bytes) && add_number(o, "create_ms", b->create_ms) &&
                      add_number(o, "peak_memory_bytes", (double)b->resident_max) &&
                      json_add(o, "random_weights", cJSON_CreateBool(b->random)) &&
                      json_add(o, b->one_plan ? "plan" : "levels", list_json(b, model, b->ntimes, time_json)) &&
                      (!b->nlayers || json_add(o, "layers", list_json(b, model, b->nlayers, layer_json))) &&
                      (!b->switches.n || json_add(o, "switch_us", switches_json(b))) &&
                      (!b->decode.path || json_add(o, "decode", decode_json(b)));
    if (good) return o;
    cJSON_Delete(o);
    return NULL;
}
