#include "deploy/metrics.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
    int fd; /* -1: free */
    double since_s;
    char request[METRICS_REQUEST];
    size_t got;
    char *answer; /* NULL: the request is not complete */
    size_t length, sent;
};

struct metrics {
    int listener, epoll;
    char address[300];
    struct connection connection[METRICS_CONNECTIONS];
};

/* ---- addresses ---- */

/* "9464", ":9464", "host:9464", "[::1]:9464" */
static enum status resolve(const char *address, bool listens, struct addrinfo **found, struct err *err) {
    char host[256] = "127.0.0.1";
    const char *colon = strrchr(address, ':'), *port = colon ? colon + 1 : address;
    size_t length = colon ? (size_t)(colon - address) : 0;
    bool good = *port && strlen(port) <= 5 && strspn(port, "0123456789") == strlen(port) && atoi(port) < 65536 &&
                length < sizeof host;
    if (good && length >= 2 && address[0] == '[' && address[length - 1] == ']') {
        address++;
        length -= 2;
    }
    if (!good) {
        err_set(err, STATUS_USAGE, "'%.80s' is no address: PORT or HOST:PORT", address);
        return STATUS_USAGE;
    }
    if (length) snprintf(host, sizeof host, "%.*s", (int)length, address);
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                              .ai_flags = listens ? AI_PASSIVE | AI_NUMERICSERV : AI_NUMERICSERV };
    int rc = getaddrinfo(host, port, &hints, found);
    return rc ? err_set(err, STATUS_IO, "%s: %s", address, gai_strerror(rc)) : STATUS_OK;
}

/* ---- serving ---- */

static enum status open_listener(struct metrics *m, const char *address, struct err *err) {
    struct addrinfo *found = NULL;
    enum status status = resolve(address, true, &found, err);
    if (status) return status;
    int one = 1;
    m->listener = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (m->listener < 0 || setsockopt(m->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(m->listener, found->ai_addr, found->ai_addrlen) != 0 || listen(m->listener, METRICS_CONNECTIONS) != 0)
        status = err_errno(err, "metrics on %s", address);
    freeaddrinfo(found);
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    char host[200], port[16];
    if (!status && (getsockname(m->listener, (struct sockaddr *)&bound, &size) != 0 ||
                    getnameinfo((struct sockaddr *)&bound, size, host, sizeof host, port, sizeof port,
                                NI_NUMERICHOST | NI_NUMERICSERV) != 0))
        status = err_errno(err, "metrics on %s", address);
    if (!status) snprintf(m->address, sizeof m->address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    return status;
}

static bool watch(struct metrics *m, int fd, unsigned events, int op, int index) {
    struct epoll_event event = { .events = events, .data.u32 = (uint32_t)index };
    return epoll_ctl(m->epoll, op, fd, &event) == 0;
}

enum status metrics_create(struct metrics **out, const char *address, struct err *err) {
    struct metrics *m = calloc(1, sizeof *m);
    if (!m) return err_memory(err, "metrics");
    m->listener = -1;
    for (int i = 0; i < METRICS_CONNECTIONS; i++) m->connection[i].fd = -1;
    m->epoll = epoll_create1(EPOLL_CLOEXEC);
    enum status status = m->epoll < 0 ? err_errno(err, "epoll") : open_listener(m, address, err);
    if (!status && !watch(m, m->listener, EPOLLIN, EPOLL_CTL_ADD, METRICS_CONNECTIONS))
        status = err_errno(err, "epoll");
    if (status) metrics_destroy(&m);
    else *out = m;
    return status;
}

static void hang_up(struct connection *c) {
    if (c->fd >= 0) close(c->fd); /* leaves the epoll set, too */
    free(c->answer);
    *c = (struct connection){ .fd = -1 };
}

void metrics_destroy(struct metrics **pointer) {
    struct metrics *m = *pointer;
    if (!m) return;
    for (int i = 0; i < METRICS_CONNECTIONS; i++) hang_up(&m->connection[i]);
    if (m->listener >= 0) close(m->listener);
    if (m->epoll >= 0) close(m->epoll);
    free(m);
    *pointer = NULL;
}

const char *metrics_address(const struct metrics *m) { return m->address; }
int metrics_fd(const struct metrics *m) { return m->epoll; }

/* A free place, or the one of the connection that has been there longest. */
static struct connection *make_place(struct metrics *m) {
    struct connection *oldest = &m->connection[0];
    for (int i = 0; i < METRICS_CONNECTIONS; i++) {
        struct connection *c = &m->connection[i];
        if (c->fd < 0) return c;
        if (c->since_s < oldest->since_s) oldest = c;
    }
    hang_up(oldest);
    return oldest;
}

static void welcome(struct metrics *m) {
    int fd;
    double now_s = log_now_s();
    while ((fd = accept4(m->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = make_place(m);
        if (!watch(m, fd, EPOLLIN, EPOLL_CTL_ADD, (int)(c - m->connection))) {
            close(fd);
            continue;
        }
        c->fd = fd;
        c->since_s = now_s;
    }
}

static void answer(struct connection *c, const char *state, void (*write)(void *, FILE *), void *context) {
    char *body = NULL;
    size_t length = 0;
    FILE *page = open_memstream(&body, &length);
    if (page && write) write(context, page);
    else if (page) fprintf(page, "%s\n", state);
    if (page && fclose(page) != 0) {
        free(body);
        body = NULL;
    }
    char *text = body ? malloc(length + 256) : NULL;
    if (text) {
        int head = sprintf(text,
                           "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                           "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                           state, length);
        memcpy(text + head, body, length);
        c->length = (size_t)head + length;
    }
    c->answer = text;
    free(body);
}

static void read_request(struct connection *c, void (*write)(void *, FILE *), void *context) {
    ssize_t n = recv(c->fd, c->request + c->got, sizeof c->request - 1 - c->got, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        hang_up(c);
        return;
    }
    c->got += (size_t)n;
    c->request[c->got] = '\0';
    bool text = !memchr(c->request, '\0', c->got);
    bool complete = !text || strstr(c->request, "\r\n\r\n") || strstr(c->request, "\n\n");
    if (!complete && c->got + 1 < sizeof c->request) return;
    if (!text) answer(c, "400 Bad Request", NULL, NULL);
    else if (!complete) answer(c, "431 Request Header Fields Too Large", NULL, NULL);
    else if (strncmp(c->request, "GET ", 4) != 0) answer(c, "405 Method Not Allowed", NULL, NULL);
    else if (strncmp(c->request + 4, "/metrics ", 9) != 0) answer(c, "404 Not Found", NULL, NULL);
    else answer(c, "200 OK", write, context);
    if (!c->answer) hang_up(c);
}

static void send_answer(struct metrics *m, struct connection *c) {
    while (c->sent < c->length) {
        ssize_t n = send(c->fd, c->answer + c->sent, c->length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN && watch(m, c->fd, EPOLLOUT, EPOLL_CTL_MOD, (int)(c - m->connection))) return;
        if (n <= 0) break;
        c->sent += (size_t)n;
    }
    shutdown(c->fd, SHUT_WR);
    hang_up(c);
}

void metrics_serve(struct metrics *m, void (*write)(void *context, FILE *page), void *context) {
    struct epoll_event events[METRICS_CONNECTIONS + 1];
    int n = epoll_wait(m->epoll, events, METRICS_CONNECTIONS + 1, 0);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u32 == METRICS_CONNECTIONS) continue;
        struct connection *c = &m->connection[events[i].data.u32];
        if (c->fd >= 0 && !c->answer) read_request(c, write, context);
        if (c->fd >= 0 && c->answer) send_answer(m, c);
    }
    for (int i = 0; i < n; i++)
        if (events[i].data.u32 == METRICS_CONNECTIONS) welcome(m);
}

/* ---- fetching ---- */

/* Until the socket is ready for `events`; false when the time is over. */
static bool wait_for(int fd, short events, double end_s) {
    struct pollfd item = { fd, events, 0 };
    for (;;) {
        double left_s = end_s - log_now_s();
        int n = left_s > 0 ? poll(&item, 1, (int)(left_s * 1e3) + 1) : 0;
        if (n < 0 && errno == EINTR) continue;
        return n > 0;
    }
}

static enum status no_answer(const char *address, struct err *err) {
    return err_set(err, STATUS_TIMEOUT, "%s: no answer", address);
}

static enum status exchange(int fd, const struct addrinfo *to, const char *address, double end_s, char *page,
                            size_t *length, struct err *err) {
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: espalier\r\nConnection: close\r\n\r\n";
    int error = 0;
    socklen_t size = sizeof error;
    if (connect(fd, to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS) return err_errno(err, "%s", address);
    if (!wait_for(fd, POLLOUT, end_s)) return no_answer(address, err);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    errno = error;
    if (error || send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != sizeof request - 1)
        return err_errno(err, "%s", address);
    for (*length = 0; *length < METRICS_PAGE;) {
        ssize_t n = recv(fd, page + *length, METRICS_PAGE - *length, 0);
        if (n == 0) return STATUS_OK;
        if (n > 0) *length += (size_t)n;
        else if (errno != EAGAIN && errno != EINTR) return err_errno(err, "%s", address);
        else if (!wait_for(fd, POLLIN, end_s)) return no_answer(address, err);
    }
    return err_set(err, STATUS_LIMIT, "%s: a page of more than %d bytes", address, METRICS_PAGE);
}

enum status metrics_fetch(const char *address, double timeout_s, char **page, struct err *err) {
    struct addrinfo *to = NULL;
    enum status status = resolve(address, false, &to, err);
    if (status) return status;
    char *text = malloc(METRICS_PAGE + 1);
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    size_t length = 0;
    if (!text) status = err_memory(err, "metrics");
    else if (fd < 0) status = err_errno(err, "%s", address);
    else status = exchange(fd, to, address, log_now_s() + timeout_s, text, &length, err);
    if (fd >= 0) close(fd);
    freeaddrinfo(to);
    if (!status) {
        text[length] = '\0';
        char *body = strstr(text, "\r\n\r\n");
        if (strncmp(text, "HTTP/1.1 200 ", 13) != 0 || !body)
            status = err_set(err, STATUS_FORMAT, "%s: answers, but not as the --metrics of a run", address);
        else memmove(text, body + 4, strlen(body + 4) + 1);
    }
    if (status) free(text);
    else *page = text;
    return status;
}
