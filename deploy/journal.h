/* The journal of a run, and its results: one SQLite database.
 *
 * A frame is accepted once its row in `frames` is committed; its result is one
 * row in `results` under the unique key (run_id, seq). A thread of its own
 * commits what has gathered in one transaction with synchronous=FULL: frames
 * at most JOURNAL_FRAME_MS after they came in, results at most
 * JOURNAL_RESULT_MS, unless the disk is still busy with the transaction
 * before. So a frame whose result was handed back by journal_collect survives
 * a power cut, and an interrupted run knows which frames it still owes.
 *
 * Times are milliseconds since the run's start, which is kept as a wall-clock
 * time too, so that a resumed run can go on counting. The file is locked
 * against a second run for as long as it is open; readers are not hindered.
 *
 * Tables: runs, frames, results; a view `timeline` joins them for plotting. */
#ifndef ESPALIER_JOURNAL_H
#define ESPALIER_JOURNAL_H

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { JOURNAL_FRAME_MS = 10, JOURNAL_RESULT_MS = 2 };

struct journal;

struct journal_config {
    const char *path;
    const char *model;  /* content hash of the model */
    const char *source; /* what the frames are: kind and absolute path */
    const char *policy, *cuts;
    double slo_ms; /* 0: none */
};

/* Opens or creates the database, and takes up the latest unfinished run of the
 * same model and source, or begins a new one. */
enum status journal_open(struct journal **journal, const struct journal_config *config, struct err *err) MUST_CHECK;
/* Commits what is queued (errors are lost: journal_close_run reports them) and closes. */
void journal_destroy(struct journal **journal);

bool journal_resumed(const struct journal *journal);
uint64_t journal_token(const struct journal *journal);    /* random, of the run; the same after a resume */
double journal_started_s(const struct journal *journal);  /* wall clock, unix time */
int64_t journal_next_seq(const struct journal *journal);  /* of the first frame not yet accepted */

struct journal_frame {
    int64_t seq;
    const char *path;
    int64_t size, mtime_ns;
    double due_ms;
    int truth; /* label, or -1: not known */
};
/* Calls `visit` for every accepted frame in order of seq; before the first
 * journal_accept only. */
enum status journal_each(struct journal *journal,
                         enum status (*visit)(void *context, const struct journal_frame *frame, bool has_result,
                                              struct err *err),
                         void *context, struct err *err) MUST_CHECK;

/* The errors of frames given up for others' sake; journal_summarise tells them from failures. */
#define JOURNAL_DROPPED "dropped: newer frames were waiting"
#define JOURNAL_REFUSED "refused: too many frames were waiting"

struct journal_result {
    int64_t seq;
    int label;        /* -1 with an error */
    const char *name; /* the label's, or NULL */
    double prob;
    double due_ms, sent_ms; /* since the run's start; sent_ms: of the first attempt, or -1 */
    const char *levels, *links; /* "0,2,4"; "0:f32,1:q8z" */
    const char *stages;         /* JSON list: durations of each stage */
    int attempts;
    const char *error; /* NULL: none */
};

/* Queue a row to be committed; strings are copied. */
enum status journal_accept(struct journal *journal, const struct journal_frame *frame, struct err *err) MUST_CHECK;
enum status journal_store(struct journal *journal, const struct journal_result *result, struct err *err) MUST_CHECK;

/* Readable when journal_collect has something to say. */
int journal_fd(const struct journal *journal);
struct journal_stored {
    int64_t seq;
    double latency_ms; /* from due to the end of the commit */
};
/* Results committed since the last call, at most `room`; *count of them. An
 * error of the database is final: the run must end, and can be resumed. */
enum status journal_collect(struct journal *journal, struct journal_stored *stored, int room, int *count,
                            struct err *err) MUST_CHECK;
/* Milliseconds since the run's start, on the journal's clock. */
double journal_now_ms(const struct journal *journal);

/* Commits all that is queued and stops the thread; `finished`: nothing is
 * owed, a later run begins anew. */
enum status journal_close_run(struct journal *journal, bool finished, struct err *err) MUST_CHECK;

struct journal_summary {
    int64_t frames, results; /* accepted; with a result, errors too */
    int64_t failed, dropped, refused; /* results with an error: of the frame itself; as it was given up */
    int64_t within;                  /* results without error within slo_ms (all of them if that is 0) */
    int64_t labelled, correct;
    int64_t switches; /* frames, in order, whose plan was not that of the one before */
    int64_t resent;   /* results that took more than one attempt */
    double p50_ms, p95_ms, p99_ms, mean_ms;
    double first_due_ms, last_stored_ms;
};
/* Over the whole run, resumed parts included; after journal_close_run. */
enum status journal_summarise(struct journal *journal, double slo_ms, struct journal_summary *summary,
                              struct err *err) MUST_CHECK;

#endif
