/* Group commit: the thread takes all that has gathered, writes it in one
 * transaction, and gathers again while the disk works. A frame can wait for
 * company, for nobody waits for its acceptance; a result counts against its
 * deadline and waits only as long as it takes to gather those that come with
 * it. So a short pipeline commits frame and result together, and a stream
 * costs a bounded number of syncs a second.
 *
 * A result's latency ends when its own commit has ended, which its row cannot
 * know yet. It is written as of the insertion, and corrected in the next
 * transaction; after a crash the last few rows keep the earlier figure. */
#include "deploy/journal.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { APPLICATION_ID = 0x45535045, SCHEMA_VERSION = 1, BUSY_MS = 5000 };

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS runs (run_id INTEGER PRIMARY KEY, token INTEGER NOT NULL, model TEXT NOT NULL,"
    " source TEXT NOT NULL, policy TEXT, cuts TEXT, slo_ms REAL, started REAL NOT NULL, finished REAL);"
    "CREATE TABLE IF NOT EXISTS frames (run_id INTEGER NOT NULL, seq INTEGER NOT NULL, path TEXT NOT NULL,"
    " size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, due_ms REAL NOT NULL, truth INTEGER,"
    " PRIMARY KEY (run_id, seq)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS results (run_id INTEGER NOT NULL, seq INTEGER NOT NULL, label INTEGER, name TEXT,"
    " prob REAL, sent_ms REAL, latency_ms REAL NOT NULL, levels TEXT, links TEXT, stages TEXT,"
    " attempts INTEGER NOT NULL, error TEXT, PRIMARY KEY (run_id, seq)) WITHOUT ROWID;"
    "CREATE VIEW IF NOT EXISTS timeline AS SELECT f.run_id, f.seq, f.path, f.due_ms, r.sent_ms, r.latency_ms,"
    " r.levels, r.links, r.name, r.prob, r.label = f.truth AS correct, r.attempts, r.error"
    " FROM frames f LEFT JOIN results r USING (run_id, seq);";

enum entry_kind { ENTRY_FRAME, ENTRY_RESULT };

/* Strings lie behind the struct, in the same allocation. */
struct entry {
    struct entry *next;
    enum entry_kind kind;
    union {
        struct journal_frame frame;
        struct journal_result result;
    };
    double stored_ms;
};

struct queue {
    struct entry *first, **last;
};

struct journal {
    char *path;
    int lock_fd, event_fd;
    sqlite3 *db;
    sqlite3_stmt *insert_frame, *insert_result, *correct_latency;
    int64_t run_id, next_seq;
    uint64_t token;
    bool resumed;
    double started_s, origin_s; /* wall; monotonic */

    pthread_t thread;
    bool running;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct queue incoming; /* to be committed */
    struct queue done;     /* committed results, for journal_collect */
    double commit_ms;      /* when what is incoming must be committed, if there is any */
    bool stop, failed;
    struct err error;
};

static void queue_init(struct queue *queue) {
    queue->first = NULL;
    queue->last = &queue->first;
}

static void queue_push(struct queue *queue, struct entry *entry) {
    entry->next = NULL;
    *queue->last = entry;
    queue->last = &entry->next;
}

static struct entry *queue_pop(struct queue *queue) {
    struct entry *entry = queue->first;
    if (!entry) return NULL;
    queue->first = entry->next;
    if (!queue->first) queue->last = &queue->first;
    return entry;
}

static void queue_free(struct queue *queue) {
    for (struct entry *e; (e = queue_pop(queue));) free(e);
}

static double wall_now_s(void) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

double journal_now_ms(const struct journal *j) {
    return (log_now_s() - j->origin_s) * 1e3;
}

/* ---- SQLite ---- */

static enum status database_error(const struct journal *j, struct err *err) {
    int code = j->db ? sqlite3_errcode(j->db) : SQLITE_NOMEM;
    /* Where its shared memory cannot grow, SQLite says no more than that. */
    bool full = code == SQLITE_FULL || (j->db && sqlite3_extended_errcode(j->db) == SQLITE_IOERR_SHMSIZE);
    err_set(err, STATUS_IO, "%s: %s", j->path,
            full ? "database or disk is full" : j->db ? sqlite3_errmsg(j->db) : "out of memory");
    if (full) err_hint(err, "free some space and give the same command again: it goes on from here");
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        err_hint(err, "another program is writing to it; close that first");
    if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT) err_hint(err, "give another file with --results");
    return STATUS_IO;
}

static enum status execute(struct journal *j, const char *sql, struct err *err) {
    return sqlite3_exec(j->db, sql, NULL, NULL, NULL) == SQLITE_OK ? STATUS_OK : database_error(j, err);
}

static enum status prepare(struct journal *j, sqlite3_stmt **statement, const char *sql, struct err *err) {
    int rc = sqlite3_prepare_v2(j->db, sql, -1, statement, NULL);
    return rc == SQLITE_OK ? STATUS_OK : database_error(j, err);
}

static enum status step_and_reset(struct journal *j, sqlite3_stmt *statement, struct err *err) {
    int rc = sqlite3_step(statement);
    enum status status = rc == SQLITE_DONE ? STATUS_OK : database_error(j, err);
    sqlite3_reset(statement);
    return status;
}

static enum status pragma_int(struct journal *j, const char *sql, int *value, struct err *err) {
    sqlite3_stmt *s = NULL;
    enum status status = prepare(j, &s, sql, err);
    if (!status && sqlite3_step(s) != SQLITE_ROW) status = database_error(j, err);
    if (!status) *value = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return status;
}

/* An empty database gets the tables; any other must be one of ours. */
static enum status open_tables(struct journal *j, struct err *err) {
    int tables = 0, application = 0, version = 0;
    enum status status = pragma_int(j, "SELECT count(*) FROM sqlite_master", &tables, err);
    if (!status) status = pragma_int(j, "PRAGMA application_id", &application, err);
    if (!status) status = pragma_int(j, "PRAGMA user_version", &version, err);
    if (status) return status;
    if (tables && (application != APPLICATION_ID || version != SCHEMA_VERSION)) {
        err_set(err, STATUS_FORMAT, "%s: a database, but not of this program's results", j->path);
        err_hint(err, "give another file with --results");
        return STATUS_FORMAT;
    }
    status = execute(j, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", err);
    if (status || tables) return status;
    char sql[sizeof schema + 200];
    snprintf(sql, sizeof sql, "BEGIN IMMEDIATE; PRAGMA application_id=%d; PRAGMA user_version=%d; %s COMMIT",
             APPLICATION_ID, SCHEMA_VERSION, schema);
    return execute(j, sql, err);
}

static enum status find_run(struct journal *j, const struct journal_config *config, struct err *err) {
    sqlite3_stmt *s = NULL;
    enum status status =
        prepare(j, &s,
                "SELECT run_id, token, started,"
                " (SELECT coalesce(max(seq) + 1, 0) FROM frames f WHERE f.run_id = runs.run_id),"
                " (SELECT coalesce(max(due_ms), 0) FROM frames f WHERE f.run_id = runs.run_id)"
                " FROM runs WHERE finished IS NULL AND model = ? AND source = ? ORDER BY run_id DESC LIMIT 1",
                err);
    if (status) return status;
    sqlite3_bind_text(s, 1, config->model, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, config->source, -1, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        j->run_id = sqlite3_column_int64(s, 0);
        j->token = (uint64_t)sqlite3_column_int64(s, 1);
        j->started_s = sqlite3_column_double(s, 2);
        j->next_seq = sqlite3_column_int64(s, 3);
        j->resumed = true;
        /* A wall clock set back meanwhile must not take the run's time back. */
        double passed = wall_now_s() - j->started_s, least = sqlite3_column_double(s, 4) / 1e3;
        j->origin_s = log_now_s() - (passed > least ? passed : least);
    } else if (rc != SQLITE_DONE) {
        status = database_error(j, err);
    }
    sqlite3_finalize(s);
    return status;
}

static enum status begin_run(struct journal *j, const struct journal_config *config, struct err *err) {
    if (getrandom(&j->token, sizeof j->token, 0) != sizeof j->token) return err_errno(err, "random numbers");
    j->started_s = wall_now_s();
    j->origin_s = log_now_s();
    sqlite3_stmt *s = NULL;
    enum status status = prepare(j, &s,
                                 "INSERT INTO runs (token, model, source, policy, cuts, slo_ms, started)"
                                 " VALUES (?, ?, ?, ?, ?, ?, ?)",
                                 err);
    if (status) return status;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)j->token);
    sqlite3_bind_text(s, 2, config->model, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, config->source, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, config->policy, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 5, config->cuts, -1, SQLITE_STATIC);
    if (config->slo_ms > 0) sqlite3_bind_double(s, 6, config->slo_ms);
    sqlite3_bind_double(s, 7, j->started_s);
    status = step_and_reset(j, s, err);
    sqlite3_finalize(s);
    j->run_id = sqlite3_last_insert_rowid(j->db);
    return status;
}

/* ---- rows ---- */

static void bind_text(sqlite3_stmt *s, int at, const char *text) {
    if (text) sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
    else sqlite3_bind_null(s, at);
}

static enum status write_frame(struct journal *j, const struct journal_frame *f, struct err *err) {
    sqlite3_stmt *s = j->insert_frame;
    sqlite3_bind_int64(s, 1, j->run_id);
    sqlite3_bind_int64(s, 2, f->seq);
    bind_text(s, 3, f->path);
    sqlite3_bind_int64(s, 4, f->size);
    sqlite3_bind_int64(s, 5, f->mtime_ns);
    sqlite3_bind_double(s, 6, f->due_ms);
    if (f->truth >= 0) sqlite3_bind_int(s, 7, f->truth);
    else sqlite3_bind_null(s, 7);
    return step_and_reset(j, s, err);
}

static enum status write_result(struct journal *j, const struct journal_result *r, struct err *err) {
    sqlite3_stmt *s = j->insert_result;
    sqlite3_bind_int64(s, 1, j->run_id);
    sqlite3_bind_int64(s, 2, r->seq);
    if (r->label >= 0) sqlite3_bind_int(s, 3, r->label);
    else sqlite3_bind_null(s, 3);
    bind_text(s, 4, r->name);
    if (r->label >= 0) sqlite3_bind_double(s, 5, r->prob);
    else sqlite3_bind_null(s, 5);
    if (r->sent_ms >= 0) sqlite3_bind_double(s, 6, r->sent_ms);
    else sqlite3_bind_null(s, 6);
    sqlite3_bind_double(s, 7, journal_now_ms(j) - r->due_ms);
    bind_text(s, 8, r->levels);
    bind_text(s, 9, r->links);
    bind_text(s, 10, r->stages);
    sqlite3_bind_int(s, 11, r->attempts);
    bind_text(s, 12, r->error);
    return step_and_reset(j, s, err);
}

static enum status write_latencies(struct journal *j, const struct queue *results, struct err *err) {
    for (const struct entry *e = results->first; e; e = e->next) {
        sqlite3_bind_double(j->correct_latency, 1, e->stored_ms - e->result.due_ms);
        sqlite3_bind_int64(j->correct_latency, 2, j->run_id);
        sqlite3_bind_int64(j->correct_latency, 3, e->result.seq);
        enum status status = step_and_reset(j, j->correct_latency, err);
        if (status) return status;
    }
    return STATUS_OK;
}

/* One transaction; `before`: the results of the one before, whose latency is now known. */
static enum status commit_batch(struct journal *j, const struct queue *batch, const struct queue *before,
                                struct err *err) {
    enum status status = execute(j, "BEGIN IMMEDIATE", err);
    if (status) return status;
    status = write_latencies(j, before, err);
    for (const struct entry *e = batch->first; e && !status; e = e->next)
        status = e->kind == ENTRY_FRAME ? write_frame(j, &e->frame, err) : write_result(j, &e->result, err);
    if (!status) status = execute(j, "COMMIT", err);
    if (status) sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* ---- the thread ---- */

static void signal_owner(struct journal *j) {
    uint64_t one = 1;
    while (write(j->event_fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

/* Copies of what was committed go to `done`; the entries stay for the next
 * transaction, which corrects their latency. */
static void hand_over(struct journal *j, struct queue *batch, struct queue *before) {
    queue_free(before);
    double now = journal_now_ms(j);
    bool any = false;
    for (struct entry *e; (e = queue_pop(batch));) {
        if (e->kind == ENTRY_FRAME) {
            free(e);
            continue;
        }
        struct entry *copy = malloc(sizeof *copy);
        e->stored_ms = now;
        queue_push(before, e);
        pthread_mutex_lock(&j->mutex);
        if (copy) {
            *copy = (struct entry){ .kind = ENTRY_RESULT,
                                    .result = { .seq = e->result.seq, .due_ms = e->result.due_ms },
                                    .stored_ms = now };
            queue_push(&j->done, copy);
        } else if (!j->failed) {
            j->failed = true;
            err_memory(&j->error, "journal");
        }
        pthread_mutex_unlock(&j->mutex);
        any = true;
    }
    if (any) signal_owner(j);
}

/* Until there is something whose time has come; the mutex is held. */
static void wait_for_work(struct journal *j) {
    while (!j->stop) {
        double left_ms = j->commit_ms - journal_now_ms(j);
        if (!j->incoming.first) {
            pthread_cond_wait(&j->wake, &j->mutex);
        } else if (left_ms > 0) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            long ns = until.tv_nsec + (long)(left_ms * 1e6);
            until.tv_sec += ns / 1000000000;
            until.tv_nsec = ns % 1000000000;
            pthread_cond_timedwait(&j->wake, &j->mutex, &until);
        } else {
            return;
        }
    }
}

static void *journal_thread(void *argument) {
    struct journal *j = argument;
    struct queue batch, before;
    queue_init(&batch);
    queue_init(&before);
    for (;;) {
        pthread_mutex_lock(&j->mutex);
        wait_for_work(j);
        bool last = j->stop;
        batch = j->incoming;
        if (!batch.first) batch.last = &batch.first;
        queue_init(&j->incoming);
        pthread_mutex_unlock(&j->mutex);

        struct err err;
        enum status status = batch.first || before.first ? commit_batch(j, &batch, &before, &err) : STATUS_OK;
        if (!status) {
            hand_over(j, &batch, &before);
            if (last && !before.first) break; /* else one more round corrects the latencies */
            continue;
        }
        pthread_mutex_lock(&j->mutex);
        if (!j->failed) j->error = err;
        j->failed = true;
        pthread_mutex_unlock(&j->mutex);
        signal_owner(j);
        break;
    }
    queue_free(&batch);
    queue_free(&before);
    return NULL;
}

/* ---- the owner's side ---- */

static enum status lock_file(struct journal *j, struct err *err) {
    j->lock_fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (j->lock_fd < 0) return err_errno(err, "%s", j->path);
    if (flock(j->lock_fd, LOCK_EX | LOCK_NB) == 0) return STATUS_OK;
    if (errno != EWOULDBLOCK) return err_errno(err, "%s: lock", j->path);
    err_set(err, STATUS_IO, "%s: another run is writing to it", j->path);
    err_hint(err, "wait for that run, or give another file with --results");
    return STATUS_IO;
}

static enum status start_thread(struct journal *j, struct err *err) {
    int rc = pthread_create(&j->thread, NULL, journal_thread, j);
    if (rc) {
        errno = rc;
        return err_errno(err, "journal thread");
    }
    j->running = true;
    return STATUS_OK;
}

enum status journal_open(struct journal **out, const struct journal_config *config, struct err *err) {
    struct journal *j = calloc(1, sizeof *j);
    if (!j) return err_memory(err, "journal");
    j->lock_fd = j->event_fd = -1;
    pthread_mutex_init(&j->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    queue_init(&j->incoming);
    queue_init(&j->done);
    enum status status = STATUS_OK;
    j->path = strdup(config->path);
    if (!j->path) status = err_memory(err, "journal");
    if (!status) status = lock_file(j, err);
    if (!status && (j->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) status = err_errno(err, "eventfd");
    if (!status && sqlite3_open_v2(j->path, &j->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
                                   NULL) != SQLITE_OK)
        status = database_error(j, err);
    if (!status) {
        sqlite3_busy_timeout(j->db, BUSY_MS);
        status = open_tables(j, err);
    }
    if (!status) status = find_run(j, config, err);
    if (!status && !j->resumed) status = begin_run(j, config, err);
    if (!status)
        status = prepare(j, &j->insert_frame,
                         "INSERT INTO frames (run_id, seq, path, size, mtime_ns, due_ms, truth)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?)",
                         err);
    if (!status)
        status = prepare(j, &j->insert_result,
                         "INSERT INTO results (run_id, seq, label, name, prob, sent_ms, latency_ms, levels, links,"
                         " stages, attempts, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                         err);
    if (!status)
        status = prepare(j, &j->correct_latency,
                         "UPDATE results SET latency_ms = ? WHERE run_id = ? AND seq = ?", err);
    if (!status) status = start_thread(j, err);
    if (status) journal_destroy(&j);
    else *out = j;
    return status;
}

static void stop_thread(struct journal *j) {
    if (!j->running) return;
    pthread_mutex_lock(&j->mutex);
    j->stop = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->mutex);
    pthread_join(j->thread, NULL);
    j->running = false;
}

void journal_destroy(struct journal **pointer) {
    struct journal *j = *pointer;
    if (!j) return;
    stop_thread(j);
    queue_free(&j->incoming);
    queue_free(&j->done);
    sqlite3_finalize(j->insert_frame);
    sqlite3_finalize(j->insert_result);
    sqlite3_finalize(j->correct_latency);
    sqlite3_close(j->db);
    if (j->event_fd >= 0) close(j->event_fd);
    if (j->lock_fd >= 0) close(j->lock_fd); /* after SQLite: its own locks go with any close of the file */
    pthread_mutex_destroy(&j->mutex);
    pthread_cond_destroy(&j->wake);
    free(j->path);
    free(j);
    *pointer = NULL;
}

bool journal_resumed(const struct journal *j) { return j->resumed; }
uint64_t journal_token(const struct journal *j) { return j->token; }
double journal_started_s(const struct journal *j) { return j->started_s; }
int64_t journal_next_seq(const struct journal *j) { return j->next_seq; }
int journal_fd(const struct journal *j) { return j->event_fd; }

enum status journal_each(struct journal *j,
                         enum status (*visit)(void *context, const struct journal_frame *frame, bool has_result,
                                              struct err *err),
                         void *context, struct err *err) {
    sqlite3_stmt *s = NULL;
    enum status status = prepare(j, &s,
                                 "SELECT seq, path, size, mtime_ns, due_ms, coalesce(truth, -1), EXISTS (SELECT 1 FROM"
                                 " results r WHERE r.run_id = f.run_id AND r.seq = f.seq)"
                                 " FROM frames f WHERE run_id = ? ORDER BY seq",
                                 err);
    if (status) return status;
    sqlite3_bind_int64(s, 1, j->run_id);
    int rc;
    while (!status && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW) {
            status = database_error(j, err);
            break;
        }
        const char *path = (const char *)sqlite3_column_text(s, 1);
        struct journal_frame frame = {
            .seq = sqlite3_column_int64(s, 0), .path = path ? path : "", .size = sqlite3_column_int64(s, 2),
            .mtime_ns = sqlite3_column_int64(s, 3), .due_ms = sqlite3_column_double(s, 4),
            .truth = sqlite3_column_int(s, 5),
        };
        status = visit(context, &frame, sqlite3_column_int(s, 6) != 0, err);
    }
    sqlite3_finalize(s);
    return status;
}

/* ---- queueing ---- */

struct packer {
    char *next;
};
static const char *pack(struct packer *p, const char *text) {
    if (!text) return NULL;
    size_t length = strlen(text) + 1;
    char *copy = memcpy(p->next, text, length);
    p->next += length;
    return copy;
}
static size_t packed(const char *text) { return text ? strlen(text) + 1 : 0; }

static void enqueue(struct journal *j, struct entry *entry) {
    double by_ms = journal_now_ms(j) + (entry->kind == ENTRY_FRAME ? JOURNAL_FRAME_MS : JOURNAL_RESULT_MS);
    pthread_mutex_lock(&j->mutex);
    if (!j->incoming.first || by_ms < j->commit_ms) j->commit_ms = by_ms;
    queue_push(&j->incoming, entry);
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->mutex);
}

enum status journal_accept(struct journal *j, const struct journal_frame *frame, struct err *err) {
    struct entry *entry = malloc(sizeof *entry + packed(frame->path));
    if (!entry) return err_memory(err, "journal");
    *entry = (struct entry){ .kind = ENTRY_FRAME, .frame = *frame };
    struct packer p = { (char *)(entry + 1) };
    entry->frame.path = pack(&p, frame->path);
    enqueue(j, entry);
    return STATUS_OK;
}

enum status journal_store(struct journal *j, const struct journal_result *r, struct err *err) {
    struct entry *entry = malloc(sizeof *entry + packed(r->name) + packed(r->levels) + packed(r->links) +
                                 packed(r->stages) + packed(r->error));
    if (!entry) return err_memory(err, "journal");
    *entry = (struct entry){ .kind = ENTRY_RESULT, .result = *r };
    struct packer p = { (char *)(entry + 1) };
    entry->result.name = pack(&p, r->name);
    entry->result.levels = pack(&p, r->levels);
    entry->result.links = pack(&p, r->links);
    entry->result.stages = pack(&p, r->stages);
    entry->result.error = pack(&p, r->error);
    enqueue(j, entry);
    return STATUS_OK;
}

enum status journal_collect(struct journal *j, struct journal_stored *stored, int room, int *count, struct err *err) {
    uint64_t ignored;
    enum status status = STATUS_OK;
    int n = 0;
    pthread_mutex_lock(&j->mutex);
    while (read(j->event_fd, &ignored, sizeof ignored) < 0 && errno == EINTR) {}
    while (n < room && j->done.first) {
        struct entry *e = queue_pop(&j->done);
        stored[n++] = (struct journal_stored){ e->result.seq, e->stored_ms - e->result.due_ms };
        free(e);
    }
    if (j->done.first) signal_owner(j);
    if (j->failed && n == 0) {
        if (err) *err = j->error;
        status = j->error.status;
    }
    pthread_mutex_unlock(&j->mutex);
    *count = n;
    return status;
}

enum status journal_close_run(struct journal *j, bool finished, struct err *err) {
    stop_thread(j);
    if (j->failed) {
        if (err) *err = j->error;
        return j->error.status;
    }
    if (!finished) return STATUS_OK;
    sqlite3_stmt *s = NULL;
    enum status status = prepare(j, &s, "UPDATE runs SET finished = ? WHERE run_id = ?", err);
    if (status) return status;
    sqlite3_bind_double(s, 1, wall_now_s());
    sqlite3_bind_int64(s, 2, j->run_id);
    status = step_and_reset(j, s, err);
    sqlite3_finalize(s);
    return status;
}

/* ---- summary ---- */

/* The value that `share` of the n results without error do not exceed. */
static enum status percentile(struct journal *j, int64_t n, double share, double *value, struct err *err) {
    sqlite3_stmt *s = NULL;
    enum status status = prepare(j, &s,
                                 "SELECT latency_ms FROM results WHERE run_id = ? AND error IS NULL"
                                 " ORDER BY latency_ms LIMIT 1 OFFSET ?",
                                 err);
    if (status) return status;
    int64_t at = (int64_t)ceil((double)n * share) - 1;
    sqlite3_bind_int64(s, 1, j->run_id);
    sqlite3_bind_int64(s, 2, at < 0 ? 0 : at);
    int rc = sqlite3_step(s);
    *value = rc == SQLITE_ROW ? sqlite3_column_double(s, 0) : 0;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) status = database_error(j, err);
    sqlite3_finalize(s);
    return status;
}

enum status journal_summarise(struct journal *j, double slo_ms, struct journal_summary *out, struct err *err) {
    struct journal_summary m = { 0 };
    sqlite3_stmt *s = NULL;
    enum status status =
        prepare(j, &s,
                "WITH t AS (SELECT f.seq, f.due_ms, f.truth, r.seq AS result, r.latency_ms, r.label, r.error,"
                "  r.attempts, r.levels || '/' || r.links AS plan,"
                "  lag(r.levels || '/' || r.links) OVER (ORDER BY f.seq) AS before"
                "  FROM frames f LEFT JOIN results r USING (run_id, seq) WHERE f.run_id = ?1)"
                "SELECT count(*), count(result), count(error) - total(error IN (?3, ?4)),"
                " total(result IS NOT NULL AND error IS NULL AND (?2 <= 0 OR latency_ms <= ?2)),"
                " total(truth IS NOT NULL AND result IS NOT NULL), total(label = truth),"
                " total(plan <> before), total(attempts > 1), coalesce(avg(iif(error IS NULL, latency_ms, NULL)), 0),"
                " coalesce(min(due_ms), 0), coalesce(max(due_ms + latency_ms), 0),"
                " total(error = ?3), total(error = ?4) FROM t",
                err);
    if (status) return status;
    sqlite3_bind_int64(s, 1, j->run_id);
    sqlite3_bind_double(s, 2, slo_ms);
    sqlite3_bind_text(s, 3, JOURNAL_DROPPED, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, JOURNAL_REFUSED, -1, SQLITE_STATIC);
    if (sqlite3_step(s) == SQLITE_ROW) {
        m.frames = sqlite3_column_int64(s, 0);
        m.results = sqlite3_column_int64(s, 1);
        m.failed = sqlite3_column_int64(s, 2);
        m.within = sqlite3_column_int64(s, 3);
        m.labelled = sqlite3_column_int64(s, 4);
        m.correct = sqlite3_column_int64(s, 5);
        m.switches = sqlite3_column_int64(s, 6);
        m.resent = sqlite3_column_int64(s, 7);
        m.mean_ms = sqlite3_column_double(s, 8);
        m.first_due_ms = sqlite3_column_double(s, 9);
        m.last_stored_ms = sqlite3_column_double(s, 10);
        m.dropped = sqlite3_column_int64(s, 11);
        m.refused = sqlite3_column_int64(s, 12);
    } else {
        status = database_error(j, err);
    }
    sqlite3_finalize(s);
    int64_t good = m.results - m.failed - m.dropped - m.refused;
    if (!status) status = percentile(j, good, .50, &m.p50_ms, err);
    if (!status) status = percentile(j, good, .95, &m.p95_ms, err);
    if (!status) status = percentile(j, good, .99, &m.p99_ms, err);
    if (!status) *out = m;
    return status;
}
