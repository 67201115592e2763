/* ZeroMQ as this program uses it: one listening socket per worker (ROUTER),
 * one connecting socket per link (DEALER), each with a monitor that tells when
 * the link is up, down or refused.
 *
 * With keys all links are CURVE: the listening side lets in the holders of the
 * folder's public keys only (a ZAP handler decides), the connecting side pins
 * the listener's key. Without keys listening is possible on loopback only.
 *
 * Queues are short and nothing is queued for a peer that is not there: a send
 * that cannot be taken now says so at once. A transport and its channels
 * belong to one thread. */
#ifndef ESPALIER_TRANSPORT_H
#define ESPALIER_TRANSPORT_H

#include "common/err.h"
#include "deploy/keys.h"
#include "deploy/wire.h"

#include <stdbool.h>
#include <zmq.h>

struct transport;
struct channel;

/* `keys` is borrowed, or NULL: no encryption. */
enum status transport_create(struct transport **transport, const struct keys *keys, struct err *err) MUST_CHECK;
/* Close all channels first. Messages accepted for sending get half a second more. */
void transport_destroy(struct transport **transport);

/* Address with a port, or "*" as the port for a free one. `bound` receives the
 * address that others can connect to. */
enum status channel_listen(struct channel **channel, struct transport *transport, const char *address,
                           char bound[WIRE_ADDRESS], struct err *err) MUST_CHECK;
/* `key`: the listener's public key in hex, needed if the transport has keys.
 * Returns before the link is up. */
enum status channel_connect(struct channel **channel, struct transport *transport, const char *address,
                            const char *key, struct err *err) MUST_CHECK;
void channel_close(struct channel **channel);
/* To poll with ZMQ_POLLIN (and ZMQ_POLLOUT for messages). */
void *channel_socket(const struct channel *channel);
void *channel_monitor(const struct channel *channel);

enum channel_event { CHANNEL_NOTHING, CHANNEL_UP, CHANNEL_DOWN, CHANNEL_REFUSED, CHANNEL_BARRED };
/* The next event of the monitor. CHANNEL_REFUSED: the handshake failed, `text`
 * says how; ZeroMQ tries again. CHANNEL_BARRED: likewise, and it does not. A
 * listener has no UP and DOWN. */
enum channel_event channel_watch(struct channel *channel, char text[WIRE_TEXT]);

/* Who a message came from; where an answer goes. */
struct channel_peer {
    uint8_t length, id[255];
    char user[KEYS_NAME]; /* the name of its key; "" without keys */
};

/* One message with its bytes. */
struct packet {
    zmq_msg_t body;
    bool held;
};
void packet_free(struct packet *packet);
/* Moves a packet; `to` must hold none. Small packets' bytes move with it. */
void packet_move(struct packet *to, struct packet *from);
const uint8_t *packet_bytes(const struct packet *packet, size_t *length);

/* A buffer for a message whose payload will have at most `capacity` bytes; its
 * payload goes to *payload. The head's size must not change until packet_seal. */
uint8_t *packet_buffer(struct wire_message *message, size_t capacity, uint8_t **payload, struct err *err);
/* Makes a packet of such a buffer, which it takes over, once message->payload_length is known. */
enum status packet_seal(struct packet *packet, struct wire_message *message, uint8_t *buffer,
                        struct err *err) MUST_CHECK;
/* A packet with a copy of message->payload. */
enum status packet_make(struct packet *packet, struct wire_message *message, struct err *err) MUST_CHECK;

enum channel_result { CHANNEL_DONE, CHANNEL_LATER /* no room now */, CHANNEL_GONE /* no such peer */ };
/* Takes the packet over if CHANNEL_DONE. `to`: NULL on a connecting channel. */
enum channel_result channel_send(struct channel *channel, const struct channel_peer *to, struct packet *packet);
/* Makes and sends; false if it could not be sent now. For small messages that
 * are repeated anyway. */
bool channel_say(struct channel *channel, const struct channel_peer *to, struct wire_message *message);
/* False: nothing there. Messages of a wrong number of parts are dropped. */
bool channel_receive(struct channel *channel, struct channel_peer *from, struct packet *packet);

/* Whether an address can be reached from this machine alone. */
bool transport_is_loopback(const char *address);

#endif
