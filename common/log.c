#include "common/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR_WIDTH = 24 };
static const double redraw_s = 1.0 / 6, interval_s = 10;

static const char *program = "espalier";
static enum log_level shown = LOG_INFO;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool bar_open; /* a progress bar stands on the current terminal line */

void log_init(const char *name, enum log_level level) {
    program = name;
    shown = level;
}

const char *log_program(void) { return program; }

static void print(enum log_level level, const char *prefix, const char *format, va_list args) {
    if (level > shown) return;
    pthread_mutex_lock(&lock);
    if (bar_open) fputs("\r\033[K", stderr);
    fprintf(stderr, "%s: %s", program, prefix);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    pthread_mutex_unlock(&lock);
}

void log_warn(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print(LOG_WARN, "warning: ", format, args);
    va_end(args);
}

void log_info(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print(LOG_INFO, "", format, args);
    va_end(args);
}

void log_debug(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print(LOG_DEBUG, "", format, args);
    va_end(args);
}

double log_now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* "3:07", "1:02:33" */
static void format_duration(char *out, size_t size, double seconds) {
    long s = (long)(seconds + 0.5);
    if (s >= 3600) snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

static void draw(struct log_progress *p, double done, const char *detail, bool last) {
    double now = log_now_s(), elapsed = now - p->started_s;
    double share = p->total > 0 ? done / p->total : 1;
    if (share > 1) share = 1;
    char eta[32];
    if (last) format_duration(eta, sizeof eta, elapsed);
    else format_duration(eta, sizeof eta, share > 0 ? elapsed * (1 - share) / share : 0);

    pthread_mutex_lock(&lock);
    if (p->terminal) {
        char bar[BAR_WIDTH + 1];
        int full = (int)(share * BAR_WIDTH);
        memset(bar, '#', (size_t)full);
        memset(bar + full, '.', (size_t)(BAR_WIDTH - full));
        bar[BAR_WIDTH] = '\0';
        fprintf(stderr, "\r\033[K%-12s [%s] %3.0f%% %s %s  %s", p->label, bar, 100 * share, last ? "in" : "eta", eta,
                detail ? detail : "");
        if (last) fputc('\n', stderr);
        bar_open = !last;
    } else {
        fprintf(stderr, "%s: %.0f%% %s=%s %s\n", p->label, 100 * share, last ? "in" : "eta", eta,
                detail ? detail : "");
    }
    fflush(stderr);
    pthread_mutex_unlock(&lock);
    p->shown_s = now;
    p->drawn = true;
}

void log_progress_start(struct log_progress *p, const char *label, double total) {
    double now = log_now_s();
    *p = (struct log_progress){.label = label,
                               .total = total,
                               .started_s = now,
                               .shown_s = now,
                               .terminal = isatty(STDERR_FILENO)};
}

void log_progress_update(struct log_progress *p, double done, const char *detail) {
    if (shown < LOG_INFO) return;
    if (log_now_s() - p->shown_s < (p->terminal ? redraw_s : interval_s)) return;
    draw(p, done, detail, false);
}

void log_progress_end(struct log_progress *p, const char *detail) {
    if (shown < LOG_INFO) return;
    draw(p, p->total, detail, true);
}

void log_progress_abandon(struct log_progress *p) {
    pthread_mutex_lock(&lock);
    if (p->terminal && p->drawn) fputc('\n', stderr);
    bar_open = false;
    pthread_mutex_unlock(&lock);
}
