/* A device's latency profile (made by `espalier-deploy profile`): per block, own level and incoming level, in
 * milliseconds; the time of a slice is the sum over its blocks. JSON. */
#ifndef ESPALIER_PROFILE_H
#define ESPALIER_PROFILE_H

#include "common/err.h"
#include "common/plan.h"

enum { PROFILE_MAX_CLOCKS = 32 };

/* A frame at a clock of the cores, every level throughout. */
struct profile_clock {
    double mhz;
    double frame_ms[PLAN_MAX_LEVELS]; /* above 0 */
};

struct profile {
    char device[64];
    int threads;
    int nblocks, nlevels;
    double *ms; /* [nblocks][own level][incoming level], medians */
    /* Coding a feature map for a link, nanoseconds per float: [CODEC_COUNT] each. */
    double encode_ns[CODEC_COUNT], decode_ns[CODEC_COUNT];
    /* `profile --frequencies`: rising; ms holds for the last of them. 0: the clock was as it was. */
    int nclocks;
    struct profile_clock clocks[PROFILE_MAX_CLOCKS];
};

enum status profile_create(struct profile **profile, int nblocks, int nlevels, struct err *err) MUST_CHECK;
void profile_destroy(struct profile **profile);
char *profile_json(const struct profile *profile);
/* Every length and number is checked. */
enum status profile_parse(struct profile **profile, const char *name, const char *json, struct err *err) MUST_CHECK;
double profile_ms(const struct profile *profile, int block, int own, int incoming);

#endif
