/* A worker as the runner sees it: keeps the link, says hello (which is also
 * the heartbeat), assigns slices and feeds them, and knows in which layouts
 * the worker is ready. What it is to be and what it says it is are compared at
 * every status, so a worker that was restarted is set up again without further
 * ado. */
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
    double stage_s;            /* decoding, computing, encoding: follows the latest ones; 0: not known */
    double bytes_per_s;        /* of the link into it, likewise; 0: not known */
    double latest_s;           /* when the latest came back */
};

/* What the worker is to be in one layout. */
struct peer_post {
    bool held;
    struct wire_assign assign;
    struct slices *slices; /* borrowed */
    bool ready;            /* it serves there, and can reach these workers of the next stage: */
    uint8_t links;
    double assigned_s;
};

struct peer {
    const struct cluster_worker *worker;
    struct transport *transport; /* borrowed */
    char key[WIRE_HASH];         /* hex, or "" */
    struct channel *channel;
    uint64_t run, session;
    struct peer_post post[WIRE_POSTS];
    uint32_t oldest; /* layouts before this one are over */

    bool up;    /* the link */
    bool known; /* a STATUS of this session has come */
    bool silent; /* the link is up, but nothing comes */
    struct wire_status status; /* the latest */
    /* Set when the worker's link to the next stage of a layout has become faster or slower: what a frame
     * took. Cleared (no bytes) by the runner. */
    struct outlet_sample news;
    uint32_t news_layout;
    bool told; /* set with every status; likewise */
    double heard_s, hello_s;
    int refusals;    /* failed handshakes in a row */
    double barred_s; /* when the worker turned us away for good; 0: it has not */
    char trouble[WIRE_TEXT]; /* why it is not ready, or "" */

    /* Set when frames under way may have been lost; cleared by the runner. */
    bool disturbed;
    /* Set when the process is another one than before; likewise. */
    bool restarted;

    struct profile *profile; /* of its slice in the layout, once measured */
    uint32_t measured;       /* that layout; 0: none asked for */
    double rtt_s; /* shortest way of a small message there and back; 0: not known */

    struct peer_load load;

    struct outlet outlet;        /* frames from the source, if it serves the first stage */
    struct outlet_sample sample; /* its latest; bytes 0: taken already */
};

/* `key`: its public key in hex, or "". */
enum status peer_open(struct peer *peer, const struct cluster_worker *worker, const char *key,
                      struct transport *transport, uint64_t run, uint64_t session, struct err *err) MUST_CHECK;
/* Tells the worker that the run is over, and closes. */
void peer_close(struct peer *peer);

/* Gives it a post in another layout. `slices` must stay until it is over. */
void peer_assign(struct peer *peer, const struct wire_assign *assign, struct slices *slices);
/* Layouts before this one are over. */
void peer_release(struct peer *peer, uint32_t oldest);
/* Its post in a layout, or NULL. */
const struct peer_post *peer_post(const struct peer *peer, uint32_t layout);
/* Whether it answers, and is ours. */
bool peer_alive(const struct peer *peer);
/* Ready in all its posts. */
bool peer_ready(const struct peer *peer);

/* What is due by time: hello, another assignment, silence. */
void peer_tick(struct peer *peer, double now_s);
/* Handles what has come. A result (FRAME) or FAILED is handed out: true, with
 * the packet that `message` points into, the caller's to free. */
bool peer_receive(struct peer *peer, struct packet *packet, struct wire_message *message);
/* A frame has come back that went through it. The link into the worker was busy
 * for link_s with so many bytes; 0: not known. */
void peer_count(struct peer *peer, const struct wire_choice *choice, const struct wire_time *time, double link_bytes,
                double link_s);
/* Asks for the profile of its slice in a layout. */
void peer_measure(struct peer *peer, uint32_t layout);
bool peer_measuring(const struct peer *peer);
/* Whether there is no point in waiting: the worker refuses us or a slice. */
bool peer_hopeless(const struct peer *peer);

#endif
