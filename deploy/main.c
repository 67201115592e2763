#include "deploy/commands.h"

#include "common/cfg.h"
#include "common/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    command_fn *run;
    const char *summary;
} commands[] = {
    {"predict", cmd_predict, "what is on images"},
    {"info", cmd_info, "layers, cut points, prune groups and levels of a model"},
    {"bench", cmd_bench, "latency of every level on this device"},
    {"profile", cmd_profile, "each block's latency, as the controller needs it"},
    {"selftest", cmd_selftest, "check kernels and results on this device"},
    {"slice", cmd_slice, "each slice as a model file of its own"},
    {"prune", cmd_prune, "a dense, smaller model of one plan"},
    {"keygen", cmd_keygen, "make the keys that devices know each other by"},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out) {
    fprintf(out, "usage: espalier-deploy COMMAND ...\n\ncommands:\n");
    for (int i = 0; commands[i].name; i++) fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n'espalier-deploy COMMAND --help' lists the options of one.\n");
}

static enum status unknown(const char *word, struct err *err) {
    const char *names[32];
    int n = 0;
    while (commands[n].name && n < 32) {
        names[n] = commands[n].name;
        n++;
    }
    const char *near = cfg_nearest(word, names, n);
    err_set(err, STATUS_USAGE, "there is no command '%s'", word);
    if (near) err_hint(err, "did you mean '%s'?", near);
    else err_hint(err, "see 'espalier-deploy --help'");
    return STATUS_USAGE;
}

static enum status dispatch(int argc, char **argv, struct err *err) {
    for (int i = 0; commands[i].name; i++)
        if (strcmp(commands[i].name, argv[1]) == 0) return commands[i].run(argc - 2, argv + 2, err);
    return unknown(argv[1], err);
}

int main(int argc, char **argv) {
    log_init("espalier-deploy", LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_help(stderr);
        return err_exit_status(STATUS_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    struct err err = {0};
    enum status status = dispatch(argc, argv, &err);
    /* A result that could not be written is no result. */
    if (!status && (fflush(stdout) != 0 || ferror(stdout))) status = err_errno(&err, "cannot write to standard output");
    if (status) err_print("espalier-deploy", &err);
    return err_exit_status(status);
}
