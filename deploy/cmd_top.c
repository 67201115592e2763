/* A run as seen through its --metrics: fetched, read and drawn once a second. */
#include "deploy/commands.h"

#include "common/log.h"
#include "common/options.h"
#include "deploy/metrics.h"
#include "deploy/signals.h"

#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double FETCH_S = 5;
enum { MOST_WORKERS = 256 };

/* ---- the page's lines: name{label="value",...} number ---- */

/* The value of that name whose labels contain `label` (NULL: any); NAN: there is none. */
static double value_of(const char *page, const char *name, const char *label) {
    size_t length = strlen(name);
    for (const char *line = page; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, name, length) != 0 || (line[length] != ' ' && line[length] != '{')) continue;
        const char *end = strchr(line, '\n'), *space = line + length;
        if (*space == '{') space = strchr(space, '}') ? strchr(space, '}') + 1 : NULL;
        if (!end || !space || space > end) continue;
        const char *found = label ? strstr(line, label) : line;
        if (found && found < space) return strtod(space, NULL);
    }
    return NAN;
}

/* Copies the label's value from a line. */
static bool label_of(const char *line, const char *name, char *value, size_t size) {
    char key[40];
    const char *end = strchr(line, '\n');
    snprintf(key, sizeof key, "%s=\"", name);
    const char *at = strstr(line, key);
    if (!at || !end || at > end) return false;
    at += strlen(key);
    size_t length = strcspn(at, "\"\n");
    if (length >= size) return false;
    memcpy(value, at, length);
    value[length] = '\0';
    return true;
}

/* ---- the picture ---- */

/* Right-aligned; "-" for what is not known. */
static void cell(int width, const char *format, double value) {
    char text[40] = "-";
    if (!isnan(value)) snprintf(text, sizeof text, format, value);
    printf(" %*s", width, text);
}

static void draw_frames(const char *page, double since_s, double *last_done) {
    double done = value_of(page, "espalier_results_total", "\"done\"");
    double deadline = value_of(page, "espalier_deadline_seconds", NULL), rate = NAN;
    if (!isnan(*last_done) && since_s > 0) rate = fmax(0, done - *last_done) / since_s;
    *last_done = done;
    printf("frames  %.0f accepted, %.0f done, %.0f failed, %.0f dropped, %.0f refused, %.0f sent again\n",
           value_of(page, "espalier_frames_accepted_total", NULL), done,
           value_of(page, "espalier_results_total", "\"failed\""),
           value_of(page, "espalier_results_total", "\"dropped\""),
           value_of(page, "espalier_results_total", "\"refused\""), value_of(page, "espalier_resent_total", NULL));
    printf("queues  %.0f waiting, %.0f of %.0f in flight, %.0f being stored",
           value_of(page, "espalier_frames", "\"waiting\""), value_of(page, "espalier_frames", "\"in_flight\""),
           value_of(page, "espalier_credits", NULL), value_of(page, "espalier_frames", "\"storing\""));
    if (!isnan(rate)) printf("; %.1f frames/s", rate);
    printf("\nlatency p50 %.1f ms, p95 %.1f ms, p99 %.1f ms of the latest",
           1e3 * value_of(page, "espalier_recent_latency_seconds", "\"0.5\""),
           1e3 * value_of(page, "espalier_recent_latency_seconds", "\"0.95\""),
           1e3 * value_of(page, "espalier_recent_latency_seconds", "\"0.99\""));
    if (!isnan(deadline))
        printf("; %.1f%% within %g ms", 100 * value_of(page, "espalier_attainment", NULL), 1e3 * deadline);
    printf("; %.0f switches\n", value_of(page, "espalier_switches_total", NULL));
}

static void draw_worker(const char *page, const char *line) {
    char stage[16], worker[80], label[128], codec[24] = "-";
    if (!label_of(line, "stage", stage, sizeof stage) || !label_of(line, "worker", worker, sizeof worker)) return;
    snprintf(label, sizeof label, "{stage=\"%s\",worker=\"%s\"", stage, worker);
    const char *coded = page;
    while ((coded = strstr(coded, "espalier_link_codec{"))) {
        if (strncmp(coded + strlen("espalier_link_codec"), label, strlen(label)) == 0 &&
            label_of(coded, "codec", codec, sizeof codec))
            break;
        coded++;
    }
    bool up = value_of(page, "espalier_worker_up", label) > 0;
    bool ready = value_of(page, "espalier_worker_ready", label) > 0;
    printf("%5s  %-16.16s %-6s", stage, worker, ready ? "ready" : up ? "up" : "DOWN");
    cell(5, "%.0f", value_of(page, "espalier_stage_level", label));
    cell(5, "%.0f", value_of(page, "espalier_link_level", label));
    printf(" %6s", codec);
    cell(6, "%.0f", value_of(page, "espalier_worker_queue", label));
    cell(9, "%.0f", value_of(page, "espalier_worker_frames_total", label));
    cell(9, "%.2f", 1e3 * value_of(page, "espalier_stage_seconds", label));
    cell(10, "%.1f", 1e-3 * value_of(page, "espalier_link_bytes_per_second", label));
    cell(8, "%.0f", value_of(page, "espalier_worker_refused_total", label));
    printf("\n");
}

static void draw(const char *page, double since_s, double *last_done) {
    draw_frames(page, since_s, last_done);
    printf("\nstage  worker           state  level  link  codec  queue    frames  ms/frame  link KB/s refused\n");
    int n = 0;
    for (const char *line = page; (line = strstr(line, "espalier_worker_up{")) && n < MOST_WORKERS; line++, n++)
        draw_worker(page, line);
}

/* ---- the command ---- */

static enum status look(const char *address, bool once, double interval_s, struct err *err) {
    int signal_fd = -1;
    double last_done = NAN, last_s = 0;
    bool terminal = !once && isatty(STDOUT_FILENO);
    enum status status = signals_open(&signal_fd, err);
    while (!status) {
        char *page = NULL;
        status = metrics_fetch(address, FETCH_S, &page, err);
        if (status) break;
        double now_s = log_now_s();
        if (terminal) printf("\033[H\033[J");
        draw(page, now_s - last_s, &last_done);
        if (!once && !terminal) printf("\n");
        free(page);
        last_s = now_s;
        if (fflush(stdout) != 0) status = err_errno(err, "standard output");
        struct pollfd item = { signal_fd, POLLIN, 0 };
        if (once || status || poll(&item, 1, (int)(interval_s * 1e3)) > 0) break;
    }
    signals_close(&signal_fd);
    return status;
}

enum status cmd_top(int argc, char **argv, struct err *err) {
    bool once = false;
    double interval_s = 1;
    const struct option options[] = {
        { "--once", 0, OPTION_FLAG, &once, NULL, "print one picture and end" },
        { "--interval", 0, OPTION_DOUBLE, &interval_s, "S", "seconds between pictures" },
        { 0 },
    };
    const struct options_command spec = {
        .usage = "top ADDRESS",
        .summary = "Shows a run live: frames, latency, attainment, and each worker's stage, level, link and\n"
                   "queue. ADDRESS: the PORT or HOST:PORT that 'run --metrics' serves on.",
        .options = options,
        .min_positional = 1,
        .max_positional = 1,
    };
    int positional, help;
    enum status status = options_parse(&spec, argc, argv, &positional, &help, err);
    if (status || help) return status;
    if (!(interval_s >= .1 && interval_s <= 3600))
        return err_set(err, STATUS_USAGE, "--interval takes 0.1 to 3600 seconds, not %g", interval_s);
    return look(argv[0], once, interval_s, err);
}
