#include "common/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR_WIDTH = 24, MIN_BAR = 4, SPARE = 4, MAX_LINE = 256 };
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

/* Characters in a line of the terminal. */
static int terminal_columns(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* In one line of the terminal, where it can be redrawn: a narrow one costs the
 * bar its width, then the text its end. The width stays while the text's length
 * changes a little. */
static void format_bar(char line[2 * MAX_LINE], struct log_progress *p, double share, bool last, const char *eta,
                       const char *detail) {
    char bar[BAR_WIDTH + 1], text[MAX_LINE];
    int columns = terminal_columns(), room = columns - 1 < 2 * MAX_LINE ? columns - 1 : 2 * MAX_LINE - 1;
    snprintf(text, sizeof text, "%3.0f%% %s %s  %s", 100 * share, last ? "in" : "eta", eta, detail);
    int left = room - (int)strlen(p->label) - (int)strlen(text) - 4;
    if (p->columns != columns) p->width = left - SPARE < BAR_WIDTH ? left - SPARE : BAR_WIDTH;
    p->columns = columns;
    for (int i = 0; i < p->width; i++) bar[i] = i < (int)(share * p->width) ? '#' : '.';
    bar[p->width > 0 ? p->width : 0] = '\0';
    if (p->width >= MIN_BAR) snprintf(line, 2 * MAX_LINE, "%s [%s] %s", p->label, bar, text);
    else snprintf(line, 2 * MAX_LINE, "%s %s", p->label, text);
    line[room] = '\0';
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
        char line[2 * MAX_LINE];
        format_bar(line, p, share, last, eta, detail ? detail : "");
        fprintf(stderr, "\r\033[K%s", line);
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
