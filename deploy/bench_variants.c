#include "deploy/bench_variants.h"

#include "common/json.h"
#include "common/log.h"
#include "common/median.h"
#include "common/random.h"
#include "deploy/variants.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct cost {
    double frame_ms, first_ms, switch_us, load_ms, resident_mib;
};

struct measurement {
    struct variants *variants;
    struct pool *pool;
    const struct device_options *device;
    const struct kernels *kernels;
    float *input, *output;
    double *samples;
    struct variants_config config;
    double before_mib;
    struct cost costs[PORTFOLIO_MAX_VARIANTS];
};

/* Of this process, now; 0 where the system does not tell. */
static double resident_mib(void) {
    long pages = 0;
    FILE *in = fopen("/proc/self/statm", "re");
    if (in && fscanf(in, "%*d %ld", &pages) != 1) pages = 0;
    if (in) fclose(in);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static double run_ms(const struct measurement *m) {
    const double start = log_now_s();
    engine_run(variants_engine(m->variants), m->input, m->output);
    return (log_now_s() - start) * 1e3;
}

static enum status open_buffers(struct measurement *m, struct err *err) {
    size_t inputs = 1, outputs = 1;
    for (int i = 0; i < m->variants->portfolio.nvariants; i++) {
        const struct engine *e = m->variants->engines[i];
        if (engine_input_max(e) > inputs) inputs = engine_input_max(e);
        if (engine_output_max(e) > outputs) outputs = engine_output_max(e);
    }
    m->input = malloc(inputs * sizeof *m->input);
    m->output = malloc(outputs * sizeof *m->output);
    if (!m->input || !m->output) return err_memory(err, "benchmark");
    struct random random = random_stream(1, 0, 0);
    for (size_t i = 0; i < inputs; i++) m->input[i] = (float)random_uniform(&random);
    return STATUS_OK;
}

/* What the process holds without the portfolio, once the pages of the program itself that run it are there. */
static enum status measure_before(struct measurement *m, struct err *err) {
    enum status status = variants_open(&m->variants, &m->config, err);
    if (!status) status = open_buffers(m, err);
    if (status) return status;
    for (int i = 0; i < m->variants->portfolio.nvariants; i++) {
        variants_use(m->variants, i);
        run_ms(m);
    }
    variants_close(&m->variants);
    malloc_trim(0);
    m->before_mib = resident_mib();
    return STATUS_OK;
}

static void measure_frames(struct measurement *m, int repeats) {
    for (int i = 0; i < m->variants->portfolio.nvariants; i++) {
        variants_use(m->variants, i);
        run_ms(m);
        variants_settle(m->variants);
        for (int r = 0; r < repeats; r++) m->samples[r] = run_ms(m);
        m->costs[i].frame_ms = median(m->samples, repeats);
        m->costs[i].resident_mib = resident_mib() - m->before_mib;
    }
}

/* To every variant from a random other one. */
static void measure_switches(struct measurement *m, int switches) {
    struct random random = random_stream(1, 0, 0);
    const int n = m->variants->portfolio.nvariants;
    for (int i = 0; i < n; i++) {
        for (int s = 0; s < switches; s++) {
            variants_use(m->variants, n > 1 ? (i + 1 + random_below(&random, n - 1)) % n : i);
            run_ms(m);
            variants_settle(m->variants);
            const double start = log_now_s();
            variants_use(m->variants, i);
            m->samples[s] = (log_now_s() - start) * 1e6;
            m->samples[switches + s] = run_ms(m);
            variants_settle(m->variants);
        }
        m->costs[i].switch_us = median(m->samples, switches);
        m->costs[i].first_ms = median(m->samples + switches, switches);
    }
}

/* A model loaded anew, as a runtime without a portfolio does. */
static enum status measure_loads(struct measurement *m, int repeats, struct err *err) {
    enum status status = STATUS_OK;
    for (int i = 0; !status && i < m->variants->portfolio.nvariants; i++) {
        const struct portfolio_variant *v = &m->variants->portfolio.variants[i];
        for (int r = 0; !status && r < repeats; r++) {
            struct model *model = NULL;
            struct engine *engine = NULL;
            struct engine_config config = engine_defaults();
            config.pool = m->pool;
            config.kernels = m->kernels;
            const double start = log_now_s();
            status = model_load_part(&model, m->device->model, v->offset, v->bytes, 0, err);
            if (!status) status = engine_create(&engine, model, &config, err);
            m->samples[r] = (log_now_s() - start) * 1e3;
            engine_destroy(&engine);
            model_destroy(&model);
        }
        if (!status) m->costs[i].load_ms = median(m->samples, repeats);
    }
    return status;
}

static enum status print(const struct measurement *m, bool json, struct err *err) {
    const struct portfolio *p = &m->variants->portfolio;
    if (!json) printf("variant   frame, ms  first, ms  switch, us  load, ms  resident, MiB\n");
    for (int i = 0; i < p->nvariants; i++) {
        const struct cost *c = &m->costs[i];
        if (!json) {
            printf("%-8s %10.3f %10.3f %11.2f %9.2f %14.1f\n", p->variants[i].name, c->frame_ms, c->first_ms,
                   c->switch_us, c->load_ms, c->resident_mib);
            continue;
        }
        cJSON *o = cJSON_CreateObject();
        bool good = o && json_add(o, "variant", cJSON_CreateString(p->variants[i].name)) &&
                    json_add(o, "frame_ms", cJSON_CreateNumber(c->frame_ms)) &&
                    json_add(o, "first_ms", cJSON_CreateNumber(c->first_ms)) &&
                    json_add(o, "switch_us", cJSON_CreateNumber(c->switch_us)) &&
                    json_add(o, "load_ms", cJSON_CreateNumber(c->load_ms)) &&
                    json_add(o, "resident_mib", cJSON_CreateNumber(c->resident_mib));
        const enum status status = json_print(o, good, err);
        if (status) return status;
    }
    return STATUS_OK;
}

enum status bench_variants(const struct device_options *device, const struct bench_variants_options *o,
                           struct err *err) {
    struct measurement m = {.device = device};
    int switches = o->switches > 0 ? o->switches : o->repeats;
    enum status status = device->cpu_mask ? kernels_limit(device->cpu_mask, err) : STATUS_OK;
    m.kernels = kernels_best();
    if (!status) status = pool_create(&m.pool, device->threads, err);
    m.config = (struct variants_config){device->model, device->cache, m.pool, m.kernels};
    m.samples = malloc((size_t)(2 * switches + o->repeats) * sizeof *m.samples);
    if (!status && !m.samples) status = err_memory(err, "benchmark");
    if (!status) status = measure_before(&m, err);
    if (!status) status = variants_open(&m.variants, &m.config, err);
    if (!status) {
        measure_frames(&m, o->repeats);
        measure_switches(&m, switches);
        status = measure_loads(&m, o->repeats, err);
    }
    if (!status) status = print(&m, o->json, err);
    variants_close(&m.variants);
    pool_destroy(&m.pool);
    free(m.input);
    free(m.output);
    free(m.samples);
    return status;
}
