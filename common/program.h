/* What both programs' main() does: find the command, run it, print what went
 * wrong, and turn it into the exit status. */
#ifndef ESPALIER_PROGRAM_H
#define ESPALIER_PROGRAM_H

#include "common/err.h"

/* Parses its own options from argv[0..argc) (behind the command's name). */
typedef enum status command_fn(int argc, char **argv, struct err *err);

struct program_command {
    const char *name;
    command_fn *run;
    const char *summary;
};

/* `commands` ends with a NULL name. Returns the exit status: 0, 1 or 2. */
int program_run(const char *program, const struct program_command *commands, int argc, char **argv);

#endif
