/* The way out of a stage: frames that wait to be sent, and frames sent but not
 * yet acknowledged, from which the link's speed is measured.
 *
 * The link is busy with a frame from when it was handed over, or the frame
 * before it was acknowledged if that is later, until its own acknowledgement;
 * all by the sender's clock. */
#ifndef ESPALIER_OUTLET_H
#define ESPALIER_OUTLET_H

#include "deploy/transport.h"

#include <stdbool.h>
#include <stdint.h>

/* What is handed over lies in sockets' buffers and can no longer be changed. So
 * while OUTLET_AHEAD frames, or OUTLET_BYTES of smaller ones, have not been
 * acknowledged, the others wait here; but not for what has been out for longer
 * than OUTLET_LOST_S: it may never be. */
enum { OUTLET_ROOM = 64, OUTLET_AHEAD = 2, OUTLET_BYTES = 32 << 10 };
#define OUTLET_LOST_S 0.5

struct outlet {
    struct outlet_waiting {
        uint64_t seq;
        uint32_t attempt;
        struct packet packet;
    } waiting[OUTLET_ROOM]; /* a ring */
    int first, nwaiting;
    struct outlet_sent {
        uint64_t seq;
        uint32_t attempt;
        uint32_t bytes;
        double sent_s;
    } sent[OUTLET_ROOM]; /* in order */
    int nsent;
    double acked_s; /* when the latest acknowledgement came */
};

void outlet_init(struct outlet *outlet);
/* Drops all that waits or is not acknowledged. */
void outlet_clear(struct outlet *outlet);
/* Takes the packet over; if there is no room the frame that waits longest is
 * dropped (it will be sent again from the source). */
void outlet_put(struct outlet *outlet, uint64_t seq, uint32_t attempt, struct packet *packet);
/* The i-th packet that waits, the next one to be sent first; NULL: there are fewer. */
struct outlet_waiting *outlet_waiting(struct outlet *outlet, int i);
/* Something waits, and may be sent as soon as the channel takes it. */
bool outlet_pressing(const struct outlet *outlet, double now_s);
/* Sends what can be sent now; packets for a peer that is gone are dropped. */
void outlet_flush(struct outlet *outlet, struct channel *channel, const struct channel_peer *to);
struct outlet_sample {
    uint32_t bytes;
    double seconds; /* the link was busy with it */
};
/* An acknowledgement has come; false if it is of no frame that waits for one. */
bool outlet_acknowledge(struct outlet *outlet, uint64_t seq, uint32_t attempt, double now_s,
                        struct outlet_sample *sample);
/* Seconds that the oldest frame has been without acknowledgement; 0: none is. */
double outlet_age(const struct outlet *outlet, double now_s);

#endif
