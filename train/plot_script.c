/* Colours tell files apart (Okabe and Ito's, which the colour-blind can tell
 * apart, too), dashes and points the kinds of data. Keys stand below the
 * panels, where no data are. */
#include "train/plot.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static const char *const colours[] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000" };
enum { NCOLOURS = sizeof colours / sizeof *colours, PANEL_W = 760, PANEL_H = 560 };

enum panel { PANEL_LOSS, PANEL_ACCURACY, PANEL_WORK, PANEL_LATENCY, PANEL_COUNT };

const char *plot_terminal(const char *picture) {
    static const struct {
        const char *ending, *terminal;
    } known[] = { { ".png", "pngcairo size %d,%d font 'sans,11'" },
                  { ".svg", "svg size %d,%d dynamic font 'sans,13' background 'white'" },
                  { ".pdf", "pdfcairo size %d/96.,%d/96. font 'sans,9'" } };
    const char *ending = strrchr(picture, '.');
    for (size_t i = 0; ending && i < sizeof known / sizeof *known; i++)
        if (strcasecmp(ending, known[i].ending) == 0) return known[i].terminal;
    return NULL;
}

/* As a gnuplot string. */
static void quote(FILE *out, const char *text) {
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\'') fputc('\'', out);
        fputc((unsigned char)*text < ' ' ? '?' : *text, out);
    }
    fputc('\'', out);
}

/* A file's name without its folder. */
static const char *base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* A key entry: the file, and what of it. */
static void title(FILE *out, const char *path, const char *what) {
    char text[256];
    snprintf(text, sizeof text, "%.180s%s%s", base(path), *what ? ": " : "", what);
    fputs(" title ", out);
    quote(out, text);
}

/* ---- data ------------------------------------------------------------------ */

static void write_log_data(FILE *out, const struct plot_log *log, int i) {
    fprintf(out, "# epoch, loss, accuracy in %%: running averages over the training images\n$steps%d << EOD\n", i);
    for (int k = 0; k < log->nsteps; k++)
        fprintf(out, "%.5g %.5g %.5g\n", log->steps[k].epoch, log->steps[k].loss, 100 * log->steps[k].accuracy);
    fprintf(out, "EOD\n");
    for (int level = 0; level < PLAN_MAX_LEVELS; level++) {
        int n = 0;
        for (int k = 0; k < log->nlooks; k++) {
            if (log->looks[k].level != level) continue;
            if (n++ == 0) fprintf(out, "# epoch, held-out accuracy in %% at level %d\n$looks%d_%d << EOD\n", level, i, level);
            fprintf(out, "%d %.5g\n", log->looks[k].epoch, 100 * log->looks[k].accuracy);
        }
        if (n) fprintf(out, "EOD\n");
    }
}

static bool has_level(const struct plot_log *log, int level) {
    for (int k = 0; k < log->nlooks; k++)
        if (log->looks[k].level == level) return true;
    return false;
}

static void write_model_data(FILE *out, const struct plot_model *model, int i) {
    fprintf(out, "# multiply-adds in %%, accuracy in %%, ms, level\n$uniform%d << EOD\n", i);
    for (int k = 0; k < model->nuniform; k++)
        fprintf(out, "%.5g %.5g %.5g %d\n", 100 * model->uniform[k].cost, 100 * model->uniform[k].accuracy,
                model->uniform[k].ms, k);
    fprintf(out, "EOD\n");
    if (!model->nrandom) return;
    fprintf(out, "# random plans: multiply-adds in %%, accuracy in %%, ms\n$random%d << EOD\n", i);
    for (int k = 0; k < model->nrandom; k++)
        fprintf(out, "%.5g %.5g %.5g\n", 100 * model->random[k].cost, 100 * model->random[k].accuracy,
                model->random[k].ms);
    fprintf(out, "EOD\n");
}

/* ---- panels ---------------------------------------------------------------- */

static void loss_panel(FILE *out, const struct plot *plot) {
    fprintf(out, "set title 'Loss on the training images'\nset xlabel \"epoch\\n\"\nset ylabel 'cross-entropy, nats'\n"
                 "set xrange [0:*]\nset yrange [0:*]\nplot ");
    for (int i = 0; i < plot->nlogs; i++) {
        fprintf(out, "%s$steps%d using 1:2 with lines lw 2 lc rgb '%s'", i ? ", \\\n  " : "", i, colours[i % NCOLOURS]);
        title(out, plot->logs[i].name, "");
    }
    fprintf(out, "\n");
}

static void accuracy_panel(FILE *out, const struct plot *plot) {
    fprintf(out, "set title 'Accuracy while training'\nset xlabel \"epoch\\n\"\nset ylabel 'top-1 accuracy, %%'\n"
                 "set xrange [0:*]\nset yrange [0:100]\nplot ");
    for (int i = 0; i < plot->nlogs; i++) {
        const struct plot_log *log = &plot->logs[i];
        const char *colour = colours[i % NCOLOURS];
        fprintf(out, "%s$steps%d using 1:3 with lines lw 1 lc rgb '%s'", i ? ", \\\n  " : "", i, colour);
        title(out, log->name, "training images");
        for (int level = 0, kind = 0; level < PLAN_MAX_LEVELS; level++) {
            if (!has_level(log, level)) continue;
            char what[40];
            snprintf(what, sizeof what, "held out, level %d", level);
            fprintf(out, ", \\\n  $looks%d_%d using 1:2 with linespoints lw 2 dt %d pt %d ps 1 lc rgb '%s'", i, level,
                    1 + kind % 4, 5 + 2 * (kind % 4), colour);
            title(out, log->name, what);
            kind++;
        }
    }
    fprintf(out, "\n");
}

/* Tens around all accuracies, so that small differences show. */
static void accuracy_range(FILE *out, const struct plot *plot) {
    double low = 1, high = 0;
    for (int i = 0; i < plot->nmodels; i++) {
        const struct plot_model *m = &plot->models[i];
        for (int k = 0; k < m->nuniform + m->nrandom; k++) {
            double a = k < m->nuniform ? m->uniform[k].accuracy : m->random[k - m->nuniform].accuracy;
            low = a < low ? a : low;
            high = a > high ? a : high;
        }
    }
    low = 10 * floor(10 * low - .2), high = 10 * ceil(10 * high + .2);
    fprintf(out, "set yrange [%g:%g]\n", low > 0 ? low : 0, high < 100 ? high : 100);
}

/* Both have accuracy against a column of the models' data. */
static void models_panel(FILE *out, const struct plot *plot, int column) {
    accuracy_range(out, plot);
    fprintf(out, "set ylabel 'top-1 accuracy on held-out images, %%'\nplot ");
    for (int i = 0; i < plot->nmodels; i++) {
        const struct plot_model *m = &plot->models[i];
        const char *colour = colours[i % NCOLOURS];
        if (m->nrandom) {
            fprintf(out, "$random%d using %d:2 with points pt 6 ps .7 lc rgb '%s'", i, column, colour);
            title(out, m->name, "random plans");
            fprintf(out, ", \\\n  ");
        }
        fprintf(out, "$uniform%d using %d:2 with linespoints lw 2 pt 7 ps 1 lc rgb '%s'", i, column, colour);
        title(out, m->name, "one level throughout");
        fprintf(out, ", \\\n  $uniform%d using %d:2:4 with labels offset 0,%s tc rgb '%s' notitle%s", i, column,
                i % 2 ? "-.9" : ".9", colour, i + 1 < plot->nmodels ? ", \\\n  " : "\n");
    }
}

static void work_panel(FILE *out, const struct plot *plot) {
    fprintf(out, "set title 'Accuracy against work (numbers: levels)'\n"
                 "set xlabel \"multiply-adds, %% of full width\\n\"\nset xrange [0:105]\n");
    models_panel(out, plot, 1);
}

static void latency_panel(FILE *out, const struct plot *plot) {
    char label[160];
    snprintf(label, sizeof label, "latency of an image on %s, %d thread%s, ms", plot->profile->device,
             plot->profile->threads, plot->profile->threads == 1 ? "" : "s");
    fprintf(out, "set title 'Accuracy against latency (numbers: levels)'\nset xlabel ");
    quote(out, label);
    fprintf(out, ".\"\\n\"\nset xrange [0:*]\n");
    models_panel(out, plot, 3);
}

void plot_write(const struct plot *plot, const char *picture, FILE *out) {
    static void (*const draw[PANEL_COUNT])(FILE *, const struct plot *) = {
        [PANEL_LOSS] = loss_panel, [PANEL_ACCURACY] = accuracy_panel, [PANEL_WORK] = work_panel,
        [PANEL_LATENCY] = latency_panel,
    };
    const bool shown[PANEL_COUNT] = {
        [PANEL_LOSS] = plot->nlogs > 0, [PANEL_ACCURACY] = plot->nlogs > 0, [PANEL_WORK] = plot->nmodels > 0,
        [PANEL_LATENCY] = plot->nmodels > 0 && plot->profile,
    };
    int n = 0;
    for (int p = 0; p < PANEL_COUNT; p++) n += shown[p];
    int columns = n == 4 ? 2 : n, rows = n == 4 ? 2 : 1;
    fprintf(out, "# Written by espalier-train plot; `gnuplot THIS_FILE` draws it again.\n");
    for (int i = 0; i < plot->nlogs; i++) write_log_data(out, &plot->logs[i], i);
    for (int i = 0; i < plot->nmodels; i++) write_model_data(out, &plot->models[i], i);
    fprintf(out, "picture = ARGC > 0 ? ARG1 : ");
    quote(out, picture);
    fprintf(out, "\nset terminal ");
    fprintf(out, plot_terminal(picture), columns * PANEL_W, rows * PANEL_H);
    fprintf(out, " noenhanced\nset output picture\nset multiplot layout %d,%d\n"
                 "set grid lt 1 lw 1 lc rgb '#e4e4e4'\nset border 3\nset tics nomirror\n"
                 "set key bmargin center vertical Left reverse maxrows 6 samplen 3 font ',9'\n",
            rows, columns);
    for (int p = 0; p < PANEL_COUNT; p++)
        if (shown[p]) draw[p](out, plot);
    fprintf(out, "unset multiplot\nset output\n");
}
