#include "tests/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAIRS = 128, BUFFER = 65536 };

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    a.sin_port = htons((uint16_t)port);
    return a;
}

static int open_port(int *port) {
    struct sockaddr_in a = loopback(*port);
    socklen_t size = sizeof a;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 64) != 0) abort();
    getsockname(fd, (struct sockaddr *)&a, &size);
    *port = ntohs(a.sin_port);
    return fd;
}

static bool pass_on(int from, int to) {
    static char buffer[BUFFER];
    ssize_t n = recv(from, buffer, sizeof buffer, 0);
    for (ssize_t sent = 0; n > 0 && sent < n;) {
        ssize_t m = send(to, buffer + sent, (size_t)(n - sent), MSG_NOSIGNAL);
        if (m < 0 && errno == EINTR) continue;
        if (m <= 0) return false;
        sent += m;
    }
    return n > 0;
}

static void serve(int listener, int target) {
    int fd[PAIRS][2], n = 0;
    struct pollfd item[1 + 2 * PAIRS];
    for (;;) {
        item[0] = (struct pollfd){ listener, POLLIN, 0 };
        for (int i = 0; i < n; i++)
            for (int k = 0; k < 2; k++) item[1 + 2 * i + k] = (struct pollfd){ fd[i][k], POLLIN, 0 };
        if (poll(item, (nfds_t)(1 + 2 * n), -1) < 0) continue;
        for (int i = n - 1; i >= 0; i--)
            for (int k = 0; k < 2; k++) {
                if (!item[1 + 2 * i + k].revents || pass_on(fd[i][k], fd[i][!k])) continue;
                close(fd[i][0]), close(fd[i][1]);
                memcpy(fd[i], fd[--n], sizeof fd[i]);
                break;
            }
        if (!item[0].revents) continue;
        struct sockaddr_in a = loopback(target);
        int from = accept4(listener, NULL, NULL, SOCK_CLOEXEC), to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (from >= 0 && n < PAIRS && connect(to, (struct sockaddr *)&a, sizeof a) == 0) {
            fd[n][0] = from, fd[n++][1] = to;
        } else {
            close(from), close(to);
        }
    }
}

static void begin(struct relay *r) {
    int listener = open_port(&r->port);
    r->pid = fork();
    if (r->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(listener, r->target);
    }
    close(listener);
}

void relay_start(struct relay *r, int target) {
    *r = (struct relay){ .target = target };
    begin(r);
}

void relay_cut(struct relay *r) {
    if (!r->pid) return;
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
    r->pid = 0;
}

void relay_restore(struct relay *r) {
    if (!r->pid) begin(r);
}
