/* A worker as the runner sees it: keeps the link, says hello (which is also
 * the heartbeat), assigns the slice and feeds it, and knows whether the worker
 * is ready. What it is to be and what it says it is are compared at every
 * status, so a worker that was restarted is set up again without further ado. */
#ifndef ESPALIER_PEER_H
#define ESPALIER_PEER_H

#include "common/err.h"
#include "common/profile.h"
#include "deploy/cluster.h"
#include "deploy/outlet.h"
#include "deploy/slices.h"
#include "deploy/transport.h"

#include <stdbool.h>
#include <stdint.h>

/* How a worker fares, by the frames that went through it. */
struct peer_load {
    int64_t frames;
    struct wire_choice choice; /* of the latest */
    double stage_s;            /* decoding, computing, encoding: follows the latest ones */
    double bytes_per_s;        /* of the link into it, likewise; 0: not known */
};

struct peer {
    const struct cluster_worker *worker;
    struct transport *transport; /* borrowed */
    char key[WIRE_HASH];         /* hex, or "" */
    struct channel *channel;
    uint64_t run, session;
    struct wire_assign assign;
    struct slices *slices; /* borrowed */

    bool up;    /* the link */
    bool ready; /* the stage serves */
    bool known; /* a STATUS of this session has come */
    struct wire_status status; /* the latest */
    double heard_s, hello_s, assigned_s;
    int refusals;    /* failed handshakes in a row */
    double barred_s; /* when the worker turned us away for good; 0: it has not */
    char trouble[WIRE_TEXT]; /* why it is not ready, or "" */

    /* Set when frames under way may have been lost; cleared by the runner. */
    bool disturbed;
    /* Set when the process is another one than before; likewise. */
    bool restarted;

    struct profile *profile; /* of its slice, once measured */
    bool measuring;
    double rtt_s; /* shortest way of a small message there and back; 0: not known */

    struct peer_load load;

    struct outlet outlet;        /* of the first stage's: frames from the source */
    struct outlet_sample sample; /* its latest; bytes 0: taken already */
};

/* `next`: the worker behind it, or NULL. `key`: its and the next one's public
 * keys in hex, or "". */
enum status peer_open(struct peer *peer, const struct cluster_worker *worker, const char *key,
                      const struct cluster_worker *next, const char *next_key, struct transport *transport,
                      uint64_t run, uint64_t session, struct slices *slices, int stage, int window,
                      struct err *err) MUST_CHECK;
/* Tells the worker that the run is over, and closes. */
void peer_close(struct peer *peer);

/* What is due by time: hello, another assignment, silence. */
void peer_tick(struct peer *peer, double now_s);
/* Handles what has come. A result (FRAME) or FAILED is handed out: true, with
 * the packet that `message` points into, the caller's to free. */
bool peer_receive(struct peer *peer, struct packet *packet, struct wire_message *message);
/* A frame has come back that went through it. The link into the worker was busy
 * for link_s with so many bytes; 0: not known. */
void peer_count(struct peer *peer, const struct wire_choice *choice, const struct wire_time *time, double link_bytes,
                double link_s);
/* Asks for the slice's profile. */
void peer_measure(struct peer *peer);
/* Whether there is no point in waiting: the worker refuses us or its slice. */
bool peer_hopeless(const struct peer *peer);

#endif
