#include "common/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum status err_set(struct err *err, enum status status, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        err->status = status;
        err->hint[0] = '\0';
    }
    return status;
}

enum status err_errno(struct err *err, const char *format, ...) {
    int saved = errno;
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(saved));
        err->status = STATUS_IO;
        err->hint[0] = '\0';
    }
    return STATUS_IO;
}

enum status err_memory(struct err *err, const char *what) {
    return err_set(err, STATUS_MEMORY, "out of memory (%s)", what);
}

void err_hint(struct err *err, const char *format, ...) {
    if (!err) return;
    va_list args;
    va_start(args, format);
    vsnprintf(err->hint, sizeof err->hint, format, args);
    va_end(args);
}

void err_prefix(struct err *err, const char *format, ...) {
    if (!err) return;
    char text[sizeof err->text];
    memcpy(text, err->text, sizeof text);
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %s", text);
}

void err_print(const char *program, const struct err *err) {
    fprintf(stderr, "%s: %s\n", program, err->text);
    if (err->hint[0]) fprintf(stderr, "hint: %s\n", err->hint);
}

int err_exit_status(enum status status) {
    if (status == STATUS_OK) return 0;
    return status == STATUS_USAGE ? 2 : 1;
}
