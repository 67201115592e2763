/* Threads that run stages, so that a worker can go on talking while it
 * computes. There is room for two slices: one serves while the other is
 * loaded, by a thread of its own. Frames are run in order; their outcomes come
 * back in order.
 *
 * A frame that waits and comes again (with a higher attempt, after a fault)
 * takes its own place: it is run once. */
#ifndef ESPALIER_STAGE_THREAD_H
#define ESPALIER_STAGE_THREAD_H

#include "common/err.h"
#include "deploy/transport.h"
#include "deploy/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct stage_thread;

enum { STAGE_SLOTS = WIRE_POSTS };

/* `threads` the engine computes with; 0: all cores. `cache`: the folder that keeps packed weights, borrowed. */
enum status stage_thread_create(struct stage_thread **thread, int threads, const char *cache,
                                struct err *err) MUST_CHECK;
/* Waits for the frame that is being computed. */
void stage_thread_destroy(struct stage_thread **thread);
int stage_thread_cores(const struct stage_thread *thread);
/* Readable when stage_thread_collect has something. */
int stage_thread_fd(const struct stage_thread *thread);

/* Replaces the stage in a slot by the slice at `path`, whose content must have
 * `hash`; without a path, by nothing (no outcome). */
enum status stage_thread_load(struct stage_thread *thread, int slot, const char *path, const char *hash, int index,
                              int count, struct err *err) MUST_CHECK;
/* Measures the loaded slice's latencies, or reads them from `cache` if they
 * are there already. */
enum status stage_thread_measure(struct stage_thread *thread, int slot, uint32_t layout, const char *cache,
                                 struct err *err) MUST_CHECK;
/* Queues a frame for the slice in a slot, and takes the packet over on success. `message` was read from
 * it. STATUS_LIMIT: `most` frames wait already. */
enum status stage_thread_frame(struct stage_thread *thread, int slot, struct packet *packet,
                               const struct wire_message *message, int most, struct err *err) MUST_CHECK;
/* Does what `relieve` says for frames of that session and layout, waiting or to
 * come; a level that the slice does not have changes nothing. */
void stage_thread_relieve(struct stage_thread *thread, uint64_t session, const struct wire_relieve *relieve);
/* Forgets the frames that wait, and outcomes of frames not yet collected: those
 * of one layout, or of all (NULL). The one being computed still comes. */
void stage_thread_clear(struct stage_thread *thread, const uint32_t *layout);
int stage_thread_queued(struct stage_thread *thread);
/* What the link to the next stage did with the latest frame it acknowledged:
 * goes out with the next frame. */
void stage_thread_link(struct stage_thread *thread, uint32_t bytes, uint32_t us);

enum outcome_kind { OUTCOME_LOADED, OUTCOME_MISSING, OUTCOME_MEASURED, OUTCOME_FRAME };
struct outcome {
    enum outcome_kind kind;
    int slot;
    enum status status; /* LOADED, MEASURED, FRAME; with `text` if it is not 0 */
    char text[WIRE_TEXT];
    char *json;           /* MEASURED: malloc'ed, the collector's */
    uint64_t session, seq; /* FRAME */
    uint32_t attempt;
    uint32_t layout; /* FRAME, MEASURED */
    uint8_t next;    /* FRAME: the worker of the next stage that it goes to */
    struct packet packet; /* FRAME: for the next stage, the collector's */
};
bool stage_thread_collect(struct stage_thread *thread, struct outcome *outcome);

#endif
