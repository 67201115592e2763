/* Frames that wait to leave a stage by a link that has become slow are coded
 * anew, for fewer bytes: what the plan's new codec saves begins with them, not
 * behind them. */
#ifndef ESPALIER_RECODE_H
#define ESPALIER_RECODE_H

#include "common/plan.h"
#include "deploy/transport.h"

struct recoder;

enum status recoder_create(struct recoder **recoder, struct err *err) MUST_CHECK;
void recoder_destroy(struct recoder **recoder);
/* Replaces the packet of a frame for a stage by one with the same map in
 * `codec`, if that is smaller (codec_is_smaller). Whatever else it is, and where
 * memory is short, it stays as it is; returns whether it was replaced. */
bool recode(struct recoder *recoder, struct packet *packet, enum codec codec);

#endif
