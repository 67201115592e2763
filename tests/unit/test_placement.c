/* Placement against all cut positions, and its refusals. */
#include "common/random.h"
#include "deploy/placement.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { HOSTS_MAX = 6 };

static struct placement *make(int nhosts, int nblocks, struct random *r) {
    struct placement *p = NULL;
    assert_int_equal(placement_create(&p, nhosts, nblocks, NULL), STATUS_OK);
    for (int h = 0; h < nhosts; h++) {
        double speed = random_between(r, 0.5, 4), rate = random_between(r, 0, 8);
        p->delay[h] = random_between(r, 0, 2);
        for (int b = 0; b < nblocks; b++) {
            int i = h * nblocks + b;
            /* whole numbers, so that ties occur and sums are exact */
            p->compute[i] = floor(speed * random_between(r, 1, 6));
            p->link[i] = floor(rate * random_between(r, 0, 3));
            p->encode[i] = floor(random_between(r, 0, 2));
            p->decode[i] = floor(random_between(r, 0, 2));
        }
        p->delay[h] = floor(p->delay[h]);
    }
    return p;
}

static void enumerate(const struct placement *p, int h, int *first, struct placement_value *throughput,
                      struct placement_value *latency) {
    if (h == p->nhosts) {
        first[h] = p->nblocks;
        struct placement_value v = {0};
        for (int k = 0; k < p->nhosts; k++) {
            double stage = p->decode[k * p->nblocks + first[k]], load = p->link[k * p->nblocks + first[k]];
            for (int b = first[k]; b < first[k + 1]; b++) stage += p->compute[k * p->nblocks + b];
            if (k + 1 < p->nhosts) stage += p->encode[(k + 1) * p->nblocks + first[k + 1]];
            v.largest_ms = fmax(v.largest_ms, fmax(stage, load));
            v.sum_ms += stage + load + p->delay[k];
        }
        if (v.largest_ms < throughput->largest_ms ||
            (v.largest_ms == throughput->largest_ms && v.sum_ms < throughput->sum_ms))
            *throughput = v;
        if (v.sum_ms < latency->sum_ms) *latency = v;
        return;
    }
    for (int b = h ? first[h - 1] + 1 : 0; b <= (h ? p->nblocks - (p->nhosts - h) : 0); b++) {
        first[h] = b;
        enumerate(p, h + 1, first, throughput, latency);
    }
}

static void test_brute_force(void **state) {
    for (uint64_t seed = 0; seed < 600; seed++) {
        struct random r = random_stream(seed, 0, 0);
        int nhosts = 1 + random_below(&r, HOSTS_MAX), nblocks = nhosts + random_below(&r, 8);
        struct placement *p = make(nhosts, nblocks, &r);
        int scratch[HOSTS_MAX + 1], first[HOSTS_MAX + 1];
        struct placement_value throughput = {INFINITY, INFINITY}, latency = throughput, v;
        enumerate(p, 0, scratch, &throughput, &latency);
        assert_int_equal(placement_solve(p, PLACEMENT_THROUGHPUT, first, &v, NULL), STATUS_OK);
        assert_true(v.largest_ms == throughput.largest_ms && v.sum_ms == throughput.sum_ms);
        assert_int_equal(first[0], 0);
        assert_int_equal(first[nhosts], nblocks);
        for (int h = 0; h < nhosts; h++) assert_true(first[h] < first[h + 1]);
        assert_int_equal(placement_solve(p, PLACEMENT_LATENCY, first, &v, NULL), STATUS_OK);
        assert_true(v.sum_ms == latency.sum_ms);
        placement_destroy(&p);
    }
}

/* A slow link moves the cut to where the map is small. */
static void test_slow_link(void **state) {
    struct placement *p = NULL;
    assert_int_equal(placement_create(&p, 2, 4, NULL), STATUS_OK);
    static const double kb[] = {12, 64, 32, 8};
    int first[3];
    struct placement_value v;
    for (int slow = 0; slow < 2; slow++) {
        for (int b = 0; b < 4; b++) {
            p->compute[b] = 10;
            p->compute[4 + b] = 1; /* the server is fast */
            p->link[4 + b] = kb[b] * (slow ? 5 : 0.01);
        }
        assert_int_equal(placement_solve(p, PLACEMENT_LATENCY, first, &v, NULL), STATUS_OK);
        assert_int_equal(first[1], slow ? 3 : 1);
    }
    placement_destroy(&p);
}

static void test_refusals(void **state) {
    struct placement *p = NULL;
    struct err err;
    int first[3];
    struct placement_value v;
    assert_int_equal(placement_create(&p, 3, 2, &err), STATUS_USAGE);
    assert_int_equal(placement_create(&p, 0, 2, &err), STATUS_USAGE);
    assert_null(p);
    assert_int_equal(placement_create(&p, 2, 3, NULL), STATUS_OK);
    p->compute[2] = NAN;
    assert_int_equal(placement_solve(p, PLACEMENT_LATENCY, first, &v, &err), STATUS_USAGE);
    p->compute[2] = -1;
    assert_int_equal(placement_solve(p, PLACEMENT_LATENCY, first, &v, &err), STATUS_USAGE);
    placement_destroy(&p);
    placement_destroy(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_brute_force),
        cmocka_unit_test(test_slow_link),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
