#include "common/cfg.h"

#include "common/file.h"
#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 16 << 20, MAX_WORD = 64 };

enum status cfg_error(const struct cfg *cfg, int line, struct err *err, const char *format, ...) {
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(err, STATUS_FORMAT, "%.200s:%d: %s", cfg->name, line, text);
}

/* ---- reading ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* Cuts off a comment: a '#' behind a blank, once there is a value before it. */
static void cut_comment(char *line) {
    const char *equals = strchr(line, '=');
    bool value = false;
    for (char *p = line; *p; p++) {
        if (*p == '#' && value && is_blank(p[-1])) {
            *p = '\0';
            return;
        }
        value |= !is_blank(*p) && (!equals || p > equals);
    }
}

static void drop_blanks(char *s) {
    char *out = s;
    for (; *s; s++)
        if (!is_blank(*s)) *out++ = *s;
    *out = '\0';
}

static char *trim(char *s) {
    while (is_blank(*s)) s++;
    size_t n = strlen(s);
    while (n && is_blank(s[n - 1])) n--;
    s[n] = '\0';
    return s;
}

struct parser {
    struct cfg *cfg;
    int room_sections, room_options; /* of the present section */
};

static enum status add_section(struct parser *p, const char *name, int line, struct err *err) {
    struct cfg *cfg = p->cfg;
    if (cfg->nsections == p->room_sections) {
        int room = p->room_sections ? 2 * p->room_sections : 16;
        struct cfg_section *larger = realloc(cfg->sections, (size_t)room * sizeof *larger);
        if (!larger) return err_memory(err, cfg->name);
        cfg->sections = larger;
        p->room_sections = room;
    }
    cfg->sections[cfg->nsections++] = (struct cfg_section){.name = name, .line = line};
    p->room_options = 0;
    return STATUS_OK;
}

static enum status add_option(struct parser *p, const char *key, const char *value, int line, struct err *err) {
    struct cfg_section *section = &p->cfg->sections[p->cfg->nsections - 1];
    if (section->noptions == p->room_options) {
        int room = p->room_options ? 2 * p->room_options : 8;
        struct cfg_option *larger = realloc(section->options, (size_t)room * sizeof *larger);
        if (!larger) return err_memory(err, p->cfg->name);
        section->options = larger;
        p->room_options = room;
    }
    section->options[section->noptions++] = (struct cfg_option){.key = key, .value = value, .line = line};
    return STATUS_OK;
}

static enum status parse_line(struct parser *p, char *line, int number, struct err *err) {
    struct cfg *cfg = p->cfg;
    char *start = trim(line);
    if (*start == '\0' || *start == '#' || *start == ';') return STATUS_OK;
    if (*start == '[') {
        cut_comment(start);
        drop_blanks(start);
        size_t n = strlen(start);
        char *close = strchr(start, ']');
        if (!close || close[1] != '\0' || n < 3 || n > MAX_WORD)
            return cfg_error(cfg, number, err, "a section is written [name], this is '%.40s'", start);
        *close = '\0';
        return add_section(p, start + 1, number, err);
    }
    bool flat = cfg->nsections == 0 || cfg->sections[cfg->nsections - 1].name[0] == '\0';
    if (!flat) {
        cut_comment(start);
        drop_blanks(start);
    }
    char *equals = strchr(start, '=');
    if (!equals) return cfg_error(cfg, number, err, "an option is written key=value, this is '%.40s'", start);
    *equals = '\0';
    char *key = trim(start), *value = trim(equals + 1);
    if (*key == '\0') return cfg_error(cfg, number, err, "there is no name before the '='");
    if (cfg->nsections == 0) {
        enum status status = add_section(p, "", number, err);
        if (status) return status;
    }
    return add_option(p, key, value, number, err);
}

enum status cfg_parse(struct cfg **out, const char *name, const char *text, size_t length, struct err *err) {
    if (length > MAX_TEXT) return err_set(err, STATUS_LIMIT, "%s: longer than %d bytes", name, MAX_TEXT);
    if (memchr(text, '\0', length)) return err_set(err, STATUS_FORMAT, "%s: holds a zero byte; is it text?", name);
    enum status status = STATUS_OK;
    struct cfg *cfg = calloc(1, sizeof *cfg);
    if (!cfg) return err_memory(err, name);
    cfg->name = strdup(name);
    cfg->text = malloc(length + 1);
    cfg->strings = malloc(length + 1);
    if (!cfg->name || !cfg->text || !cfg->strings) {
        status = err_memory(err, name);
        goto fail;
    }
    memcpy(cfg->text, text, length);
    cfg->text[length] = '\0';
    cfg->length = length;
    memcpy(cfg->strings, cfg->text, length + 1);

    struct parser parser = {.cfg = cfg};
    int number = 1;
    for (char *line = cfg->strings; line; number++) {
        char *end = strchr(line, '\n');
        if (end) *end = '\0';
        status = parse_line(&parser, line, number, err);
        if (status) goto fail;
        line = end ? end + 1 : NULL;
    }
    *out = cfg;
    return STATUS_OK;
fail:
    cfg_destroy(&cfg);
    return status;
}

enum status cfg_load(struct cfg **cfg, const char *path, struct err *err) {
    uint8_t *bytes;
    size_t length;
    enum status status = file_read(path, MAX_TEXT, &bytes, &length, err);
    if (status) return status;
    status = cfg_parse(cfg, path, (const char *)bytes, length, err);
    free(bytes);
    return status;
}

void cfg_destroy(struct cfg **cfg_pointer) {
    struct cfg *cfg = *cfg_pointer;
    if (!cfg) return;
    for (int i = 0; i < cfg->nsections; i++) free(cfg->sections[i].options);
    free(cfg->sections);
    free(cfg->strings);
    free(cfg->text);
    free(cfg->name);
    free(cfg);
    *cfg_pointer = NULL;
}

/* ---- checking ---- */

/* Levenshtein distance, for words of at most MAX_WORD characters. */
static int distance(const char *a, const char *b) {
    int row[MAX_WORD + 1];
    int m = (int)strlen(b);
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *cfg_nearest(const char *word, const char *const *candidates, int ncandidates) {
    const char *nearest = NULL;
    size_t length = strlen(word);
    if (length > MAX_WORD) return NULL;
    int best = (int)length / 3 + 2; /* further off is not a slip of the finger */
    for (int i = 0; i < ncandidates; i++) {
        if (strlen(candidates[i]) > MAX_WORD) continue;
        int d = distance(word, candidates[i]);
        if (d < best) {
            best = d;
            nearest = candidates[i];
        }
    }
    return nearest;
}

static enum status check_section(const struct cfg *cfg, const struct cfg_section *section,
                                 const struct cfg_schema *schema, struct err *err) {
    for (int i = 0; i < section->noptions; i++) {
        const struct cfg_option *option = &section->options[i];
        const char *names[256];
        int n = 0;
        bool known = false;
        for (const struct cfg_key *k = schema->keys; k->key && !known; k++) {
            if (n < 256) names[n++] = k->key;
            known = strcmp(k->key, option->key) == 0;
        }
        if (!known) {
            enum status status =
                cfg_error(cfg, option->line, err, "unknown option '%.64s' in [%s]", option->key, section->name);
            const char *near = cfg_nearest(option->key, names, n);
            if (near) err_hint(err, "did you mean '%s'?", near);
            return status;
        }
        const struct cfg_option *first = cfg_option(section, option->key);
        if (first != option && strcmp(first->value, option->value) != 0)
            log_warn("%s:%d: '%s' is given again in [%s]; line %d counts", cfg->name, option->line, option->key,
                     section->name, first->line);
    }
    return STATUS_OK;
}

enum status cfg_check(const struct cfg *cfg, const struct cfg_schema *schemas, struct err *err) {
    for (int i = 0; i < cfg->nsections; i++) {
        const struct cfg_section *section = &cfg->sections[i];
        const struct cfg_schema *schema = schemas;
        const char *names[64];
        int n = 0;
        for (; schema->section && strcmp(schema->section, section->name) != 0; schema++)
            if (n < 64) names[n++] = schema->section;
        if (!schema->section) {
            if (section->name[0] == '\0')
                return cfg_error(cfg, section->line, err, "option before the first [section]");
            enum status status = cfg_error(cfg, section->line, err, "unknown section [%s]", section->name);
            const char *near = cfg_nearest(section->name, names, n);
            if (near) err_hint(err, "did you mean [%s]?", near);
            return status;
        }
        enum status status = check_section(cfg, section, schema, err);
        if (status) return status;
    }
    return STATUS_OK;
}

/* ---- values ---- */

const struct cfg_section *cfg_find(const struct cfg *cfg, const char *section) {
    for (int i = 0; i < cfg->nsections; i++)
        if (strcmp(cfg->sections[i].name, section) == 0) return &cfg->sections[i];
    return NULL;
}

const struct cfg_option *cfg_option(const struct cfg_section *section, const char *key) {
    for (int i = 0; section && i < section->noptions; i++)
        if (strcmp(section->options[i].key, key) == 0) return &section->options[i];
    return NULL;
}

const char *cfg_string(const struct cfg_section *section, const char *key, const char *fallback) {
    const struct cfg_option *option = cfg_option(section, key);
    return option ? option->value : fallback;
}

static enum status not_a_number(const struct cfg *cfg, const struct cfg_option *option, const char *kind, double min,
                                double max, struct err *err) {
    return cfg_error(cfg, option->line, err, "'%s' takes %s from %g to %g, not '%.40s'", option->key, kind, min, max,
                     option->value);
}

/* One whole number at *text, moved behind it. */
static bool read_int(const char **text, int min, int max, int *value) {
    char *end;
    errno = 0;
    long v = strtol(*text, &end, 10);
    if (end == *text || errno || v < min || v > max) return false;
    *text = end;
    *value = (int)v;
    return true;
}

static bool read_float(const char **text, double min, double max, float *value) {
    char *end;
    double v = strtod(*text, &end);
    if (end == *text || !isfinite(v) || v < min || v > max) return false;
    *text = end;
    *value = (float)v;
    return true;
}

enum status cfg_int(const struct cfg *cfg, const struct cfg_section *section, const char *key, int min, int max,
                    int *value, struct err *err) {
    const struct cfg_option *option = cfg_option(section, key);
    if (!option) return STATUS_OK;
    const char *text = option->value;
    int v;
    if (!read_int(&text, min, max, &v) || *text)
        return not_a_number(cfg, option, "a whole number", min, max, err);
    *value = v;
    return STATUS_OK;
}

enum status cfg_float(const struct cfg *cfg, const struct cfg_section *section, const char *key, double min,
                      double max, float *value, struct err *err) {
    const struct cfg_option *option = cfg_option(section, key);
    if (!option) return STATUS_OK;
    const char *text = option->value;
    float v;
    if (!read_float(&text, min, max, &v) || *text) return not_a_number(cfg, option, "a number", min, max, err);
    *value = v;
    return STATUS_OK;
}

enum status cfg_bool(const struct cfg *cfg, const struct cfg_section *section, const char *key, bool *value,
                     struct err *err) {
    int v = *value;
    enum status status = cfg_int(cfg, section, key, 0, 1, &v, err);
    if (!status) *value = v;
    return status;
}

static int count_items(const char *text) {
    int n = 1;
    for (; *text; text++) n += *text == ',';
    return n;
}

/* A list of ints or floats: exactly one of the two outputs is wanted. */
static enum status read_list(const struct cfg *cfg, const struct cfg_section *section, const char *key, int **ints,
                             float **floats, int *count, struct err *err) {
    const struct cfg_option *option = cfg_option(section, key);
    if (!option) {
        if (ints) *ints = NULL;
        if (floats) *floats = NULL;
        *count = 0;
        return STATUS_OK;
    }
    int n = count_items(option->value);
    void *values = malloc((size_t)n * (ints ? sizeof **ints : sizeof **floats));
    if (!values) return err_memory(err, key);
    const char *text = option->value;
    for (int i = 0; i < n; i++) {
        bool good = ints ? read_int(&text, INT_MIN, INT_MAX, (int *)values + i)
                         : read_float(&text, -1e30, 1e30, (float *)values + i);
        if (!good || *text != (i + 1 < n ? ',' : '\0')) {
            free(values);
            return cfg_error(cfg, option->line, err, "'%s' takes numbers with commas between them, not '%.60s'", key,
                             option->value);
        }
        text++;
    }
    if (ints) *ints = values;
    if (floats) *floats = values;
    *count = n;
    return STATUS_OK;
}

enum status cfg_ints(const struct cfg *cfg, const struct cfg_section *section, const char *key, int **values,
                     int *count, struct err *err) {
    return read_list(cfg, section, key, values, NULL, count, err);
}

enum status cfg_floats(const struct cfg *cfg, const struct cfg_section *section, const char *key, float **values,
                       int *count, struct err *err) {
    return read_list(cfg, section, key, NULL, values, count, err);
}
