/* Cuts move when conditions have moved for good, and only then. */
#include "deploy/recut.h"


#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { STAGES = 3, BLOCKS = 9, LEVELS = 2 };
static const int present[STAGES + 1] = { 0, 3, 6, 9 };
static struct profile *profile;
static double now_s;

/* Every block takes 1 ms at level 0 and half of it at level 1. */
static struct recut *make(double patience_s) {
    static const int level[BLOCKS];
    static const double bytes[BLOCKS] = { 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000 };
    struct recut_stage stage[STAGES];
    struct recut *r = NULL;
    profile_destroy(&profile);
    assert_int_equal(profile_create(&profile, BLOCKS, LEVELS, NULL), STATUS_OK);
    for (int i = 0; i < BLOCKS * LEVELS * LEVELS; i++) profile->ms[i] = i / LEVELS % LEVELS ? .5 : 1;
    for (int s = 0; s < STAGES; s++) stage[s] = (struct recut_stage){ profile, level, 1 };
    assert_int_equal(recut_create(&r, stage, STAGES, present, bytes, patience_s, NULL), STATUS_OK);
    now_s = 1000;
    return r;
}

/* Frames for so long, 10 a second, the middle stage so much slower; when the cuts moved, or -1. */
static double stream(struct recut *r, double seconds, double slow, int level, int *first) {
    double gain = 0;
    for (double end_s = now_s + seconds; now_s < end_s; now_s += .1) {
        for (int s = 0; s < STAGES; s++) recut_report(r, s, level, level, 3 * (level ? .5 : 1) * (s == 1 ? slow : 1));
        if (recut_decide(r, now_s, first, &gain)) {
            assert_true(gain >= RECUT_GAIN);
            return now_s;
        }
    }
    return -1;
}

static void steady_conditions_move_nothing(void **unused) {
    int first[STAGES + 1];
    struct recut *r = make(120);
    assert_true(stream(r, 3600, 1, 0, first) < 0);
    assert_true(stream(r, 3600, 1.15, 0, first) < 0); /* not worth it */
    recut_destroy(&r);
}

static void what_passes_moves_nothing(void **unused) {
    int first[STAGES + 1];
    struct recut *r = make(120);
    for (int i = 0; i < 20; i++) {
        assert_true(stream(r, 100, 4, i % 2, first) < 0);
        assert_true(stream(r, 30, 1, 0, first) < 0);
    }
    recut_destroy(&r);
}

static void what_stays_moves_blocks_to_the_neighbours(void **unused) {
    for (int level = 0; level < LEVELS; level++) { /* pruned or not */
        int first[STAGES + 1];
        struct recut *r = make(120);
        assert_true(stream(r, 300, 1, 0, first) < 0);
        double from_s = now_s, at_s = stream(r, 600, 3, level, first);
        assert_true(at_s - from_s >= 120 && at_s - from_s < 140);
        assert_true(first[0] == 0 && first[2] - first[1] == 1 && first[3] == BLOCKS); /* 4, 1 and 4 blocks */
        assert_int_equal(first[1], 4);
        recut_destroy(&r);
    }
}

static void links_count(void **unused) {
    int first[STAGES + 1];
    struct recut *r = make(10);
    recut_link(r, 1, 1e3); /* a second per frame, wherever the cut: nothing is gained */
    assert_true(stream(r, 100, 3, 0, first) < 0);
    recut_link(r, 1, 1e9);
    assert_true(stream(r, 100, 3, 0, first) > 0);
    recut_destroy(&r);
}

static void nonsense_is_ignored(void **unused) {
    int first[STAGES + 1];
    double gain;
    struct recut *r = make(10);
    recut_report(r, -1, 0, 0, 1);
    recut_report(r, STAGES, 0, 0, 1);
    recut_report(r, 1, LEVELS, 0, 1e6);
    recut_report(r, 1, 0, 0, -1);
    recut_report(r, 1, 0, 0, 0. / 0.);
    for (now_s = 0; now_s < 100; now_s += .5) assert_false(recut_decide(r, now_s, first, &gain)); /* and no frames */
    recut_destroy(&r);
    profile_destroy(&profile);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady_conditions_move_nothing),
        cmocka_unit_test(what_passes_moves_nothing),
        cmocka_unit_test(what_stays_moves_blocks_to_the_neighbours),
        cmocka_unit_test(links_count),
        cmocka_unit_test(nonsense_is_ignored),
    };
    return cmocka_run_group_tests_name("recut", tests, NULL, NULL);
}
