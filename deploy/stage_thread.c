#include "deploy/stage_thread.h"

#include "common/file.h"
#include "common/log.h"
#include "common/pool.h"
#include "deploy/codec.h"
#include "deploy/stage.h"
#include "deploy/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PROFILE_REPEATS = 5, MAX_PROFILE = 8 << 20 };

enum job_kind { JOB_LOAD, JOB_MEASURE, JOB_FRAME };

struct job {
    struct job *next;
    enum job_kind kind;
    int slot;
    char *path; /* LOAD: NULL: unload; MEASURE */
    uint32_t layout; /* MEASURE */
    char hash[WIRE_HASH];
    int index, count;
    struct packet packet; /* FRAME */
    struct wire_message message;
    double came_s;
};

struct outcome_node {
    struct outcome_node *next;
    struct outcome outcome;
};

struct stage_thread {
    pthread_t runner, loader;
    bool running, loading;
    int event_fd;
    struct pool *pool;
    const char *cache;

    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct stage *stage[STAGE_SLOTS]; /* set by the loader, while `in_use` is another slot */
    int in_use;                       /* by the runner; -1: none */
    struct job *jobs;                 /* the runner's */
    struct job *loads;                /* the loader's */
    struct outcome_node *outcomes, **last_outcome;
    bool stop;
    uint32_t link_bytes, link_us;
    uint64_t relief_session;
    struct wire_relieve relief;
};

static void free_job(struct job *job) {
    packet_free(&job->packet);
    free(job->path);
    free(job);
}

static void free_node(struct outcome_node *node) {
    packet_free(&node->outcome.packet);
    free(node->outcome.json);
    free(node);
}

/* ---- the thread's side ---- */

/* Puts `stage` (NULL: nothing) into a slot, and what was there away. */
static void place(struct stage_thread *t, int slot, struct stage *stage) {
    pthread_mutex_lock(&t->mutex);
    while (t->in_use == slot) pthread_cond_wait(&t->wake, &t->mutex);
    struct stage *before = t->stage[slot];
    t->stage[slot] = stage;
    pthread_mutex_unlock(&t->mutex);
    stage_destroy(&before);
}

static void load(struct stage_thread *t, const struct job *job, struct outcome *o) {
    place(t, job->slot, NULL);
    if (!store_check(job->path, job->hash)) {
        o->kind = OUTCOME_MISSING;
        return;
    }
    struct err err;
    struct stage *stage = NULL;
    o->kind = OUTCOME_LOADED;
    o->status = stage_create(&stage, job->path, job->index, job->count, t->pool, t->cache, &err);
    if (o->status) snprintf(o->text, sizeof o->text, "%.399s", err.text);
    else place(t, job->slot, stage);
}

/* A profile kept from an earlier measurement, if it is one of this slice. */
static char *cached_profile(const char *path, const struct stage *stage) {
    uint8_t *text;
    size_t length;
    struct profile *profile = NULL;
    if (file_read(path, MAX_PROFILE, &text, &length, NULL)) return NULL;
    bool good = !profile_parse(&profile, path, (const char *)text, NULL) &&
                profile->nblocks == stage_model(stage)->blocks->nblocks && profile->nlevels == stage_levels(stage);
    profile_destroy(&profile);
    if (good) return (char *)text;
    free(text);
    return NULL;
}

static void keep_profile(const char *path, const char *json) {
    struct file_replace file;
    if (file_replace_open(&file, path, NULL)) return;
    fputs(json, file.stream);
    if (file_replace_commit(&file, NULL)) return; /* measured again next time */
}

static void measure(struct stage_thread *t, const struct job *job, struct outcome *o) {
    struct err err;
    const struct stage *stage = t->stage[job->slot];
    o->kind = OUTCOME_MEASURED;
    o->layout = job->layout;
    if (!stage) {
        o->status = err_set(&err, STATUS_FORMAT, "no slice to measure");
    } else if (!(o->json = cached_profile(job->path, stage))) {
        struct profile *profile = NULL;
        o->status = stage_measure(stage, t->pool, PROFILE_REPEATS, &profile, &err);
        if (!o->status && !(o->json = profile_json(profile))) o->status = err_memory(&err, "profile");
        profile_destroy(&profile);
        if (!o->status) keep_profile(job->path, o->json);
    }
    if (o->status) snprintf(o->text, sizeof o->text, "%.399s", err.text);
}

static void run_frame(struct stage_thread *t, const struct job *job, struct outcome *o, uint32_t link_bytes,
                      uint32_t link_us) {
    struct err err;
    double waited_us = (log_now_s() - job->came_s) * 1e6;
    o->kind = OUTCOME_FRAME;
    o->session = job->message.session;
    o->seq = job->message.frame.seq;
    o->attempt = job->message.frame.attempt;
    o->layout = job->message.frame.layout;
    if (job->message.frame.stage + 1 < job->message.frame.nstages)
        o->next = job->message.frame.choice[job->message.frame.stage + 1].worker;
    if (!t->stage[job->slot]) o->status = err_set(&err, STATUS_FORMAT, "no slice is loaded");
    else
        o->status = stage_run(t->stage[job->slot], &job->message,
                              waited_us < UINT32_MAX ? (uint32_t)waited_us : UINT32_MAX, link_bytes, link_us, &o->packet, &err);
    if (o->status) snprintf(o->text, sizeof o->text, "%.399s", err.text);
}

/* Under the lock. */
static void relieve(const struct stage_thread *t, struct job *job) {
    struct wire_frame *f = &job->message.frame;
    const struct stage *stage = t->stage[job->slot];
    if (job->message.session != t->relief_session || f->layout != t->relief.layout || f->seq >= t->relief.before ||
        f->stage >= f->nstages || !stage)
        return;
    struct wire_choice *next = f->stage + 1 < f->nstages ? &f->choice[f->stage + 1] : NULL;
    if (next && codec_is_smaller((enum codec)t->relief.codec, (enum codec)next->codec)) next->codec = t->relief.codec;
    if (t->relief.level >= stage_levels(stage) || f->choice[f->stage].level >= t->relief.level) return;
    if (!stage_has_variants(stage)) f->choice[f->stage].level = t->relief.level;
    else /* one variant at all stages: only the first can choose another one */
        for (int i = 0; f->stage == 0 && i < f->nstages; i++) f->choice[i].level = t->relief.level;
}

static void push_outcome(struct stage_thread *t, struct outcome_node *node) {
    node->next = NULL;
    pthread_mutex_lock(&t->mutex);
    *t->last_outcome = node;
    t->last_outcome = &node->next;
    pthread_mutex_unlock(&t->mutex);
    uint64_t one = 1;
    while (write(t->event_fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

/* Takes the first job of a queue; NULL: stop. The mutex is held. */
static struct job *next_job(struct stage_thread *t, struct job **queue) {
    while (!*queue && !t->stop) pthread_cond_wait(&t->wake, &t->mutex);
    if (t->stop) return NULL;
    struct job *job = *queue;
    *queue = job->next;
    return job;
}

static void *run_jobs(void *argument) {
    struct stage_thread *t = argument;
    struct job *job;
    pthread_mutex_lock(&t->mutex);
    while ((job = next_job(t, &t->jobs))) {
        uint32_t link_bytes = t->link_bytes, link_us = t->link_us;
        if (job->kind == JOB_FRAME) {
            t->link_bytes = t->link_us = 0;
            relieve(t, job);
        }
        t->in_use = job->slot;
        pthread_mutex_unlock(&t->mutex);

        struct outcome_node *node = calloc(1, sizeof *node);
        if (node) {
            node->outcome.slot = job->slot;
            if (job->kind == JOB_MEASURE) measure(t, job, &node->outcome);
            else run_frame(t, job, &node->outcome, link_bytes, link_us);
            push_outcome(t, node);
        } else {
            log_warn("out of memory: a frame is dropped"); /* it will be sent again */
        }
        free_job(job);
        pthread_mutex_lock(&t->mutex);
        t->in_use = -1;
        pthread_cond_broadcast(&t->wake);
    }
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

static void *run_loads(void *argument) {
    struct stage_thread *t = argument;
    struct job *job;
    pthread_mutex_lock(&t->mutex);
    while ((job = next_job(t, &t->loads))) {
        pthread_mutex_unlock(&t->mutex);
        struct outcome_node *node = job->path ? calloc(1, sizeof *node) : NULL;
        if (!job->path) {
            place(t, job->slot, NULL);
        } else if (node) {
            node->outcome.slot = job->slot;
            load(t, job, &node->outcome);
            push_outcome(t, node);
            if (t->stage[job->slot]) stage_keep(t->stage[job->slot]); /* nobody waits for that */
        } else {
            log_warn("out of memory: a slice is not loaded");
        }
        free_job(job);
        pthread_mutex_lock(&t->mutex);
    }
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

/* ---- the worker's side ---- */

enum status stage_thread_create(struct stage_thread **out, int threads, const char *cache, struct err *err) {
    struct stage_thread *t = calloc(1, sizeof *t);
    if (!t) return err_memory(err, "stage");
    t->cache = cache;
    t->last_outcome = &t->outcomes;
    t->in_use = -1;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    t->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum status status = t->event_fd < 0 ? err_errno(err, "eventfd") : STATUS_OK;
    if (!status) status = pool_create(&t->pool, threads > 0 ? threads : pool_default_threads(), err);
    if (!status) {
        t->running = (errno = pthread_create(&t->runner, NULL, run_jobs, t)) == 0;
        if (t->running) t->loading = (errno = pthread_create(&t->loader, NULL, run_loads, t)) == 0;
        if (!t->loading) status = err_errno(err, "thread");
    }
    if (status) stage_thread_destroy(&t);
    else *out = t;
    return status;
}

void stage_thread_destroy(struct stage_thread **pointer) {
    struct stage_thread *t = *pointer;
    if (!t) return;
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->mutex);
    if (t->running) pthread_join(t->runner, NULL);
    if (t->loading) pthread_join(t->loader, NULL);
    for (struct job *job; (job = t->jobs); free_job(job)) t->jobs = job->next;
    for (struct job *job; (job = t->loads); free_job(job)) t->loads = job->next;
    for (struct outcome_node *node; (node = t->outcomes); free_node(node)) t->outcomes = node->next;
    for (int i = 0; i < STAGE_SLOTS; i++) stage_destroy(&t->stage[i]);
    pool_destroy(&t->pool);
    if (t->event_fd >= 0) close(t->event_fd);
    pthread_mutex_destroy(&t->mutex);
    pthread_cond_destroy(&t->wake);
    free(t);
    *pointer = NULL;
}

int stage_thread_cores(const struct stage_thread *t) { return pool_threads(t->pool); }
int stage_thread_fd(const struct stage_thread *t) { return t->event_fd; }

static void append(struct stage_thread *t, struct job **last, struct job *job) {
    while (*last) last = &(*last)->next;
    job->next = NULL;
    *last = job;
    pthread_cond_broadcast(&t->wake);
}

static struct job *path_job(enum job_kind kind, int slot, const char *path, struct err *err) {
    struct job *job = calloc(1, sizeof *job);
    if (!job || (path && !(job->path = strdup(path)))) {
        free(job);
        err_memory(err, "job");
        return NULL;
    }
    job->kind = kind;
    job->slot = slot;
    return job;
}

static void queue_job(struct stage_thread *t, struct job **queue, struct job *job) {
    pthread_mutex_lock(&t->mutex);
    append(t, queue, job);
    pthread_mutex_unlock(&t->mutex);
}

enum status stage_thread_load(struct stage_thread *t, int slot, const char *path, const char *hash, int index,
                              int count, struct err *err) {
    struct job *job = path_job(JOB_LOAD, slot, path, err);
    if (!job) return STATUS_MEMORY;
    snprintf(job->hash, sizeof job->hash, "%s", hash);
    job->index = index;
    job->count = count;
    queue_job(t, &t->loads, job);
    return STATUS_OK;
}

enum status stage_thread_measure(struct stage_thread *t, int slot, uint32_t layout, const char *cache,
                                 struct err *err) {
    struct job *job = path_job(JOB_MEASURE, slot, cache, err);
    if (!job) return STATUS_MEMORY;
    job->layout = layout;
    queue_job(t, &t->jobs, job);
    return STATUS_OK;
}

enum status stage_thread_frame(struct stage_thread *t, int slot, struct packet *packet,
                               const struct wire_message *message, int most, struct err *err) {
    struct job *job = calloc(1, sizeof *job);
    if (!job) return err_memory(err, "frame");
    job->kind = JOB_FRAME;
    job->slot = slot;
    job->came_s = log_now_s();
    int waiting = 0;
    enum status status = STATUS_OK;
    pthread_mutex_lock(&t->mutex);
    struct job **at = &t->jobs;
    for (; *at; at = &(*at)->next) {
        const struct wire_message *other = &(*at)->message;
        if ((*at)->kind != JOB_FRAME) continue;
        if (other->session == message->session && other->frame.seq == message->frame.seq) break;
        waiting++;
    }
    if (*at && (*at)->message.frame.attempt >= message->frame.attempt) {
        packet_free(packet); /* it waits already */
        free(job);
    } else if (!*at && waiting >= most) {
        status = err_set(err, STATUS_LIMIT, "%d frames wait already", waiting);
        free(job);
    } else {
        size_t length;
        size_t at_payload = (size_t)(message->payload - packet_bytes(packet, &length));
        job->message = *message;
        packet_move(&job->packet, packet);
        job->message.payload = packet_bytes(&job->packet, &length) + at_payload;
        if (*at) { /* the older attempt's place */
            struct job *older = *at;
            job->next = older->next;
            *at = job;
            free_job(older);
        } else {
            append(t, &t->jobs, job);
        }
    }
    pthread_mutex_unlock(&t->mutex);
    return status;
}

void stage_thread_relieve(struct stage_thread *t, uint64_t session, const struct wire_relieve *relieve) {
    pthread_mutex_lock(&t->mutex);
    t->relief_session = session;
    t->relief = *relieve;
    pthread_mutex_unlock(&t->mutex);
}

void stage_thread_clear(struct stage_thread *t, const uint32_t *layout) {
    pthread_mutex_lock(&t->mutex);
    for (struct job **at = &t->jobs; *at;) {
        struct job *job = *at;
        if (job->kind == JOB_FRAME && (!layout || job->message.frame.layout == *layout)) {
            *at = job->next;
            free_job(job);
        } else {
            at = &job->next;
        }
    }
    t->last_outcome = &t->outcomes;
    while (*t->last_outcome) {
        struct outcome_node *node = *t->last_outcome;
        if (node->outcome.kind == OUTCOME_FRAME && (!layout || node->outcome.layout == *layout)) {
            *t->last_outcome = node->next;
            free_node(node);
        } else {
            t->last_outcome = &node->next;
        }
    }
    t->link_bytes = t->link_us = 0;
    pthread_mutex_unlock(&t->mutex);
}

int stage_thread_queued(struct stage_thread *t) {
    int n = 0;
    pthread_mutex_lock(&t->mutex);
    for (const struct job *job = t->jobs; job; job = job->next) n += job->kind == JOB_FRAME;
    pthread_mutex_unlock(&t->mutex);
    return n;
}

void stage_thread_link(struct stage_thread *t, uint32_t bytes, uint32_t us) {
    pthread_mutex_lock(&t->mutex);
    t->link_bytes = bytes;
    t->link_us = us;
    pthread_mutex_unlock(&t->mutex);
}

bool stage_thread_collect(struct stage_thread *t, struct outcome *outcome) {
    uint64_t ignored;
    pthread_mutex_lock(&t->mutex);
    while (read(t->event_fd, &ignored, sizeof ignored) < 0 && errno == EINTR) {}
    struct outcome_node *node = t->outcomes;
    if (node) {
        t->outcomes = node->next;
        if (!t->outcomes) t->last_outcome = &t->outcomes;
    }
    pthread_mutex_unlock(&t->mutex);
    if (!node) return false;
    struct packet held = { 0 };
    bool has_packet = node->outcome.packet.held;
    if (has_packet) packet_move(&held, &node->outcome.packet);
    *outcome = node->outcome;
    outcome->packet = (struct packet){ 0 };
    if (has_packet) packet_move(&outcome->packet, &held);
    free(node);
    return true;
}
