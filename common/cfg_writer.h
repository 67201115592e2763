/* Writes cfg text: sections from scratch, or copied with some options changed.
 * Model surgery and the export to Darknet make their cfgs with it. */
#ifndef ESPALIER_CFG_WRITER_H
#define ESPALIER_CFG_WRITER_H

#include "common/cfg.h"
#include "common/net.h"

#include <stdbool.h>
#include <stddef.h>

struct cfg_writer {
    char *text; /* NUL-terminated, owned */
    size_t length, room;
    bool failed; /* an allocation did */
};

/* Begins zeroed: struct cfg_writer w = {0}. */
void cfg_writer_section(struct cfg_writer *w, const char *name);
void cfg_writer_option(struct cfg_writer *w, const char *key, const char *format, ...) PRINTF_LIKE(3, 4);
/* The section and its options, those named in `except` (ends with NULL; may be
 * NULL) left out. */
void cfg_writer_copy(struct cfg_writer *w, const struct cfg_section *section, const char *const *except);
/* A layer whose `from` and `layers` name their layers anew: new_index[i + 1] is
 * the place of layer i (index 0: the network's input), `own` this layer's. */
void cfg_writer_layer(struct cfg_writer *w, const struct cfg_section *section, const struct net_layer *layer,
                      const int *new_index, int own, const char *const *except);
/* Parses what was written; frees the writer. */
enum status cfg_writer_finish(struct cfg_writer *w, const char *name, struct cfg **cfg, struct err *err) MUST_CHECK;
void cfg_writer_free(struct cfg_writer *w);

#endif
