/* Network graph, cut points, prune groups, levels and counts. */
#include "tests/unit/graph.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NET "[net]\nwidth=32\nheight=32\nchannels=3\n"
#define CONV(n) "[convolutional]\nfilters=" #n "\nsize=3\nstride=1\npad=1\nactivation=relu\n"
#define DEPTHWISE(n) "[convolutional]\nfilters=" #n "\ngroups=" #n "\nsize=3\nstride=1\npad=1\nactivation=relu\n"
#define GROUPED(n, g) "[convolutional]\nfilters=" #n "\ngroups=" #g "\nsize=3\nstride=1\npad=1\nactivation=relu\n"
#define SHORTCUT(f) "[shortcut]\nfrom=" #f "\n"
#define ROUTE(l) "[route]\nlayers=" l "\n"
#define END "[avgpool]\n[connected]\noutput=10\nactivation=linear\n[softmax]\n"

static struct graph graph_of(const char *text) {
    struct graph g;
    struct err err = {0};
    if (graph_parse(&g, text, strlen(text), &err)) fail_msg("%s (%s)", err.text, err.hint);
    return g;
}

static void refuses(const char *text, const char *message) {
    struct graph g;
    struct err err = {0};
    assert_int_not_equal(graph_parse(&g, text, strlen(text), &err), STATUS_OK);
    if (!strstr(err.text, message)) fail_msg("'%s' lacks '%s'", err.text, message);
    graph_free(&g);
}

static void shape_is(const struct graph *g, int layer, int c, int h, int w) {
    struct net_shape s = net_shape_of(g->net, layer);
    assert_int_equal(s.c, c);
    assert_int_equal(s.h, h);
    assert_int_equal(s.w, w);
}

static void shapes_follow_darknet(void **state) {
    (void)state;
    struct graph g = graph_of(NET "[convolutional]\nfilters=8\nsize=7\nstride=2\npad=1\n"
                                  "[maxpool]\nsize=3\nstride=2\n"             /* 16 + 2 - 3 over 2, +1 = 8 */
                                  "[maxpool]\nsize=2\nstride=1\n"             /* 8 + 1 - 2 + 1 = 8 */
                                  "[maxpool]\nsize=3\nstride=2\npadding=0\n"  /* (8 - 3)/2 + 1 = 3 */
                                  END);
    shape_is(&g, 0, 8, 16, 16);
    shape_is(&g, 1, 8, 8, 8);
    shape_is(&g, 2, 8, 8, 8);
    shape_is(&g, 3, 8, 3, 3);
    shape_is(&g, 5, 10, 1, 1);
    assert_int_equal(g.net->layers[0].activation, ACTIVATION_LOGISTIC);
    assert_int_equal(g.net->classes, 10);
    assert_int_equal(net_logits_layer(g.net), 5);
    graph_free(&g);
}

static void refuses_by_name_and_line(void **state) {
    (void)state;
    refuses(NET "[yolo]\n", "t.cfg:5: Darknet's [yolo] is not supported");
    refuses(NET CONV(8) "[shortcut]\nfrom=3\n", "layer 3 is not before layer 1");
    refuses(NET CONV(8) CONV(16) "[shortcut]\nfrom=-2\nalpha=.5\n", "has 'alpha' and adds a smaller map");
    refuses(NET CONV(8) "[route]\nlayers=-5\n", "is not before layer 1");
    refuses(NET "[convolutional]\nfilters=8\nactivation=rleu\n", "t.cfg:7: unknown activation 'rleu'");
    refuses(NET GROUPED(8, 2), "groups that do not divide");
    refuses("[net]\nwidth=32\n" CONV(8), "needs width, height and channels");
    refuses(NET, "has 0 layers");
    refuses(NET "[convolutional]\nfilters=131072\nsize=255\npad=1\n[convolutional]\nfilters=131072\nsize=255\npad=1\n",
            "than are supported");
    refuses(NET CONV(8) "[slice]\n[maxpool]\nsize=2\nstride=2\n" CONV(8) END, "no cut point behind layer 0");
    refuses(NET "[prune]\nlevels=.5,.25\n" CONV(8) END, "first level must be 1");
    refuses(NET "[prune]\nlevels=1,.25,.5\n" CONV(8) END, "levels must fall");
    refuses(NET "[prune]\nwhole=7\n" CONV(8) END, "names layer 7");
}

/* Whatever Darknet knows and Espalier does not run. */
static void refuses_what_would_overflow(void **state) {
    (void)state;
    refuses("[net]\nwidth=16384\nheight=16384\nchannels=16\n[convolutional]\nfilters=8\n",
            "t.cfg:1: [net] asks for an input of more values than are supported");
    refuses("[net]\nwidth=16000\nheight=16000\nchannels=3\n[convolutional]\nfilters=64\nsize=3\npad=1\n",
            "t.cfg:5: [convolutional] (layer 0) puts out more values than are supported");
}

static void refuses_what_is_darknets_alone(void **state) {
    (void)state;
    static const char *const sections[] = {"activation", "crnn",          "deconv", "deconvolutional", "detection", "gru",
                                           "iseg",       "l2norm",        "local",  "logistic",        "lrn",       "lstm",
                                           "region",     "normalization", "reorg",  "rnn",             "upsample",  "yolo"};
    char text[300], message[100];
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        snprintf(text, sizeof text, NET CONV(8) "[%s]\nsize=3\n", sections[i]);
        snprintf(message, sizeof message, "t.cfg:11: Darknet's [%s] is not supported", sections[i]);
        refuses(text, message);
    }
    refuses(NET CONV(8) "binary=1\n", "t.cfg:11: 'binary' in [convolutional] is not supported");
    refuses(NET CONV(8) "xnor=1\n", "t.cfg:11: 'xnor' in [convolutional] is not supported");
    refuses(NET CONV(8) "[softmax]\nspatial=1\n", "t.cfg:12: 'spatial' in [softmax] is not supported");
    refuses(NET CONV(8) "[softmax]\ntree=9k.tree\n", "t.cfg:12: 'tree' in [softmax] is not supported");
    refuses(NET CONV(8) "[softmax]\n[cost]\ntype=masked\n", "t.cfg:12: [cost] (layer 2) has a type other than sse");
}

/* conv, conv, shortcut is one block; plain convolutions are blocks of their own. */
static void cut_points(void **state) {
    (void)state;
    struct graph g = graph_of(NET CONV(16) CONV(16) CONV(16) SHORTCUT(-3) "[slice]\n" CONV(32) "[maxpool]\nsize=2\nstride=2\n" END);
    static const int of_layer[] = {0, 1, 1, 1, 2, 2, 2, 3, 3}; /* the avgpool stays with the map that it reduces */
    assert_int_equal(g.blocks->nblocks, 4);
    for (int i = 0; i < g.net->nlayers; i++) assert_int_equal(g.blocks->of_layer[i], of_layer[i]);
    assert_int_equal(g.blocks->block[2].source, 3);
    assert_int_equal(g.blocks->nslices, 2);
    assert_int_equal(g.blocks->slice_first[1], 2);
    int block = -1;
    struct err err;
    assert_int_equal(blocks_cut_after(g.blocks, 3, &block, &err), STATUS_OK);
    assert_int_equal(block, 2);
    assert_int_equal(blocks_cut_after(g.blocks, 1, &block, &err), STATUS_USAGE);
    assert_string_equal(err.hint, "the nearest are behind layers 0 and 3");
    graph_free(&g);
}

static int group_of(const struct graph *g, int layer) {
    int n;
    const struct segment *s = groups_segments(g->groups, layer, &n);
    assert_int_equal(n, 1);
    return s->group;
}

static void residual_streams_are_one_group(void **state) {
    (void)state;
    struct graph g = graph_of(NET CONV(16) CONV(16) CONV(16) SHORTCUT(-3) CONV(16) CONV(16) SHORTCUT(-3) END);
    assert_int_equal(group_of(&g, 0), group_of(&g, 2));
    assert_int_equal(group_of(&g, 0), group_of(&g, 5));
    assert_int_equal(group_of(&g, 3), group_of(&g, 0));
    assert_int_not_equal(group_of(&g, 0), group_of(&g, 1));
    assert_true(g.groups->group[group_of(&g, -1)].whole);
    assert_true(g.groups->group[group_of(&g, 8)].whole); /* the last layer with weights */
    assert_false(g.groups->group[group_of(&g, 0)].whole);
    graph_free(&g);
}

/* Every unit of every group lies in exactly one tier. */
static void tiers_cover(const struct graph *g) {
    for (int i = 0; i < g->groups->ngroups; i++)
        for (int u = 0; u < g->groups->group[i].units; u++) {
            int found = 0;
            for (int t = 0; t < g->groups->ntiers; t++) {
                const struct tier *tier = &g->groups->tiers[t];
                for (int k = 0; k < tier->ngroups; k++) found += tier->groups[k] == i && u >= tier->first && u < tier->last;
            }
            assert_int_equal(found, 1);
        }
}

static void differing_counts_are_tied_in_tiers(void **state) {
    (void)state;
    /* 16 channels, then 32 with the 16 added, then 32 with those added. */
    struct graph g = graph_of(NET CONV(16) CONV(32) SHORTCUT(-2) CONV(32) SHORTCUT(-2) END);
    int a = group_of(&g, 0), b = group_of(&g, 1);
    assert_int_not_equal(a, b);
    assert_int_equal(b, group_of(&g, 3));
    tiers_cover(&g);
    int shared = 0, alone = 0;
    for (int t = 0; t < g.groups->ntiers; t++) {
        const struct tier *tier = &g.groups->tiers[t];
        bool has_a = false, has_b = false;
        for (int k = 0; k < tier->ngroups; k++) {
            has_a |= tier->groups[k] == a;
            has_b |= tier->groups[k] == b;
        }
        shared += has_a && has_b && tier->first == 0 && tier->last == 16;
        alone += !has_a && has_b && tier->first == 16 && tier->last == 32;
    }
    assert_int_equal(shared, 1);
    assert_int_equal(alone, 1);
    graph_free(&g);
}

static void grouped_convolutions_tie_both_sides(void **state) {
    (void)state;
    struct graph g = graph_of(NET CONV(32) GROUPED(64, 8) CONV(16) DEPTHWISE(16) CONV(16) END);
    int grouped = group_of(&g, 0), n;
    assert_int_equal(grouped, group_of(&g, 1));
    assert_int_equal(g.groups->group[grouped].units, 8);
    assert_int_equal(groups_segments(g.groups, 0, &n)->unit, 4);
    assert_int_equal(groups_segments(g.groups, 1, &n)->unit, 8);
    assert_int_equal(group_of(&g, 2), group_of(&g, 3));
    assert_int_equal(g.groups->group[group_of(&g, 3)].units, 16);
    tiers_cover(&g);
    graph_free(&g);
}

static void routes_keep_a_segment_each(void **state) {
    (void)state;
    struct graph g = graph_of(NET CONV(16) CONV(24) ROUTE("-1,-2") CONV(8) ROUTE("-1,-2") CONV(8) END);
    int n;
    const struct segment *s = groups_segments(g.groups, 4, &n);
    assert_int_equal(n, 3);
    assert_int_equal(s[0].channels, 8);
    assert_int_equal(s[1].channels, 24);
    assert_int_equal(s[1].first, 8);
    assert_int_equal(s[2].group, group_of(&g, 0));
    graph_free(&g);
    /* A concatenation added to a single map does not line up: kept whole. */
    g = graph_of(NET CONV(16) CONV(16) ROUTE("-1,-2") CONV(32) SHORTCUT(-2) CONV(8) END);
    assert_true(g.groups->group[group_of(&g, 3)].whole);
    assert_true(g.groups->group[group_of(&g, 0)].whole);
    assert_true(g.groups->group[group_of(&g, 1)].whole);
    tiers_cover(&g);
    graph_free(&g);
}

static void levels_are_aligned_and_fall(void **state) {
    (void)state;
    struct graph g = graph_of(NET "[prune]\nlevels=1,.7,.5,.1\nalign=8\nwhole=1\n" CONV(64) CONV(64) CONV(4) GROUPED(64, 2) CONV(64) END);
    const struct levels *l = g.levels;
    static const int expected[] = {64, 48, 32, 8};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(levels_keep(l, i, group_of(&g, 0)), expected[i]);
        assert_int_equal(levels_keep(l, i, group_of(&g, 1)), 64);
    }
    assert_int_equal(levels_keep(l, 3, group_of(&g, 2)), 2); /* 4 channels in 2 units: no larger than the alignment */
    graph_free(&g);
}

static struct plan *plan_of(const struct graph *g, const char *levels, const char *links) {
    struct plan *plan = NULL;
    struct err err = {0};
    if (plan_parse(&plan, g->blocks, g->levels, g->blocks->nslices, g->blocks->slice_first, levels, links, &err))
        fail_msg("%s (%s)", err.text, err.hint);
    return plan;
}

/* What a narrow block leaves out stays missing along the stage, and the next stage begins anew. */
static void shares_along_a_stage(void **state) {
    (void)state;
    struct graph g = graph_of(NET "[prune]\nlevels=1,.5,.25\nalign=4\n" CONV(16) CONV(16) SHORTCUT(-2) CONV(16) SHORTCUT(-2) "[slice]\n"
                              CONV(16) SHORTCUT(-2) "[slice]\n" CONV(32) "[slice]\n" CONV(32) SHORTCUT(-2) CONV(32) END);
    static const int chain[] = {-1, 0, 0, 0, 0, 4, 4, 6, 7};
    assert_int_equal(g.blocks->nblocks, 8);
    for (int b = 0; b <= 8; b++) assert_int_equal(g.blocks->chain[b], chain[b]);
    static const struct {
        const char *levels, *links;
        const char *shares[9]; /* of blocks 0 to 8: levels at which they arrive, oldest first */
    } plans[] = {
        {"2,1,0,0", NULL, {"", "2", "22", "222", "2221", "0", "00", "0", "0"}},
        {"1,0,2,0", NULL, {"", "1", "11", "111", "1110", "2", "20", "0", "0"}},
        {"0,2,0,1", "1:f32,0:f32,2:f32", {"", "0", "00", "111", "2222", "2", "21", "1", "1"}},
    };
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        struct plan *plan = plan_of(&g, plans[i].levels, plans[i].links);
        struct plan_before before;
        for (int b = 0; b <= 8; b++) {
            plan_before(plan, g.blocks, b, &before);
            assert_int_equal(before.n, b);
            assert_int_equal(before.nchain, strlen(plans[i].shares[b]));
            for (int k = 0; k < b; k++) assert_int_equal(before.share[k].level, plan->level[k]);
            for (int k = 0; k < before.nchain; k++)
                assert_int_equal(before.share[b - before.nchain + k].arriving, plans[i].shares[b][k] - '0');
        }
        /* A slice goes on with what arrives. */
        plan->before = (struct plan_before){3, 2, {{0, 0}, {0, 2}, {0, 0}}};
        plan->link[0] = 1;
        plan_before(plan, g.blocks, 0, &before);
        assert_int_equal(before.n, 3);
        assert_int_equal(before.share[0].arriving, 0); /* it does not arrive */
        assert_int_equal(before.share[1].arriving, 2);
        assert_int_equal(before.share[2].arriving, 1);
        plan_destroy(&plan);
    }
    graph_free(&g);
}

static void counts_of_mixed_plans(void **state) {
    (void)state;
    struct graph g = graph_of(NET "[prune]\nlevels=1,.5,.25\nalign=4\n" CONV(16) CONV(16) CONV(16) SHORTCUT(-3) "[slice]\n"
                              CONV(16) CONV(16) SHORTCUT(-3) "[slice]\n" DEPTHWISE(16) CONV(32) END);
    struct counts *counts = NULL;
    struct err err;
    assert_int_equal(counts_create(&counts, g.groups, &err), STATUS_OK);
    struct plan *plan = plan_of(&g, "1,0,2", "2:q8z,0:f32");
    assert_int_equal(plan->level[0], 1);
    assert_int_equal(plan->codec[g.blocks->slice_first[1]], CODEC_Q8Z);
    assert_int_equal(plan_incoming(plan, g.blocks->slice_first[1]), 2);
    counts_set(counts, g.net, g.blocks, g.groups, g.levels, plan);
    assert_int_equal(counts_total(counts, g.groups, -1), 3);
    assert_int_equal(counts_total(counts, g.groups, 3), 8);
    /* The middle slice is at level 0, but only 4 channels cross the link. */
    assert_int_equal(counts_read(counts, g.net, g.blocks, g.groups, g.levels, plan, 4, 0, 0), 4);
    assert_int_equal(counts_total(counts, g.groups, 4), 16);
    assert_int_equal(counts_read(counts, g.net, g.blocks, g.groups, g.levels, plan, 6, 1, 0), 4);
    assert_int_equal(counts_total(counts, g.groups, 6), 16);
    /* The last slice reads 4 of the 16; its depthwise layer computes the 4. */
    assert_int_equal(counts_read(counts, g.net, g.blocks, g.groups, g.levels, plan, 7, 0, 0), 4);
    assert_int_equal(counts_total(counts, g.groups, 7), 4);
    assert_int_equal(counts_total(counts, g.groups, 8), 8);
    assert_int_equal(counts_total(counts, g.groups, 10), 10);
    plan_destroy(&plan);
    /* A depthwise layer computes what arrives, even at level 0. */
    plan = plan_of(&g, "2,2,0", NULL);
    counts_set(counts, g.net, g.blocks, g.groups, g.levels, plan);
    assert_int_equal(counts_total(counts, g.groups, 7), 4);
    assert_int_equal(counts_total(counts, g.groups, 8), 32);
    plan_destroy(&plan);
    static const char *const bad[] = {"", "3", "0,1", "0,1,2,0", "a", "0,,1", "-1", "0,1,9"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(plan_parse(&plan, g.blocks, g.levels, 3, g.blocks->slice_first, bad[i], NULL, &err), STATUS_USAGE);
    assert_int_equal(plan_parse(&plan, g.blocks, g.levels, 3, g.blocks->slice_first, "0", "1:zip,0:f32", &err), STATUS_USAGE);
    assert_int_equal(plan_parse(&plan, g.blocks, g.levels, 3, g.blocks->slice_first, "0", "1:q8", &err), STATUS_USAGE);
    counts_destroy(&counts);
    graph_free(&g);
}

static void full_width_multiply_adds_agree(void **state) {
    (void)state;
    struct graph g = graph_of(NET CONV(16) GROUPED(32, 4) "[maxpool]\nsize=2\nstride=2\n[connected]\noutput=7\n[softmax]\n");
    struct counts *counts = NULL;
    struct err err;
    assert_int_equal(counts_create(&counts, g.groups, &err), STATUS_OK);
    struct plan *plan = plan_of(&g, "0", NULL);
    counts_set(counts, g.net, g.blocks, g.groups, g.levels, plan);
    double whole = 0;
    for (int i = 0; i < g.net->nlayers; i++) whole += net_multiply_adds(&g.net->layers[i]);
    double counted = counts_multiply_adds(counts, g.net, g.blocks, g.groups, g.levels, plan, 0, g.net->nlayers - 1);
    assert_true(counted == whole);
    assert_true(whole == 32. * 32 * (27 * 16 + 4 * 9 * 32) + 7. * 32 * 256);
    plan_destroy(&plan);
    counts_destroy(&counts);
    graph_free(&g);
}

/* A slice that starts and ends at cuts: its ends are prunable. */
static void slices_have_open_ends(void **state) {
    (void)state;
    struct graph g = graph_of("[net]\nwidth=8\nheight=8\nchannels=16\n" CONV(16) CONV(16) CONV(8));
    struct groups_incoming incoming = {16, 1};
    struct groups_ends ends = {.nincoming = 1, .incoming = &incoming, .outgoing = true};
    struct groups *groups = NULL;
    struct err err;
    assert_int_equal(groups_create(&groups, g.net, &ends, &err), STATUS_OK);
    for (int i = 0; i < groups->ngroups; i++) assert_false(groups->group[i].whole);
    groups_destroy(&groups);
    incoming.channels = 15;
    assert_int_equal(groups_create(&groups, g.net, &ends, &err), STATUS_FORMAT);
    graph_free(&g);
}

static void shipped_and_darknet_cfgs_load(const char *folder, int at_least) {
    int loaded = 0;
    DIR *dir = opendir(folder);
    if (!dir) fail_msg("%s is missing; Debian's package darknet brings its cfgs", folder);
    for (struct dirent *e; (e = readdir(dir));) {
        static const char *const classifiers[] = {"alexnet", "cifar", "darknet", "densenet", "extraction", "resne", "tiny", "vgg-16",
                                                  "mobilenet", "trap", "tv-", "vgg16"};
        bool wanted = false;
        for (size_t i = 0; i < sizeof classifiers / sizeof classifiers[0]; i++)
            wanted |= strncmp(e->d_name, classifiers[i], strlen(classifiers[i])) == 0;
        size_t n = strlen(e->d_name);
        if (!wanted || n < 4 || strcmp(e->d_name + n - 4, ".cfg") != 0 || strstr(e->d_name, "9000")) continue;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        struct cfg *cfg = NULL;
        struct err err = {0};
        struct graph g;
        if (cfg_load(&cfg, path, &err)) fail_msg("%s", err.text);
        if (graph_parse(&g, cfg->text, cfg->length, &err)) fail_msg("%s: %s (%s)", path, err.text, err.hint);
        assert_true(g.blocks->nblocks >= 2);
        tiers_cover(&g);
        graph_free(&g);
        cfg_destroy(&cfg);
        loaded++;
    }
    closedir(dir);
    assert_true(loaded >= at_least);
}

static void every_cfg_loads(void **state) {
    (void)state;
    shipped_and_darknet_cfgs_load("cfg", 20);
    shipped_and_darknet_cfgs_load("/usr/share/darknet/cfg", 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_follow_darknet),
        cmocka_unit_test(refuses_by_name_and_line),
        cmocka_unit_test(refuses_what_would_overflow),
        cmocka_unit_test(refuses_what_is_darknets_alone),
        cmocka_unit_test(cut_points),
        cmocka_unit_test(residual_streams_are_one_group),
        cmocka_unit_test(differing_counts_are_tied_in_tiers),
        cmocka_unit_test(grouped_convolutions_tie_both_sides),
        cmocka_unit_test(routes_keep_a_segment_each),
        cmocka_unit_test(levels_are_aligned_and_fall),
        cmocka_unit_test(shares_along_a_stage), cmocka_unit_test(counts_of_mixed_plans),
        cmocka_unit_test(full_width_multiply_adds_agree),
        cmocka_unit_test(slices_have_open_ends),
        cmocka_unit_test(every_cfg_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
