/* A device's latency profile: per block, own level and incoming level, in
 * milliseconds; the time of a slice is the sum over its blocks. JSON. */
#ifndef ESPALIER_PROFILE_H
#define ESPALIER_PROFILE_H

#include "common/err.h"
#include "common/model.h"
#include "common/pool.h"

struct profile {
    char device[64];
    int threads;
    int nblocks, nlevels;
    double *ms; /* [nblocks][own level][incoming level], medians */
    /* Coding a feature map for a link, nanoseconds per float: [CODEC_COUNT] each. */
    double encode_ns[CODEC_COUNT], decode_ns[CODEC_COUNT];
};

enum status profile_create(struct profile **profile, int nblocks, int nlevels, struct err *err) MUST_CHECK;
void profile_destroy(struct profile **profile);
/* Measures: median of `repeats` runs for every block at every own level with
 * incoming level equal, and with incoming 0 and the highest; other pairs are interpolated. */
enum status profile_measure(struct profile **profile, const struct model *model, struct pool *pool, int repeats,
                            struct err *err) MUST_CHECK;
char *profile_json(const struct profile *profile);
/* Every length and number is checked. */
enum status profile_parse(struct profile **profile, const char *name, const char *json, struct err *err) MUST_CHECK;
double profile_ms(const struct profile *profile, int block, int own, int incoming);

#endif
