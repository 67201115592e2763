/* What a worker is in one layout: a stage, and the way out of it, which is a
 * link to each worker of the next stage, or for the last stage the runner. */
#ifndef ESPALIER_POST_H
#define ESPALIER_POST_H

#include "common/err.h"
#include "deploy/outlet.h"
#include "deploy/recode.h"
#include "deploy/transport.h"
#include "deploy/wire.h"

#include <stdbool.h>

struct post_link {
    struct channel *channel;
    bool up;
    int refusals; /* failed handshakes in a row */
    struct outlet outlet;
};

struct post {
    bool held; /* false: a free place */
    struct wire_assign assign;
    int slot; /* of the stage thread: where its slice is */
    struct post_link next[WIRE_MAX_REPLICAS]; /* [assign.nnext] */
    struct outlet results; /* of the last stage */
    double usual_ns;           /* that a byte takes on the way to the next stage; 0: not known */
    struct outlet_sample news; /* the latest that is far from that */
    char text[WIRE_TEXT];  /* why a link is refused */
};

/* Takes the post up and begins to connect. On failure it is not held. */
enum status post_open(struct post *post, const struct wire_assign *assign, int slot, struct transport *transport,
                      struct err *err) MUST_CHECK;
void post_close(struct post *post);
bool post_is(const struct post *post, const struct wire_assign *assign);
bool post_is_last(const struct post *post);
/* Begins anew with the links that were refused. */
enum status post_reconnect(struct post *post, struct transport *transport, struct err *err) MUST_CHECK;
/* Bit i: link i is up. */
uint8_t post_links(const struct post *post);
/* No link is up, and one is refused: `text` says why. */
bool post_refused(const struct post *post);
/* What the links' monitors say; returns how many went down. */
int post_watch(struct post *post);

/* Takes the packet over; `next`: which worker of the next stage. */
void post_put(struct post *post, int next, uint64_t seq, uint32_t attempt, struct packet *packet);
/* Sends what can be sent now; results through the listener to the runner. */
void post_flush(struct post *post, struct channel *listener, const struct channel_peer *runner);
/* Frames numbered below `before` that wait for the next stage's links are coded anew, see deploy/recode.h. */
void post_recode(struct post *post, uint64_t before, struct recoder *recoder, enum codec codec);
/* Forgets what waits. */
void post_forget(struct post *post);
bool post_acknowledge(struct post *post, uint64_t seq, uint32_t attempt, double now_s, struct outlet_sample *sample);
double post_age(const struct post *post, double now_s); /* as outlet_age */

#endif
