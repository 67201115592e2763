/* The messages between runner and workers, as bytes.
 *
 * One message is one ZeroMQ frame: a fixed head (magic, version, kind, total
 * length, session), the fields of its kind, and for some kinds a payload up to
 * the end. All integers little-endian, strings with a 16-bit length in front.
 * The reader checks every field against its range and against the others
 * before it hands anything out; it allocates nothing.
 *
 *   runner -> worker            worker -> runner          stage -> next stage
 *   HELLO, also the heartbeat   STATUS, on change too
 *   ASSIGN  your slice, your    WANT  bytes of it
 *           stage, your next
 *   CHUNK   here they are
 *   MEASURE your speed          MEASURED
 *   FRAME                       FRAME (the result)        FRAME
 *   ACK     result received     ACK  frame received       (ACK comes back)
 *   BYE                         FAILED  of one frame
 *   RELIEVE frames that wait
 *
 * A layout says who serves which slice; a run numbers its layouts. A worker
 * can have a post in two of them, so that the next one is set up while the
 * present one serves; frames name theirs. In a layout several workers may
 * serve one stage: a frame names the one at each stage, too.
 */
#ifndef ESPALIER_WIRE_H
#define ESPALIER_WIRE_H

#include "common/err.h"
#include "common/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_VERSION = 6,
    WIRE_MAX_STAGES = 64,
    WIRE_MAX_REPLICAS = 8, /* workers of one stage */
    WIRE_POSTS = 2,        /* of one worker, at a time */
    WIRE_MAX_SEGMENTS = 256,
    WIRE_MAX_PAYLOAD = 64 << 20,
    WIRE_MAX_CHUNK = 1 << 20,
    WIRE_MAX_HEAD = 8192, /* no head with its fields is longer */
    WIRE_MAX_MESSAGE = WIRE_MAX_HEAD + WIRE_MAX_PAYLOAD,
    WIRE_NAME = 64,
    WIRE_ADDRESS = 256,
    WIRE_TEXT = 400,
    WIRE_HASH = 65 /* 64 hex digits and NUL; or "" */
};

enum wire_kind {
    WIRE_HELLO = 1,
    WIRE_STATUS,
    WIRE_ASSIGN,
    WIRE_WANT,
    WIRE_CHUNK,
    WIRE_MEASURE,
    WIRE_MEASURED,
    WIRE_FRAME,
    WIRE_ACK,
    WIRE_FAILED,
    WIRE_BYE,
    WIRE_RELIEVE,
    WIRE_KINDS
};

/* A runner introduces itself. `run` outlives the process (a resumed run has
 * the same), the session in the head does not. */
struct wire_hello {
    uint64_t run, token; /* the token comes back in the STATUS */
    uint32_t oldest;     /* layouts before this one are over */
    char name[WIRE_NAME];
};

enum wire_state {
    WIRE_IDLE,    /* no post */
    WIRE_LOADING, /* fetching the slice or setting it up */
    WIRE_READY,   /* and some worker of the next stage can be reached */
    WIRE_REFUSED, /* what was assigned cannot be served: text says why */
    WIRE_STATES
};

/* What a worker is in one layout. */
struct wire_post {
    uint32_t layout;
    enum wire_state state;
    uint16_t stage;
    uint8_t links;        /* bit i: the link to worker i of the next stage is up */
    char hash[WIRE_HASH]; /* of its slice */
    char text[WIRE_TEXT]; /* why it is refused */
    /* A frame to the next stage that took its link much longer or shorter than those before (a frame
     * cannot tell itself: it stands behind others on that link). 0: none yet. */
    uint32_t link_bytes, link_us;
};

/* The session in the head is the one that the worker serves, 0 if none. */
struct wire_status {
    uint64_t incarnation; /* random, of this process */
    uint64_t token;
    uint8_t busy; /* 1: another run has this worker: text says whose */
    uint8_t nposts;
    struct wire_post post[WIRE_POSTS];
    char device[WIRE_NAME];
    uint16_t threads;
    uint32_t queued;       /* frames that wait for the engine */
    uint64_t frames;       /* done in this session */
    uint64_t dropped;      /* messages refused since the start */
    uint32_t breaks;       /* how often a link to the next stage has gone down */
    uint32_t unacked_us;   /* age of the oldest frame sent and not acknowledged */
    uint64_t contention_us; /* that others have kept it from computing since its start; 0: not known */
    char text[WIRE_TEXT];
};

/* Where to reach a worker, and its public key ("" without encryption). */
struct wire_contact {
    char address[WIRE_ADDRESS];
    char key[WIRE_HASH];
};

struct wire_assign {
    uint32_t layout;
    uint16_t stage, nstages;
    uint16_t window;  /* frames in flight at most, in the whole pipeline */
    uint64_t size;    /* bytes of the slice's model file */
    char hash[WIRE_HASH];
    uint8_t nnext; /* workers of the next stage; 0: the last stage, results go to the runner */
    struct wire_contact next[WIRE_MAX_REPLICAS];
};

struct wire_want {
    char hash[WIRE_HASH];
    uint64_t offset;
    uint32_t length; /* 1 to WIRE_MAX_CHUNK */
};

struct wire_chunk { /* with payload */
    char hash[WIRE_HASH];
    uint64_t offset;
};

/* What a stage runs a frame at: the plan travels with the frame, so a change
 * takes effect between two frames, at every stage. `link` and `codec` are of
 * the stage's entrance. */
struct wire_choice {
    uint8_t level, link, codec;
    uint8_t worker; /* of those of the stage */
};

/* Durations by the stage's own clock, in microseconds. */
struct wire_time {
    uint32_t queue_us, decode_us, compute_us, encode_us;
    uint32_t bytes; /* payload that came in */
    /* The latest frame acknowledged by the next stage: its message's bytes, and
     * how long the link was busy with it. 0: none since the frame before. */
    uint32_t link_bytes, link_us;
};

enum wire_format {
    WIRE_IMAGE, /* an encoded image, as it lay in its file; to stage 0 */
    WIRE_MAP    /* a feature map, or in a result the network's outputs (float32) */
};

struct wire_frame { /* with payload */
    uint64_t seq;
    uint32_t attempt, layout;
    uint16_t stage, nstages; /* where it goes; stage == nstages: a result */
    enum wire_format format;
    uint8_t incoming;   /* level of what arrives, see plan_incoming, */
    struct plan_before before; /* and what lies before it */
    uint32_t c, h, w;   /* 0 for an image */
    uint16_t nsegments; /* c = sum of counts */
    uint32_t counts[WIRE_MAX_SEGMENTS];
    struct wire_choice choice[WIRE_MAX_STAGES]; /* [nstages] */
    struct wire_time time[WIRE_MAX_STAGES];     /* [stage]: those behind it */
};

struct wire_ack {
    uint64_t seq;
    uint32_t attempt;
};

/* The plan has changed behind frames already sent: those numbered below
 * `before` that still wait at the stage run at `level`, or their own if that is
 * higher; those that have not yet left it leave it by `codec`, where that makes them smaller. */
struct wire_relieve {
    uint32_t layout;
    uint64_t before;
    uint8_t level;
    uint8_t codec; /* of the link to the next stage */
};

struct wire_failed {
    uint64_t seq;
    uint32_t attempt;
    uint16_t stage;
    char text[WIRE_TEXT];
};

/* MEASURE and MEASURED, which has the profile as JSON text for its payload. */
struct wire_measure {
    uint32_t layout;
};

struct wire_message {
    enum wire_kind kind;
    uint64_t session;
    union {
        struct wire_hello hello;
        struct wire_status status;
        struct wire_assign assign;
        struct wire_want want;
        struct wire_chunk chunk;
        struct wire_frame frame;
        struct wire_ack ack;
        struct wire_failed failed;
        struct wire_measure measure;
        struct wire_relieve relieve;
    };
    const uint8_t *payload; /* CHUNK, FRAME, MEASURED (JSON text); borrowed */
    size_t payload_length;
};

/* "FRAME", for logs. */
const char *wire_kind_name(enum wire_kind kind);
/* Bytes in front of the payload. Neither this nor wire_write_head changes a value. */
size_t wire_head_size(struct wire_message *message);
/* Writes the head for a payload of payload_length bytes, which the caller puts
 * behind it. The message must be one that wire_read would accept. */
void wire_write_head(struct wire_message *message, uint8_t *out);
/* STATUS_FORMAT says which field of which kind is wrong. `message` then holds
 * nothing to rely on; payload points into `bytes`. */
enum status wire_read(struct wire_message *message, const uint8_t *bytes, size_t length, struct err *err) MUST_CHECK;

#endif
