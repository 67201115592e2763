/* The frames that a run owes a result: waiting to be sent, in flight, or with
 * a result on its way to the disk. */
#ifndef ESPALIER_FLIGHT_H
#define ESPALIER_FLIGHT_H

#include "common/err.h"
#include "deploy/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct frame {
    int64_t seq;
    char *path;
    uint8_t *bytes; /* the encoded image; NULL: still in its file */
    size_t length;
    double due_ms;
    int truth;           /* label, or -1 */
    double sent_ms;      /* first time, or -1 */
    double resent_ms;    /* latest time */
    uint32_t attempt;    /* 0: not sent yet */
    uint64_t order;      /* rises with every sending: stages keep the order */
    uint32_t layout;     /* of the latest attempt, as what follows */
    int nstages;
    struct wire_choice choice[WIRE_MAX_STAGES];
    uint8_t peer[WIRE_MAX_STAGES]; /* the workers on its way */

    /* The result, once there is one. */
    int label;           /* -1: failed */
    double prob;
    double queue_ms;     /* in the queues of stages */
    char *error;         /* NULL: none */
    double latency_ms;   /* once it is stored */
};
void frame_free(struct frame **frame);

/* Frames that wait, first come, first sent. */
struct frame_queue {
    struct frame **ring;
    size_t first, count, room;
};
void frame_queue_free(struct frame_queue *queue);
enum status frame_queue_push(struct frame_queue *queue, struct frame *frame, struct err *err) MUST_CHECK;
/* To the head of the queue: a frame that is to be sent again. */
enum status frame_queue_push_front(struct frame_queue *queue, struct frame *frame, struct err *err) MUST_CHECK;
struct frame *frame_queue_pop(struct frame_queue *queue);
const struct frame *frame_queue_head(const struct frame_queue *queue); /* NULL: empty */
/* Takes out the frame with that number if it is among the first `depth`. */
struct frame *frame_queue_take(struct frame_queue *queue, int64_t seq, size_t depth);

/* An unordered set of a few dozen frames. */
struct frame_set {
    struct frame **frames;
    int count, room;
};
void frame_set_free(struct frame_set *set);
enum status frame_set_add(struct frame_set *set, struct frame *frame, struct err *err) MUST_CHECK;
/* NULL if it is not in there. */
struct frame *frame_set_find(const struct frame_set *set, int64_t seq);
void frame_set_remove(struct frame_set *set, const struct frame *frame);

#endif
