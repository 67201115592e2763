#include "deploy/cpufreq.h"

#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CORES = 1024, TEXT = 64 };
static const double NEAR = .03;

struct core {
    char *folder;      /* cpuN/cpufreq */
    long min, max;     /* kHz, as found; only with `pinned` */
};

struct cpufreq {
    int ncores;
    struct core *cores;
    char *throttled; /* NULL: there is none */
    bool pinned;
};

/* ---- files of one number --------------------------------------------------- */

/* Its number in that base; the file is read anew each time, as sysfs wants it. */
static enum status read_number(const char *folder, const char *name, int base, long *number, struct err *err) {
    char path[4096], text[TEXT], *end;
    snprintf(path, sizeof path, "%s%s%s", folder, name[0] ? "/" : "", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_errno(err, "cannot read %s", path);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n < 0) return err_errno(err, "cannot read %s", path);
    text[n] = '\0';
    errno = 0;
    *number = strtol(text, &end, base);
    if (end == text || (*end && *end != '\n') || errno || *number < 0)
        return err_set(err, STATUS_FORMAT, "%s holds '%.20s', not a number", path, text);
    return STATUS_OK;
}

static enum status write_number(const char *folder, const char *name, long number, struct err *err) {
    char path[4096], text[TEXT];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int n = snprintf(text, sizeof text, "%ld\n", number), fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
    bool good = fd >= 0 && write(fd, text, (size_t)n) == n;
    int why = errno;
    if (fd >= 0) close(fd);
    if (good) return STATUS_OK;
    errno = why;
    return err_errno(err, "cannot set the clock: %s", path);
}

/* ---- the cores ------------------------------------------------------------- */

static bool is_core(const char *name) {
    return strncmp(name, "cpu", 3) == 0 && name[3] && strspn(name + 3, "0123456789") == strlen(name + 3);
}

static enum status add_core(struct cpufreq *c, const char *folder, const char *name, struct err *err) {
    char *path;
    long now;
    if (asprintf(&path, "%s/%s/cpufreq", folder, name) < 0) return err_memory(err, "cores");
    if (c->ncores == MAX_CORES || read_number(path, "scaling_cur_freq", 10, &now, NULL)) {
        free(path);
        return STATUS_OK;
    }
    struct core *cores = realloc(c->cores, (size_t)(c->ncores + 1) * sizeof *cores);
    if (!cores) {
        free(path);
        return err_memory(err, "cores");
    }
    c->cores = cores;
    c->cores[c->ncores++] = (struct core){ .folder = path };
    return STATUS_OK;
}

static enum status find_cores(struct cpufreq *c, const char *folder, struct err *err) {
    DIR *dir = opendir(folder);
    if (!dir) return err_errno(err, "cannot read %s", folder);
    enum status status = STATUS_OK;
    for (struct dirent *entry; !status && (entry = readdir(dir));)
        if (is_core(entry->d_name)) status = add_core(c, folder, entry->d_name, err);
    closedir(dir);
    if (status || c->ncores) return status;
    err_set(err, STATUS_IO, "no core tells its clock in %s (cpuN/cpufreq/scaling_cur_freq)", folder);
    err_hint(err, "virtual machines often have no cpufreq; --cpufreq names another folder");
    return STATUS_IO;
}

enum status cpufreq_open(struct cpufreq **out, const char *folder, const char *throttled, struct err *err) {
    struct cpufreq *c = calloc(1, sizeof *c);
    if (!c) return err_memory(err, "cores");
    const char *file = throttled ? throttled : CPUFREQ_THROTTLED;
    long flags;
    enum status status = find_cores(c, folder ? folder : CPUFREQ_FOLDER, err);
    if (!status && throttled) status = read_number(throttled, "", 16, &flags, err);
    if (!status && (throttled || access(file, R_OK) == 0) && !(c->throttled = strdup(file)))
        status = err_memory(err, "cores");
    if (status) cpufreq_close(&c);
    else *out = c;
    return status;
}

static void unpin(struct cpufreq *c) {
    for (int i = 0; c->pinned && i < c->ncores; i++) {
        const struct core *core = &c->cores[i];
        /* Up before down: the least is never above the most. */
        struct err err;
        enum status status = write_number(core->folder, "scaling_max_freq", core->max, &err);
        if (!status) status = write_number(core->folder, "scaling_min_freq", core->min, &err);
        if (!status) status = write_number(core->folder, "scaling_max_freq", core->max, &err);
        if (status) log_warn("the clock's limits are not as they were: %s", err.text);
    }
    c->pinned = false;
}

void cpufreq_close(struct cpufreq **cpufreq) {
    struct cpufreq *c = *cpufreq;
    if (!c) return;
    unpin(c);
    for (int i = 0; i < c->ncores; i++) free(c->cores[i].folder);
    free(c->cores);
    free(c->throttled);
    free(c);
    *cpufreq = NULL;
}

enum status cpufreq_read(const struct cpufreq *c, struct cpufreq_state *state, struct err *err) {
    long least = 0, flags = 0;
    for (int i = 0; i < c->ncores; i++) {
        long khz;
        enum status status = read_number(c->cores[i].folder, "scaling_cur_freq", 10, &khz, err);
        if (status) return status;
        if (i == 0 || khz < least) least = khz;
    }
    enum status status = c->throttled ? read_number(c->throttled, "", 16, &flags, err) : STATUS_OK;
    if (status) return status;
    *state = (struct cpufreq_state){ (double)least / 1e3, (unsigned)flags };
    return STATUS_OK;
}

/* ---- setting it ------------------------------------------------------------ */

/* Whether all cores are there; *off: one that is not, in MHz. */
static enum status is_at(const struct cpufreq *c, double mhz, bool *there, double *off, struct err *err) {
    *there = true;
    for (int i = 0; i < c->ncores; i++) {
        long khz;
        enum status status = read_number(c->cores[i].folder, "scaling_cur_freq", 10, &khz, err);
        if (status) return status;
        if (fabs((double)khz / 1e3 - mhz) <= NEAR * mhz) continue;
        *there = false;
        *off = (double)khz / 1e3;
    }
    return STATUS_OK;
}

static enum status remember(struct cpufreq *c, struct err *err) {
    enum status status = STATUS_OK;
    for (int i = 0; !status && !c->pinned && i < c->ncores; i++) {
        status = read_number(c->cores[i].folder, "scaling_min_freq", 10, &c->cores[i].min, err);
        if (!status) status = read_number(c->cores[i].folder, "scaling_max_freq", 10, &c->cores[i].max, err);
    }
    if (!status) c->pinned = true;
    return status;
}

static enum status set_limits(struct cpufreq *c, double mhz, struct err *err) {
    long khz = lround(mhz * 1e3);
    enum status status = remember(c, err);
    for (int i = 0; !status && i < c->ncores; i++) {
        const char *folder = c->cores[i].folder;
        long min;
        status = read_number(folder, "scaling_min_freq", 10, &min, err);
        if (!status && min > khz) status = write_number(folder, "scaling_min_freq", khz, err);
        if (!status) status = write_number(folder, "scaling_max_freq", khz, err);
        if (!status && min < khz) status = write_number(folder, "scaling_min_freq", khz, err);
    }
    if (status) err_hint(err, "that takes root; or set the clock yourself, and name that one frequency");
    return status;
}

enum status cpufreq_pin(struct cpufreq *c, double mhz, double wait_s, struct err *err) {
    bool there;
    double off = 0;
    enum status status = is_at(c, mhz, &there, &off, err);
    if (status || (there && !c->pinned)) return status;
    if ((status = set_limits(c, mhz, err))) return status;
    const double until = log_now_s() + wait_s;
    while (!(status = is_at(c, mhz, &there, &off, err)) && !there && log_now_s() < until) usleep(5000);
    if (status || there) return status;
    err_set(err, STATUS_IO, "asked for %g MHz, a core stays at %g MHz", mhz, off);
    err_hint(err, "name frequencies that scaling_available_frequencies lists; a hot device may not reach them");
    return STATUS_IO;
}
