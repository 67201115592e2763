/* Between runner and controller: turns what frames and results report into
 * what the controller is told, and its plan into the stamp that frames carry. */
#ifndef ESPALIER_GOVERNOR_H
#define ESPALIER_GOVERNOR_H

#include "common/err.h"
#include "common/model.h"
#include "common/plan.h"
#include "common/profile.h"
#include "deploy/cluster.h"
#include "deploy/controller.h"
#include "deploy/outlet.h"
#include "deploy/slices.h"
#include "deploy/steady_clock.h"
#include "deploy/wire.h"

#include <stdbool.h>

struct governor;

struct governor_config {
    enum controller_policy policy;
    double slo_ms, min_accuracy;
    bool paced;
    bool variants; /* of a portfolio: one level for all stages */
    const struct plan *start; /* borrowed until creation ends */
    struct steady_options steady; /* with a profile: the clock of this device chooses, under the static policy */
};

/* Of each stage: the link into it, its slice's profile, not read if the
 * policy is static, and how many workers of the profile's speed it has. */
enum status governor_create(struct governor **governor, const struct governor_config *config,
                            const struct slices *slices, const struct cluster_link *const *links,
                            const struct profile *const *profiles, const double *servers,
                            struct err *err) MUST_CHECK;
void governor_destroy(struct governor **governor);

void governor_arrival(struct governor *governor, double now_s);
/* Of a result's frame: what its stages measured. */
void governor_frame(struct governor *governor, double now_s, const struct wire_frame *frame);
/* What the link from the source did with a frame. */
void governor_source_link(struct governor *governor, double now_s, const struct outlet_sample *sample);
/* The link into a stage has become faster or slower: what a frame took. */
void governor_link(struct governor *governor, int stage, const struct outlet_sample *sample);
void governor_result(struct governor *governor, double now_s, double latency_ms, double waited_ms, double queue_ms);
/* For how long altogether a stage's device was kept from computing by others, seconds. */
void governor_contention(struct governor *governor, int stage, double now_s, double total_s);
/* Shortest ways there and back between the runner and each stage's worker, seconds; 0: not known. */
void governor_round_trips(struct governor *governor, const double *rtt_s);
void governor_restarted(struct governor *governor, int stage);

/* The present plan, of the whole model; valid until the next choice. */
const struct plan *governor_plan(const struct governor *governor);
/* The plan for the next frame: choice[stages]. *reason: why it has changed
 * since the last call, or "". */
void governor_choose(struct governor *governor, double now_s, int waiting, int in_flight, struct wire_choice *choice,
                     const char **reason);

#endif
