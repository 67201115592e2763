/* Scenario files: what is read, what is refused, arrivals by seed; windows and
 * figures of a simulated run; known devices against published latencies. */
#include "common/json.h"
#include "deploy/roofline.h"
#include "deploy/scenario.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char good[] = "[scenario]\nseconds=50\nseed=3\narrivals=poisson\nload=.5\n[host]\nname=a\ncpu=.5\n"
                           "[link]\nrate_kb_s=1000\n[host]\ndevice=pi5\n"
                           "[event]\nkind=cpu\nhost=2\nfrom=20\nto=30\nfactor=3\n"
                           "[event]\nkind=neighbour\nhost=1\nfrom=5\nprocesses=2\n";

static struct scenario *parse(const char *text) {
    struct scenario *s = NULL;
    struct err err = {0};
    if (scenario_parse(&s, "x.cfg", text, strlen(text), &err)) print_error("%s\n", err.text);
    assert_non_null(s);
    return s;
}

static void test_reading(void **state) {
    struct scenario *s = parse(good);
    assert_int_equal(s->nhosts, 2);
    assert_string_equal(s->host[0].name, "a");
    assert_string_equal(s->host[1].name, "h2");
    assert_string_equal(s->host[1].device, "pi5");
    assert_true(s->host[1].link.rate_kb_s == 1000 && s->host[0].link.rate_kb_s == 0);
    assert_int_equal(s->nevents, 2);
    assert_int_equal(s->event[0].kind, SIMULATE_SLOW);
    assert_int_equal(s->event[0].stage, 1);
    assert_true(s->event[0].factor == 3);
    assert_int_equal(s->event[1].kind, SIMULATE_SHARE);
    assert_true(s->event[1].to_s == 50 && s->event[1].factor == 3 && s->processes[1] == 2);
    scenario_destroy(&s);
}

static void test_refusals(void **state) {
    static const struct {
        const char *text, *word;
    } bad[] = {
        {"[scenario]\nseconds=5\n", "no [host]"},
        {"[host]\n[event]\nhost=1\n", "without a kind"},
        {"[host]\n[event]\nkind=cpu\n", "without a host"},
        {"[host]\n[event]\nkind=cpus\nhost=1\n", "kind=cpus"},
        {"[host]\n[event]\nkind=cpu\nhost=2\n", "host"},
        {"[host]\n[event]\nkind=cpu\nhost=1\nfrom=9\nto=3\n", "to"},
        {"[scenario]\nload=-1\n[host]\n", "load"},
        {"[scenario]\nburst_frames=9,3\n[host]\n", "burst_frames"},
        {"[scenario]\narrivals=steadily\n[host]\n", "arrivals"},
        {"[host]\nspeed=3\n", "speed"},
        {"[link]\nrate_kb_s=3\n[link]\n[host]\n", "two [link]"},
        {"[host]\n[link]\n", "no [host] follows"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct scenario *s = NULL;
        struct err err = {0};
        assert_int_equal(scenario_parse(&s, "x.cfg", bad[i].text, strlen(bad[i].text), &err), STATUS_FORMAT);
        assert_null(s);
        if (!strstr(err.text, bad[i].word)) print_error("'%s' lacks '%s'\n", err.text, bad[i].word);
        assert_non_null(strstr(err.text, bad[i].word));
        assert_non_null(strstr(err.text, "x.cfg"));
    }
}

static int due(struct scenario *s, double fps, int copy, double **times) {
    int n = 0;
    assert_int_equal(scenario_due(s, fps, copy, times, &n, NULL), STATUS_OK);
    for (int i = 0; i < n; i++) assert_true((*times)[i] >= (i ? (*times)[i - 1] : 0) && (*times)[i] < s->seconds);
    return n;
}

static void test_arrivals(void **state) {
    struct scenario *s = parse(good);
    double *a, *b, *c;
    int n = due(s, 40, 0, &a), m = due(s, 40, 0, &b), k = due(s, 40, 1, &c);
    assert_true(fabs((double)n - 2000) < 5 * sqrt(2000)); /* Poisson: mean and variance are equal */
    assert_int_equal(n, m);
    assert_memory_equal(a, b, (size_t)n * sizeof *a);
    assert_true(k != n || memcmp(a, c, (size_t)n * sizeof *a) != 0);
    free(a), free(b), free(c);
    s->arrivals = SCENARIO_STEADY;
    n = due(s, 40, 0, &a);
    assert_int_equal(n, 2000);
    free(a);
    s->arrivals = SCENARIO_BURSTY;
    n = due(s, 40, 0, &a);
    int burst = 1, bursts = 0;
    for (int i = 1; i < n; i++) { /* within a burst frames follow each other within 1.5 / 40 s */
        if (a[i] - a[i - 1] <= 1.5 / 40 + 1e-9) {
            burst++;
            continue;
        }
        assert_true(a[i] - a[i - 1] >= 0.5 * s->silence_s);
        assert_true(burst >= 10 && burst <= 60);
        burst = 1;
        bursts++;
    }
    assert_true(bursts >= 3);
    free(a);
    s->seconds = 1e7f;
    struct err err = {0};
    s->arrivals = SCENARIO_STEADY;
    assert_int_equal(scenario_due(s, 1e6, 0, &a, &n, &err), STATUS_LIMIT);
    assert_int_equal(scenario_due(s, NAN, 0, &a, &n, &err), STATUS_USAGE);
    scenario_destroy(&s);
}

static void test_json(void **state) {
    struct scenario *s = parse(good);
    const double times[] = {0.25, 1};
    char *text = scenario_json(s, times, 2);
    cJSON *root = NULL;
    assert_non_null(text);
    assert_int_equal(json_parse(&root, "scenario", text, NULL), STATUS_OK);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(root, "hosts")), 2);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(root, "events")), 2);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(root, "due")), 2);
    const cJSON *event = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "events"), 1);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(event, "kind")), "neighbour");
    cJSON_Delete(root);
    free(text);
    scenario_destroy(&s);
}

/* 100 frames a tenth of a second apart; late ones as told. */
static void test_figures(void **state) {
    struct simulate_frame f[100];
    for (int i = 0; i < 100; i++) {
        f[i] = (struct simulate_frame){.due_s = i * 0.1, .accuracy = 0.9};
        bool late = i >= 22 && i < 45 && i != 35;
        f[i].stored_s = f[i].due_s + (late ? 0.5 : 0.05);
        if (i >= 30 && i < 48) f[i].accuracy = 0.8;
    }
    /* two events that touch make one window, which ends with the first frames in time */
    static const struct simulate_event events[] = {{SIMULATE_SLOW, 0, 2.95, 4, 2}, {SIMULATE_FADE, 0, 2, 3, 2}};
    struct simulate_window w[2];
    assert_int_equal(simulate_windows(events, 2, f, 100, 100, w), 1);
    assert_true(w[0].from_s == 2 && w[0].to_s == 4 && fabs(w[0].end_s - 4.5) < 1e-9);
    struct simulate_summary in, out;
    assert_int_equal(simulate_summarise(f, 100, 100, 0.9, w, 1, SIMULATE_INSIDE, &in, NULL), STATUS_OK);
    assert_int_equal(simulate_summarise(f, 100, 100, 0.9, w, 1, SIMULATE_OUTSIDE, &out, NULL), STATUS_OK);
    assert_int_equal(in.frames, 25);
    assert_int_equal(out.frames, 75);
    assert_true(fabs(in.attainment - 3.0 / 25) < 1e-9);
    assert_true(out.attainment == 1);
    assert_int_equal(in.reaction, 15); /* frames 20 to 34; 35 is in time once, */
    assert_int_equal(in.settled, 25);  /* and from 45 on all are */
    assert_true(fabs(in.settled_s - 2.5) < 1e-9);
    assert_true(fabs(in.recovery_s - 0.7) < 1e-9); /* frame 47, due 0.7 s behind the end */
    assert_true(fabs(in.p50_ms - 500) < 1e-6 && fabs(out.p99_ms - 50) < 1e-6);
}

/* Full-size latency of a network on a known device. */
static double network_ms(const char *device, const char *cfg_path) {
    struct cfg *cfg = NULL;
    struct model *model = NULL;
    struct profile *p = NULL;
    const struct roofline *d = roofline_find(device, NULL);
    assert_non_null(d);
    assert_int_equal(cfg_load(&cfg, cfg_path, NULL), STATUS_OK);
    assert_int_equal(model_create(&model, cfg, 0, NULL), STATUS_OK);
    assert_int_equal(roofline_profile(d, model, &p, NULL), STATUS_OK);
    double ms = 0;
    int last = p->nlevels - 1;
    for (int b = 0; b < p->nblocks; b++) {
        ms += profile_ms(p, b, 0, 0);
        for (int l = 1; l <= last; l++) assert_true(profile_ms(p, b, l, l) <= profile_ms(p, b, l - 1, l - 1) * (1 + 1e-9));
    }
    profile_destroy(&p);
    model_destroy(&model);
    return ms;
}

/* ncnn's table, as deploy/roofline.c cites it. */
static void test_devices(void **state) {
    static const struct {
        const char *cfg;
        double pi4b, pi5;
    } published[] = {{"cfg/mobilenet.cfg", 61, 9.0},
                     {"cfg/tv-mobilenet_v2.cfg", 62, 10.5},
                     {"cfg/tv-resnet18.cfg", 123, 20},
                     {"cfg/tv-resnet50.cfg", 263, 46},
                     {"cfg/tv-vgg16.cfg", 547, 129}};
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        double pi4b = network_ms("pi4b", published[i].cfg), pi5 = network_ms("pi5", published[i].cfg);
        print_message("  %-24s Pi 4B %6.1f ms, published %6.1f   Pi 5 %6.1f ms, published %6.1f\n", published[i].cfg,
                      pi4b, published[i].pi4b, pi5, published[i].pi5);
        assert_true(fabs(pi4b / published[i].pi4b - 1) < 0.15);
        assert_true(fabs(pi5 / published[i].pi5 - 1) < 0.02);
    }
    assert_null(roofline_find("pi9", NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading), cmocka_unit_test(test_refusals), cmocka_unit_test(test_arrivals),
        cmocka_unit_test(test_json),    cmocka_unit_test(test_figures),  cmocka_unit_test(test_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
