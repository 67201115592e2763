/* A run watched while it runs: the page of --metrics, and top's picture of it. */
#include "tests/pipeline.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Standard output of `top --once`. */
static const char *top_once(const char *address) {
    static char text[8192];
    static struct process top;
    const char *argv[] = { process_program("espalier-deploy"), "top", address, "--once", NULL };
    char line[1024];
    size_t n = 0;
    process_start(&top, argv, pipeline_path("top.log"));
    while (process_line(&top, line, sizeof line, PIPELINE_PATIENCE_S) && n < sizeof text)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\n", line);
    if (process_wait(&top, PIPELINE_PATIENCE_S) != 0) fail_msg("%s", process_file(pipeline_path("top.log")));
    return text;
}

static void expect_seen(const char *text, const char *what) {
    if (!strstr(text, what)) fail_msg("expected '%s' in: %s", what, text);
}

static void a_run_is_watched(void **unused) {
    static char address[64];
    pipeline_start_workers(NULL);
    pipeline_start_runner(pipeline.frames, "--fps 50 --slo-ms 10000 --metrics 0 --plan 0,1,2 --link 1:q8z,0:f16");
    pipeline_wait_results(60);
    const char *at = strstr(process_file(pipeline_path("runner.log")), "http://");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "http://%63[0-9.:]", address), 1);
    const char *text = top_once(address);
    expect_seen(text, "within 10000 ms");
    expect_seen(text, "100.0% within");
    expect_seen(text, "0 failed, 0 dropped, 0 refused");
    expect_seen(text, "    1  w1               ready      0     0");
    expect_seen(text, "    2  w2               ready      1     1    q8z");
    expect_seen(text, "    3  w3               ready      2     0    f16");
    pipeline_kill_worker(1);
    pipeline_wait_said("w2: the link is down");
    expect_seen(top_once(address), "    2  w2               DOWN");
    pipeline_start_worker(1, pipeline.address[1], NULL);
    pipeline_wait_results(60);
    pipeline_expect_exit(0);
}

static void top_says_what_is_wrong(void **unused) {
    pipeline_start_workers(NULL);
    const char *argv[] = { process_program("espalier-deploy"), "top", "127.0.0.1:1", "--once", NULL };
    process_start(&pipeline.runner, argv, pipeline_path("runner.log"));
    pipeline_expect_exit(1);
    pipeline_expect_said("127.0.0.1:1: Connection refused");
    const char *port = strrchr(pipeline.address[0], ':') + 1; /* something answers, but no run */
    argv[2] = port;
    process_start(&pipeline.runner, argv, pipeline_path("runner.log"));
    pipeline_expect_exit(1);
    pipeline_expect_said(port);
    pipeline_start_runner(pipeline.frames, "--metrics nowhere");
    pipeline_expect_exit(2);
    pipeline_expect_said("'nowhere' is no address: PORT or HOST:PORT");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_run_is_watched, pipeline_teardown),
        cmocka_unit_test_teardown(top_says_what_is_wrong, pipeline_teardown),
    };
    return cmocka_run_group_tests_name("top", tests, pipeline_group_setup, pipeline_group_teardown);
}
