#include "deploy/scenario.h"

#include "common/cfg.h"
#include "common/file.h"
#include "common/json.h"
#include "common/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 1 << 20 };

static const struct cfg_key scenario_keys[] = {
    { "seconds", "length" },
    { "seed", "of random draws" },
    { "arrivals", "steady, poisson or bursty" },
    { "load", "share of the capacity" },
    { "burst_frames", "least and most" },
    { "silence_s", "between bursts" },
    { "spread", "of compute times" },
    { "store_ms", "to the disk" },
    { NULL, NULL },
};
static const struct cfg_key link_keys[] = { { "rate_kb_s", "rate" }, { "delay_ms", "delay" }, { NULL, NULL } };
static const struct cfg_key host_keys[] = {
    { "name", "of the host" },
    { "cpu", "share of a core" },
    { "memory_mb", "limit" },
    { "device", "known speed" },
    { NULL, NULL },
};
static const struct cfg_key event_keys[] = {
    { "kind", "what happens" }, { "host", "to whom" },        { "from", "seconds" },
    { "to", "seconds" },        { "factor", "slower by" },    { "processes", "that compete" },
    { NULL, NULL },
};
static const struct cfg_schema schemas[] = { { "scenario", scenario_keys }, { "link", link_keys },
                                             { "host", host_keys },         { "event", event_keys },
                                             { NULL, NULL } };

static const char *const arrival_names[SCENARIO_ARRIVALS] = { "steady", "poisson", "bursty" };
/* As in the file, in the order of enum simulate_kind. */
static const char *const kind_names[] = { "cpu", "neighbour", "link", "death" };
enum { KINDS = sizeof kind_names / sizeof *kind_names };

/* ---- reading ---- */

/* One of `names`; *index is left alone if the option is missing. */
static enum status read_word(const struct cfg *cfg, const struct cfg_section *section, const char *key,
                             const char *const *names, int n, int *index, struct err *err) {
    const struct cfg_option *option = cfg_option(section, key);
    if (!option) return STATUS_OK;
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], option->value) == 0) {
            *index = i;
            return STATUS_OK;
        }
    cfg_error(cfg, option->line, err, "%s=%.40s is not known", key, option->value);
    const char *near = cfg_nearest(option->value, names, n);
    if (near) err_hint(err, "did you mean '%s'?", near);
    return STATUS_FORMAT;
}

static enum status read_scenario(struct scenario *s, const struct cfg *cfg, const struct cfg_section *section,
                                 struct err *err) {
    int arrivals = s->arrivals, *frames = NULL, count = 0;
    enum status status = cfg_float(cfg, section, "seconds", 0.001, 1e7, &s->seconds, err);
    if (!status) status = cfg_int(cfg, section, "seed", 0, 1 << 30, &s->seed, err);
    if (!status) status = cfg_float(cfg, section, "load", 1e-6, 1000, &s->load, err);
    if (!status) status = cfg_float(cfg, section, "silence_s", 0, 1e6, &s->silence_s, err);
    if (!status) status = cfg_float(cfg, section, "spread", 0, 2, &s->spread, err);
    if (!status) status = cfg_float(cfg, section, "store_ms", 0, 1e5, &s->store_ms, err);
    if (!status) status = read_word(cfg, section, "arrivals", arrival_names, SCENARIO_ARRIVALS, &arrivals, err);
    if (!status) status = cfg_ints(cfg, section, "burst_frames", &frames, &count, err);
    s->arrivals = (enum scenario_arrivals)arrivals;
    if (!status && frames) {
        if (count != 2 || frames[0] < 1 || frames[1] < frames[0] || frames[1] > SCENARIO_MAX_FRAMES)
            status = cfg_error(cfg, section->line, err, "burst_frames takes the least and the most, as 10,60");
        else s->burst_least = frames[0], s->burst_most = frames[1];
    }
    free(frames);
    return status;
}

static enum status read_host(struct scenario *s, const struct cfg *cfg, const struct cfg_section *section,
                             struct err *err) {
    struct scenario_host *host = &s->host[s->nhosts++];
    const char *name = cfg_string(section, "name", ""), *device = cfg_string(section, "device", "");
    if (strlen(name) >= sizeof host->name || strlen(device) >= sizeof host->device)
        return cfg_error(cfg, section->line, err, "a name of this [host] is too long");
    if (name[0]) strcpy(host->name, name);
    else snprintf(host->name, sizeof host->name, "h%d", s->nhosts);
    strcpy(host->device, device);
    enum status status = cfg_float(cfg, section, "cpu", 0, 1024, &host->cpu, err);
    if (!status) status = cfg_float(cfg, section, "memory_mb", 0, 1e7, &host->memory_mb, err);
    return status;
}

static enum status read_event(struct scenario *s, const struct cfg *cfg, const struct cfg_section *section,
                              struct err *err) {
    if (s->nevents == SCENARIO_MAX_EVENTS)
        return cfg_error(cfg, section->line, err, "more than %d events", SCENARIO_MAX_EVENTS);
    int kind = -1, host = 0, processes = 2;
    float from = 0, to = s->seconds, factor = 3;
    enum status status = read_word(cfg, section, "kind", kind_names, KINDS, &kind, err);
    if (!status && kind < 0) status = cfg_error(cfg, section->line, err, "[event] without a kind");
    if (!status) status = cfg_int(cfg, section, "host", 1, s->nhosts, &host, err);
    if (!status && !host) status = cfg_error(cfg, section->line, err, "[event] without a host");
    if (!status) status = cfg_float(cfg, section, "from", 0, 1e7, &from, err);
    if (!status) status = cfg_float(cfg, section, "to", from, 1e7, &to, err);
    if (!status) status = cfg_float(cfg, section, "factor", 0.001, 1000, &factor, err);
    if (!status) status = cfg_int(cfg, section, "processes", 1, 64, &processes, err);
    if (status) return status;
    bool neighbour = kind == SIMULATE_SHARE;
    s->processes[s->nevents] = neighbour ? processes : 0;
    s->event[s->nevents++] = (struct simulate_event){ .kind = (enum simulate_kind)kind, .stage = host - 1,
                                                      .from_s = from, .to_s = to,
                                                      .factor = neighbour ? processes + 1 : factor };
    return STATUS_OK;
}

static enum status read_hosts(struct scenario *s, const struct cfg *cfg, struct err *err) {
    bool link = false;
    for (int i = 0; i < cfg->nsections; i++) {
        const struct cfg_section *section = &cfg->sections[i];
        bool is_host = strcmp(section->name, "host") == 0, is_link = strcmp(section->name, "link") == 0;
        if (!is_host && !is_link) continue;
        if (s->nhosts == CLUSTER_MAX_WORKERS)
            return cfg_error(cfg, section->line, err, "more than %d hosts", CLUSTER_MAX_WORKERS);
        if (is_link && link) return cfg_error(cfg, section->line, err, "two [link] in a row");
        link = is_link;
        struct cluster_link *hop = &s->host[s->nhosts].link;
        enum status status = is_host ? read_host(s, cfg, section, err)
                                     : cfg_float(cfg, section, "rate_kb_s", 0, 1e9, &hop->rate_kb_s, err);
        if (!status && is_link) status = cfg_float(cfg, section, "delay_ms", 0, 1e6, &hop->delay_ms, err);
        if (status) return status;
    }
    if (link) return cfg_error(cfg, 1, err, "no [host] follows the last [link]");
    if (s->nhosts == 0) return cfg_error(cfg, 1, err, "no [host]");
    return STATUS_OK;
}

enum status scenario_parse(struct scenario **out, const char *name, const char *text, size_t length, struct err *err) {
    struct cfg *cfg = NULL;
    struct scenario *s = calloc(1, sizeof *s);
    if (!s) return err_memory(err, name);
    s->seconds = 60, s->load = 0.7f, s->silence_s = 6, s->spread = 0.05f, s->store_ms = 8;
    s->seed = 1, s->burst_least = 10, s->burst_most = 60;
    enum status status = cfg_parse(&cfg, name, text, length, err);
    if (!status) status = cfg_check(cfg, schemas, err);
    const struct cfg_section *head = status ? NULL : cfg_find(cfg, "scenario");
    if (head) status = read_scenario(s, cfg, head, err);
    if (!status) status = read_hosts(s, cfg, err);
    for (int i = 0; !status && i < cfg->nsections; i++)
        if (strcmp(cfg->sections[i].name, "event") == 0) status = read_event(s, cfg, &cfg->sections[i], err);
    cfg_destroy(&cfg);
    if (status) scenario_destroy(&s);
    else *out = s;
    return status;
}

enum status scenario_load(struct scenario **scenario, const char *path, struct err *err) {
    uint8_t *bytes;
    size_t length;
    enum status status = file_read(path, MAX_TEXT, &bytes, &length, err);
    if (status) return status;
    status = scenario_parse(scenario, path, (const char *)bytes, length, err);
    free(bytes);
    return status;
}

void scenario_destroy(struct scenario **scenario) {
    free(*scenario);
    *scenario = NULL;
}

/* ---- arrivals ---- */

/* From one frame to the next. */
static double interval(const struct scenario *s, struct random *random, double fps, int *burst_left) {
    switch (s->arrivals) {
    case SCENARIO_POISSON: return -log(1 - random_uniform(random)) / fps;
    case SCENARIO_BURSTY:
        if (*burst_left > 0) {
            --*burst_left;
            return random_between(random, 0.5, 1.5) / fps;
        }
        *burst_left = s->burst_least + random_below(random, s->burst_most - s->burst_least + 1) - 1;
        return random_between(random, 0.5, 1.5) * s->silence_s;
    default: return 1 / fps;
    }
}

enum status scenario_due(const struct scenario *s, double fps, int copy, double **out, int *nframes,
                              struct err *err) {
    struct random random = random_stream((uint64_t)s->seed, 1, (uint64_t)copy);
    double *due = NULL, t = 0;
    int n = 0, room = 0, burst_left = 0;
    if (!(fps > 0)) return err_set(err, STATUS_USAGE, "arrivals at %g frames/s", fps);
    for (;; n++) {
        /* steady frames by their number, so that rounding does not add up */
        t = s->arrivals == SCENARIO_STEADY ? n / fps : t + interval(s, &random, fps, &burst_left);
        if (t >= s->seconds) break;
        if (n == SCENARIO_MAX_FRAMES) {
            free(due);
            return err_set(err, STATUS_LIMIT, "scenario: more than %d frames in %g s", SCENARIO_MAX_FRAMES, s->seconds);
        }
        if (n == room) {
            room = room ? 2 * room : 1024;
            double *more = realloc(due, (size_t)room * sizeof *due);
            if (!more) {
                free(due);
                return err_memory(err, "arrivals");
            }
            due = more;
        }
        due[n] = t;
    }
    if (n == 0) return err_set(err, STATUS_USAGE, "scenario: no frame is due within %g s", s->seconds);
    *out = due;
    *nframes = n;
    return STATUS_OK;
}

/* ---- telling ---- */

static bool add_hosts(cJSON *root, const struct scenario *s) {
    cJSON *list = cJSON_AddArrayToObject(root, "hosts");
    for (int i = 0; list && i < s->nhosts; i++) {
        const struct scenario_host *h = &s->host[i];
        cJSON *o = cJSON_CreateObject();
        if (!json_append(list, o) || !cJSON_AddStringToObject(o, "name", h->name) ||
            !cJSON_AddNumberToObject(o, "cpu", h->cpu) || !cJSON_AddNumberToObject(o, "memory_mb", h->memory_mb) ||
            !cJSON_AddNumberToObject(o, "rate_kb_s", h->link.rate_kb_s) ||
            !cJSON_AddNumberToObject(o, "delay_ms", h->link.delay_ms))
            return false;
    }
    return list;
}

static bool add_events(cJSON *root, const struct scenario *s) {
    cJSON *list = cJSON_AddArrayToObject(root, "events");
    for (int i = 0; list && i < s->nevents; i++) {
        const struct simulate_event *e = &s->event[i];
        cJSON *o = cJSON_CreateObject();
        if (!json_append(list, o) || !cJSON_AddStringToObject(o, "kind", kind_names[e->kind]) ||
            !cJSON_AddNumberToObject(o, "host", e->stage) || !cJSON_AddNumberToObject(o, "from", e->from_s) ||
            !cJSON_AddNumberToObject(o, "to", e->to_s) || !cJSON_AddNumberToObject(o, "factor", e->factor) ||
            !cJSON_AddNumberToObject(o, "processes", s->processes[i]))
            return false;
    }
    return list;
}

char *scenario_json(const struct scenario *s, const double *due_s, int nframes) {
    cJSON *root = cJSON_CreateObject();
    bool good = root && cJSON_AddNumberToObject(root, "seconds", s->seconds) &&
                cJSON_AddNumberToObject(root, "seed", s->seed) && cJSON_AddNumberToObject(root, "load", s->load) &&
                add_hosts(root, s) && add_events(root, s) &&
                json_add(root, "due", cJSON_CreateDoubleArray(due_s, nframes));
    return json_text(root, good);
}
