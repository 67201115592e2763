#include "common/options.h"

#include "common/cfg.h"
#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(const struct options_command *command) {
    printf("usage: %s %s\n\n%s\n", log_program(), command->usage, command->summary);
    if (command->options && command->options->name) printf("\noptions:\n");
    for (const struct option *o = command->options; o && o->name; o++) {
        char left[64], value[64] = "";
        snprintf(left, sizeof left, "%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
        if (o->letter) {
            size_t n = strlen(left);
            snprintf(left + n, sizeof left - n, ", -%c", o->letter);
        }
        switch (o->kind) {
        case OPTION_FLAG: break;
        case OPTION_INT: snprintf(value, sizeof value, " (default %d)", *(int *)o->value); break;
        case OPTION_DOUBLE: snprintf(value, sizeof value, " (default %g)", *(double *)o->value); break;
        case OPTION_STRING:
            if (*(const char **)o->value) snprintf(value, sizeof value, " (default %s)", *(const char **)o->value);
            break;
        }
        printf("  %-26s %s%s\n", left, o->help, value);
    }
}

static const struct option *find(const struct option *options, const char *name, size_t length) {
    for (const struct option *o = options; o && o->name; o++)
        if (strlen(o->name) == length && memcmp(o->name, name, length) == 0) return o;
    return NULL;
}

static enum status unknown(const struct options_command *command, const char *word, struct err *err) {
    const char *names[64];
    int n = 0;
    for (const struct option *o = command->options; o && o->name && n < 64; o++) names[n++] = o->name;
    const char *near = cfg_nearest(word, names, n);
    err_set(err, STATUS_USAGE, "unknown option '%s'", word);
    if (near) err_hint(err, "did you mean '%s'?", near);
    else err_hint(err, "see '%s %.*s --help'", log_program(), (int)strcspn(command->usage, " "), command->usage);
    return STATUS_USAGE;
}

static enum status store(const struct option *o, const char *text, struct err *err) {
    char *end;
    errno = 0;
    if (o->kind == OPTION_STRING) {
        *(const char **)o->value = text;
        return STATUS_OK;
    }
    if (o->kind == OPTION_INT) {
        long v = strtol(text, &end, 10);
        if (end == text || *end || errno || v < INT_MIN || v > INT_MAX)
            return err_set(err, STATUS_USAGE, "%s takes a whole number, not '%s'", o->name, text);
        *(int *)o->value = (int)v;
        return STATUS_OK;
    }
    double v = strtod(text, &end);
    if (end == text || *end || errno || v != v)
        return err_set(err, STATUS_USAGE, "%s takes a number, not '%s'", o->name, text);
    *(double *)o->value = v;
    return STATUS_OK;
}

enum status options_parse(const struct options_command *command, int argc, char **argv, int *positional, int *help,
                          struct err *err) {
    int n = 0;
    bool only_positional = false;
    *help = 0;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        if (only_positional || word[0] != '-' || word[1] == '\0') {
            argv[n++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_positional = true;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(command);
            *help = 1;
            return STATUS_OK;
        }
        const struct option *o = NULL;
        const char *value = NULL;
        if (word[1] == '-') {
            size_t length = strcspn(word, "=");
            o = find(command->options, word, length);
            if (word[length] == '=') value = word + length + 1;
        } else {
            for (const struct option *c = command->options; c && c->name; c++)
                if (c->letter && c->letter == word[1] && word[2] == '\0') o = c;
        }
        if (!o) return unknown(command, word, err);
        if (o->kind == OPTION_FLAG) {
            if (value) return err_set(err, STATUS_USAGE, "%s takes no value", o->name);
            *(bool *)o->value = true;
            continue;
        }
        if (!value && i + 1 < argc) value = argv[++i];
        if (!value) return err_set(err, STATUS_USAGE, "%s needs a value: %s", o->name, o->argument);
        enum status status = store(o, value, err);
        if (status) return status;
    }
    bool too_many = command->max_positional >= 0 && n > command->max_positional;
    if (n < command->min_positional || too_many) {
        if (too_many) err_set(err, STATUS_USAGE, "too many arguments: '%s'", argv[command->max_positional]);
        else err_set(err, STATUS_USAGE, "too few arguments");
        err_hint(err, "usage: %s %s", log_program(), command->usage);
        return STATUS_USAGE;
    }
    *positional = n;
    return STATUS_OK;
}
