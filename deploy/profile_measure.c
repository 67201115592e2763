/* Plans that alternate between two levels, block by block, measure many pairs
 * of own and incoming level in one run: even blocks have (a, b), odd ones
 * (b, a).
 *
 * A device whose core is not all its own (a quota, other processes) runs for a
 * while and stands for a while: a short block looks undisturbed in most of its
 * runs, a long one stands at least once. So one thread's blocks are measured in
 * CPU time, and all stretched by what CPU time takes on this device, which only
 * shows over many runs. Several threads wait for each other, which no CPU clock
 * tells from standing: there it is the time that passes. */
#include "deploy/profile_measure.h"

#include "common/log.h"
#include "common/median.h"
#include "common/random.h"
#include "deploy/codec.h"
#include "deploy/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct measurement {
    struct engine *engine;
    struct plan *plan;
    struct profile *profile;
    float *input, *output;
    double *samples; /* [nblocks][repeats] */
    int repeats;
    double *stretch; /* of each pair, as many as there are so far: time that passed over that measured */
    int nstretch;
};

enum { PAIRS = 5 }; /* measured at a level, at most */
#define PAIR_S 0.03 /* a pair is run for, at least: several periods of a quota */

static double cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool one_thread(const struct pool *pool) { return !pool || pool_threads(pool) == 1; }

static double *cell(struct profile *p, int block, int own, int incoming) {
    return &p->ms[((size_t)block * (size_t)p->nlevels + (size_t)own) * (size_t)p->nlevels + (size_t)incoming];
}

/* Even blocks at level `even`, odd ones at `odd`; what enters the first block
 * has the odd ones' level. */
static void measure_pair(struct measurement *m, int even, int odd) {
    struct profile *p = m->profile;
    for (int b = 0; b < p->nblocks; b++) m->plan->level[b] = b % 2 ? odd : even;
    m->plan->link[0] = odd;
    engine_set_plan(m->engine, m->plan);
    engine_run(m->engine, m->input, m->output); /* brings weights and buffers into the caches */
    const double start = log_now_s();
    double measured = 0, passed = 0;
    for (int r = 0; r < m->repeats || passed < PAIR_S; r++, passed = log_now_s() - start) {
        engine_run(m->engine, m->input, m->output);
        const double *seconds = engine_block_seconds(m->engine);
        for (int b = 0; b < p->nblocks; b++) {
            m->samples[b * m->repeats + r % m->repeats] = seconds[b];
            measured += seconds[b];
        }
    }
    if (measured > 0) m->stretch[m->nstretch++] = passed / measured;
    for (int b = 0; b < p->nblocks; b++)
        *cell(p, b, b % 2 ? odd : even, b % 2 ? even : odd) = 1e3 * median(m->samples + b * m->repeats, m->repeats);
}

/* Pairs that were not measured lie, by the share of channels that arrive,
 * between two that were: incoming 0, equal to the own level, the highest. */
static void interpolate(struct profile *p, const struct levels *levels) {
    const int highest = p->nlevels - 1;
    for (int own = 0; own < p->nlevels; own++)
        for (int incoming = 1; incoming < highest; incoming++) {
            if (incoming == own || own == 0 || own == highest) continue;
            const int a = incoming < own ? 0 : own, b = incoming < own ? own : highest;
            const double way = (double)(levels->ratio[a] - levels->ratio[incoming]) /
                               (double)(levels->ratio[a] - levels->ratio[b]);
            for (int block = 0; block < p->nblocks; block++)
                *cell(p, block, own, incoming) =
                    *cell(p, block, own, a) * (1 - way) + *cell(p, block, own, b) * way;
        }
}

static void measure_blocks(struct measurement *m, const struct levels *levels) {
    const int highest = levels->nlevels - 1;
    for (int level = 0; level <= highest; level++) {
        measure_pair(m, level, level);
        if (level > 0) {
            measure_pair(m, level, 0);
            measure_pair(m, 0, level);
        }
        if (level > 0 && level < highest) {
            measure_pair(m, level, highest);
            measure_pair(m, highest, level);
        }
    }
    interpolate(m->profile, levels);
}

static void stretch(struct profile *p, double factor) {
    for (int i = 0; i < p->nblocks * p->nlevels * p->nlevels; i++) p->ms[i] *= factor;
    for (int c = 0; c < CODEC_COUNT; c++) {
        p->encode_ns[c] *= factor;
        p->decode_ns[c] *= factor;
    }
}

/* Nanoseconds per float on a map like those that cross a cut: half of it
 * zeroed by a ReLU. */
static enum status measure_codecs(struct profile *p, struct err *err) {
    enum { CHANNELS = 32, MAP = 16 * 16, FLOATS = CHANNELS * MAP, REPEATS = 5 };
    struct codec_state *state = NULL;
    float *map = malloc(FLOATS * sizeof *map);
    uint8_t *bytes = malloc(codec_raw_size(CODEC_F32, CHANNELS, MAP)); /* no codec makes more */
    enum status status = map && bytes ? codec_create(&state, err) : err_memory(err, "profile");
    struct random random = random_stream(1, 0, 0);
    for (int i = 0; map && i < FLOATS; i++) {
        const double x = random_normal(&random);
        map[i] = x > 0 ? (float)x : 0;
    }
    for (int c = 0; !status && c < CODEC_COUNT; c++) {
        double encode[REPEATS], decode[REPEATS];
        for (int r = 0; !status && r < REPEATS; r++) {
            size_t length;
            const double start = cpu_s();
            status = codec_encode(state, (enum codec)c, map, CHANNELS, MAP, bytes, &length, err);
            const double between = cpu_s();
            if (!status) status = codec_decode(state, (enum codec)c, bytes, length, CHANNELS, MAP, map, err);
            encode[r] = between - start;
            decode[r] = cpu_s() - between;
        }
        if (status) break;
        p->encode_ns[c] = 1e9 * median(encode, REPEATS) / FLOATS;
        p->decode_ns[c] = 1e9 * median(decode, REPEATS) / FLOATS;
    }
    codec_destroy(&state);
    free(map);
    free(bytes);
    return status;
}

enum status profile_measure(struct profile **out, const struct model *model, struct pool *pool, int repeats,
                            struct err *err) {
    struct measurement m = {.repeats = repeats};
    struct engine_config config = engine_defaults();
    config.pool = pool;
    if (one_thread(pool)) config.clock = cpu_s;
    const int nblocks = model->blocks->nblocks;
    enum status status;
    if ((status = engine_create(&m.engine, model, &config, err)) || (status = plan_create(&m.plan, nblocks, 0, err)) ||
        (status = profile_create(&m.profile, nblocks, model->levels->nlevels, err)))
        goto done;
    m.input = malloc(engine_input_max(m.engine) * sizeof *m.input);
    m.output = malloc(engine_output_max(m.engine) * sizeof *m.output);
    m.samples = malloc((size_t)nblocks * (size_t)repeats * sizeof *m.samples);
    m.stretch = malloc((size_t)PAIRS * (size_t)model->levels->nlevels * sizeof *m.stretch);
    if (!m.input || !m.output || !m.samples || !m.stretch) {
        status = err_memory(err, "profile");
        goto done;
    }
    struct random random = random_stream(1, 1, 0);
    for (size_t i = 0; i < engine_input_max(m.engine); i++) m.input[i] = (float)random_uniform(&random);
    measure_blocks(&m, model->levels);
    if ((status = measure_codecs(m.profile, err))) goto done;
    if (one_thread(pool) && m.nstretch > 0) stretch(m.profile, fmax(1, median(m.stretch, m.nstretch)));
    if (gethostname(m.profile->device, sizeof m.profile->device - 1) != 0) strcpy(m.profile->device, "unnamed");
    m.profile->threads = pool ? pool_threads(pool) : 1;
    *out = m.profile;
    m.profile = NULL;
done:
    engine_destroy(&m.engine);
    plan_destroy(&m.plan);
    profile_destroy(&m.profile);
    free(m.input);
    free(m.output);
    free(m.samples);
    free(m.stretch);
    return status;
}
