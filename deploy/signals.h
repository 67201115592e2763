/* SIGINT and SIGTERM as something to poll for. */
#ifndef ESPALIER_SIGNALS_H
#define ESPALIER_SIGNALS_H

#include "common/err.h"

#include <stdbool.h>

/* Before any thread is started, which then inherit the blocked signals. The
 * descriptor is readable when a signal has come. */
enum status signals_open(int *fd, struct err *err) MUST_CHECK;
/* The number of a signal that came, or 0. */
int signals_take(int fd);
void signals_close(int *fd);

#endif
