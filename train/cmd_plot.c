/* plot: pictures of training logs and model files, drawn by gnuplot. */
#include "train/commands.h"

#include "common/file.h"
#include "common/options.h"
#include "train/plot.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { MAX_PROFILE = 64 << 20 };

static enum status read_profile(struct profile **profile, const char *path, struct err *err) {
    uint8_t *text;
    size_t length;
    enum status status = file_read(path, MAX_PROFILE, &text, &length, err);
    if (status) return status;
    status = profile_parse(profile, path, (const char *)text, err);
    free(text);
    return status;
}

/* "dir/curves.png" to "dir/curves<suffix>", malloc'ed. */
static char *beside(const char *picture, const char *suffix) {
    const char *ending = strrchr(picture, '.');
    char *path;
    return asprintf(&path, "%.*s%s", (int)(ending - picture), picture, suffix) < 0 ? NULL : path;
}

static enum status write_script(const struct plot *plot, const char *picture, const char *script, struct err *err) {
    struct file_replace file;
    enum status status = file_replace_open(&file, script, err);
    if (status) return status;
    plot_write(plot, picture, file.stream);
    return file_replace_commit(&file, err);
}

/* Exit status of `gnuplot -c script picture`; 127: there is none. */
static int run_gnuplot(char *picture, char *script) {
    char *arguments[] = { "gnuplot", "-c", script, picture, NULL };
    pid_t pid;
    int status, rc = posix_spawnp(&pid, "gnuplot", NULL, NULL, arguments, environ);
    if (rc) return rc == ENOENT ? 127 : 126;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

/* Into a temporary file first: a picture that is there stays until the new one is whole. */
static enum status draw(const char *picture, char *script, struct err *err) {
    char suffix[40];
    snprintf(suffix, sizeof suffix, ".tmp%ld", (long)getpid());
    char *temporary = beside(picture, suffix);
    enum status status = STATUS_OK;
    if (!temporary) return err_memory(err, picture);
    int rc = run_gnuplot(temporary, script);
    if (rc == 127) {
        status = err_set(err, STATUS_IO, "gnuplot is not installed: %s holds data and script, %s was not drawn", script, picture);
        err_hint(err, "apt-get install gnuplot-nox, then: gnuplot %s", script);
    } else if (rc != 0) {
        status = err_set(err, STATUS_IO, "gnuplot could not draw %s (status %d)", picture, rc);
        err_hint(err, "the script is %s", script);
    } else if (rename(temporary, picture) != 0) {
        status = err_errno(err, "cannot write %s", picture);
    }
    if (status) unlink(temporary);
    free(temporary);
    return status;
}

static enum status gather(struct plot *plot, const char *profile, int n, char **paths, struct err *err) {
    enum status status = profile ? read_profile(&plot->profile, profile, err) : STATUS_OK;
    for (int i = 0; !status && i < n; i++) status = plot_add(plot, paths[i], err);
    if (!status && profile && plot->nmodels == 0)
        status = err_set(err, STATUS_USAGE, "--profile needs a model file whose accuracy is held against latency");
    return status;
}

enum status cmd_plot(int argc, char **argv, struct err *err) {
    const char *picture = "training.png", *profile = NULL;
    const struct option options[] = {
        { "--output", 'o', OPTION_STRING, &picture, "FILE", "the picture: .png, .svg or .pdf; its data and script beside it as .gp" },
        { "--profile", 0, OPTION_STRING, &profile, "FILE", "of `espalier-deploy profile`: accuracy against latency, too" },
        { 0 },
    };
    const struct options_command usage = { "plot FILE...",
                                           "Draws training logs (train --log) and the accuracy of model files with gnuplot.",
                                           options, 1, -1 };
    int positional, help;
    enum status status = options_parse(&usage, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (!plot_terminal(picture))
        return err_set(err, STATUS_USAGE, "a picture's name ends in .png, .svg or .pdf, not '%s'", picture);
    struct plot plot = { 0 };
    char *script = beside(picture, ".gp");
    if (!script) return err_memory(err, picture);
    status = gather(&plot, profile, positional, argv, err);
    if (!status) status = write_script(&plot, picture, script, err);
    if (!status) status = draw(picture, script, err);
    if (!status) printf("%s\n", picture);
    plot_fini(&plot);
    free(script);
    return status;
}
