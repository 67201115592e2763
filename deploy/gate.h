/* The gate: a thread that answers ZeroMQ's authentication requests (ZAP,
 * rfc.zeromq.org/spec/27) from the allow-list of keys. */
#ifndef ESPALIER_GATE_H
#define ESPALIER_GATE_H

#include "common/err.h"
#include "deploy/keys.h"

struct gate;

#define GATE_DOMAIN "espalier"

/* Before the context's first socket listens. `keys` is borrowed. */
enum status gate_create(struct gate **gate, void *zmq_context, const struct keys *keys, struct err *err) MUST_CHECK;
/* The context must have been shut down (zmq_ctx_shutdown), which ends the thread. */
void gate_destroy(struct gate **gate);

#endif
