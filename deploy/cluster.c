#include "deploy/cluster.h"

#include "common/cfg.h"
#include "common/file.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 1 << 20 };

static const struct cfg_key source_keys[] = {
    { "slo_ms", "deadline of a frame" },
    { "fps", "pace" },
    { "credits", "frames in flight" },
    { NULL, NULL },
};
static const struct cfg_key worker_keys[] = {
    { "name", "what messages call it" },
    { "address", "tcp://host:port" },
    { "key", "public key" },
    { "replica_of", "whose stage it serves, too" },
    { "spare", "takes over from workers that are gone" },
    { NULL, NULL },
};
static const struct cfg_key link_keys[] = {
    { "codec", "starting codec" },
    { "level", "starting cap" },
    { "rate_kb_s", "hint" },
    { "delay_ms", "hint" },
    { NULL, NULL },
};
static const struct cfg_schema schemas[] = {
    { "source", source_keys }, { "worker", worker_keys }, { "link", link_keys }, { NULL, NULL }
};

static enum status read_source(struct cluster *cluster, const struct cfg *cfg, const struct cfg_section *section,
                               struct err *err) {
    enum status status = cfg_float(cfg, section, "slo_ms", 0, 1e9, &cluster->slo_ms, err);
    if (!status) status = cfg_float(cfg, section, "fps", 0, 1e6, &cluster->fps, err);
    if (!status) status = cfg_int(cfg, section, "credits", 1, 1024, &cluster->credits, err);
    return status;
}

static enum status read_link(struct cluster_link *link, const struct cfg *cfg, const struct cfg_section *section,
                             struct err *err) {
    const struct cfg_option *option = cfg_option(section, "codec");
    if (option) {
        const char *names[CODEC_COUNT];
        enum codec codec = 0;
        for (; codec < CODEC_COUNT && strcmp(option->value, codec_name(codec)) != 0; codec++)
            names[codec] = codec_name(codec);
        if (codec == CODEC_COUNT) {
            cfg_error(cfg, option->line, err, "unknown codec '%.40s'", option->value);
            const char *near = cfg_nearest(option->value, names, CODEC_COUNT);
            if (near) err_hint(err, "did you mean '%s'?", near);
            return STATUS_FORMAT;
        }
        link->codec = codec;
    }
    enum status status = cfg_int(cfg, section, "level", 0, PLAN_MAX_LEVELS - 1, &link->level, err);
    if (!status) status = cfg_float(cfg, section, "rate_kb_s", 0, 1e9, &link->rate_kb_s, err);
    if (!status) status = cfg_float(cfg, section, "delay_ms", 0, 1e6, &link->delay_ms, err);
    return status;
}

/* Letters, digits, '.', '-' and '_': a name is also a file's name among the keys. */
static bool good_name(const char *name) {
    if (!isalnum((unsigned char)name[0])) return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr(".-_", *name)) return false;
    return true;
}

/* Its stage. */
static enum status read_place(struct cluster *cluster, struct cluster_worker *worker, const struct cfg *cfg,
                              const struct cfg_section *section, struct err *err) {
    const struct cfg_option *replica_of = cfg_option(section, "replica_of");
    int spare = 0, replicas = 1;
    enum status status = cfg_int(cfg, section, "spare", 0, 1, &spare, err);
    if (status) return status;
    worker->primary = !replica_of && !spare;
    worker->stage = spare ? -1 : cluster->nworkers;
    if (worker->primary) cluster->nworkers++;
    if (!replica_of) return STATUS_OK;
    if (spare) return cfg_error(cfg, replica_of->line, err, "'%s' cannot be a spare and a replica", worker->name);
    const struct cluster_worker *other = NULL;
    for (int i = 0; i < cluster->nall; i++)
        if (strcmp(cluster->worker[i].name, replica_of->value) == 0) other = &cluster->worker[i];
    if (!other || other->stage < 0)
        return cfg_error(cfg, replica_of->line, err, "replica_of=%.60s: no [worker] of that name, with a stage, before it",
                         replica_of->value);
    worker->stage = other->stage;
    for (int i = 0; i < cluster->nall; i++) replicas += cluster->worker[i].stage == worker->stage;
    if (replicas > CLUSTER_MAX_REPLICAS)
        return cfg_error(cfg, replica_of->line, err, "more than %d workers for one stage", CLUSTER_MAX_REPLICAS);
    return STATUS_OK;
}

static enum status read_worker(struct cluster *cluster, const struct cfg *cfg, const struct cfg_section *section,
                               struct err *err) {
    struct cluster_worker *worker = &cluster->worker[cluster->nall];
    const struct cfg_option *name = cfg_option(section, "name");
    const struct cfg_option *address = cfg_option(section, "address");
    const struct cfg_option *key = cfg_option(section, "key");
    if (!address) return cfg_error(cfg, section->line, err, "[worker] without an address (tcp://host:port)");
    if (strlen(address->value) >= sizeof worker->address ||
        (strncmp(address->value, "tcp://", 6) != 0 && strncmp(address->value, "ipc://", 6) != 0))
        return cfg_error(cfg, address->line, err, "an address is written tcp://host:port, this is '%.60s'",
                         address->value);
    if (name && (strlen(name->value) >= sizeof worker->name || !good_name(name->value)))
        return cfg_error(cfg, name->line, err, "a name has at most %d letters, digits, dots and dashes: '%.70s'",
                         CLUSTER_NAME - 1, name->value);
    if (key && (strlen(key->value) != CLUSTER_KEY - 1 || strspn(key->value, "0123456789abcdef") != CLUSTER_KEY - 1))
        return cfg_error(cfg, key->line, err, "a key has 64 digits 0-9a-f, as in a .pub file");
    strcpy(worker->address, address->value);
    if (name) strcpy(worker->name, name->value);
    else snprintf(worker->name, sizeof worker->name, "worker%d", cluster->nall + 1);
    if (key) strcpy(worker->key, key->value);
    for (int i = 0; i < cluster->nall; i++) {
        if (strcmp(cluster->worker[i].name, worker->name) == 0)
            return cfg_error(cfg, section->line, err, "a second [worker] has the name '%s'", worker->name);
        if (strcmp(cluster->worker[i].address, worker->address) == 0)
            return cfg_error(cfg, address->line, err, "'%s' and '%s' have the same address", cluster->worker[i].name,
                             worker->name);
    }
    enum status status = read_place(cluster, worker, cfg, section, err);
    if (!status) cluster->nall++;
    return status;
}

/* Stages first, then replicas and spares; each in the order of the cfg. */
static void sort_workers(struct cluster *cluster) {
    struct cluster_worker rest[CLUSTER_MAX_WORKERS];
    int n = 0, nrest = 0;
    for (int i = 0; i < cluster->nall; i++) {
        if (cluster->worker[i].primary) cluster->worker[n++] = cluster->worker[i];
        else rest[nrest++] = cluster->worker[i];
    }
    memcpy(cluster->worker + n, rest, (size_t)nrest * sizeof *rest);
}

static enum status read_sections(struct cluster *cluster, const struct cfg *cfg, struct err *err) {
    const struct cfg_section *link = NULL; /* waits for its worker */
    for (int i = 0; i < cfg->nsections; i++) {
        const struct cfg_section *section = &cfg->sections[i];
        enum status status;
        if (strcmp(section->name, "source") == 0) {
            if (cfg_find(cfg, "source") != section)
                return cfg_error(cfg, section->line, err, "a second [source]");
            status = read_source(cluster, cfg, section, err);
        } else if (cluster->nall == CLUSTER_MAX_WORKERS) {
            return cfg_error(cfg, section->line, err, "more than %d workers", CLUSTER_MAX_WORKERS);
        } else if (strcmp(section->name, "link") == 0) {
            if (link) return cfg_error(cfg, section->line, err, "two [link] in a row: a [link] leads into a [worker]");
            link = section;
            status = read_link(&cluster->worker[cluster->nall].link, cfg, section, err);
        } else {
            link = NULL;
            status = read_worker(cluster, cfg, section, err);
        }
        if (status) return status;
    }
    if (link) return cfg_error(cfg, link->line, err, "no [worker] follows this [link]");
    if (cluster->nworkers == 0) return cfg_error(cfg, 1, err, cluster->nall ? "only spares" : "no [worker]");
    sort_workers(cluster);
    return STATUS_OK;
}

enum status cluster_parse(struct cluster **out, const char *name, const char *text, size_t length, struct err *err) {
    struct cfg *cfg = NULL;
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (!cluster) return err_memory(err, name);
    enum status status = cfg_parse(&cfg, name, text, length, err);
    if (!status) status = cfg_check(cfg, schemas, err);
    if (!status) status = read_sections(cluster, cfg, err);
    cfg_destroy(&cfg);
    if (status) cluster_destroy(&cluster);
    else *out = cluster;
    return status;
}

enum status cluster_load(struct cluster **cluster, const char *path, struct err *err) {
    uint8_t *bytes;
    size_t length;
    enum status status = file_read(path, MAX_TEXT, &bytes, &length, err);
    if (status) return status;
    status = cluster_parse(cluster, path, (const char *)bytes, length, err);
    free(bytes);
    return status;
}

void cluster_destroy(struct cluster **cluster) {
    free(*cluster);
    *cluster = NULL;
}

void cluster_host(const char *address, char host[CLUSTER_ADDRESS]) {
    const char *start = strstr(address, "://");
    start = start ? start + 3 : address;
    const char *colon = strrchr(start, ':');
    size_t length = colon ? (size_t)(colon - start) : strlen(start);
    if (length >= CLUSTER_ADDRESS) length = CLUSTER_ADDRESS - 1;
    memcpy(host, start, length);
    host[length] = '\0';
}
