/* The controller in simulated pipelines: does nothing under steady noise,
 * holds the deadline under disturbances, gives accuracy back; and its refusals. */
#include "common/random.h"
#include "deploy/codec.h"
#include "deploy/simulate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- a pipeline of three like devices --------------------------------------------- */

enum { BLOCKS = 9, STAGES = 3, LEVELS = 7, FRAMES_MAX = 20000 };
static const double keep[LEVELS] = {1, .875, .75, .625, .5, .375, .25};

struct bench {
    struct profile *profile, *truth; /* what the controller is told; what is so */
    struct accuracy *accuracy;
    struct controller_stage stages[STAGES];
    struct simulate_stage real[STAGES];
    struct controller_map maps[STAGES * LEVELS];
    double due[FRAMES_MAX];
    struct simulate_frame frames[FRAMES_MAX];
    struct simulate_config config;
    int switches;
    double fps;
};

static struct profile *make_profile(double block_ms) {
    struct profile *p = NULL;
    assert_int_equal(profile_create(&p, BLOCKS, LEVELS, NULL), STATUS_OK);
    for (int b = 0; b < BLOCKS; b++)
        for (int own = 0; own < LEVELS; own++)
            for (int in = 0; in < LEVELS; in++)
                p->ms[(b * LEVELS + own) * LEVELS + in] =
                    block_ms * (0.15 + 0.85 * keep[own] * (0.5 * keep[own] + 0.5 * keep[in]));
    static const double ns[CODEC_COUNT] = {.3, 8, 1, 9, 3, 8, 3, 7};
    for (int k = 0; k < CODEC_COUNT; k++) p->encode_ns[k] = p->decode_ns[k] = ns[k];
    return p;
}

static struct bench *bench_create(void) {
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->profile = make_profile(4);
    b->truth = make_profile(4);
    assert_int_equal(accuracy_create(&b->accuracy, BLOCKS, LEVELS, NULL), STATUS_OK);
    b->accuracy->base = 0.92;
    for (int i = 0; i < BLOCKS * LEVELS; i++) {
        double l = (double)(i % LEVELS) / (LEVELS - 1);
        b->accuracy->block[i] = 0.03 * l * l;
        b->accuracy->link[i] = 0.01 * l * l;
    }
    for (int i = 0; i < BLOCKS; i++) {
        b->accuracy->codec[i * CODEC_COUNT + CODEC_Q8] = b->accuracy->codec[i * CODEC_COUNT + CODEC_Q8Z] = 0.001;
        b->accuracy->codec[i * CODEC_COUNT + CODEC_Q4] = b->accuracy->codec[i * CODEC_COUNT + CODEC_Q4Z] = 0.01;
    }
    for (int s = 0; s < STAGES; s++) {
        b->stages[s] = (struct controller_stage){.first_block = 3 * s, .nblocks = 3, .profile = b->profile,
                                                 .bytes_per_s = s ? 11e6 : 0, .latency_ms = s ? 0.5 : 0};
        b->real[s] = (struct simulate_stage){b->truth, s ? 11e6 : 0, s ? 0.5 : 0};
        for (int l = 0; l < LEVELS; l++)
            b->maps[s * LEVELS + l] = (struct controller_map){s ? (int)(32 * keep[l]) : 3, s ? 256 : 1024};
    }
    b->config = simulate_defaults();
    b->config.stages = b->stages;
    b->config.truth = b->real;
    b->config.accuracy = b->accuracy;
    b->config.maps = b->maps;
    b->config.nstages = STAGES;
    b->config.nblocks = BLOCKS;
    b->config.nlevels = LEVELS;
    b->config.due_s = b->due;
    b->config.noise = 0.08;
    b->config.image_bytes = 8000;
    b->config.image_ms = 1;
    b->config.store_ms = 4;
    b->config.seed = 1;
    return b;
}

static void bench_destroy(struct bench *b) {
    profile_destroy(&b->profile);
    profile_destroy(&b->truth);
    accuracy_destroy(&b->accuracy);
    free(b);
}

static void arrive_steadily(struct bench *b, double fps, double seconds) {
    b->fps = fps;
    b->config.nframes = (int)(fps * seconds);
    assert_true(b->config.nframes <= FRAMES_MAX);
    for (int i = 0; i < b->config.nframes; i++) b->due[i] = i / fps;
}

static void print_switch(void *context, double now_s, const char *line) {
    print_message("      %7.2f s  %s\n", now_s, line);
}

static void run(struct bench *b, enum controller_policy policy) {
    b->config.controller.policy = policy;
    b->config.log = getenv("VERBOSE") ? print_switch : NULL;
    struct err err = {0};
    enum status status = simulate_run(&b->config, b->frames, &b->switches, &err);
    if (status) print_error("%s\n", err.text);
    assert_int_equal(status, STATUS_OK);
}

static struct simulate_summary within(const struct bench *b, double from_s, double to_s) {
    struct simulate_summary s;
    assert_int_equal(
        simulate_summarise(b->frames, b->config.nframes, b->config.controller.slo_ms, from_s, to_s, &s, NULL),
        STATUS_OK);
    return s;
}

/* Arrivals at 70% of what the full-size pipeline can do, SLO 1.3 times the
 * undisturbed 95th percentile. */
static void set_load(struct bench *b, double seconds) {
    arrive_steadily(b, 0.7 / 14e-3, seconds); /* 14 ms: the first stage, with decoding */
    const struct simulate_event *events = b->config.events;
    int n = b->config.nevents;
    b->config.nevents = 0;
    b->config.controller.slo_ms = 1e6;
    run(b, CONTROLLER_STATIC);
    b->config.nevents = n;
    b->config.events = events;
    b->config.controller.slo_ms = 1.3 * within(b, 0, seconds).p95_ms;
}

/* When the frames due after `from_s` are all in time again. */
static double cleared(const struct bench *b, double from_s) {
    double last = from_s;
    for (int i = 0; i < b->config.nframes; i++)
        if (b->frames[i].due_s >= from_s &&
            (b->frames[i].stored_s - b->frames[i].due_s) * 1e3 > b->config.controller.slo_ms)
            last = b->frames[i].due_s;
    return last;
}

static double back_to_full(const struct bench *b, double from_s) {
    double last = from_s;
    for (int i = 0; i < b->config.nframes; i++)
        if (b->frames[i].due_s >= from_s && b->frames[i].accuracy < b->accuracy->base - 1e-9) last = b->frames[i].due_s;
    return last;
}

struct outcome {
    struct simulate_summary window, outside, all;
    double full_s; /* until accuracy is whole again, from the end of the disturbance */
    int switches;
};

/* One policy on a scenario; the window lasts until static's backlog clears. */
static struct outcome measure(struct bench *b, enum controller_policy policy, double from_s, double to_s, double end_s) {
    run(b, policy);
    struct outcome o = {.all = within(b, 0, 1e9), .switches = b->switches};
    o.window = within(b, from_s, end_s);
    struct simulate_summary before = within(b, 0, from_s), after = within(b, end_s, 1e9);
    o.outside = after.frames > before.frames ? after : before;
    int frames = before.frames + after.frames;
    o.outside.attainment = (before.attainment * before.frames + after.attainment * after.frames) / frames;
    o.full_s = back_to_full(b, to_s) - to_s;
    print_message("  %-10s window %5.1f%%  outside %5.1f%%  all %5.1f%%  p50 %5.0f ms  p95 %6.0f ms  "
                  "accuracy %.2f%% (window %.2f%%)  reaction %d frames  full after %.1f s  %d switches\n",
                  controller_policy_name(policy), 100 * o.window.attainment, 100 * o.outside.attainment,
                  100 * o.all.attainment, o.window.p50_ms, o.window.p95_ms, 100 * o.all.accuracy,
                  100 * o.window.accuracy, o.window.reaction, o.full_s, o.switches);
    return o;
}

static void compare(struct bench *b, const char *name, double from_s, double to_s, struct outcome *outcomes) {
    run(b, CONTROLLER_STATIC);
    double end_s = cleared(b, from_s);
    if (end_s < to_s) end_s = to_s;
    print_message("%s: SLO %.0f ms, %.0f frames/s, disturbed from %.0f to %.0f s, static's backlog clears at %.1f s\n",
                  name, b->config.controller.slo_ms, b->fps, from_s, to_s, end_s);
    for (int p = 0; p < CONTROLLER_POLICIES; p++)
        outcomes[p] = measure(b, (enum controller_policy)p, from_s, to_s, end_s);
}

/* ---- scenarios ---------------------------------------------------------------------- */

static void test_steady(void **state) {
    struct bench *b = bench_create();
    for (int seed = 1; seed <= 8; seed++) {
        b->config.seed = (uint64_t)seed;
        b->config.noise = 0.05 * (1 + seed % 3);
        b->config.spike_share = seed > 4 ? 0.01 : 0; /* hiccups: now and then a computation takes three times as long */
        b->config.spike_factor = 3;
        set_load(b, 300);
        run(b, CONTROLLER_EXACT);
        struct simulate_summary s = within(b, 0, 1e9);
        print_message("  noise %.2f, hiccups %.0f%%: attainment %.2f%%, %d switches in 5 minutes\n", b->config.noise,
                      100 * b->config.spike_share, 100 * s.attainment, b->switches);
        assert_int_equal(b->switches, 0);
        assert_true(s.attainment > 0.97);
    }
    bench_destroy(b);
}

static void test_slow_device(void **state) {
    static const struct simulate_event slow = {SIMULATE_SLOW, 1, 20, 50, 3};
    struct bench *b = bench_create();
    b->config.events = &slow;
    b->config.nevents = 1;
    for (int seed = 1; seed <= 3; seed++) {
        b->config.seed = (uint64_t)seed;
        set_load(b, 120);
        struct outcome o[CONTROLLER_POLICIES];
        compare(b, "device 2 takes three times as long", 20, 50, o);
        assert_true(o[CONTROLLER_STATIC].window.attainment <= 0.3);
        assert_true(o[CONTROLLER_EXACT].window.attainment >= 0.9);
        assert_true(o[CONTROLLER_EXACT].outside.attainment >= 0.95);
        assert_true(o[CONTROLLER_EXACT].full_s < 5);
        assert_true(o[CONTROLLER_BOTTLENECK].window.attainment < o[CONTROLLER_EXACT].window.attainment);
        assert_true(o[CONTROLLER_STATIC].switches == 0);
    }
    bench_destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steady),
        cmocka_unit_test(test_slow_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
