/* The clock of the cores, in a folder made for it: read, set, given back, and
 * what is wrong with it said. */
#include "deploy/cpufreq.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static char folder[64], throttled[96];

static void path_of(char *path, size_t size, int core, const char *name) {
    snprintf(path, size, "%s/cpu%d/cpufreq/%s", folder, core, name);
}

/* At once, as in sysfs: nobody sees the file empty. */
static void put(int core, const char *name, const char *text) {
    char path[160], fresh[164];
    path_of(path, sizeof path, core, name);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *file = fopen(fresh, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(rename(fresh, path), 0);
}

static long get(int core, const char *name) {
    char path[160];
    long value = -1;
    path_of(path, sizeof path, core, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    if (fscanf(file, "%ld", &value) != 1) value = -1; /* just being written */
    fclose(file);
    return value;
}

static int set_up(void **state) {
    char command[400];
    snprintf(folder, sizeof folder, "/tmp/test_cpufreq.%d", getpid());
    snprintf(throttled, sizeof throttled, "%s/throttled", folder);
    snprintf(command, sizeof command, "mkdir -p %s/cpu0/cpufreq %s/cpu1/cpufreq %s/cpuidle %s/cpu2", folder, folder, folder, folder);
    if (system(command) != 0) return -1;
    for (int core = 0; core < 2; core++) {
        put(core, "scaling_cur_freq", core ? "1200000\n" : "1500000\n");
        put(core, "scaling_min_freq", "600000\n");
        put(core, "scaling_max_freq", "1800000\n");
    }
    return 0;
}

static int tear_down(void **state) {
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static struct cpufreq *opened(const char *flags) {
    struct cpufreq *c;
    struct err err;
    if (cpufreq_open(&c, folder, flags, &err)) fail_msg("%s", err.text);
    return c;
}

static void test_read(void **state) {
    struct cpufreq_state now;
    struct err err;
    struct cpufreq *c = opened(NULL);
    assert_int_equal(cpufreq_read(c, &now, &err), STATUS_OK);
    assert_float_equal(now.mhz, 1200, 1e-9);
    assert_int_equal(now.held, 0);
    put(0, "scaling_cur_freq", "600000");
    assert_int_equal(cpufreq_read(c, &now, &err), STATUS_OK);
    assert_float_equal(now.mhz, 600, 1e-9);
    cpufreq_close(&c);
    static const struct {
        const char *text;
        unsigned held;
    } flags[] = { { "50005\n", 0x50005 }, { "0x4", 4 }, { "0", 0 }, { "e0008\n", 0xe0008 } };
    for (int i = 0; i < 4; i++) {
        FILE *file = fopen(throttled, "w");
        assert_non_null(file);
        fputs(flags[i].text, file);
        fclose(file);
        c = opened(throttled);
        assert_int_equal(cpufreq_read(c, &now, &err), STATUS_OK);
        assert_int_equal(now.held, flags[i].held);
        cpufreq_close(&c);
    }
    assert_true((0x50005 & CPUFREQ_HELD) && !(0x50001 & CPUFREQ_HELD));
}

static void test_bad(void **state) {
    struct cpufreq *c = NULL;
    struct cpufreq_state now;
    struct err err;
    assert_int_equal(cpufreq_open(&c, "/nonexistent", NULL, &err), STATUS_IO);
    assert_int_equal(cpufreq_open(&c, "/tmp", NULL, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "no core tells its clock"));
    assert_int_equal(cpufreq_open(&c, folder, throttled, &err), STATUS_IO);
    FILE *file = fopen(throttled, "w");
    assert_non_null(file);
    fputs("throttled", file);
    fclose(file);
    assert_int_equal(cpufreq_open(&c, folder, throttled, &err), STATUS_FORMAT);
    assert_null(c);
    c = opened(NULL);
    static const char *const texts[] = { "", "fast\n", "-5\n", "12a\n", "99999999999999999999999\n" };
    for (int i = 0; i < 5; i++) {
        put(1, "scaling_cur_freq", texts[i]);
        assert_int_equal(cpufreq_read(c, &now, &err), STATUS_FORMAT);
        assert_non_null(strstr(err.text, "cpu1/cpufreq/scaling_cur_freq"));
    }
    cpufreq_close(&c);
}

/* A governor: the clock of core 0 follows the limits; it checks that they are
 * never crossed. Core 1 stays where it is. */
static atomic_bool done, crossed;

static void *govern(void *unused) {
    while (!done) {
        char text[32];
        for (int core = 0; core < 2; core++) {
            long max = get(core, "scaling_max_freq"), min = get(core, "scaling_min_freq");
            if (max < 0 || min < 0) continue;
            if (min > max && get(core, "scaling_max_freq") == max) crossed = true;
            snprintf(text, sizeof text, "%ld\n", max);
            put(core, "scaling_cur_freq", text);
        }
        usleep(500);
    }
    return unused;
}

static void test_pin(void **state) {
    struct cpufreq_state now;
    struct err err;
    pthread_t governor;
    struct cpufreq *c = opened(NULL);
    done = crossed = false;
    pthread_create(&governor, NULL, govern, NULL);
    static const double clocks[] = { 900, 600, 1800, 1200 };
    for (int i = 0; i < 4; i++) {
        if (cpufreq_pin(c, clocks[i], 5, &err)) fail_msg("%s", err.text);
        assert_int_equal(get(1, "scaling_min_freq"), (long)clocks[i] * 1000);
        assert_int_equal(get(1, "scaling_max_freq"), (long)clocks[i] * 1000);
    }
    done = true;
    pthread_join(governor, NULL);
    assert_false(crossed);
    cpufreq_close(&c);
    for (int core = 0; core < 2; core++) {
        assert_int_equal(get(core, "scaling_min_freq"), 600000);
        assert_int_equal(get(core, "scaling_max_freq"), 1800000);
    }
    /* Nobody follows: that is said, and what was is given back. */
    put(0, "scaling_cur_freq", "1500000");
    put(1, "scaling_cur_freq", "1500000");
    c = opened(NULL);
    assert_int_equal(cpufreq_pin(c, 1500, 5, &err), STATUS_OK);
    assert_int_equal(get(0, "scaling_max_freq"), 1800000); /* it was there already: nothing is set */
    assert_int_equal(cpufreq_pin(c, 700, .02, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "stays at 1500 MHz"));
    assert_int_equal(cpufreq_read(c, &now, &err), STATUS_OK);
    cpufreq_close(&c);
    assert_int_equal(get(0, "scaling_min_freq"), 600000);
    /* Not to be set. */
    char path[160];
    path_of(path, sizeof path, 1, "scaling_max_freq");
    assert_int_equal(unlink(path), 0);
    c = opened(NULL);
    assert_int_equal(cpufreq_pin(c, 700, .02, &err), STATUS_IO);
    assert_non_null(strstr(err.hint, "root"));
    cpufreq_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pin, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
