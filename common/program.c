#include "common/program.h"

#include "common/cfg.h"
#include "common/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static void print_help(const char *program, const struct program_command *commands, FILE *out) {
    fprintf(out, "usage: %s COMMAND ...\n\ncommands:\n", program);
    for (; commands->name; commands++) fprintf(out, "  %-12s %s\n", commands->name, commands->summary);
    fprintf(out, "\n'%s COMMAND --help' lists the options of one.\n", program);
}

static enum status unknown(const char *program, const struct program_command *commands, const char *word, struct err *err) {
    const char *names[32];
    int n = 0;
    for (; commands->name && n < 32; commands++) names[n++] = commands->name;
    const char *near = cfg_nearest(word, names, n);
    err_set(err, STATUS_USAGE, "there is no command '%s'", word);
    if (near) err_hint(err, "did you mean '%s'?", near);
    else err_hint(err, "see '%s --help'", program);
    return STATUS_USAGE;
}

int program_run(const char *program, const struct program_command *commands, int argc, char **argv) {
    log_init(program, LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_help(program, commands, stderr);
        return err_exit_status(STATUS_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(program, commands, stdout);
        return 0;
    }
    struct err err = {0};
    const struct program_command *c = commands;
    while (c->name && strcmp(c->name, argv[1]) != 0) c++;
    enum status status = c->name ? c->run(argc - 2, argv + 2, &err) : unknown(program, commands, argv[1], &err);
    /* A result that could not be written is no result. */
    if (!status && (fflush(stdout) != 0 || ferror(stdout))) status = err_errno(&err, "cannot write to standard output");
    if (status) err_print(program, &err);
    return err_exit_status(status);
}
