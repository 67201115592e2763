/* The page over HTTP: who asks properly gets it, whoever else is there. */
#include "deploy/metrics.h"

#include "common/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static struct metrics *metrics;
static size_t padding; /* bytes that make the page long */

static void write_page(void *context, FILE *page) {
    fprintf(page, "answer 42\n");
    for (size_t i = 0; i < padding; i++) fputc('#', page);
}

/* Serves until `done` is set or the time is over. */
static void serve(const atomic_bool *done) {
    double end_s = log_now_s() + 20;
    while (!atomic_load(done) && log_now_s() < end_s) {
        struct pollfd item = { metrics_fd(metrics), POLLIN, 0 };
        poll(&item, 1, 20);
        metrics_serve(metrics, write_page, NULL);
    }
}

static struct fetch {
    atomic_bool done;
    enum status status;
    char *page;
    struct err err;
} fetched;

static void *fetch_thread(void *unused) {
    fetched.status = metrics_fetch(metrics_address(metrics), 10, &fetched.page, &fetched.err);
    atomic_store(&fetched.done, true);
    return NULL;
}

static void fetch(void) {
    pthread_t thread;
    free(fetched.page);
    fetched.page = NULL;
    atomic_store(&fetched.done, false);
    assert_int_equal(pthread_create(&thread, NULL, fetch_thread, NULL), 0);
    serve(&fetched.done);
    pthread_join(thread, NULL);
}

static int call(void) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    to.sin_port = htons((uint16_t)atoi(strrchr(metrics_address(metrics), ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* What is answered to these bytes; "" if it hangs up. */
static const char *ask(const char *bytes, size_t length) {
    static char answer[65536];
    int fd = call();
    size_t got = 0;
    struct timeval tick = { 0, 1000 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
    double end_s = log_now_s() + 20;
    send(fd, bytes, length, MSG_NOSIGNAL);
    for (ssize_t n = -1; n != 0 && log_now_s() < end_s;) {
        metrics_serve(metrics, write_page, NULL);
        n = recv(fd, answer + got, sizeof answer - 1 - got, 0);
        if (n > 0) got += (size_t)n;
        if (n < 0 && errno != EAGAIN && errno != EINTR) break;
    }
    assert_true(log_now_s() < end_s);
    answer[got] = '\0';
    close(fd);
    return answer;
}

static int setup(void **unused) {
    padding = 0;
    return metrics_create(&metrics, "0", NULL);
}

static int teardown(void **unused) {
    metrics_destroy(&metrics);
    free(fetched.page);
    fetched.page = NULL;
    return 0;
}

static void the_page_is_fetched(void **unused) {
    assert_int_equal(strncmp(metrics_address(metrics), "127.0.0.1:", 10), 0); /* of this machine alone */
    fetch();
    assert_int_equal(fetched.status, STATUS_OK);
    assert_string_equal(fetched.page, "answer 42\n");
    padding = 700000; /* more than socket buffers hold */
    fetch();
    assert_int_equal(fetched.status, STATUS_OK);
    assert_int_equal(strlen(fetched.page), 700010);
    padding = METRICS_PAGE;
    fetch();
    assert_int_equal(fetched.status, STATUS_LIMIT);
}

static void anything_else_is_turned_down(void **unused) {
    static char large[METRICS_REQUEST * 2];
    memset(large, 'a', sizeof large);
    assert_non_null(strstr(ask("GET /metrics HTTP/1.1\r\n\r\n", 25), "200 OK"));
    assert_non_null(strstr(ask("GET / HTTP/1.1\r\n\r\n", 18), "404"));
    assert_non_null(strstr(ask("GET /metrics/../etc HTTP/1.1\r\n\r\n", 32), "404"));
    assert_non_null(strstr(ask("POST /metrics HTTP/1.1\r\n\r\n", 26), "405"));
    assert_non_null(strstr(ask("\r\n\r\n", 4), "405"));
    assert_non_null(strstr(ask("GET \0/metrics HTTP\r\n\r\nGET \n\n", 29), "400"));
    const char *said = ask(large, sizeof large);
    assert_true(said[0] == '\0' || strstr(said, "431"));
    fetch();
    assert_int_equal(fetched.status, STATUS_OK);
}

static void idle_connections_give_way(void **unused) {
    int fd[40];
    atomic_bool done = true;
    for (int i = 0; i < 40; i++) {
        fd[i] = call();
        metrics_serve(metrics, write_page, NULL);
    }
    fetch();
    assert_int_equal(fetched.status, STATUS_OK);
    for (int i = 0; i < 40; i++) close(fd[i]);
    serve(&done);
    fetch();
    assert_int_equal(fetched.status, STATUS_OK);
}

static void bad_addresses_are_named(void **unused) {
    static const char *const bad[] = { "", "localhost", "127.0.0.1:", ":99999", "1.2.3.4:x", "a:b:c" };
    struct metrics *m = NULL;
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(metrics_create(&m, bad[i], &err), STATUS_USAGE);
    assert_int_equal(metrics_create(&m, metrics_address(metrics), &err), STATUS_IO);
    assert_non_null(strstr(err.text, "Address already in use"));
    char *page = NULL, taken[64];
    strcpy(taken, metrics_address(metrics));
    metrics_destroy(&metrics);
    assert_int_equal(metrics_fetch(taken, 5, &page, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "Connection refused"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_page_is_fetched, setup, teardown),
        cmocka_unit_test_setup_teardown(anything_else_is_turned_down, setup, teardown),
        cmocka_unit_test_setup_teardown(idle_connections_give_way, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_addresses_are_named, setup, teardown),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
