#include "deploy/roofline.h"

#include "deploy/codec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Fitted to ncnn's published latencies (Tencent/ncnn, benchmark/README.md, 4
 * threads, fp32 models), in ms, by least squares of the logarithm:
 *
 *            mobilenet  mobilenet_v2  resnet18  resnet50  vgg16
 *   Pi 4B         61          62         123       263      547   (1.8 GHz)
 *   Pi 5           9.0        10.5        20        46      129   (2.4 GHz; ncnn computes in fp16 there)
 *
 * The fit is within 15% for the Pi 4B, 1% for the Pi 5 (five figures, six free
 * numbers within plausible bounds: it says little of other networks);
 * tests/unit/test_scenario.c holds it against the networks in cfg/. Coding was
 * not published: what a Pi takes is a guess from its clock and width. */
static const struct roofline devices[] = {
    { "pi4b", "ncnn's benchmark table, Raspberry Pi 4B at 1.8 GHz, 4 threads", 4, 5, 51.8, 16.9, 1, 2, 100, 4 },
    { "pi5", "ncnn's benchmark table, Raspberry Pi 5 at 2.4 GHz, 4 threads", 4, 33.5, 192, 161, 5, 11, 31, 2 },
};
enum { DEVICES = sizeof devices / sizeof *devices };

/* Nanoseconds per float, one core of a 2020s server processor at 2 to 3 GHz
 * (`espalier-deploy profile`). */
static const double encode_ns[CODEC_COUNT] = { 0.3, 20, 0.5, 18, 1.5, 12, 1.5, 12, 2, 8, 2, 8 };
static const double decode_ns[CODEC_COUNT] = { 0.3, 5, 0.5, 5, 0.6, 4, 0.6, 4, 0.8, 3, 0.8, 3 };

const struct roofline *roofline_find(const char *name, const char **names) {
    if (names) *names = "pi4b, pi5";
    for (int i = 0; i < DEVICES; i++)
        if (strcmp(devices[i].name, name) == 0) return &devices[i];
    return NULL;
}

static double rate_of(const struct roofline *d, const struct net_layer *layer) {
    if (layer->kind != NET_CONVOLUTIONAL) return d->dense;
    if (layer->groups > 1 && layer->groups == layer->in.c) return d->depthwise;
    if (layer->size == 1) return d->pointwise;
    return layer->size == 3 && layer->stride == 1 && layer->groups == 1 ? d->winograd : d->dense;
}

static double map_bytes(const struct counts *counts, const struct model *m, int layer) {
    struct net_shape shape = net_shape_of(m->net, layer);
    int channels = layer < 0 ? shape.c : counts_total(counts, m->groups, layer);
    return 4.0 * channels * shape.h * shape.w;
}

static double layer_ms(const struct roofline *d, const struct model *m, const struct counts *counts,
                       const struct plan *plan, int i) {
    const struct net_layer *layer = &m->net->layers[i];
    if (layer->kind == NET_DROPOUT || layer->kind == NET_ROUTE || layer->kind == NET_COST) return 0;
    double macs = counts_multiply_adds(counts, m->net, m->blocks, m->groups, m->levels, plan, i, i);
    double bytes = map_bytes(counts, m, i);
    for (int k = 0; k < layer->ninputs; k++) bytes += map_bytes(counts, m, layer->inputs[k]);
    if (net_has_weights(layer)) bytes += 4 * macs / ((double)layer->out.h * layer->out.w);
    return fmax(macs / (rate_of(d, layer) * 1e6), bytes / (d->bandwidth * 1e6)) + d->layer_us * 1e-3;
}

enum status roofline_profile(const struct roofline *d, const struct model *m, struct profile **out, struct err *err) {
    int n = m->levels->nlevels, nblocks = m->blocks->nblocks;
    struct profile *p = NULL;
    struct counts *counts = NULL;
    struct plan *plan = NULL;
    enum status status = profile_create(&p, nblocks, n, err);
    if (!status) status = counts_create(&counts, m->groups, err);
    if (!status) status = plan_create(&plan, nblocks, 0, err);
    for (int own = 0; own < n && !status; own++)
        for (int incoming = 0; incoming < n; incoming++)
            for (int parity = 0; parity < 2; parity++) { /* as profile_measure: neighbours have the other level */
                for (int b = 0; b < nblocks; b++) plan->level[b] = b % 2 == parity ? own : incoming;
                counts_set(counts, m->net, m->blocks, m->groups, m->levels, plan);
                for (int b = parity; b < nblocks; b += 2) {
                    double ms = 0;
                    for (int i = m->blocks->block[b].first; i <= m->blocks->block[b].last; i++)
                        ms += layer_ms(d, m, counts, plan, i);
                    p->ms[((size_t)b * n + own) * n + incoming] = ms;
                }
            }
    for (int k = 0; k < CODEC_COUNT && !status; k++) {
        p->encode_ns[k] = encode_ns[k] * d->coding;
        p->decode_ns[k] = decode_ns[k] * d->coding;
    }
    if (!status) {
        snprintf(p->device, sizeof p->device, "%s", d->name);
        p->threads = d->threads;
        *out = p;
        p = NULL;
    }
    profile_destroy(&p);
    counts_destroy(&counts);
    plan_destroy(&plan);
    return status;
}
