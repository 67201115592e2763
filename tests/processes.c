#include "tests/processes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *process_program(const char *name) {
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0) abort();
    path[n] = '\0';
    char *end = strstr(path, "/tests/"); /* BUILD/tests/KIND/TEST */
    if (!end) end = strrchr(path, '/');
    snprintf(end, sizeof path - (size_t)(end - path), "/%s", name);
    return path;
}

static void set_up_child(int in, int out, const char *stderr_path) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int err = open(stderr_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
}

void process_start(struct process *p, const char *const argv[], const char *stderr_path) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) abort();
    memset(p, 0, sizeof *p);
    p->pid = fork();
    if (p->pid == 0) {
        set_up_child(in[0], out[1], stderr_path);
        execv(argv[0], (char *const *)(unsigned long)argv);
        fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    p->in_fd = in[1];
    p->out_fd = out[0];
}

static double now_s(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Reads more of standard output; false at its end or at `end_s`. */
static bool read_more(struct process *p, double end_s) {
    double left = end_s - now_s();
    struct pollfd item = { .fd = p->out_fd, .events = POLLIN };
    if (p->out_fd < 0 || p->used == sizeof p->buffer || left <= 0 || poll(&item, 1, (int)(left * 1e3) + 1) <= 0)
        return false;
    ssize_t n = read(p->out_fd, p->buffer + p->used, sizeof p->buffer - p->used);
    if (n <= 0) return false;
    p->used += (size_t)n;
    return true;
}

bool process_line(struct process *p, char *line, size_t size, double timeout_s) {
    double end_s = now_s() + timeout_s;
    for (;;) {
        char *newline = memchr(p->buffer, '\n', p->used);
        if (newline) {
            size_t length = (size_t)(newline - p->buffer);
            snprintf(line, size, "%.*s", (int)length, p->buffer);
            p->used -= length + 1;
            memmove(p->buffer, newline + 1, p->used);
            return true;
        }
        if (!read_more(p, end_s)) return false;
    }
}

void process_keep_reading(struct process *p, double timeout_s) {
    if (!read_more(p, now_s() + timeout_s)) nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

void process_signal(struct process *p, int signal_number) {
    if (p->pid > 0) kill(p->pid, signal_number);
}

bool process_ended(const struct process *p) {
    siginfo_t info = { 0 };
    return p->pid <= 0 || waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

void process_close_input(struct process *p) {
    if (p->in_fd >= 0) close(p->in_fd);
    p->in_fd = -1;
}

int process_wait(struct process *p, double timeout_s) {
    if (p->pid <= 0) return -2;
    char line[4096];
    double end_s = now_s() + timeout_s;
    process_close_input(p);
    while (process_line(p, line, sizeof line, end_s - now_s())) {}
    bool late = now_s() >= end_s;
    if (late) kill(p->pid, SIGKILL);
    int status;
    while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR) {}
    close(p->out_fd);
    p->out_fd = -1;
    p->pid = 0;
    if (late) return -2;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool process_said(const char *path, const char *text, double timeout_s) {
    double end_s = now_s() + timeout_s;
    while (!strstr(process_file(path), text)) {
        if (now_s() > end_s) return false;
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    }
    return true;
}

const char *process_file(const char *path) {
    static char text[65536];
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = '\0';
    return text;
}
