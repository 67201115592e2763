/* What goes on, for others to poll: a page of Prometheus text
 * (prometheus.io/docs/instrumenting/exposition_formats, 0.0.4) over HTTP.
 *
 * A server for one page, within another program's loop: non-blocking, a few
 * connections at a time, each with a bounded request; a newcomer takes the place
 * of the one that has been there longest. Of HTTP no more is understood than
 * one GET per connection. */
#ifndef ESPALIER_METRICS_H
#define ESPALIER_METRICS_H

#include "common/err.h"

#include <stdio.h>

enum { METRICS_CONNECTIONS = 8, METRICS_REQUEST = 4096 /* bytes */, METRICS_PAGE = 1 << 20 /* bytes, to read */ };

struct metrics;

/* Listens on PORT (of this machine alone) or HOST:PORT; port 0: a free one. */
enum status metrics_create(struct metrics **metrics, const char *address, struct err *err) MUST_CHECK;
void metrics_destroy(struct metrics **metrics);
/* HOST:PORT as others reach it. */
const char *metrics_address(const struct metrics *metrics);
/* Readable when metrics_serve has something to do. */
int metrics_fd(const struct metrics *metrics);
/* Does what can be done now; `write` makes the page when one is asked for. */
void metrics_serve(struct metrics *metrics, void (*write)(void *context, FILE *page), void *context);

/* The other side: fetches the page, within `timeout_s`. *page is malloc'ed. */
enum status metrics_fetch(const char *address, double timeout_s, char **page, struct err *err) MUST_CHECK;

#endif
