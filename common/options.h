/* Command-line options from a table; the help prints the values that are in
 * force, so the defaults that it shows are the real ones. */
#ifndef ESPALIER_OPTIONS_H
#define ESPALIER_OPTIONS_H

#include "common/err.h"

enum option_kind { OPTION_FLAG /* bool */, OPTION_INT, OPTION_DOUBLE, OPTION_STRING /* const char * */ };

struct option {
    const char *name; /* "--slo-ms" */
    char letter;      /* 'o' for -o, or 0 */
    enum option_kind kind;
    void *value;          /* holds the default, receives the value */
    const char *argument; /* "MS", NULL for a flag */
    const char *help;
};

/* A command: `usage` "predict MODEL IMAGE...", options end with a NULL name. */
struct options_command {
    const char *usage, *summary;
    const struct option *options;
    int min_positional, max_positional; /* -1: no limit */
};

/* Parses argv[0..argc) (behind the command's name). Options may stand
 * anywhere, "--name=value" too; "--" ends them. Positional arguments are moved to
 * the front of argv, their number is *positional. "--help" prints on stdout
 * and sets *help. STATUS_USAGE names what is wrong and the nearest option. */
enum status options_parse(const struct options_command *command, int argc, char **argv, int *positional, int *help,
                          struct err *err) MUST_CHECK;

#endif
