/* The accuracy model: what is fitted, and its text form. */
#include "common/accuracy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 5, LEVELS = 4, MAX_SAMPLES = 400 };

struct samples {
    int n;
    struct accuracy_sample sample[MAX_SAMPLES];
    struct plan *plan[MAX_SAMPLES];
};

static struct plan *new_plan(int level) {
    struct plan *plan;
    struct err err;
    assert_int_equal(plan_create(&plan, BLOCKS, level, &err), STATUS_OK);
    return plan;
}
static void add_sample(struct samples *s, struct plan *plan, double accuracy) {
    assert_true(s->n < MAX_SAMPLES);
    s->plan[s->n] = plan;
    s->sample[s->n++] = (struct accuracy_sample){plan, accuracy};
}
static void free_samples(struct samples *s) {
    while (s->n) plan_destroy(&s->plan[--s->n]);
}

/* A model with known costs, and plans that vary one thing each, then all. */
static struct accuracy *truth(void) {
    struct accuracy *a;
    struct err err;
    assert_int_equal(accuracy_create(&a, BLOCKS, LEVELS, &err), STATUS_OK);
    a->base = 0.9;
    a->samples = 1000;
    for (int b = 0; b < BLOCKS; b++) {
        for (int l = 1; l < LEVELS; l++) {
            a->block[b * LEVELS + l] = 0.004 * (b + 1) * l * l;
            a->missing[b * LEVELS + l] = 0.002 * (BLOCKS - b) * l;
            a->narrow[b * LEVELS + l] = 0.003 * (b + 1) * (l < LEVELS - 1 ? l : l - 1); /* at the last none are missing */
            a->surplus[b * LEVELS + l] = 0.001 * (b + 1) * l;
        }
        for (int c = 2; c < CODEC_COUNT; c++) a->codec[b * CODEC_COUNT + c] = 0.001 * (c / 2) * (b + 1);
    }
    return a;
}
static void add_measured(struct samples *s, struct plan *plan, const struct accuracy *a, double noise) {
    add_sample(s, plan, accuracy_predict(a, plan) + noise);
}
static void sample_all(struct samples *s, const struct accuracy *a) {
    for (int l = 0; l < LEVELS; l++) add_measured(s, new_plan(l), a, 0);
    for (int b = 1; b < BLOCKS; b++)
        for (int l = 1; l < LEVELS; l++)
            for (int i = 0; i < 4; i++) {
                struct plan *plan = new_plan(i / 2 ? l - 1 : 0);
                for (int k = 0; k < BLOCKS; k++)
                    if ((k >= b) == i % 2) plan->level[k] = l;
                add_measured(s, plan, a, 0);
            }
    for (int b = 0; b < BLOCKS; b++) {
        for (int l = 1; l < LEVELS; l++) {
            struct plan *plan = new_plan(0);
            plan->level[b] = l;
            add_measured(s, plan, a, 0);
        }
        if (b == 0) continue;
        for (int l = 1; l < LEVELS; l++) {
            struct plan *plan = new_plan(0);
            plan->link[b] = l;
            add_measured(s, plan, a, 0);
        }
        for (int c = 1; c < CODEC_COUNT; c++) {
            struct plan *plan = new_plan(0);
            plan->codec[b] = (enum codec)c;
            add_measured(s, plan, a, 0);
        }
    }
}

static void test_fit_recovers_the_costs(void **state) {
    struct accuracy *a = truth(), *fitted;
    struct samples s = {0};
    sample_all(&s, a);
    struct err err;
    assert_int_equal(accuracy_create(&fitted, BLOCKS, LEVELS, &err), STATUS_OK);
    assert_int_equal(accuracy_fit(fitted, s.sample, s.n, &err), STATUS_OK);
    assert_true(fabs(fitted->base - a->base) < 1e-6);
    assert_true(fitted->fit_error < 1e-6);
    for (int i = 0; i < BLOCKS * LEVELS; i++) assert_true(fabs(fitted->block[i] - a->block[i]) < 1e-5);
    for (int i = LEVELS; i < BLOCKS * LEVELS; i++) {
        assert_true(fabs(fitted->missing[i] - a->missing[i]) < 1e-5);
        assert_true(fabs(fitted->narrow[i] - a->narrow[i]) < 1e-5);
        assert_true(fabs(fitted->surplus[i] - a->surplus[i]) < 1e-5);
    }
    for (int i = CODEC_COUNT; i < BLOCKS * CODEC_COUNT; i++) assert_true(fabs(fitted->codec[i] - a->codec[i]) < 1e-5);
    /* Held-out plans of the same model are predicted. */
    struct samples held = {0};
    for (int k = 0; k < 20; k++) {
        struct plan *plan = new_plan(0);
        for (int b = 0; b < BLOCKS; b++) {
            plan->level[b] = (k * 7 + b * 3) % LEVELS;
            if (b) plan->link[b] = (k + b) % LEVELS;
        }
        add_measured(&held, plan, a, 0.01);
    }
    double worst;
    assert_true(fabs(accuracy_error(fitted, held.sample, held.n, &worst) - 0.01) < 1e-4);
    assert_true(fabs(worst - 0.01) < 1e-4);
    free_samples(&held);
    free_samples(&s);
    accuracy_destroy(&fitted);
    accuracy_destroy(&a);
}

/* What no plan measured has costs what the finer codec, or the lower level, does. */
static void test_fit_of_gaps(void **state) {
    struct accuracy *fitted;
    struct err err;
    struct samples s = {0};
    for (int k = 0; k < 8; k++) {
        struct plan *plan = new_plan(0);
        if (k % 2) plan->codec[1] = CODEC_Q8;
        if (k / 2 % 2) plan->level[2] = LEVELS - 1;
        add_sample(&s, plan, 0.9 - (k % 2 ? 0.01 : 0) - (k / 2 % 2 ? 0.1 : 0));
    }
    assert_int_equal(accuracy_create(&fitted, BLOCKS, LEVELS, &err), STATUS_OK);
    assert_int_equal(accuracy_fit(fitted, s.sample, s.n, &err), STATUS_OK);
    const double *codec = fitted->codec + CODEC_COUNT, *block = fitted->block + 2 * LEVELS;
    for (int c = 0; c < CODEC_COUNT; c++) assert_true(fabs(codec[c] - (c < CODEC_Q8 ? 0 : 0.01)) < 1e-6);
    for (int l = 0; l < LEVELS; l++) assert_true(fabs(block[l] - (l < LEVELS - 1 ? 0 : 0.1)) < 1e-6);
    free_samples(&s);
    accuracy_destroy(&fitted);
}

/* Measurements that rise with the level, or are noise, still give costs that
 * are never negative and never fall; the fit is no worse than any neighbour. */
static void test_fit_of_noise(void **state) {
    struct accuracy *fitted;
    struct err err;
    struct samples s = {0};
    uint32_t seed = 7;
    for (int k = 0; k < 120; k++) {
        struct plan *plan = new_plan(0);
        for (int b = 0; b < BLOCKS; b++) {
            seed = seed * 1664525u + 1013904223u;
            plan->level[b] = (int)(seed >> 24) % LEVELS;
        }
        seed = seed * 1664525u + 1013904223u;
        add_sample(&s, plan, 0.5 + 0.3 * ((double)(seed >> 16) / 65536 - 0.5) + 0.02 * plan->level[1]);
    }
    assert_int_equal(accuracy_create(&fitted, BLOCKS, LEVELS, &err), STATUS_OK);
    assert_int_equal(accuracy_fit(fitted, s.sample, s.n, &err), STATUS_OK);
    double best = 0;
    for (int i = 0; i < s.n; i++) {
        double e = accuracy_predict(fitted, s.plan[i]) - s.sample[i].accuracy;
        best += e * e;
    }
    for (int b = 0; b < BLOCKS; b++) {
        assert_true(fitted->block[b * LEVELS] == 0);
        for (int l = 1; l < LEVELS; l++) {
            assert_true(fitted->block[b * LEVELS + l] >= fitted->block[b * LEVELS + l - 1]);
            for (int sign = -1; sign <= 1; sign += 2) { /* move one increment, within bounds */
                double step = 1e-3 * sign;
                if (fitted->block[b * LEVELS + l] - fitted->block[b * LEVELS + l - 1] + step < 0) continue;
                double moved = 0;
                for (int k = l; k < LEVELS; k++) fitted->block[b * LEVELS + k] += step;
                for (int i = 0; i < s.n; i++) {
                    double e = accuracy_predict(fitted, s.plan[i]) - s.sample[i].accuracy;
                    moved += e * e;
                }
                for (int k = l; k < LEVELS; k++) fitted->block[b * LEVELS + k] -= step;
                assert_true(moved > best - 1e-9);
            }
        }
        for (int l = 0; l < LEVELS; l++) assert_true(fitted->codec[b * CODEC_COUNT + l] == 0);
    }
    free_samples(&s);
    accuracy_destroy(&fitted);
}

static void test_text_round_trip_and_slice(void **state) {
    struct accuracy *a = truth(), *b = NULL, *part;
    struct err err;
    a->held_out_error = 0.0123456789012345;
    char *json = accuracy_json(a), *again;
    assert_int_equal(accuracy_parse(&b, json, BLOCKS, LEVELS, &err), STATUS_OK);
    again = accuracy_json(b);
    assert_string_equal(json, again);
    free(again);

    assert_int_equal(accuracy_slice(&part, a, 2, 2, &err), STATUS_OK);
    assert_int_equal(part->nblocks, 2);
    assert_true(part->block[LEVELS + 3] == a->block[3 * LEVELS + 3]);
    assert_true(part->missing[1] == a->missing[2 * LEVELS + 1]);
    assert_true(part->narrow[LEVELS + 2] == a->narrow[3 * LEVELS + 2]);
    assert_true(part->surplus[LEVELS + 1] == a->surplus[3 * LEVELS + 1]);
    assert_true(part->codec[CODEC_COUNT + 5] == a->codec[3 * CODEC_COUNT + 5]);
    accuracy_destroy(&part);

    struct accuracy *none = NULL;
    assert_int_equal(accuracy_parse(&none, json, BLOCKS, LEVELS - 1, &err), STATUS_FORMAT);
    assert_int_equal(accuracy_parse(&none, json, BLOCKS + 1, LEVELS, &err), STATUS_FORMAT);
    for (size_t n = 0; n < strlen(json); n += 3) {
        char *cut = strndup(json, n);
        assert_int_equal(accuracy_parse(&none, cut, BLOCKS, LEVELS, &err), STATUS_FORMAT);
        free(cut);
    }
    assert_null(none);
    free(json);
    accuracy_destroy(&a);
    accuracy_destroy(&b);

    static const struct {
        const char *json, *says;
    } cases[] = {
        {"{\"blocks\":1,\"levels\":2,\"base\":0.5,\"block\":[[0,0.1]],\"missing\":[[0,0]],\"surplus\":[[0,0]],"
         "\"codec\":[[0,0,0,0,0,0,0,0,0,0,0,0]],\"samples\":1,\"fit_error\":0,\"held_out_error\":0,\"held_out_worst\":0}", NULL},
        {"{\"blocks\":1,\"levels\":2,\"base\":2,\"block\":[[0,0.1]],\"missing\":[[0,0]],\"surplus\":[[0,0]],"
         "\"codec\":[[0,0,0,0,0,0,0,0,0,0,0,0]],\"samples\":1,\"fit_error\":0,\"held_out_error\":0,\"held_out_worst\":0}", "base"},
        {"{\"blocks\":1,\"levels\":2,\"base\":0.5,\"block\":[[0,-0.1]],\"missing\":[[0,0]],\"surplus\":[[0,0]],"
         "\"codec\":[[0,0,0,0,0,0,0,0,0,0,0,0]],\"samples\":1,\"fit_error\":0,\"held_out_error\":0,\"held_out_worst\":0}", "row 0"},
        {"{\"blocks\":1,\"levels\":2,\"base\":0.5,\"block\":[[0,0.1]],\"missing\":[[0,0]],\"surplus\":[[0,0]],"
         "\"codec\":[[0,0,0,0,0,0,0,0,0,0,0]],\"samples\":1,\"fit_error\":0,\"held_out_error\":0,\"held_out_worst\":0}", "codec"},
        {"{\"blocks\":1,\"levels\":2,\"base\":0.5,\"block\":[],\"missing\":[[0,0]],\"surplus\":[[0,0]],"
         "\"codec\":[[0,0,0,0,0,0,0,0,0,0,0,0]],\"samples\":1,\"fit_error\":0,\"held_out_error\":0,\"held_out_worst\":0}", "rows"},
    };
    /* A file of before steps were measured: behind a capped link so many levels are missing. */
    assert_int_equal(accuracy_parse(&none, "{\"blocks\":2,\"levels\":2,\"base\":0.5,\"block\":[[0,0.1],[0,0.1]],"
                                    "\"link\":[[0,0],[0,0.02]],\"codec\":[[0,0,0,0,0,0,0,0,0,0,0,0],[0,0,0,0,0,0,0,0,0,0,0,0]],"
                                    "\"samples\":1,\"fit_error\":0,\"held_out_error\":0,\"held_out_worst\":0}", 2, 2, &err),
                     STATUS_OK);
    assert_true(accuracy_step(none, 1, 0, 1) == 0.02 && accuracy_step(none, 1, 1, 0) == 0 && none->links);
    accuracy_destroy(&none);
    /* What a narrow block lacks costs more. */
    assert_int_equal(accuracy_parse(&none, "{\"blocks\":1,\"levels\":3,\"base\":0.5,\"block\":[[0,0.1,0.2]],\"missing\":[[0,0.02,0.03]],"
                                    "\"narrow\":[[0,0.04,0.04]],\"surplus\":[[0,0,0]],\"codec\":[[0,0,0,0,0,0,0,0,0,0,0,0]],"
                                    "\"samples\":1,\"fit_error\":0,\"held_out_error\":0,\"held_out_worst\":0}", 1, 3, &err),
                     STATUS_OK);
    assert_true(accuracy_step(none, 0, 0, 1) == 0.02 && accuracy_step(none, 0, 1, 2) == 0.02 + 0.04);
    accuracy_destroy(&none);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum status status = accuracy_parse(&none, cases[i].json, 1, 2, &err);
        if (!cases[i].says) {
            assert_int_equal(status, STATUS_OK);
            accuracy_destroy(&none);
        } else if (!status || !strstr(err.text, cases[i].says)) {
            fail_msg("case %zu: got '%s'", i, status ? err.text : "success");
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fit_recovers_the_costs),
        cmocka_unit_test(test_fit_of_gaps),
        cmocka_unit_test(test_fit_of_noise),
        cmocka_unit_test(test_text_round_trip_and_slice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
