#include "common/cfg_writer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_EXCEPT = 8 };

static void append(struct cfg_writer *w, const char *format, ...) PRINTF_LIKE(2, 3);
static void append_args(struct cfg_writer *w, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (!w->failed && w->length + (size_t)n + 1 > w->room) {
        size_t room = 2 * (w->length + (size_t)n + 1);
        char *larger = realloc(w->text, room);
        w->failed = !larger;
        if (larger) {
            w->text = larger;
            w->room = room;
        }
    }
    if (!w->failed) {
        vsnprintf(w->text + w->length, (size_t)n + 1, format, again);
        w->length += (size_t)n;
    }
    va_end(again);
}
static void append(struct cfg_writer *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    append_args(w, format, args);
    va_end(args);
}

void cfg_writer_section(struct cfg_writer *w, const char *name) { append(w, "%s[%s]\n", w->length ? "\n" : "", name); }

void cfg_writer_option(struct cfg_writer *w, const char *key, const char *format, ...) {
    va_list args;
    va_start(args, format);
    append(w, "%s=", key);
    append_args(w, format, args);
    append(w, "\n");
    va_end(args);
}

static bool listed(const char *const *names, const char *name) {
    for (; names && *names; names++)
        if (strcmp(*names, name) == 0) return true;
    return false;
}

void cfg_writer_copy(struct cfg_writer *w, const struct cfg_section *section, const char *const *except) {
    cfg_writer_section(w, section->name);
    for (int i = 0; i < section->noptions; i++)
        if (!listed(except, section->options[i].key))
            append(w, "%s=%s\n", section->options[i].key, section->options[i].value);
}

void cfg_writer_layer(struct cfg_writer *w, const struct cfg_section *section, const struct net_layer *layer,
                      const int *new_index, int own, const char *const *except) {
    const char *names[MAX_EXCEPT + 1];
    int n = 0;
    for (; except && *except; except++) {
        assert(n < MAX_EXCEPT - 1);
        names[n++] = *except;
    }
    if (layer->kind == NET_SHORTCUT) names[n++] = "from";
    if (layer->kind == NET_ROUTE) names[n++] = "layers";
    names[n] = NULL;
    cfg_writer_copy(w, section, names);
    if (layer->kind == NET_SHORTCUT) append(w, "from=%d\n", new_index[layer->inputs[1] + 1] - own);
    if (layer->kind != NET_ROUTE) return;
    append(w, "layers=");
    for (int k = 0; k < layer->ninputs; k++) append(w, "%s%d", k ? "," : "", new_index[layer->inputs[k] + 1] - own);
    append(w, "\n");
}

enum status cfg_writer_finish(struct cfg_writer *w, const char *name, struct cfg **cfg, struct err *err) {
    enum status status = w->failed || !w->text ? err_memory(err, name) : cfg_parse(cfg, name, w->text, w->length, err);
    cfg_writer_free(w);
    return status;
}

void cfg_writer_free(struct cfg_writer *w) {
    free(w->text);
    *w = (struct cfg_writer){0};
}
