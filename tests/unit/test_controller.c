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
    static const double ns[CODEC_COUNT] = {.3, 8, 1, 9, 3, 8, 3, 8, 3, 7, 3, 7};
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
    b->accuracy->links = b->accuracy->codecs = true;
    for (int i = 0; i < BLOCKS * LEVELS; i++) {
        double l = (double)(i % LEVELS) / (LEVELS - 1);
        b->accuracy->block[i] = 0.03 * l * l;
        b->accuracy->missing[i] = 0.01 * l * l;
    }
    for (int i = 0; i < BLOCKS; i++) {
        for (int k = CODEC_Q8; k < CODEC_COUNT; k++) b->accuracy->codec[i * CODEC_COUNT + k] = k < CODEC_Q4 ? 0.001 : 0.01;
    }
    for (int s = 0; s < STAGES; s++) {
        b->stages[s] = (struct controller_stage){.first_block = 3 * s, .nblocks = 3, .profile = b->profile,
                                                 .bytes_per_s = s ? 11e6 : 0, .latency_ms = s ? 0.5 : 0};
        b->real[s] = (struct simulate_stage){b->truth, s ? 11e6 : 0, s ? 0.5 : 0, 0};
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
    const struct simulate_window window = {from_s, to_s, to_s};
    assert_int_equal(simulate_summarise(b->frames, b->config.nframes, b->config.controller.slo_ms, b->accuracy->base,
                                        &window, 1, SIMULATE_INSIDE, &s, NULL),
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
    if (frames > 0)
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

/* Frames that come faster than one worker a stage can take, but not two. */
static bool relieves(struct bench *b, double servers) {
    struct controller *c = NULL;
    struct controller_config config = controller_defaults();
    bool changed = false;
    config.slo_ms = 100;
    for (int s = 0; s < STAGES; s++) b->stages[s].servers = servers;
    assert_int_equal(controller_create(&c, &config, b->stages, STAGES, b->accuracy, BLOCKS, LEVELS, b->maps, NULL), STATUS_OK);
    for (int i = 0; i < 100; i++) {
        controller_arrival(c, i * 8e-3);
        changed |= controller_decide(c, i * 8e-3, servers > 1 ? 1 : i / 3 + 1, 5).changed;
    }
    controller_destroy(&c);
    return changed;
}

static void test_replicas(void **state) {
    struct bench *b = bench_create();
    assert_true(relieves(b, 0));
    assert_true(relieves(b, 1));
    assert_false(relieves(b, 2));
    bench_destroy(b);
}

/* ---- scenarios ---------------------------------------------------------------------- */

static void test_steady(void **state) {
    struct bench *b = bench_create();
    for (int seed = 1; seed <= 6; seed++) {
        b->config.seed = (uint64_t)seed;
        b->config.noise = 0.05 * (1 + seed % 3);
        b->config.spike_share = seed > 3 ? 0.01 : 0; /* hiccups: now and then a computation takes three times as long */
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

/* A link that fades to a quarter: thinner maps and coding, not less computing. */
static void test_link_fade(void **state) {
    static const struct simulate_event fade = {SIMULATE_FADE, 1, 20, 50, 4};
    struct bench *b = bench_create();
    for (int s = 1; s < STAGES; s++) b->stages[s].bytes_per_s = b->real[s].bytes_per_s = 4e6; /* 8 ms a map */
    b->config.events = &fade;
    b->config.nevents = 1;
    set_load(b, 120);
    struct outcome o[CONTROLLER_POLICIES];
    compare(b, "link 1 at a quarter of its rate", 20, 50, o);
    assert_true(o[CONTROLLER_STATIC].window.attainment <= 0.3);
    assert_true(o[CONTROLLER_EXACT].window.attainment >= 0.9);
    assert_true(o[CONTROLLER_EXACT].outside.attainment >= 0.95);
    assert_true(o[CONTROLLER_EXACT].window.accuracy > b->accuracy->base - 0.01);
    bench_destroy(b);
}

/* Small frames on a device whose core is shared in turns of milliseconds: most
 * frames are not slowed at all, one in some waits for the others' turns. */
static void test_time_slices(void **state) {
    static const struct simulate_event share = {SIMULATE_SHARE, 1, 6, 18, 4};
    struct bench *b = bench_create();
    for (int i = 0; i < BLOCKS * LEVELS * LEVELS; i++) {
        b->profile->ms[i] *= 0.1; /* 1.2 ms a stage */
        b->truth->ms[i] *= 0.1;
    }
    for (int s = 1; s < STAGES; s++) b->stages[s].bytes_per_s = b->real[s].bytes_per_s = 1e9;
    b->config.image_ms = 0.2;
    b->config.events = &share;
    b->config.nevents = 1;
    b->config.controller.slo_ms = 100;
    arrive_steadily(b, 0.6 / 1.5e-3, 30);
    struct outcome o[CONTROLLER_POLICIES];
    compare(b, "device 2 gets one turn in four", 6, 18, o);
    assert_true(o[CONTROLLER_STATIC].window.attainment <= 0.3);
    assert_true(o[CONTROLLER_EXACT].window.attainment >= 0.9);
    assert_true(o[CONTROLLER_EXACT].outside.attainment >= 0.95);
    assert_true(o[CONTROLLER_EXACT].switches < 20);
    bench_destroy(b);
}

/* Competitors for a core whose device sleeps between frames: at a pruned level,
 * frames that fit into one turn are not slowed at all. So nothing that is
 * measured of computing tells when the competitors have gone, and trying in
 * between must neither happen often nor make the end be noticed late. */
static void test_hidden_contention(void **state) {
    struct bench *b = bench_create();
    for (int i = 0; i < BLOCKS * LEVELS * LEVELS; i++) {
        b->profile->ms[i] *= 0.54; /* 6.5 ms a stage */
        b->truth->ms[i] *= 0.54;
    }
    for (int s = 1; s < STAGES; s++) b->stages[s].bytes_per_s = b->real[s].bytes_per_s = 1e9;
    b->config.image_ms = 0.2;
    b->config.store_ms = 6;
    b->config.controller.slo_ms = 100;
    arrive_steadily(b, 78, 50);
    for (int seed = 1; seed <= 6; seed++) {
        double to_s = 16 + seed; /* the end meets every state of the controller */
        const struct simulate_event share = {SIMULATE_SHARE, 1, 6, to_s, 4};
        b->config.events = &share;
        b->config.nevents = 1;
        b->config.seed = (uint64_t)seed;
        struct outcome o[CONTROLLER_POLICIES];
        compare(b, "competitors that a pruned device hardly feels", 6, to_s, o);
        assert_true(o[CONTROLLER_STATIC].window.attainment <= 0.3);
        assert_true(o[CONTROLLER_EXACT].window.attainment >= 0.95);
        assert_true(o[CONTROLLER_EXACT].outside.attainment >= 0.99);
        assert_true(o[CONTROLLER_EXACT].full_s < 4);
        assert_true(o[CONTROLLER_EXACT].switches <= 6);
    }
    bench_destroy(b);
}

/* A camera trap: silence, then many frames within seconds. A burst finds the
 * plan that the one before needed. Once frames come singly, accuracy is back. */
static void test_burst(void **state) {
    struct bench *b = bench_create();
    b->config.controller.slo_ms = 200;
    struct random r = random_stream(7, 0, 0);
    double t = 1;
    int n = 0;
    int bursts = 0;
    for (; n < 1500; bursts++) {
        int frames = 10 + random_below(&r, 50);
        for (int i = 0; i < frames; i++) b->due[n++] = t += random_between(&r, 0.002, 0.014);
        t += random_between(&r, 5, 20);
    }
    double over_s = t;
    for (int i = 0; i < 200; i++) b->due[n++] = t += random_between(&r, 1, 2);
    b->config.nframes = n;
    struct outcome o[CONTROLLER_POLICIES];
    print_message("bursts of 10 to 60 frames: SLO 200 ms\n");
    for (int p = 0; p < CONTROLLER_POLICIES; p++) o[p] = measure(b, (enum controller_policy)p, 0, 1e9, t);
    assert_true(o[CONTROLLER_EXACT].all.attainment >= 0.95);
    assert_true(o[CONTROLLER_EXACT].all.attainment > o[CONTROLLER_STATIC].all.attainment);
    assert_true(o[CONTROLLER_EXACT].switches < bursts);
    assert_true(back_to_full(b, over_s) < b->due[n - 100]);
    bench_destroy(b);
}

static void test_worker_death(void **state) {
    static const struct simulate_event death = {SIMULATE_DEATH, 2, 20, 24, 0};
    struct bench *b = bench_create();
    b->config.events = &death;
    b->config.nevents = 1;
    set_load(b, 90);
    struct outcome o[CONTROLLER_POLICIES];
    compare(b, "device 3 is gone for four seconds", 20, 24, o);
    for (int i = 0; i < b->config.nframes; i++) assert_true(b->frames[i].stored_s > b->frames[i].due_s);
    assert_true(o[CONTROLLER_EXACT].window.attainment > o[CONTROLLER_STATIC].window.attainment + 0.1);
    bench_destroy(b);
}

/* Every level's profile is wrong by a factor of its own, up to a half either
 * way: the controller must neither fall for it nor stay down because of it. */
static void test_wrong_profile(void **state) {
    static const struct simulate_event slow = {SIMULATE_SLOW, 1, 20, 50, 3};
    struct bench *b = bench_create();
    b->config.events = &slow;
    b->config.nevents = 1;
    for (int seed = 1; seed <= 5; seed++) {
        struct random r = random_stream((uint64_t)seed, 2, 0);
        for (int l = 0; l < LEVELS; l++) {
            double wrong = exp(random_between(&r, -0.4, 0.4));
            for (int i = 0; i < BLOCKS; i++)
                for (int in = 0; in < LEVELS; in++)
                    b->profile->ms[(i * LEVELS + l) * LEVELS + in] =
                        wrong * b->truth->ms[(i * LEVELS + l) * LEVELS + in];
        }
        b->config.seed = (uint64_t)seed;
        set_load(b, 120);
        struct outcome o[CONTROLLER_POLICIES];
        compare(b, "device 2 slowed, profiles wrong", 20, 50, o);
        assert_true(o[CONTROLLER_EXACT].window.attainment >= 0.9);
        assert_true(o[CONTROLLER_EXACT].outside.attainment >= 0.95);
        assert_true(o[CONTROLLER_EXACT].full_s < 20);
    }
    bench_destroy(b);
}

/* Nothing is fast enough: the fastest plan above the floor, and back. */
static void test_infeasible(void **state) {
    static const struct simulate_event slow = {SIMULATE_SLOW, 1, 20, 40, 12};
    struct bench *b = bench_create();
    b->config.events = &slow;
    b->config.nevents = 1;
    set_load(b, 120);
    struct outcome o[CONTROLLER_POLICIES];
    compare(b, "device 2 takes twelve times as long", 20, 40, o);
    double least = 1;
    for (int i = 0; i < b->config.nframes; i++) least = fmin(least, b->frames[i].accuracy);
    assert_true(least < 0.8);
    assert_true(o[CONTROLLER_EXACT].all.attainment > o[CONTROLLER_STATIC].all.attainment);

    b->config.controller.min_accuracy = 0.88;
    o[CONTROLLER_EXACT] = measure(b, CONTROLLER_EXACT, 20, 40, 60);
    for (int i = 0; i < b->config.nframes; i++) assert_true(b->frames[i].accuracy >= 0.88 - 1e-9);
    bench_destroy(b);
}

/* As fast as frames are accepted: no rate to keep up with, only the deadline. */
static void test_unpaced(void **state) {
    struct bench *b = bench_create();
    arrive_steadily(b, 200, 30);
    b->config.controller.paced = false;
    b->config.controller.slo_ms = 1e5;
    run(b, CONTROLLER_EXACT);
    assert_int_equal(b->switches, 0);
    bench_destroy(b);
}

/* ---- refusals ----------------------------------------------------------------------- */

static struct controller *make(struct bench *b, struct controller_config config, enum status expected, const char *word) {
    struct controller *c = NULL;
    struct err err = {0};
    assert_int_equal(controller_create(&c, &config, b->stages, STAGES, config.min_accuracy > 1 ? NULL : b->accuracy,
                                       BLOCKS, LEVELS, b->maps, &err),
                     expected);
    if (expected) {
        assert_null(c);
        if (!strstr(err.text, word)) print_error("'%s' lacks '%s'\n", err.text, word);
        assert_non_null(strstr(err.text, word));
    }
    return c;
}

static void test_refusals(void **state) {
    struct bench *b = bench_create();
    struct controller_config good = controller_defaults(), bad;
    good.slo_ms = 100;
    bad = good, bad.slo_ms = NAN, make(b, bad, STATUS_USAGE, "deadline");
    bad = good, bad.slo_ms = 0, make(b, bad, STATUS_USAGE, "deadline");
    bad = good, bad.margin = 0.7, make(b, bad, STATUS_USAGE, "margin");
    bad = good, bad.utilisation = NAN, make(b, bad, STATUS_USAGE, "utilisation");
    bad = good, bad.min_accuracy = 1.5, make(b, bad, STATUS_USAGE, "minimum accuracy");
    b->stages[1].first_block = 4;
    make(b, good, STATUS_USAGE, "stage 2");
    b->stages[1].first_block = 3;
    b->stages[2].nblocks = 2;
    make(b, good, STATUS_USAGE, "8 of 9 blocks");
    b->stages[2].nblocks = 3;
    b->stages[1].latency_ms = INFINITY;
    make(b, good, STATUS_USAGE, "stage 2");
    b->stages[1].latency_ms = 0;
    b->profile->ms[5] = NAN;
    make(b, good, STATUS_FORMAT, "profile");
    b->profile->ms[5] = 1;
    struct err err;
    struct controller *c = NULL;
    good.min_accuracy = 0.5;
    assert_int_equal(
        controller_create(&c, &good, b->stages, STAGES, NULL, BLOCKS, LEVELS, b->maps, &err), STATUS_USAGE);
    assert_non_null(strstr(err.text, "accuracy model"));
    bench_destroy(b);
}

static void test_impossible_reports(void **state) {
    struct bench *b = bench_create();
    struct controller_config config = controller_defaults();
    config.slo_ms = 100;
    struct controller *c = make(b, config, STATUS_OK, "");
    static const struct controller_report bad[] = {
        {.stage = -1, .compute_ms = 1},
        {.stage = STAGES, .compute_ms = 1},
        {.stage = 0, .level = LEVELS, .compute_ms = 1},
        {.stage = 0, .incoming = -1, .compute_ms = 1},
        {.stage = 0, .codec = CODEC_COUNT, .compute_ms = 1},
        {.stage = 0, .compute_ms = NAN},
        {.stage = 0, .compute_ms = -1},
        {.stage = 0, .compute_ms = 1, .link_ms = INFINITY, .bytes = 4},
    };
    int n = sizeof bad / sizeof *bad;
    for (int i = 0; i < n; i++) controller_report(c, 1, &bad[i]);
    controller_result(c, 1, &(struct controller_outcome){.latency_ms = NAN});
    controller_arrival(c, 5);
    controller_arrival(c, 4); /* back in time */
    controller_arrival(c, NAN);
    controller_link_latency(c, 0, -1);
    controller_contention(c, STAGES, 1, 1);
    controller_contention(c, 0, 1, NAN);
    controller_contention(c, 0, 1, -1);
    assert_int_equal(controller_ignored(c), n + 7);
    for (int s = 0; s < STAGES; s++) assert_true(controller_slowdown(c, s) == 1);
    struct controller_decision d = controller_decide(c, NAN, -5, -5);
    assert_false(d.changed);
    assert_true(isfinite(d.latency_ms) && d.accuracy == b->accuracy->base);
    assert_int_equal(d.plan->nblocks, BLOCKS);
    controller_destroy(&c);
    assert_null(c);
    controller_destroy(&c);
    bench_destroy(b);
}

/* A device that comes back is taken to be undisturbed, its link as configured. */
static void test_restart(void **state) {
    struct bench *b = bench_create();
    struct controller_config config = controller_defaults();
    config.slo_ms = 100;
    struct controller *c = make(b, config, STATUS_OK, "");
    for (int i = 0; i < 30; i++)
        controller_report(c, i,
                          &(struct controller_report){
                              .stage = 1, .compute_ms = i < 10 ? 13.2 : 36, .bytes = 100000, .link_ms = i < 10 ? 60 : 200});
    assert_true(fabs(controller_slowdown(c, 1) - 3) < 1e-6);
    assert_true(controller_link_rate(c, 1) < 1e6);
    controller_restarted(c, 1);
    assert_true(fabs(controller_slowdown(c, 1) - 1.1) < 1e-6);
    assert_true(fabs(controller_link_rate(c, 1) - 11e6) < 1);
    controller_destroy(&c);
    bench_destroy(b);
}

static void report_links(struct controller *c, double *now_s, int frames, double compute_ms, size_t bytes,
                         const double *link_ms, int nlink) {
    for (int i = 0; i < frames; i++)
        controller_report(c, *now_s += .02,
                          &(struct controller_report){
                              .stage = 1, .compute_ms = compute_ms, .bytes = bytes, .link_ms = link_ms[i % nlink]});
}

/* A frame whose acknowledgement waits for a shared core, or that hardly takes the
 * link at all, does not make the link look slow; one that all frames show does. */
static void test_link_of_a_busy_device(void **state) {
    struct bench *b = bench_create();
    struct controller_config config = controller_defaults();
    config.slo_ms = 100;
    struct controller *c = make(b, config, STATUS_OK, "");
    const size_t large = 110000, small = 500; /* 10 ms at the link's 11 MB/s, and .05 ms */
    const double steady[] = { 10 }, waiting[] = { 10, 60, 55, 50, 10 }, faded[] = { 40 }, slow_small[] = { .05, 4, 6, 5 };
    double now_s = 0;
    report_links(c, &now_s, 30, 13.2, large, steady, 1);
    report_links(c, &now_s, 10, 40, large, steady, 1);
    report_links(c, &now_s, 60, 40, large, waiting, 5);
    assert_true(controller_slowdown(c, 1) > 2.5 && controller_link_rate(c, 1) > 9e6);
    report_links(c, &now_s, 30, 40, large, faded, 1);
    assert_true(controller_link_rate(c, 1) < 3e6);
    report_links(c, &now_s, 60, 13.2, large, steady, 1);
    report_links(c, &now_s, 60, 13.2, small, slow_small, 4);
    assert_true(controller_link_rate(c, 1) > 9e6);
    report_links(c, &now_s, 4, 13.2, large, faded, 1); /* at once, where nothing else explains it */
    assert_true(controller_link_rate(c, 1) < 3e6);
    controller_destroy(&c);
    bench_destroy(b);
}

/* What crosses into each stage of a real network, by level. */
static void test_maps(void **state) {
    static const char text[] = "[net]\nwidth=16\nheight=16\nchannels=3\n"
                               "[convolutional]\nbatch_normalize=1\nfilters=32\nsize=3\npad=1\nactivation=relu\n"
                               "[maxpool]\nsize=2\nstride=2\n"
                               "[convolutional]\nbatch_normalize=1\nfilters=64\nsize=3\npad=1\nactivation=relu\n"
                               "[avgpool]\n[connected]\noutput=4\nactivation=linear\n[softmax]\n"
                               "[prune]\nlevels=1,.5,.25\nalign=8\n";
    struct cfg *cfg = NULL;
    struct model *model = NULL;
    struct err err = {0};
    assert_int_equal(cfg_parse(&cfg, "net.cfg", text, sizeof text - 1, &err), STATUS_OK);
    assert_int_equal(model_create(&model, cfg, 1, &err), STATUS_OK);
    assert_int_equal(model->blocks->nblocks, 3);
    const struct controller_stage stages[3] = {{.first_block = 0, .nblocks = 1},
                                               {.first_block = 1, .nblocks = 1},
                                               {.first_block = 2, .nblocks = 1}};
    struct controller_map maps[9];
    assert_int_equal(controller_maps(model, stages, 3, maps, &err), STATUS_OK);
    static const struct controller_map expected[9] = {{3, 256}, {3, 256}, {3, 256}, {32, 64}, {16, 64},
                                                      {8, 64},  {64, 1},  {32, 1},  {16, 1}};
    for (int i = 0; i < 9; i++) {
        assert_int_equal(maps[i].c, expected[i].c);
        assert_int_equal(maps[i].hw, expected[i].hw);
    }
    model_destroy(&model);
}

/* The most accurate plan within a time, or the fastest above the floor. */
static void test_optimum(void **state) {
    struct bench *b = bench_create();
    struct controller_config config = controller_defaults();
    config.slo_ms = 100;
    struct controller *c = make(b, config, STATUS_OK, "");
    struct plan *plan = NULL;
    struct controller_optimum slow, e, many;
    assert_int_equal(plan_create(&plan, BLOCKS, 0, NULL), STATUS_OK);
    assert_int_equal(controller_optimum(c, 1000, 0, plan, &slow, NULL), STATUS_OK);
    assert_true(slow.accuracy == b->accuracy->base && slow.sum_ms < 1000);
    assert_int_equal(controller_optimum(c, 0.6 * slow.sum_ms, 0, plan, &e, NULL), STATUS_OK);
    assert_true(e.sum_ms <= 0.6 * slow.sum_ms && e.accuracy < b->accuracy->base);
    assert_true(fabs(accuracy_predict(b->accuracy, plan) - e.accuracy) < 1e-6);
    assert_int_equal(controller_optimum(c, 0, 0, plan, &e, NULL), STATUS_OK);
    for (int i = 0; i < BLOCKS; i++) assert_int_equal(plan->level[i], LEVELS - 1);
    controller_destroy(&c);
    /* With a floor the two part: throughput is the slowest stage's alone. */
    config.min_accuracy = b->accuracy->base - 0.02;
    c = make(b, config, STATUS_OK, "");
    assert_int_equal(controller_optimum(c, 0, 0, plan, &e, NULL), STATUS_OK);
    assert_int_equal(controller_optimum(c, 0, CONTROLLER_MANY, plan, &many, NULL), STATUS_OK);
    assert_true(many.bottleneck_ms <= e.bottleneck_ms && many.sum_ms >= e.sum_ms);
    assert_true(many.bottleneck_ms < 0.9 * slow.bottleneck_ms && many.accuracy >= config.min_accuracy - 1e-9);
    plan_destroy(&plan);
    controller_destroy(&c);
    bench_destroy(b);
}

static void test_policy_names(void **state) {
    for (int i = 0; i < CONTROLLER_POLICIES; i++)
        assert_int_equal(controller_policy_parse(controller_policy_name((enum controller_policy)i)), i);
    assert_int_equal(controller_policy_parse("exakt"), CONTROLLER_POLICIES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replicas),
        cmocka_unit_test(test_steady),
        cmocka_unit_test(test_slow_device),
        cmocka_unit_test(test_time_slices),
        cmocka_unit_test(test_hidden_contention),
        cmocka_unit_test(test_link_fade),
        cmocka_unit_test(test_burst),
        cmocka_unit_test(test_worker_death),
        cmocka_unit_test(test_wrong_profile),
        cmocka_unit_test(test_infeasible),
        cmocka_unit_test(test_unpaced),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_impossible_reports),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_link_of_a_busy_device),
        cmocka_unit_test(test_maps),
        cmocka_unit_test(test_optimum),
        cmocka_unit_test(test_policy_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
