#include "deploy/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static enum status parse(struct cluster **cluster, const char *text, struct err *err) {
    return cluster_parse(cluster, "c.cfg", text, strlen(text), err);
}

#define KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void everything_is_read(void **unused) {
    struct cluster *cluster = NULL;
    struct err err;
    assert_int_equal(parse(&cluster,
                           "[source]\nslo_ms = 150\nfps=10\ncredits=7\n"
                           "[worker]\nname=pi1\naddress=tcp://10.0.0.1:7700\nkey=" KEY "\n"
                           "[link]\ncodec=q8z\nlevel=2\nrate_kb_s=137.5\ndelay_ms=20\n"
                           "[worker]\naddress=tcp://[fe80::1]:7700 # the second\n",
                           &err),
                     STATUS_OK);
    assert_true(cluster->slo_ms == 150 && cluster->fps == 10 && cluster->credits == 7);
    assert_int_equal(cluster->nworkers, 2);
    assert_string_equal(cluster->worker[0].name, "pi1");
    assert_string_equal(cluster->worker[0].key, KEY);
    assert_int_equal(cluster->worker[0].link.codec, CODEC_F32);
    assert_string_equal(cluster->worker[1].name, "worker2");
    assert_string_equal(cluster->worker[1].address, "tcp://[fe80::1]:7700");
    assert_string_equal(cluster->worker[1].key, "");
    assert_int_equal(cluster->worker[1].link.codec, CODEC_Q8Z);
    assert_int_equal(cluster->worker[1].link.level, 2);
    assert_true(cluster->worker[1].link.rate_kb_s == 137.5f && cluster->worker[1].link.delay_ms == 20);
    char host[CLUSTER_ADDRESS];
    cluster_host(cluster->worker[0].address, host);
    assert_string_equal(host, "10.0.0.1");
    cluster_host(cluster->worker[1].address, host);
    assert_string_equal(host, "[fe80::1]");
    cluster_destroy(&cluster);
    assert_null(cluster);
}

static void mistakes_are_named(void **unused) {
    static const struct {
        const char *text, *says, *hint;
    } cases[] = {
        { "[source]\nfps=1\n", "c.cfg:1: no [worker]", "" },
        { "[worker]\nname=a\n", "c.cfg:1: [worker] without an address", "" },
        { "[worker]\naddress=10.0.0.1\n", "c.cfg:2: an address is written tcp://host:port", "" },
        { "[worker]\nadress=tcp://a:1\n", "c.cfg:2: unknown option 'adress' in [worker]", "did you mean 'address'?" },
        { "[workers]\naddress=tcp://a:1\n", "c.cfg:1: unknown section [workers]", "did you mean [worker]?" },
        { "[worker]\naddress=tcp://a:1\nname=../x\n", "c.cfg:3: a name has", "" },
        { "[worker]\naddress=tcp://a:1\nkey=12\n", "c.cfg:3: a key has 64 digits", "" },
        { "[worker]\naddress=tcp://a:1\n[worker]\naddress=tcp://a:1\n", "c.cfg:4: 'worker1' and 'worker2'", "" },
        { "[worker]\nname=p\naddress=tcp://a:1\n[worker]\nname=p\naddress=tcp://b:1\n", "c.cfg:4: a second", "" },
        { "[link]\ncodec=q9\n[worker]\naddress=tcp://a:1\n", "c.cfg:2: unknown codec 'q9'", "did you mean 'q8'?" },
        { "[worker]\naddress=tcp://a:1\n[link]\n", "c.cfg:3: no [worker] follows", "" },
        { "[link]\n[link]\n[worker]\naddress=tcp://a:1\n", "c.cfg:2: two [link] in a row", "" },
        { "[source]\ncredits=0\n[worker]\naddress=tcp://a:1\n", "c.cfg:2: 'credits' takes", "" },
        { "[worker]\naddress=tcp://a:1\nspare=1\n", "c.cfg:1: only spares", "" },
        { "[worker]\naddress=tcp://a:1\nreplica_of=b\n[worker]\nname=b\naddress=tcp://b:1\n", "c.cfg:3: replica_of=b: no", "" },
        { "[worker]\naddress=tcp://a:1\nreplica_of=worker1\n", "c.cfg:3: replica_of=worker1: no [worker]", "" },
        { "[worker]\nname=a\naddress=tcp://a:1\n[worker]\naddress=tcp://b:1\nspare=1\nreplica_of=a\n", "c.cfg:7: 'worker2' cannot be", "" },
        { "[source]\n[source]\n[worker]\naddress=tcp://a:1\n", "c.cfg:2: a second [source]", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cluster *cluster = NULL;
        struct err err = { 0 };
        assert_int_not_equal(parse(&cluster, cases[i].text, &err), STATUS_OK);
        assert_null(cluster);
        if (!strstr(err.text, cases[i].says)) fail_msg("'%s' says '%s'", cases[i].text, err.text);
        if (cases[i].hint[0]) assert_string_equal(err.hint, cases[i].hint);
    }
}

static void workers_are_bounded(void **unused) {
    static char text[8192];
    for (int i = 0; i <= CLUSTER_MAX_WORKERS; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "[worker]\naddress=tcp://h%d:1\n", i);
    struct cluster *cluster = NULL;
    struct err err;
    assert_int_equal(parse(&cluster, text, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "more than 64 workers"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_read),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(workers_are_bounded),
    };
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
