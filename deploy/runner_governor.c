/* The governor of a layout. What the devices' profiles say was measured for the
 * slices of the first layout; in a later one a worker may have blocks that it
 * was not measured with. Their times are those of the device that was, scaled
 * by how fast the two are otherwise; what is left of error looks like a
 * slowdown to the controller, which measures that within a few frames. */
#include "deploy/runner_internal.h"

#include <string.h>

static double block_multiply_adds(const struct model *m, int b) {
    double sum = 1; /* so that blocks without weights count, too */
    for (int i = m->blocks->block[b].first; i <= m->blocks->block[b].last; i++)
        sum += net_multiply_adds(&m->net->layers[i]);
    return sum;
}

/* Milliseconds per multiply-add at full size; 0: not measured. */
static double pace_of(const struct runner *r, int worker) {
    const struct peer *p = &r->peers[worker];
    double ms = 0, work = 0;
    for (int b = 0; p->profile && b < p->profile->nblocks; b++) {
        ms += profile_ms(p->profile, b, 0, 0);
        work += block_multiply_adds(r->model, r->measured_first[worker] + b);
    }
    return work > 0 ? ms / work : 0;
}

/* Who was measured with that block; -1: nobody. */
static int measured_with(const struct runner *r, int block) {
    for (int i = 0; i < r->npeers; i++)
        if (r->peers[i].profile && block >= r->measured_first[i] &&
            block < r->measured_first[i] + r->peers[i].profile->nblocks)
            return i;
    return -1;
}

enum status runner_profile(const struct runner *r, int worker, int first, int nblocks, struct profile **out,
                           struct err *err) {
    int nlevels = r->model->levels->nlevels, device = r->peers[worker].profile ? worker : measured_with(r, first);
    size_t row = (size_t)nlevels * (size_t)nlevels;
    struct profile *profile = NULL;
    enum status status = profile_create(&profile, nblocks, nlevels, err);
    if (status) return status;
    for (int b = 0; b < nblocks; b++) {
        int from = measured_with(r, first + b);
        if (r->peers[worker].profile && first + b >= r->measured_first[worker] &&
            first + b < r->measured_first[worker] + r->peers[worker].profile->nblocks)
            from = worker;
        if (from < 0) continue; /* every block was measured once */
        double own = pace_of(r, worker), other = pace_of(r, from), scale = own > 0 && other > 0 ? own / other : 1;
        const double *ms = r->peers[from].profile->ms + (size_t)(first + b - r->measured_first[from]) * row;
        for (size_t i = 0; i < row; i++) profile->ms[(size_t)b * row + i] = ms[i] * scale;
    }
    if (device >= 0) {
        const struct profile *d = r->peers[device].profile;
        memcpy(profile->device, d->device, sizeof profile->device);
        memcpy(profile->encode_ns, d->encode_ns, sizeof profile->encode_ns);
        memcpy(profile->decode_ns, d->decode_ns, sizeof profile->decode_ns);
        profile->threads = d->threads;
    }
    *out = profile;
    return STATUS_OK;
}

/* The present plan, for other slices: each takes the highest level that a block
 * of it has now; a cut where there was one keeps its link. */
static enum status carry_plan(const struct runner *r, const struct layout *l, struct plan **out, struct err *err) {
    const struct slices *s = l->slices, *now = r->layout && r->layout->governor ? r->layout->slices : NULL;
    const struct plan *present = now ? governor_plan(r->layout->governor) : r->start;
    struct plan *plan = NULL;
    enum status status = plan_create(&plan, present->nblocks, 0, err);
    if (status) return status;
    for (int i = 0; i < s->count; i++) {
        int b = s->first[i], level = 0;
        for (int k = b; k < s->first[i + 1]; k++)
            if (present->level[k] > level) level = present->level[k];
        for (int k = b; k < s->first[i + 1]; k++) plan->level[k] = level;
        bool cut = !now;
        for (int k = 0; now && k < now->count; k++) cut |= now->first[k] == b;
        plan->link[b] = cut && i ? present->link[b] : 0;
        plan->codec[b] = cut ? present->codec[b] : r->cluster->worker[l->places.stage[i].worker[0]].link.codec;
    }
    *out = plan;
    return STATUS_OK;
}

/* The workers of a stage, each as its share of the first one's speed. */
static double servers_of(const struct runner *r, const struct layout_stage *stage) {
    double first = pace_of(r, stage->worker[0]), servers = 1;
    for (int i = 1; i < stage->count; i++) {
        double pace = pace_of(r, stage->worker[i]);
        servers += first > 0 && pace > 0 ? first / pace : 1;
    }
    return servers;
}

enum status runner_start_governor(struct runner *r, struct layout *l, struct err *err) {
    struct profile *profiles[WIRE_MAX_STAGES] = { 0 };
    const struct cluster_link *links[WIRE_MAX_STAGES];
    double rtt_s[WIRE_MAX_STAGES], servers[WIRE_MAX_STAGES];
    struct plan *start = NULL;
    enum status status = carry_plan(r, l, &start, err);
    for (int s = 0; s < l->places.nstages && !status; s++) {
        int worker = l->places.stage[s].worker[0], first = l->slices->first[s];
        links[s] = &r->cluster->worker[worker].link;
        rtt_s[s] = r->peers[worker].rtt_s;
        servers[s] = servers_of(r, &l->places.stage[s]);
        if (r->policy != CONTROLLER_STATIC)
            status = runner_profile(r, worker, first, l->slices->first[s + 1] - first, &profiles[s], err);
    }
    struct governor_config config = { .policy = r->policy, .slo_ms = r->slo_ms,
                                      .min_accuracy = r->config->min_accuracy, .paced = source_paced(r->source),
                                      .start = start, .variants = r->portfolio != NULL,
                                      .steady = r->config->steady };
    if (!status) {
        governor_destroy(&l->governor);
        status = governor_create(&l->governor, &config, l->slices, links, (const struct profile *const *)profiles, servers,
                                 err);
        if (!status) governor_round_trips(l->governor, rtt_s);
    }
    for (int s = 0; s < l->places.nstages; s++) profile_destroy(&profiles[s]);
    plan_destroy(&start);
    return status;
}
