/* What training and evaluation tell: a log of JSON lines, and the table of
 * levels on stdout. */
#ifndef ESPALIER_REPORT_H
#define ESPALIER_REPORT_H

#include "common/err.h"
#include "common/model.h"

#include <stdbool.h>
#include <stdio.h>

/* One line each: {"kind":"begin",...} once, then {"kind":"step",...} and
 * {"kind":"epoch",...} (and, where there is a soft mask, {"kind":"mask",...} when channels
 * are put in its order), at last {"kind":"done",...}. */
struct report {
    FILE *file; /* NULL: no log is kept */
    const char *path;
};

struct report_step {
    int step, epoch; /* from 1 */
    double loss, accuracy, rate, images_per_s;
};
struct report_epoch {
    int epoch; /* from 1 */
    int step;  /* that it ended with */
    double loss, accuracy, seconds;
    int nlevels; /* levels looked at; 0: none */
    int levels[3];
    double held_out[3]; /* accuracy there */
};

/* `path` NULL: nothing is written. A run resumed behind `step` (-1: a new run)
 * goes on with its log, from which lines about later steps are cut off. The
 * first line is {"kind":"begin","steps_per_epoch":..., and the fields of the
 * JSON object `settings`}. */
enum status report_open(struct report *report, const char *path, int step, int steps_per_epoch, const char *settings,
                        struct err *err) MUST_CHECK;
void report_step(struct report *report, const struct report_step *step);
void report_epoch(struct report *report, const struct report_epoch *epoch);
/* Behind `step`, at that temperature: so many channels came into the narrowest level. */
void report_mask(struct report *report, int step, double temperature, int entered);
/* The fields of the JSON object `json`, as the line of kind "done". */
void report_done(struct report *report, const char *json);
/* Whether all of it was written. */
enum status report_close(struct report *report, struct err *err) MUST_CHECK;

/* What a plan computes: multiply-adds of an image, and the trained values (weights,
 * biases, batch norm's scales and shifts) that it reads. */
struct report_size {
    double multiply_adds, parameters;
};
enum status report_size(const struct model *model, const struct plan *plan, struct report_size *size,
                        struct err *err) MUST_CHECK;
/* Share of the multiply-adds of full width that a plan needs. */
enum status report_cost(const struct model *model, const struct plan *plan, double *share, struct err *err) MUST_CHECK;
/* Level, share of channels, multiply-adds, parameters and accuracy of every
 * uniform plan: a table, or with `json` a line each. */
enum status report_levels(const struct model *model, const double *accuracy, bool json, FILE *out,
                          struct err *err) MUST_CHECK;
/* A plan as the command line takes it, a slice beginning wherever level or link
 * change: levels "0,2,2", cuts (behind which layers) "8,15", links "0,3" (empty
 * if none is capped). Texts of `size` bytes each. */
void report_plan(const struct model *model, const struct plan *plan, char *levels, char *cuts, char *links,
                 size_t size);

#endif
