/* Errors as values: a status, and a text that says what, where and what to do.
 *
 * Every function that can fail returns `enum status` and writes the text to a
 * caller-owned `struct err`, which may be NULL where only the status matters.
 * On failure outputs are untouched. Only main() exits. */
#ifndef ESPALIER_ERR_H
#define ESPALIER_ERR_H

enum status {
    STATUS_OK = 0,
    STATUS_MEMORY, /* an allocation failed */
    STATUS_IO,     /* the operating system refused: file, socket, disk */
    STATUS_FORMAT, /* a file or message is not what it should be */
    STATUS_LIMIT,  /* well-formed, but beyond a stated limit */
    STATUS_USAGE,  /* the command line or an argument is wrong */
    STATUS_TIMEOUT,
    STATUS_CANCELLED, /* a signal or the user asked to stop */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

struct err {
    enum status status;
    char text[480]; /* one line, no full stop, no newline */
    char hint[240]; /* what to do about it, or empty */
};

/* Sets the text, clears the hint; returns `status` so that callers can write
 * `return err_set(err, STATUS_FORMAT, ...)`. */
enum status err_set(struct err *err, enum status status, const char *format, ...) PRINTF_LIKE(3, 4);
/* STATUS_IO with ": <strerror(errno)>" appended. */
enum status err_errno(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);
/* "out of memory (<what>)". */
enum status err_memory(struct err *err, const char *what);
void err_hint(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);
/* Puts "<prefix>: " before the text, for context as an error travels up. */
void err_prefix(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);
/* "prog: text" and, if there is one, "hint: ..." on stderr. */
void err_print(const char *program, const struct err *err);
/* The process's exit status: 0 done, 1 failed, 2 misused. */
int err_exit_status(enum status status);

#endif
