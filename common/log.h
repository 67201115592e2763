/* Diagnostics and progress on stderr; results belong on stdout.
 *
 * Thread-safe. A progress bar redraws at most 6 times a second on a terminal;
 * elsewhere one line per interval is printed instead. */
#ifndef ESPALIER_LOG_H
#define ESPALIER_LOG_H

#include "common/err.h"

#include <stdbool.h>

enum log_level { LOG_QUIET, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* The program's name as it appears in messages, and what is printed. */
void log_init(const char *program, enum log_level level);
const char *log_program(void);
void log_warn(const char *format, ...) PRINTF_LIKE(1, 2);
void log_info(const char *format, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *format, ...) PRINTF_LIKE(1, 2);

struct log_progress {
    const char *label; /* borrowed */
    double total, started_s, shown_s;
    bool terminal, drawn;
    int columns, width; /* of the terminal when it was last drawn, and of the bar */
};

/* `total`: the count at which the work is done. */
void log_progress_start(struct log_progress *p, const char *label, double total);
/* `detail`: what to print behind the bar ("loss=0.71 acc=0.74"), or NULL. */
void log_progress_update(struct log_progress *p, double done, const char *detail);
/* Draws the final state and ends the line. */
void log_progress_end(struct log_progress *p, const char *detail);
/* Ends the line as it stands: the work was not done. */
void log_progress_abandon(struct log_progress *p);

/* Seconds on the monotonic clock. */
double log_now_s(void);

#endif
