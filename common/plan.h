/* Levels, plans, and who computes how many channels.
 *
 * A level is a row of the level table: for each prune group, how many units
 * are kept. A plan gives every block a level, and every cut between slices a
 * level (a cap on the channels that cross) and a codec. All blocks of a slice
 * run at one level. */
#ifndef ESPALIER_PLAN_H
#define ESPALIER_PLAN_H

#include "common/blocks.h"
#include "common/err.h"
#include "common/groups.h"
#include "common/net.h"

#include <stdint.h>

enum { PLAN_MAX_LEVELS = 16, PLAN_MAX_BLOCKS = 1024, PLAN_MAX_BEFORE = 64 };

struct levels {
    int nlevels, ngroups;
    float *ratio; /* [nlevels] share of channels kept, ratio[0] = 1, falling */
    int *keep;    /* [nlevels][ngroups] units; never grows with the level, at least 1 */
};

/* From the [prune] section: `levels` (ratios, default
 * 1,.875,.75,.625,.5,.375,.25), `align` (channels, default 8), `whole` (layers
 * whose groups are kept whole). A count is rounded up to the alignment; a
 * group no larger than that is kept whole. */
enum status levels_create(struct levels **levels, const struct cfg *cfg, const struct net *net,
                          const struct groups *groups, struct err *err) MUST_CHECK;
enum status levels_copy(struct levels **levels, const struct levels *from, struct err *err) MUST_CHECK;
void levels_destroy(struct levels **levels);
/* Units by which the group's counts step, so that its channels stay multiples
 * of the alignment. */
enum status levels_step(const struct cfg *cfg, const struct groups *groups, int group, int *units,
                        struct err *err) MUST_CHECK;
int levels_keep(const struct levels *levels, int level, int group);

enum codec {
    CODEC_F32,
    CODEC_F32Z, /* with zlib */
    CODEC_F16,
    CODEC_F16Z,
    CODEC_Q8, /* 8-bit affine per channel */
    CODEC_Q8Z,
    CODEC_Q8T, /* per tensor: one scale for all channels */
    CODEC_Q8TZ,
    CODEC_Q4,
    CODEC_Q4Z,
    CODEC_Q4T,
    CODEC_Q4TZ,
    CODEC_COUNT
};
const char *codec_name(enum codec codec); /* "f32", "f32z", ... */

/* What lies before a block, oldest first: of the last `nchain` blocks the shares
 * add up to what arrives (blocks->chain). */
struct plan_before {
    uint8_t n, nchain;
    struct plan_share {
        uint8_t level;    /* of the block */
        uint8_t arriving; /* level at which its share arrives: its own, or that of a narrower
                           * block or link behind it, since there the sum was cut */
    } share[PLAN_MAX_BEFORE];
};

struct plan {
    int nblocks;
    int *level; /* [nblocks] */
    /* At the entrance of block b, where a slice begins there: */
    int *link;         /* [nblocks] level of the link, 0: no cap. link[0], for
                        * the engine of a slice: the level of what arrives */
    enum codec *codec; /* [nblocks] */
    struct plan_before before; /* for the engine of a slice: plan_before() of what arrives; else nothing */
};

/* All blocks at `level`, no link caps, float32. */
enum status plan_create(struct plan **plan, int nblocks, int level, struct err *err) MUST_CHECK;
void plan_destroy(struct plan **plan);
/* From the command line: `levels_text` "2" (all blocks) or one level per
 * slice "0,2,4"; `link_text` (may be NULL) one "level:codec" per cut. Slices
 * begin at blocks slice_first[0..nslices). */
enum status plan_parse(struct plan **plan, const struct blocks *blocks, const struct levels *levels, int nslices,
                       const int *slice_first, const char *levels_text, const char *link_text,
                       struct err *err) MUST_CHECK;
/* The level of the tensor that arrives at block b, which says how many channels
 * it has: the higher of the block before (if there is one) and the link. */
int plan_incoming(const struct plan *plan, int block);
/* What lies before block b; of b = nblocks: before what comes behind the
 * network. Of more than PLAN_MAX_BEFORE blocks the last. */
void plan_before(const struct plan *plan, const struct blocks *blocks, int block, struct plan_before *before);
/* Cuts all shares down to a level, as a link does. */
void plan_before_cut(struct plan_before *before, int level);

/* How many channels everything computes and reads under a plan: the one
 * function that trainer, engine and exporter share.
 *
 * out[s], for each segment s of groups->segment: channels that the tensor
 * holds. Layers with weights compute keep[level of their block]; a grouped
 * convolution, and every layer that works channel by channel, computes the
 * units that arrive, up to that; a shortcut has the count of its own branch
 * and adds the common prefix; surplus channels are ignored. Missing channels
 * are zero as the consumer sees them. */
struct counts {
    int nsegments;
    int *out;
};
enum status counts_create(struct counts **counts, const struct groups *groups, struct err *err) MUST_CHECK;
void counts_destroy(struct counts **counts);
/* Allocates nothing. */
void counts_set(struct counts *counts, const struct net *net, const struct blocks *blocks,
                const struct groups *groups, const struct levels *levels, const struct plan *plan);
/* Channels that `layer` (block level and link cap included) reads of segment
 * `s` (index within the tensor) of its input number `k`. */
int counts_read(const struct counts *counts, const struct net *net, const struct blocks *blocks,
                const struct groups *groups, const struct levels *levels, const struct plan *plan, int layer, int k,
                int s);
/* Channels in all of the tensor's segments together. */
int counts_total(const struct counts *counts, const struct groups *groups, int layer);
/* Multiply-adds of one image under a plan, layers [first, last]. */
double counts_multiply_adds(const struct counts *counts, const struct net *net, const struct blocks *blocks,
                            const struct groups *groups, const struct levels *levels, const struct plan *plan,
                            int first, int last);

#endif
