/* A stage: one slice of the network and what turns a message that arrives into
 * the message that goes on. Knows nothing of sockets.
 *
 * A frame carries the plan it is to be run at. If that is not the present one,
 * the engine is switched before the frame: microseconds, and no allocation.
 * What crosses to the next stage is cut to the channels that it will read: the
 * link's cap and the next stage's own level.
 *
 * Of a portfolio it has a slice of every variant (deploy/variants.h), and the
 * level that a frame carries, the same at all stages, is the variant. */
#ifndef ESPALIER_STAGE_H
#define ESPALIER_STAGE_H

#include "common/model.h"
#include "common/pool.h"
#include "common/profile.h"
#include "deploy/transport.h"
#include "deploy/wire.h"

#include <stdbool.h>

struct stage;

/* Loads the slice's file; `index` of `count` stages. `pool` is borrowed, or
 * NULL. `cache`: the folder of packed weights (deploy/packed.h), or NULL.
 * STATUS_FORMAT if the file cannot be stage `index`. */
enum status stage_create(struct stage **stage, const char *path, int index, int count, struct pool *pool,
                         const char *cache, struct err *err) MUST_CHECK;
/* Writes to the cache what it has not got. Frames may run meanwhile. */
void stage_keep(struct stage *stage);
void stage_destroy(struct stage **stage);
const struct model *stage_model(const struct stage *stage);
/* How many levels a frame may name; of a portfolio: variants. */
int stage_levels(const struct stage *stage);
bool stage_has_variants(const struct stage *stage);
/* The slice's latencies: profile_measure(); of a portfolio each variant's as a level's. */
enum status stage_measure(const struct stage *stage, struct pool *pool, int repeats, struct profile **profile,
                          struct err *err) MUST_CHECK;

/* Runs the frame in `message` (a WIRE_FRAME for this stage) and makes the
 * packet for the next one, or the result. `queue_us`: how long the frame has
 * waited here. Errors are of this frame alone: it can have no result. */
enum status stage_run(struct stage *stage, const struct wire_message *message, uint32_t queue_us,
                      uint32_t link_bytes, uint32_t link_us, struct packet *out, struct err *err) MUST_CHECK;

#endif
