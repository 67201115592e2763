#include "train/commands.h"

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
    {"synth", cmd_synth, "draw a small labelled dataset of camera-trap pictures"},
    {"train", cmd_train, "train a network that survives pruning"},
    {"eval", cmd_eval, "accuracy of a model under any plan"},
    {"classifier", cmd_classifier, "train, valid, predict: Darknet's habit"},
    {"convert", cmd_convert, "a model from Darknet's cfg and weights, or back"},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out) {
    fprintf(out, "usage: espalier-train COMMAND ...\n\ncommands:\n");
    for (int i = 0; commands[i].name; i++) fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n'espalier-train COMMAND --help' lists the options of one.\n");
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
    else err_hint(err, "see 'espalier-train --help'");
    return STATUS_USAGE;
}

static enum status dispatch(int argc, char **argv, struct err *err) {
    for (int i = 0; commands[i].name; i++)
        if (strcmp(commands[i].name, argv[1]) == 0) return commands[i].run(argc - 2, argv + 2, err);
    return unknown(argv[1], err);
}

int main(int argc, char **argv) {
    log_init("espalier-train", LOG_INFO);
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
    if (status) err_print("espalier-train", &err);
    return err_exit_status(status);
}
