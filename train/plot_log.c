#include "train/plot.h"

#include "common/json.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    struct plot_log *log;
    int steps_per_epoch; /* 0: not told yet */
    int steps_room, looks_room;
};

/* Room for one more of `size` bytes behind `n`; NULL: out of memory, and `list` as it was. */
static void *grown(void *list, int n, int *room, size_t size) {
    if (n < *room) return list;
    int more = *room ? 2 * *room : 256;
    void *larger = realloc(list, (size_t)more * size);
    if (larger) *room = more;
    return larger;
}

static const cJSON *get(const cJSON *line, const char *key) { return cJSON_GetObjectItemCaseSensitive(line, key); }

static enum status bad(const char *path, int number, struct err *err) {
    err_set(err, STATUS_FORMAT, "%s:%d: not a line of a training log", path, number);
    err_hint(err, "plot takes what train --log writes, and model files");
    return STATUS_FORMAT;
}

static enum status add_step(struct reading *r, const cJSON *line, const char *path, int number, struct err *err) {
    int step;
    struct plot_step s;
    if (!r->steps_per_epoch || !json_int(get(line, "step"), 1, INT_MAX, &step) ||
        !json_double(get(line, "loss"), -1e9, 1e9, &s.loss) || !json_double(get(line, "accuracy"), 0, 1, &s.accuracy))
        return bad(path, number, err);
    s.epoch = (double)step / r->steps_per_epoch;
    struct plot_step *larger = grown(r->log->steps, r->log->nsteps, &r->steps_room, sizeof *larger);
    if (!larger) return err_memory(err, path);
    r->log->steps = larger;
    larger[r->log->nsteps++] = s;
    return STATUS_OK;
}

static enum status add_looks(struct reading *r, const cJSON *line, const char *path, int number, struct err *err) {
    const cJSON *held_out = get(line, "held_out"), *item;
    struct plot_look look;
    if (!json_int(get(line, "epoch"), 1, INT_MAX, &look.epoch) || !cJSON_IsObject(held_out)) return bad(path, number, err);
    cJSON_ArrayForEach(item, held_out) {
        char *end;
        long level = strtol(item->string, &end, 10);
        if (*end || end == item->string || level < 0 || level >= PLAN_MAX_LEVELS || !json_double(item, 0, 1, &look.accuracy))
            return bad(path, number, err);
        look.level = (int)level;
        struct plot_look *larger = grown(r->log->looks, r->log->nlooks, &r->looks_room, sizeof *larger);
        if (!larger) return err_memory(err, path);
        r->log->looks = larger;
        larger[r->log->nlooks++] = look;
    }
    return STATUS_OK;
}

static enum status read_line(struct reading *r, const char *text, const char *path, int number, struct err *err) {
    cJSON *line = NULL;
    if (json_parse(&line, path, text, NULL)) return bad(path, number, err);
    const char *kind = cJSON_GetStringValue(get(line, "kind"));
    enum status status = STATUS_OK;
    if (!kind) status = bad(path, number, err);
    else if (strcmp(kind, "step") == 0) status = add_step(r, line, path, number, err);
    else if (strcmp(kind, "epoch") == 0) status = add_looks(r, line, path, number, err);
    else if (strcmp(kind, "begin") == 0 && !json_int(get(line, "steps_per_epoch"), 1, INT_MAX, &r->steps_per_epoch))
        status = bad(path, number, err);
    cJSON_Delete(line);
    return status;
}

/* A last line without its end is one that is being written, or was when the run was killed. */
enum status plot_read_log(struct plot_log *log, const char *path, const char *text, struct err *err) {
    struct plot_log empty = { .name = strdup(path) };
    struct reading r = { .log = log };
    enum status status = empty.name ? STATUS_OK : err_memory(err, path);
    *log = empty;
    const char *end;
    for (int number = 1; !status && (end = strchr(text, '\n')); number++, text = end + 1) {
        char *line = strndup(text, (size_t)(end - text));
        status = line ? read_line(&r, line, path, number, err) : err_memory(err, path);
        free(line);
    }
    if (!status && log->nsteps == 0)
        status = err_set(err, STATUS_FORMAT, "%s holds no training step yet", path);
    if (!status) return STATUS_OK;
    free(log->name);
    free(log->steps);
    free(log->looks);
    *log = (struct plot_log){ 0 };
    return status;
}
