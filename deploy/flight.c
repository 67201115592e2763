#include "deploy/flight.h"

#include <stdlib.h>

void frame_free(struct frame **frame) {
    if (!*frame) return;
    free((*frame)->path);
    free((*frame)->bytes);
    free((*frame)->error);
    free(*frame);
    *frame = NULL;
}

void frame_queue_free(struct frame_queue *q) {
    for (struct frame *f; (f = frame_queue_pop(q));) frame_free(&f);
    free(q->ring);
    *q = (struct frame_queue){ 0 };
}

static enum status make_room(struct frame_queue *q, struct err *err) {
    if (q->count < q->room) return STATUS_OK;
    size_t room = q->room ? q->room * 2 : 64;
    struct frame **ring = malloc(room * sizeof *ring);
    if (!ring) return err_memory(err, "frames");
    for (size_t i = 0; i < q->count; i++) ring[i] = q->ring[(q->first + i) % q->room];
    free(q->ring);
    q->ring = ring;
    q->first = 0;
    q->room = room;
    return STATUS_OK;
}

enum status frame_queue_push(struct frame_queue *q, struct frame *frame, struct err *err) {
    enum status status = make_room(q, err);
    if (!status) q->ring[(q->first + q->count++) % q->room] = frame;
    return status;
}

enum status frame_queue_push_front(struct frame_queue *q, struct frame *frame, struct err *err) {
    enum status status = make_room(q, err);
    if (status) return status;
    q->first = (q->first + q->room - 1) % q->room;
    q->ring[q->first] = frame;
    q->count++;
    return STATUS_OK;
}

struct frame *frame_queue_pop(struct frame_queue *q) {
    if (!q->count) return NULL;
    struct frame *frame = q->ring[q->first];
    q->first = (q->first + 1) % q->room;
    q->count--;
    return frame;
}

const struct frame *frame_queue_head(const struct frame_queue *q) {
    return q->count ? q->ring[q->first] : NULL;
}

struct frame *frame_queue_take(struct frame_queue *q, int64_t seq, size_t depth) {
    size_t i = 0, n = q->count < depth ? q->count : depth;
    while (i < n && q->ring[(q->first + i) % q->room]->seq != seq) i++;
    if (i == n) return NULL;
    struct frame *frame = q->ring[(q->first + i) % q->room];
    for (; i > 0; i--) q->ring[(q->first + i) % q->room] = q->ring[(q->first + i - 1) % q->room];
    frame_queue_pop(q);
    return frame;
}

void frame_set_free(struct frame_set *s) {
    for (int i = 0; i < s->count; i++) frame_free(&s->frames[i]);
    free(s->frames);
    *s = (struct frame_set){ 0 };
}

enum status frame_set_add(struct frame_set *s, struct frame *frame, struct err *err) {
    if (s->count == s->room) {
        int room = s->room ? s->room * 2 : 16;
        struct frame **larger = realloc(s->frames, (size_t)room * sizeof *larger);
        if (!larger) return err_memory(err, "frames");
        s->frames = larger;
        s->room = room;
    }
    s->frames[s->count++] = frame;
    return STATUS_OK;
}

struct frame *frame_set_find(const struct frame_set *s, int64_t seq) {
    for (int i = 0; i < s->count; i++)
        if (s->frames[i]->seq == seq) return s->frames[i];
    return NULL;
}

void frame_set_remove(struct frame_set *s, const struct frame *frame) {
    int i = 0;
    while (i < s->count && s->frames[i] != frame) i++;
    if (i < s->count) s->frames[i] = s->frames[--s->count];
}
