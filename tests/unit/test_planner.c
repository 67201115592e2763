/* The planner against brute force on random instances, its properties, its
 * refusals, and its speed. */
#include "common/random.h"
#include "deploy/planner.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

/* ---- instances ---------------------------------------------------------------- */

struct shape {
    int nslices, nlevels;
    unsigned codecs;
    bool links;
    bool ragged; /* times and costs without order, masks with holes, many ties */
};

static int64_t draw(struct random *r, int64_t max) {
    return (int64_t)(random_uniform(r) * (double)max);
}

/* A plausible pipeline: work falls with the level, cost rises. */
static void fill_smooth(struct planner_problem *p, struct random *r) {
    for (int s = 0; s < p->nslices; s++) {
        double work = random_between(r, 5e6, 30e6) * (random_below(r, 4) == 0 ? random_between(r, 1, 4) : 1);
        double wire = random_between(r, 0, 20e6), rise = random_between(r, 0.2, 2);
        for (int l = 0; l < p->nlevels; l++) {
            double keep = 1 - 0.75 * l / (p->nlevels > 1 ? p->nlevels - 1 : 1);
            for (int in = 0; in < p->nlevels; in++) {
                double arrives = 1 - 0.75 * in / (p->nlevels > 1 ? p->nlevels - 1 : 1);
                p->compute[(s * p->nlevels + l) * p->nlevels + in] =
                    (int64_t)(work * keep * (0.6 * keep + 0.4 * arrives) * random_between(r, 0.95, 1.05)) + 100000;
            }
            static const double bytes[CODEC_COUNT] = {1, .6, .5, .35, .26, .2, .25, .19, .13, .1, .12, .09};
            static const double coding[CODEC_COUNT] = {0, 1, .1, .8, .2, .7, .2, .7, .25, .6, .25, .6};
            for (int c = 0; c < CODEC_COUNT; c++) {
                size_t i = ((size_t)s * p->nlevels + l) * CODEC_COUNT + c;
                p->wire[i] = (int64_t)(wire * keep * bytes[c]);
                p->encode[i] = (int64_t)(2e6 * keep * coding[c]);
                p->decode[i] = (int64_t)(1e6 * keep * coding[c]);
            }
            for (int in = 0; in < p->nlevels; in++)
                p->slice_cost[(s * p->nlevels + l) * p->nlevels + in] =
                    (int64_t)(2e7 * rise * l * l / p->nlevels) + 3000000 * (in > l ? in - l : (l - in) / 2);
        }
        p->latency[s] = draw(r, 2000000);
        for (int c = 0; c < CODEC_COUNT; c++) p->codec_cost[s * CODEC_COUNT + c] = c < CODEC_Q8 ? 0 : 400000 * c;
    }
}

static void fill_ragged(struct planner_problem *p, struct random *r) {
    int n = p->nslices, l = p->nlevels;
    int64_t top = random_below(r, 2) ? 5 : 1000000; /* small numbers: ties everywhere */
    for (int i = 0; i < n * l * l; i++) p->compute[i] = draw(r, top);
    for (int i = 0; i < n * l * CODEC_COUNT; i++) {
        p->encode[i] = draw(r, top / 2);
        p->wire[i] = draw(r, top);
        p->decode[i] = draw(r, top / 2);
    }
    for (int i = 0; i < n; i++) p->latency[i] = draw(r, top);
    for (int i = 0; i < n * l * l; i++) p->slice_cost[i] = draw(r, top);
    for (int i = 0; i < n * CODEC_COUNT; i++) p->codec_cost[i] = draw(r, top / 3);
    for (int s = 0; s < n; s++) {
        p->levels[s] = (1u + (unsigned)random_below(r, 1 << l)) & ((1u << l) - 1);
        if (!p->levels[s]) p->levels[s] = 1;
        p->links[s] = (unsigned)random_below(r, 1 << l) & ~1u;
    }
}

static struct planner *make(struct shape shape, struct random *r) {
    struct planner *planner = NULL;
    assert_int_equal(planner_create(&planner, shape.nslices, shape.nlevels, NULL), STATUS_OK);
    struct planner_problem *p = planner_problem(planner);
    for (int s = 0; s < shape.nslices; s++) {
        p->codecs[s] = shape.codecs;
        p->links[s] = shape.links ? ((1u << shape.nlevels) - 1) & ~1u : 0;
    }
    static const double servers[] = {1, 1, 1, 1, 2, 1.3, 3};
    for (int s = 0; s < shape.nslices; s++) p->servers[s] = servers[random_below(r, 7)];
    if (shape.ragged)
        fill_ragged(p, r);
    else
        fill_smooth(p, r);
    return planner;
}

/* ---- brute force ---------------------------------------------------------------- */

/* Value of a plan, written from the header alone. */
static struct planner_value naive_value(const struct planner_problem *p, const struct planner_choice *ch, int queued) {
    int n = p->nslices, L = p->nlevels;
    int arriving[PLANNER_MAX_SLICES] = {0}, crossing[PLANNER_MAX_SLICES];
    for (int s = 1; s < n; s++) arriving[s] = ch[s].link > ch[s - 1].level ? ch[s].link : ch[s - 1].level;
    for (int s = 0; s < n; s++) crossing[s] = ch[s].level > arriving[s] ? ch[s].level : arriving[s];
    struct planner_value v = {0};
    for (int s = -1; s < n; s++) {
        int64_t stage = 0;
        if (s >= 0) {
            stage += p->decode[(s * L + crossing[s]) * CODEC_COUNT + ch[s].codec];
            stage += p->compute[(s * L + ch[s].level) * L + arriving[s]];
            int64_t load = p->wire[(s * L + crossing[s]) * CODEC_COUNT + ch[s].codec];
            v.sum += load + p->latency[s];
            load = (int64_t)ceil((double)load / p->servers[s]);
            if (load > v.bottleneck) v.bottleneck = load;
            v.cost += p->slice_cost[(s * L + ch[s].level) * L + arriving[s]] + p->codec_cost[s * CODEC_COUNT + ch[s].codec];
        }
        if (s + 1 < n) stage += p->encode[((s + 1) * L + crossing[s + 1]) * CODEC_COUNT + ch[s + 1].codec];
        v.sum += stage;
        if (s >= 0) stage = (int64_t)ceil((double)stage / p->servers[s]);
        if (stage > v.bottleneck) v.bottleneck = stage;
    }
    v.latency = v.sum + (int64_t)queued * v.bottleneck;
    return v;
}

struct brute {
    const struct planner_problem *p;
    struct planner_limits limits;
    struct planner_choice ch[PLANNER_MAX_SLICES];
    bool feasible, floor;
    struct planner_value best, fastest, cheapest; /* within all limits; within cost; of least cost */
    bool any;
};

static bool lower(int64_t a1, int64_t a2, int64_t b1, int64_t b2) {
    return a1 != b1 ? a1 < b1 : a2 < b2;
}

static void enumerate(struct brute *b, int s) {
    const struct planner_problem *p = b->p;
    if (s == p->nslices) {
        struct planner_value v = naive_value(p, b->ch, b->limits.queued);
        if (v.cost <= b->limits.cost) {
            if (!b->floor || lower(v.latency, v.cost, b->fastest.latency, b->fastest.cost)) b->fastest = v;
            b->floor = true;
            if (v.latency <= b->limits.latency && v.bottleneck <= b->limits.bottleneck) {
                if (!b->feasible || lower(v.cost, v.latency, b->best.cost, b->best.latency)) b->best = v;
                b->feasible = true;
            }
        }
        if (!b->any || lower(v.cost, v.latency, b->cheapest.cost, b->cheapest.latency)) b->cheapest = v;
        b->any = true;
        return;
    }
    for (int link = 0; link < p->nlevels; link++) {
        if (link && (s == 0 || !(p->links[s] >> link & 1))) continue;
        for (int c = 0; c < CODEC_COUNT; c++) {
            if (!(p->codecs[s] >> c & 1)) continue;
            for (int l = 0; l < p->nlevels; l++) {
                if (!(p->levels[s] >> l & 1)) continue;
                b->ch[s] = (struct planner_choice){l, link, (enum codec)c};
                enumerate(b, s + 1);
            }
        }
    }
}

/* Limits that are sometimes slack, sometimes tight, sometimes impossible. */
static struct planner_limits draw_limits(const struct planner_problem *p, struct random *r) {
    struct planner_choice slow[PLANNER_MAX_SLICES] = {0}, fast[PLANNER_MAX_SLICES] = {0};
    for (int s = 0; s < p->nslices; s++) {
        slow[s].codec = fast[s].codec = CODEC_F32;
        fast[s].level = p->nlevels - 1;
    }
    struct planner_limits limits = {PLANNER_UNLIMITED, PLANNER_UNLIMITED, PLANNER_COST_ONE, 0};
    if (random_below(r, 2)) limits.queued = random_below(r, 20);
    struct planner_value a = planner_evaluate(p, slow, limits.queued), b = planner_evaluate(p, fast, limits.queued);
    double t = random_between(r, -0.1, 1.1);
    if (random_below(r, 8)) limits.latency = (int64_t)((double)a.latency * t + (double)b.latency * (1 - t));
    t = random_between(r, -0.1, 1.1);
    if (random_below(r, 2)) limits.bottleneck = (int64_t)((double)a.bottleneck * t + (double)b.bottleneck * (1 - t));
    if (random_below(r, 3) == 0) limits.cost = (int64_t)((double)(a.cost + b.cost) * random_between(r, 0, 1));
    if (limits.latency < 0) limits.latency = 0;
    if (limits.bottleneck < 0) limits.bottleneck = 0;
    return limits;
}

static void compare(struct shape shape, uint64_t seed, int *outcomes) {
    struct random r = random_stream(seed, 1, 2);
    struct planner *planner = make(shape, &r);
    struct planner_problem *p = planner_problem(planner);
    struct brute b = {.p = p, .limits = draw_limits(p, &r)};
    enumerate(&b, 0);

    struct planner_solution s;
    struct err err;
    assert_int_equal(planner_solve(planner, &b.limits, &s, &err), STATUS_OK);
    enum planner_outcome expected = b.feasible ? PLANNER_FEASIBLE : b.floor ? PLANNER_TOO_SLOW : PLANNER_TOO_COSTLY;
    const struct planner_value *v = b.feasible ? &b.best : b.floor ? &b.fastest : &b.cheapest;
    if (s.outcome != expected || s.value.cost != v->cost || s.value.latency != v->latency || !s.exact)
        print_error("seed %llu: outcome %d cost %lld latency %lld, expected %d %lld %lld\n", (unsigned long long)seed,
                    (int)s.outcome, (long long)s.value.cost, (long long)s.value.latency, (int)expected,
                    (long long)v->cost, (long long)v->latency);
    assert_int_equal(s.outcome, expected);
    assert_true(s.exact);
    assert_true(s.value.cost == v->cost);
    assert_true(s.value.latency == v->latency);
    /* the value is that of the choice, by both ways to compute it, and the masks hold */
    struct planner_value n = naive_value(p, s.choice, b.limits.queued);
    struct planner_value e = planner_evaluate(p, s.choice, b.limits.queued);
    assert_memory_equal(&n, &e, sizeof n);
    assert_memory_equal(&n, &s.value, sizeof n);
    for (int i = 0; i < p->nslices; i++) {
        assert_true(p->levels[i] >> s.choice[i].level & 1);
        assert_true(p->codecs[i] >> s.choice[i].codec & 1);
        assert_true(s.choice[i].link == 0 || (i > 0 && (p->links[i] >> s.choice[i].link & 1)));
    }
    struct planner_solution found;
    assert_int_equal(planner_find(planner, &b.limits, &found), b.feasible);
    if (b.feasible) assert_memory_equal(&found.value, &s.value, sizeof s.value);
    outcomes[expected]++;
    planner_destroy(&planner);
}

static void test_brute_force(void **state) {
    (void)state;
    static const struct shape shapes[] = {
        {1, 1, 1u << CODEC_F32, false, false},
        {1, 7, 0x15, true, true},
        {2, 7, 0x15, true, false},
        {2, 4, 0xff, true, true},
        {3, 4, 0x11, true, false},
        {3, 3, 0x45, true, true},
        {4, 7, 1u << CODEC_F32, false, false},
        {4, 2, 0x05, true, true},
        {5, 3, 1u << CODEC_Q8, false, true},
        {6, 3, 1u << CODEC_F32, false, false},
    };
    int outcomes[3] = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (uint64_t seed = 0; seed < 400; seed++) compare(shapes[i], seed * 100 + i, outcomes);
    print_message("4000 instances: %d feasible, %d too slow, %d too costly\n", outcomes[0], outcomes[1], outcomes[2]);
    for (int i = 0; i < 3; i++) assert_true(outcomes[i] > 100);
}

/* ---- properties ---------------------------------------------------------------- */

static struct planner_solution solve(struct planner *planner, struct planner_limits limits) {
    struct planner_solution s;
    struct err err;
    assert_int_equal(planner_solve(planner, &limits, &s, &err), STATUS_OK);
    return s;
}

/* More time never costs accuracy, more frames queued never gain any. */
static void test_monotonic(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct random r = random_stream(seed, 3, 4);
        struct planner *planner = make((struct shape){4, 7, 0x15, true, false}, &r);
        int64_t last = INT64_MAX;
        bool was_feasible = false;
        for (int ms = 5; ms <= 200; ms += 5) {
            struct planner_solution s =
                solve(planner, (struct planner_limits){ms * 1000000LL, PLANNER_UNLIMITED, PLANNER_COST_ONE, 0});
            if (s.outcome != PLANNER_FEASIBLE) {
                assert_false(was_feasible);
                continue;
            }
            was_feasible = true;
            assert_true(s.value.cost <= last);
            last = s.value.cost;
        }
        assert_true(was_feasible);
        last = 0;
        for (int queued = 0; queued < 30; queued++) {
            struct planner_solution s =
                solve(planner, (struct planner_limits){400000000, PLANNER_UNLIMITED, PLANNER_COST_ONE, queued});
            if (s.outcome != PLANNER_FEASIBLE) break;
            assert_true(s.value.cost >= last);
            last = s.value.cost;
        }
        planner_destroy(&planner);
    }
}

static void test_same_twice(void **state) {
    (void)state;
    struct random r1 = random_stream(9, 0, 0), r2 = r1;
    struct planner *a = make((struct shape){4, 5, 0x11, true, true}, &r1);
    struct planner *b = make((struct shape){4, 5, 0x11, true, true}, &r2);
    struct planner_limits limits = {8, PLANNER_UNLIMITED, PLANNER_COST_ONE, 0};
    /* another problem in between leaves no trace */
    struct planner_solution first = solve(a, limits);
    solve(a, (struct planner_limits){PLANNER_UNLIMITED, PLANNER_UNLIMITED, PLANNER_COST_ONE, 7});
    struct planner_solution second = solve(a, limits), other = solve(b, limits);
    for (int s = 0; s < 4; s++) {
        assert_memory_equal(&first.choice[s], &second.choice[s], sizeof first.choice[s]);
        assert_memory_equal(&first.choice[s], &other.choice[s], sizeof first.choice[s]);
    }
    planner_destroy(&a);
    planner_destroy(&b);
}

static void test_all_zero(void **state) {
    (void)state;
    struct planner *planner = NULL;
    assert_int_equal(planner_create(&planner, 3, 7, NULL), STATUS_OK);
    struct planner_solution s = solve(planner, (struct planner_limits){0, 0, 0, 0});
    assert_int_equal(s.outcome, PLANNER_FEASIBLE);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(s.choice[i].level, 0);
        assert_int_equal(s.choice[i].codec, CODEC_F32);
    }
    planner_destroy(&planner);
}

static void refused(struct planner *planner, struct planner_limits limits, const char *word) {
    struct planner_solution s = {.states = 77};
    struct err err;
    assert_int_equal(planner_solve(planner, &limits, &s, &err), STATUS_USAGE);
    assert_non_null(strstr(err.text, word));
    assert_int_equal(s.states, 77);
}

static void test_refusals(void **state) {
    (void)state;
    struct planner *planner = NULL;
    struct err err;
    assert_int_equal(planner_create(&planner, 0, 1, &err), STATUS_USAGE);
    assert_int_equal(planner_create(&planner, 1, PLAN_MAX_LEVELS + 1, &err), STATUS_USAGE);
    assert_int_equal(planner_create(&planner, PLANNER_MAX_SLICES + 1, 1, &err), STATUS_USAGE);
    assert_null(planner);
    assert_int_equal(planner_create(&planner, 2, 3, NULL), STATUS_OK);
    struct planner_problem *p = planner_problem(planner);
    struct planner_limits limits = {1000, 1000, 1000, 0};
    p->compute[4] = -1;
    refused(planner, limits, "compute[4]");
    p->compute[4] = 0;
    p->wire[3] = INT64_MAX;
    refused(planner, limits, "wire[3]");
    p->wire[3] = 0;
    p->slice_cost[1] = PLANNER_COST_ONE + 1;
    refused(planner, limits, "slice_cost[1]");
    p->slice_cost[1] = 0;
    p->levels[1] = 1u << 3; /* there is no level 3 */
    refused(planner, limits, "slice 1");
    p->levels[1] = 1;
    p->codecs[0] = 0;
    refused(planner, limits, "slice 0");
    p->codecs[0] = 1;
    limits.queued = -1;
    refused(planner, limits, "queued");
    limits.queued = 0;
    limits.latency = -5;
    refused(planner, limits, "limits.latency");
    planner_destroy(&planner);
    planner_destroy(&planner);
}

/* ---- speed ---------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of this thread: what other processes do does not count. */
static double cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Median microseconds of a solve. */
static double time_shape(struct shape shape, bool queue) {
    enum { MOST = 200 };
    double us[MOST];
    int count = shape.nslices > 4 || shape.codecs == 0xff ? 40 : MOST;
    int states = 0, exact = 0;
    for (int i = 0; i < count; i++) {
        struct random r = random_stream(i, 5, 6);
        struct planner *planner = make(shape, &r);
        struct planner_problem *p = planner_problem(planner);
        struct planner_limits limits = draw_limits(p, &r);
        limits.queued = queue ? 1 + random_below(&r, 20) : 0;
        solve(planner, limits); /* touches the memory */
        double start = cpu_us();
        struct planner_solution s = solve(planner, limits);
        us[i] = cpu_us() - start;
        exact += s.exact;
        if (s.states > states) states = s.states;
        planner_destroy(&planner);
    }
    qsort(us, count, sizeof *us, by_value);
    print_message("  %d slices, %d levels, codecs %02x, link levels %s, %s: median %.0f us, p95 %.0f us, "
                  "worst %.0f us, at most %d states, exact %d of %d\n",
                  shape.nslices, shape.nlevels, shape.codecs, shape.links ? "yes" : "no",
                  queue ? "queued" : "no queue", us[count / 2], us[count * 95 / 100],
                  us[count - 1], states, exact, count);
    assert_true(exact >= (shape.nslices <= 4 ? count : count * 95 / 100));
    return us[count / 2];
}

static void test_speed(void **state) {
    (void)state;
    for (int queue = 0; queue < 2; queue++) {
        double plain = time_shape((struct shape){3, 7, 0x05, false, false}, queue);
        double links = time_shape((struct shape){4, 7, 0x15, true, false}, queue);
        time_shape((struct shape){4, 7, 0xff, true, false}, queue);
        time_shape((struct shape){8, 7, 0x15, true, false}, queue);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        assert_true(plain < 1000 && links < 1000);
#else
        (void)plain, (void)links;
#endif
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_brute_force), cmocka_unit_test(test_monotonic), cmocka_unit_test(test_same_twice),
        cmocka_unit_test(test_all_zero),    cmocka_unit_test(test_refusals),  cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
