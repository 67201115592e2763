/* Pictures of training: what logs and model files say, as one gnuplot script
 * that holds its data and can be edited and run again.
 *
 * Panels, as far as there is something to show: loss and accuracy against
 * epochs (from logs), accuracy against multiply-adds and, with a device's
 * profile, against latency (from model files; every level throughout, and the
 * random plans that tested the accuracy model). */
#ifndef ESPALIER_PLOT_H
#define ESPALIER_PLOT_H

#include "common/err.h"
#include "common/profile.h"

#include <stdio.h>

/* A training run's log, see report.h. */
struct plot_log {
    char *name;
    int nsteps;
    struct plot_step {
        double epoch, loss, accuracy;
    } *steps;
    int nlooks; /* held-out accuracy behind epochs, level by level */
    struct plot_look {
        int epoch, level;
        double accuracy;
    } *looks;
};

struct plot_plan {
    double cost, accuracy; /* share of the multiply-adds of full width; share of images */
    double ms;             /* on the profile's device; 0 without */
};

struct plot_model {
    char *name;
    int nuniform; /* levels, each throughout */
    struct plot_plan *uniform;
    int nrandom;
    struct plot_plan *random;
};

struct plot {
    struct profile *profile; /* owned; NULL: none */
    int nlogs, nmodels;
    struct plot_log *logs;
    struct plot_model *models;
};

/* A log, or a model file whose accuracy was measured; with plot->profile, which
 * must be of as many blocks and levels as the model. */
enum status plot_add(struct plot *plot, const char *path, struct err *err) MUST_CHECK;
void plot_fini(struct plot *plot);

/* What plot_add reads: a log's text (JSON lines), or the model file `path`. */
enum status plot_read_log(struct plot_log *log, const char *path, const char *text, struct err *err) MUST_CHECK;
enum status plot_read_model(struct plot_model *model, const char *path, const struct profile *profile,
                            struct err *err) MUST_CHECK;

/* How gnuplot is to draw; NULL: no terminal for such a file. Judged by the
 * name's ending: .png, .svg, .pdf. */
const char *plot_terminal(const char *picture);
/* The script draws `picture`, or what its first argument names (gnuplot -c SCRIPT FILE). */
void plot_write(const struct plot *plot, const char *picture, FILE *script);

#endif
