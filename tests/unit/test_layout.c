/* Who serves which slice, by who is there. */
#include "deploy/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* Three stages, a replica of the second, two spares; written in another order. */
static struct cluster *make_cluster(void) {
    static const char text[] = "[worker]\nname=a\naddress=tcp://a:1\n[worker]\nname=s\naddress=tcp://s:1\nspare=1\n"
                               "[worker]\nname=b\naddress=tcp://b:1\n[worker]\nname=b2\naddress=tcp://b2:1\n"
                               "replica_of=b\n[worker]\nname=c\naddress=tcp://c:1\n[worker]\nname=t\n"
                               "address=tcp://t:1\nspare=1\n";
    struct cluster *cluster = NULL;
    struct err err;
    if (cluster_parse(&cluster, "c.cfg", text, sizeof text - 1, &err)) fail_msg("%s", err.text);
    return cluster;
}

static const char *chosen(const struct cluster *c, const char *gone, struct layout_places *places) {
    static char text[200];
    bool alive[CLUSTER_MAX_WORKERS];
    for (int i = 0; i < c->nall; i++) {
        char name[8];
        snprintf(name, sizeof name, ",%s,", c->worker[i].name);
        alive[i] = !strstr(gone, name);
    }
    layout_choose(c, alive, places);
    layout_text(c, places, text, sizeof text);
    return text;
}

static void what_is_there_carries_the_stages(void **unused) {
    struct cluster *c = make_cluster();
    struct layout_places places;
    assert_true(c->nworkers == 3 && c->nall == 6);
    assert_string_equal(chosen(c, "", &places), "a | b b2 | c");
    assert_string_equal(chosen(c, ",b,", &places), "a | b2 | c");
    assert_string_equal(chosen(c, ",b,,b2,", &places), "a | s | c");
    assert_string_equal(chosen(c, ",b,,b2,,a,", &places), "s | t | c");
    assert_string_equal(chosen(c, ",b,,b2,,s,", &places), "a | t | c");
    assert_string_equal(chosen(c, ",b,,b2,,s,,t,", &places), "a | c"); /* merged */
    assert_string_equal(chosen(c, ",a,,b,,b2,,s,,t,", &places), "c");
    assert_string_equal(chosen(c, ",a,,b,,b2,,c,,s,,t,", &places), "");
    assert_int_equal(places.nstages, 0);
    cluster_destroy(&c);
}

static bool serves(const struct cluster *c, const char *before, const char *now) {
    struct layout_places present, wanted;
    bool alive[CLUSTER_MAX_WORKERS];
    chosen(c, before, &present);
    chosen(c, now, &wanted);
    for (int i = 0; i < c->nall; i++) {
        char name[8];
        snprintf(name, sizeof name, ",%s,", c->worker[i].name);
        alive[i] = !strstr(now, name);
    }
    return layout_serves(&present, &wanted, alive);
}

static void another_layout_is_wanted_when_it_helps(void **unused) {
    struct cluster *c = make_cluster();
    assert_true(serves(c, "", ""));
    assert_true(serves(c, "", ",b2,"));       /* its stage goes on without it */
    assert_true(serves(c, "", ",s,,t,"));     /* nobody needed them */
    assert_false(serves(c, "", ",a,"));
    assert_false(serves(c, ",b2,", ""));      /* it is back */
    assert_false(serves(c, ",a,", ""));       /* the spare is to be spare again */
    assert_false(serves(c, ",a,,s,,t,", "")); /* merged before */
    assert_true(serves(c, ",a,,s,,t,", ",a,,s,,t,"));
    cluster_destroy(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_there_carries_the_stages),
        cmocka_unit_test(another_layout_is_wanted_when_it_helps),
    };
    return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}
