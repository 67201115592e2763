/* Darknet's INI-like configuration text: [sections] of key=value lines, order
 * and line numbers kept.
 *
 * As in Darknet: all blanks in a line are dropped, lines that begin with '#'
 * or ';' are comments. A '#' after a value also begins a comment. The same
 * reader serves network cfgs, cluster cfgs and section-less .data files. */
#ifndef ESPALIER_CFG_H
#define ESPALIER_CFG_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>

struct cfg_option {
    const char *key, *value; /* owned by the cfg */
    int line;                /* from 1 */
};

struct cfg_section {
    const char *name; /* "convolutional"; "" for options before any section */
    int line;
    int noptions;
    struct cfg_option *options;
};

struct cfg {
    char *name; /* what errors call it, usually the path */
    char *text; /* the text as read, NUL-terminated */
    size_t length;
    int nsections;
    struct cfg_section *sections;
    char *strings; /* storage of names, keys and values */
};

/* Which options a section may have. `meaning` NULL: accepted by name, ignored. */
struct cfg_key {
    const char *key, *meaning;
};
struct cfg_schema {
    const char *section;
    const struct cfg_key *keys; /* ends with a NULL key */
};

/* Text of at most 16 MiB; `name` and `text` are copied. */
enum status cfg_parse(struct cfg **cfg, const char *name, const char *text, size_t length, struct err *err) MUST_CHECK;
enum status cfg_load(struct cfg **cfg, const char *path, struct err *err) MUST_CHECK;
void cfg_destroy(struct cfg **cfg);

/* Refuses unknown sections and options, naming file, line and the nearest
 * known name; warns of options given twice, where the first counts, as in
 * Darknet. `schemas` ends with a NULL section. */
enum status cfg_check(const struct cfg *cfg, const struct cfg_schema *schemas, struct err *err) MUST_CHECK;

/* The first section of that name, or NULL. */
const struct cfg_section *cfg_find(const struct cfg *cfg, const char *section);
/* The option, or NULL. */
const struct cfg_option *cfg_option(const struct cfg_section *section, const char *key);
/* The option's text, or `fallback`. */
const char *cfg_string(const struct cfg_section *section, const char *key, const char *fallback);
/* Numbers: STATUS_FORMAT with file and line if the text is not one or is out
 * of [min, max]; *value keeps what it holds (the default) if there is none. */
enum status cfg_int(const struct cfg *cfg, const struct cfg_section *section, const char *key, int min, int max,
                    int *value, struct err *err) MUST_CHECK;
enum status cfg_float(const struct cfg *cfg, const struct cfg_section *section, const char *key, double min,
                      double max, float *value, struct err *err) MUST_CHECK;
/* 0 or 1. */
enum status cfg_bool(const struct cfg *cfg, const struct cfg_section *section, const char *key, bool *value,
                     struct err *err) MUST_CHECK;
/* Comma-separated lists: *values is malloc'ed (NULL and *count 0 if there is
 * no such option). */
enum status cfg_ints(const struct cfg *cfg, const struct cfg_section *section, const char *key, int **values,
                     int *count, struct err *err) MUST_CHECK;
enum status cfg_floats(const struct cfg *cfg, const struct cfg_section *section, const char *key, float **values,
                       int *count, struct err *err) MUST_CHECK;

/* "name:line: text"; STATUS_FORMAT. */
enum status cfg_error(const struct cfg *cfg, int line, struct err *err, const char *format, ...) PRINTF_LIKE(4, 5);
/* The candidate nearest to `word` by edit distance, or NULL if none is near. */
const char *cfg_nearest(const char *word, const char *const *candidates, int ncandidates);

#endif
