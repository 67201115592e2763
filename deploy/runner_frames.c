/* A frame's way: taken from the source, accepted by the journal, sent, answered
 * by the last stage, stored. Until its result is on disk the runner keeps what
 * it takes to send it again.
 *
 * Lost frames are noticed in three ways: a worker says it was restarted or its
 * link broke; a frame sent later comes back earlier (stages keep the order); or
 * nothing comes for much longer than usual. They go to the head of the queue. */
#include "deploy/runner_internal.h"

#include "common/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    AHEAD = 4096,         /* frames accepted and not yet sent, at most; results not yet stored, too */
    AHEAD_IN_MEMORY = 64, /* the former if they hold their bytes */
    CAREFUL = 3,        /* attempts after which a frame goes alone, so that no other pays for it */
    MOST_ATTEMPTS = 12, /* whatever it does to the workers, it will not be different the next time */
};
static const double STALL_MS = 2000, STALL_MAX_MS = 60000;
static const double STALL_UNKNOWN_MS = 10000; /* before the first result */

bool runner_ready(const struct runner *r) {
    return runner_layout_ready(r, r->layout);
}

int64_t runner_owed(const struct runner *r) {
    return (int64_t)r->waiting.count + r->sent.count + r->storing.count;
}

static bool is_paced(const struct runner *r) {
    return source_paced(r->source);
}

/* ---- acceptance ---- */

/* The label that is the name of a folder on the path, the nearest one; or -1. */
static int truth_of(const struct model *m, const char *path) {
    const char *end = strrchr(path, '/');
    while (end && end > path) {
        const char *start = end;
        while (start > path && start[-1] != '/') start--;
        size_t length = (size_t)(end - start);
        for (int i = 0; i < m->nlabels; i++)
            if (strlen(m->labels[i]) == length && memcmp(m->labels[i], start, length) == 0) return i;
        end = start > path ? start - 1 : NULL;
    }
    return -1;
}

/* A frame on the heap; it owns path and bytes then. */
static struct frame *new_frame(const struct frame *model_of, struct err *err) {
    struct frame *frame = malloc(sizeof *frame);
    if (!frame) {
        err_memory(err, "frame");
        return NULL;
    }
    *frame = *model_of;
    frame->sent_ms = frame->resent_ms = -1;
    frame->label = -1;
    return frame;
}

/* Results are printed in the order in which frames are known of. */
static enum status expect_result(struct runner *r, int64_t seq, struct err *err) {
    return r->config->json ? reorder_expect(&r->results, seq, err) : STATUS_OK;
}

static enum status admit(struct runner *r, const struct frame *model_of, struct err *err) {
    struct frame *frame = new_frame(model_of, err);
    if (!frame) return STATUS_MEMORY;
    enum status status = frame_queue_push(&r->waiting, frame, err);
    if (status) free(frame);
    return status;
}

enum status runner_readmit(struct runner *r, const struct journal_frame *f, struct err *err) {
    struct frame frame = { .seq = f->seq, .path = strdup(f->path), .due_ms = f->due_ms, .truth = f->truth };
    if (!frame.path) return err_memory(err, "frame");
    enum status status = expect_result(r, f->seq, err);
    if (!status) status = admit(r, &frame, err);
    if (status) free(frame.path);
    return status;
}

static enum status accept_frame(struct runner *r, struct source_frame *f, struct err *err) {
    struct frame frame = { .seq = r->next_seq, .path = f->path, .bytes = f->bytes, .length = f->length,
                           .due_ms = f->due_ms, .truth = truth_of(r->model, f->path) };
    struct journal_frame row = { .seq = frame.seq, .path = f->path, .size = f->size, .mtime_ns = f->mtime_ns,
                                 .due_ms = f->due_ms, .truth = frame.truth };
    enum status status = journal_accept(r->journal, &row, err);
    if (!status) status = expect_result(r, frame.seq, err);
    struct frame *refused = NULL;
    if (!status && r->config->overload == RUNNER_REFUSE && (int)r->waiting.count >= r->config->queue)
        status = (refused = new_frame(&frame, err)) ? STATUS_OK : STATUS_MEMORY;
    else if (!status) status = admit(r, &frame, err);
    if (status) {
        free(f->path);
        free(f->bytes);
        return status;
    }
    r->next_seq++;
    governor_arrival(r->layout->governor, log_now_s());
    return refused ? runner_give_up(r, refused, JOURNAL_REFUSED, err) : STATUS_OK;
}

/* What --overload drop-oldest says about the frames that wait. */
static enum status drop_oldest(struct runner *r, struct err *err) {
    double now_ms = journal_now_ms(r->journal);
    enum status status = STATUS_OK;
    while (r->config->overload == RUNNER_DROP_OLDEST && !status) {
        const struct frame *head = frame_queue_head(&r->waiting);
        bool late = head && r->slo_ms > 0 && now_ms - head->due_ms > r->slo_ms;
        if (!late && (int)r->waiting.count <= r->config->queue) break;
        status = runner_give_up(r, frame_queue_pop(&r->waiting), JOURNAL_DROPPED, err);
    }
    return status;
}

enum status runner_take(struct runner *r, struct err *err) {
    r->source_next_ms = HUGE_VAL;
    r->source_waits = false;
    enum status dropped = drop_oldest(r, err);
    if (dropped) return dropped;
    while (!r->source_ended && !r->stopping) {
        size_t most = source_live(r->source) ? AHEAD_IN_MEMORY : AHEAD;
        bool room = r->storing.count >= AHEAD || r->results.count >= 2 * AHEAD ? false
                  : is_paced(r) ? r->waiting.count < most
                                : r->waiting.count == 0 && r->sent.count < r->credits && runner_ready(r);
        if (!room) return STATUS_OK;
        struct source_frame frame;
        enum source_answer answer;
        double now_ms = journal_now_ms(r->journal);
        enum status status = source_next(r->source, now_ms, &frame, &answer, &r->source_next_ms, err);
        if (status) return status;
        r->source_waits = answer == SOURCE_WAIT;
        if (r->source_waits) return STATUS_OK;
        if (answer == SOURCE_END) r->source_ended = true;
        else status = accept_frame(r, &frame, err);
        if (!status) status = drop_oldest(r, err);
        if (status) return status;
    }
    return STATUS_OK;
}

/* The frame of an answer, taken from where it waits for it; NULL: it has its
 * result already. An answer to an earlier attempt is as good as any. */
static struct frame *claim(struct runner *r, uint64_t seq) {
    struct frame *f = seq <= INT64_MAX ? frame_set_find(&r->sent, (int64_t)seq) : NULL;
    if (f) frame_set_remove(&r->sent, f);
    else f = frame_queue_take(&r->waiting, (int64_t)seq, (size_t)r->credits * 2);
    if (f && f->attempt == 0) { /* an answer to what was never asked */
        if (frame_queue_push_front(&r->waiting, f, NULL)) frame_free(&f);
        f = NULL;
    }
    if (!f) r->duplicates++;
    return f;
}

/* ---- sending ---- */

static enum status read_bytes(struct frame *f, struct err *err) {
    if (f->bytes) return STATUS_OK;
    enum status status = file_read(f->path, SOURCE_MAX_FRAME, &f->bytes, &f->length, err);
    if (!status && f->length == 0) status = err_set(err, STATUS_FORMAT, "%s: empty", f->path);
    return status;
}

/* The plan has changed: frames sent before `before` that wait at a stage need
 * not hold the others up at a level that is too low now, or for a slow link. What
 * they run at is a mixture of two plans, and may cost more accuracy than either. */
static void relieve_sent(struct runner *r, const struct wire_choice *choice, int64_t before) {
    if (r->sent.count == 0) return;
    const struct layout_places *places = &r->layout->places;
    for (int s = 0; s < places->nstages; s++) {
        struct wire_message m = { .kind = WIRE_RELIEVE, .session = r->session,
                                  .relieve = { .layout = r->layout->number, .before = (uint64_t)before,
                                               .level = choice[s].level,
                                               .codec = s + 1 < places->nstages ? choice[s + 1].codec : CODEC_F32 } };
        for (int i = 0; i < places->stage[s].count; i++)
            channel_say(r->peers[places->stage[s].worker[i]].channel, NULL, &m);
    }
}

/* The plan for frames from number `seq` on, `waiting` of them. */
static void choose(struct runner *r, int64_t seq, int waiting, struct wire_choice *choice) {
    const char *reason;
    governor_choose(r->layout->governor, log_now_s(), waiting, r->sent.count, choice, &reason);
    if (!reason[0]) return;
    log_info("%s", reason);
    r->switches++;
    relieve_sent(r, choice, seq);
}

/* What has been heard may call for another plan before there is a frame to send it with. */
static void reconsider(struct runner *r) {
    struct wire_choice choice[WIRE_MAX_STAGES];
    const struct frame *head = frame_queue_head(&r->waiting);
    choose(r, head ? head->seq : r->next_seq, (int)r->waiting.count, choice);
}

static enum status transmit(struct runner *r, struct frame *f, struct err *err) {
    struct wire_message m = { .kind = WIRE_FRAME, .session = r->session };
    runner_route(r, r->layout, f);
    choose(r, f->seq, (int)r->waiting.count + 1, f->choice);
    m.frame.seq = (uint64_t)f->seq;
    m.frame.attempt = f->attempt + 1;
    m.frame.layout = f->layout;
    m.frame.nstages = (uint16_t)f->nstages;
    m.frame.format = WIRE_IMAGE;
    memcpy(m.frame.choice, f->choice, (size_t)f->nstages * sizeof *f->choice);
    m.payload = f->bytes;
    m.payload_length = f->length;
    struct packet packet = { 0 };
    enum status status = packet_make(&packet, &m, err);
    if (!status) status = frame_set_add(&r->sent, f, err);
    if (status) {
        packet_free(&packet);
        frame_free(&f);
        return status;
    }
    f->attempt++;
    f->order = ++r->order;
    f->resent_ms = journal_now_ms(r->journal);
    if (f->sent_ms < 0) f->sent_ms = f->resent_ms;
    if (f->attempt > 1) r->resent++;
    outlet_put(&r->peers[f->peer[0]].outlet, m.frame.seq, f->attempt, &packet);
    return STATUS_OK;
}

enum status runner_send(struct runner *r, struct err *err) {
    uint64_t order = r->order;
    while (!r->stopping && runner_ready(r) && r->storing.count < AHEAD) {
        const struct frame *head = frame_queue_head(&r->waiting);
        if (!head) break;
        int credits = head->attempt >= CAREFUL ? 1 : r->credits;
        if (r->sent.count >= credits) break;
        for (int i = 0; i < r->sent.count; i++)
            if (r->sent.frames[i]->attempt > CAREFUL) credits = 0; /* it goes alone */
        if (!credits) break;
        struct frame *f = frame_queue_pop(&r->waiting);
        struct err trouble;
        enum status status = STATUS_OK;
        if (f->attempt >= MOST_ATTEMPTS) {
            status = runner_fail(r, f, "no result in 12 attempts: it stops the workers", err);
        } else if (read_bytes(f, &trouble)) {
            bool gone = strncmp(f->path, "stdin:", 6) == 0;
            status = runner_fail(r, f, gone ? "it came on standard input before the interruption" : trouble.text, err);
        } else {
            status = transmit(r, f, err);
        }
        if (status) return status;
    }
    if (r->informed && order == r->order && r->sent.count && runner_ready(r)) reconsider(r);
    r->informed = false;
    for (int i = 0; i < r->npeers; i++)
        if (r->peers[i].up) outlet_flush(&r->peers[i].outlet, r->peers[i].channel, NULL);
    return STATUS_OK;
}

/* ---- answers ---- */

/* Frames in flight that `lost` says are, for `context`, go back to the queue. */
static enum status requeue(struct runner *r, bool (*lost)(const struct frame *f, const void *context),
                           const void *context, struct err *err) {
    for (;;) { /* latest first, so that the head of the queue is the earliest */
        struct frame *f = NULL;
        for (int i = 0; i < r->sent.count; i++) {
            struct frame *g = r->sent.frames[i];
            if ((!f || g->seq > f->seq) && lost(g, context)) f = g;
        }
        if (!f) return STATUS_OK;
        frame_set_remove(&r->sent, f);
        enum status status = frame_queue_push_front(&r->waiting, f, err);
        if (status) {
            frame_free(&f);
            return status;
        }
    }
}

/* Sent before one that took the same way, and not come back before it. */
static bool was_overtaken(const struct frame *f, const void *context) {
    const struct frame *other = context;
    return f->order < other->order && f->layout == other->layout &&
           memcmp(f->peer, other->peer, (size_t)f->nstages) == 0;
}

static bool went_through(const struct frame *f, const void *context) {
    return memchr(f->peer, *(const uint8_t *)context, (size_t)f->nstages) != NULL;
}

static bool was_sent_by(const struct frame *f, const void *context) {
    return f->resent_ms <= *(const double *)context;
}

static bool is_of_layout(const struct frame *f, const void *context) {
    return f->layout == *(const uint32_t *)context;
}

enum status runner_requeue_layout(struct runner *r, uint32_t layout, struct err *err) {
    return requeue(r, is_of_layout, &layout, err);
}

static bool good_result(const struct runner *r, const struct wire_message *m) {
    const struct wire_frame *f = &m->frame;
    return f->format == WIRE_MAP && f->stage == f->nstages &&
           m->payload_length == (size_t)f->c * f->h * f->w * sizeof(float) &&
           (int)(f->c * f->h * f->w) == r->model->net->classes;
}

/* What the frame's stages say of themselves and of the links between them. */
static void count_stages(struct runner *r, const struct frame *f, const struct wire_frame *result) {
    struct outlet_sample *first = &r->peers[f->peer[0]].sample;
    for (int i = 0; i < result->nstages; i++) {
        const struct wire_time *before = i ? &result->time[i - 1] : NULL;
        peer_count(&r->peers[f->peer[i]], &result->choice[i], &result->time[i],
                   before ? before->link_bytes : first->bytes, before ? before->link_us * 1e-6 : first->seconds);
    }
}

static void inform_governor(struct runner *r, const struct frame *f, const struct wire_frame *result) {
    struct outlet_sample *first = &r->peers[f->peer[0]].sample;
    double now_s = log_now_s();
    if (first->bytes) governor_source_link(r->layout->governor, now_s, first);
    first->bytes = 0;
    governor_frame(r->layout->governor, now_s, result);
    r->informed = true;
}

static enum status on_result(struct runner *r, struct peer *peer, const struct wire_message *m, struct err *err) {
    const struct wire_frame *result = &m->frame;
    struct wire_message ack = { .kind = WIRE_ACK, .session = r->session,
                                .ack = { .seq = result->seq, .attempt = result->attempt } };
    channel_say(peer->channel, NULL, &ack);
    if (!good_result(r, m)) {
        log_warn("%s: sent something that is no result of this model", peer->worker->name);
        return STATUS_OK;
    }
    struct frame *f = claim(r, result->seq);
    if (!f) return STATUS_OK;
    int best = -1;
    float most = -INFINITY;
    for (int i = 0; i < r->model->net->classes; i++) {
        float p;
        memcpy(&p, m->payload + (size_t)i * sizeof p, sizeof p);
        if (p > most) most = p, best = i;
    }
    bool latest = result->attempt == f->attempt; /* then it is known which way it went */
    memcpy(f->choice, result->choice, (size_t)result->nstages * sizeof *f->choice);
    f->nstages = result->nstages;
    f->label = best < 0 ? 0 : best;
    f->prob = best < 0 ? 0 : most;
    double now = journal_now_ms(r->journal);
    for (int i = 0; i < result->nstages; i++) f->queue_ms += result->time[i].queue_us / 1e3;
    double took = now - f->resent_ms;
    r->typical_ms = took > r->typical_ms ? took : r->typical_ms + (took - r->typical_ms) / 32;
    if (latest) count_stages(r, f, result);
    if (latest && f->layout == r->layout->number) {
        inform_governor(r, f, result);
        runner_recut_report(r, f, result);
    }
    enum status status = STATUS_OK;
    if (latest) status = requeue(r, was_overtaken, f, err);
    if (status) {
        frame_free(&f);
        return status;
    }
    return runner_store(r, f, result, err);
}

static enum status on_failed(struct runner *r, const struct wire_failed *m, struct err *err) {
    struct frame *f = claim(r, m->seq);
    return f ? runner_fail(r, f, m->text, err) : STATUS_OK;
}

/* A worker's link to the next stage has become faster or slower; and how much
 * the first worker of a stage is kept from computing. */
static void hear_news(struct runner *r, int peer, double now_s) {
    struct peer *p = &r->peers[peer];
    const struct layout_places *places = &r->layout->places;
    bool heard = p->told && p->status.contention_us > 0 && r->layout->governor;
    for (int s = 0; heard && s < places->nstages; s++)
        if (places->stage[s].worker[0] == peer)
            governor_contention(r->layout->governor, s, now_s, (double)p->status.contention_us * 1e-6);
    p->told = false;
    for (int s = 0; p->news.bytes && p->news_layout == r->layout->number && s + 1 < places->nstages; s++)
        for (int i = 0; i < places->stage[s].count; i++)
            if (places->stage[s].worker[i] == peer) {
                governor_link(r->layout->governor, s + 1, &p->news);
                r->informed = true;
            }
    p->news.bytes = 0;
}

enum status runner_serve(struct runner *r, struct err *err) {
    double now_s = log_now_s();
    for (int i = 0; i < r->npeers; i++) {
        struct peer *peer = &r->peers[i];
        struct packet packet = { 0 };
        struct wire_message m;
        while (peer_receive(peer, &packet, &m)) {
            enum status status = m.kind == WIRE_FAILED ? on_failed(r, &m.failed, err) : on_result(r, peer, &m, err);
            packet_free(&packet);
            if (status) return status;
        }
        hear_news(r, i, now_s);
        peer_tick(peer, now_s);
    }
    return STATUS_OK;
}

static void restarted(struct runner *r, int peer) {
    for (int s = 0; s < r->layout->places.nstages; s++)
        for (int i = 0; i < r->layout->places.stage[s].count && r->layout->governor; i++)
            if (r->layout->places.stage[s].worker[i] == peer) governor_restarted(r->layout->governor, s);
}

enum status runner_repair(struct runner *r, struct err *err) {
    for (uint8_t i = 0; i < r->npeers; i++) {
        struct peer *peer = &r->peers[i];
        if (peer->restarted) restarted(r, i);
        bool disturbed = peer->disturbed;
        peer->disturbed = peer->restarted = false;
        if (!disturbed) continue;
        outlet_clear(&peer->outlet);
        int before = r->sent.count;
        enum status status = requeue(r, went_through, &i, err);
        if (status) return status;
        if (r->sent.count < before)
            log_info("%d frame(s) on their way through %s will be sent again", before - r->sent.count,
                     peer->worker->name);
    }
    if (!r->sent.count || !runner_ready(r)) return STATUS_OK;
    double now = journal_now_ms(r->journal);
    double stall = r->typical_ms > 0 ? fmax(STALL_MS, 4 * r->typical_ms) : STALL_UNKNOWN_MS;
    for (int i = 0; i < r->sent.count; i++) {
        const struct frame *f = r->sent.frames[i];
        double patience = fmin(stall * pow(2, fmin(f->attempt - 1, 10)), fmax(STALL_MAX_MS, stall));
        if (now - f->resent_ms <= patience) continue;
        log_warn("frame %lld: no result in %.1f s, it will be sent again", (long long)f->seq,
                 (now - f->resent_ms) / 1e3);
        double by_ms = f->resent_ms;
        return requeue(r, was_sent_by, &by_ms, err);
    }
    return STATUS_OK;
}
