/* Where the cuts of the present layout should lie, from what its stages report:
 * deploy/recut.h decides, the next layout is made with them. */
#include "deploy/runner_internal.h"

#include "deploy/codec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without measured profiles (static policy): millions of multiply-adds. */
static enum status count_work(const struct model *m, struct profile **out, struct err *err) {
    int nlevels = m->levels->nlevels, nblocks = m->blocks->nblocks;
    struct counts *counts = NULL;
    struct profile *profile = NULL;
    enum status status = profile_create(&profile, nblocks, nlevels, err);
    if (!status) status = counts_create(&counts, m->groups, err);
    for (int l = 0; l < nlevels && !status; l++) {
        struct plan *plan = NULL;
        status = plan_create(&plan, nblocks, l, err);
        if (status) break;
        counts_set(counts, m->net, m->blocks, m->groups, m->levels, plan);
        for (int b = 0; b < nblocks; b++) {
            double work = counts_multiply_adds(counts, m->net, m->blocks, m->groups, m->levels, plan,
                                               m->blocks->block[b].first, m->blocks->block[b].last);
            for (int in = 0; in < nlevels; in++) profile->ms[(b * nlevels + l) * nlevels + in] = 1e-6 * work + 1e-6;
        }
        plan_destroy(&plan);
    }
    counts_destroy(&counts);
    if (status) profile_destroy(&profile);
    else *out = profile;
    return status;
}

/* Bytes of what crosses into each block, in the link's codec. */
static void count_bytes(const struct runner *r, const struct layout *l, double *bytes) {
    const struct model *m = r->model;
    for (int b = 0; b < m->blocks->nblocks; b++) {
        struct net_shape shape = net_shape_of(m->net, m->blocks->block[b].source);
        int worker = l->places.stage[l->places.nstages > 1].worker[0];
        bytes[b] = (double)codec_raw_size(r->cluster->worker[worker].link.codec, shape.c, shape.h * shape.w);
    }
}

enum status runner_recut_begin(struct runner *r, struct layout *l, struct err *err) {
    int n = l->places.nstages, nblocks = r->model->blocks->nblocks;
    recut_destroy(&r->recut);
    if (r->config->recut_s <= 0 || n < 2 || n != r->cluster->nworkers) return STATUS_OK;
    struct recut_stage stage[WIRE_MAX_STAGES];
    struct profile *profile[WIRE_MAX_STAGES] = { 0 };
    int *level = calloc((size_t)nblocks, sizeof *level);
    double *bytes = calloc((size_t)nblocks, sizeof *bytes);
    enum status status = level && bytes ? STATUS_OK : err_memory(err, "cuts");
    if (!status) count_bytes(r, l, bytes);
    const struct plan *plan = governor_plan(l->governor); /* static: it stays; else all is to fit at full size */
    for (int b = 0; b < nblocks && !status && r->policy == CONTROLLER_STATIC; b++) level[b] = plan->level[b];
    for (int s = 0; s < n && !status; s++) {
        int worker = l->places.stage[s].worker[0];
        status = r->policy == CONTROLLER_STATIC ? count_work(r->model, &profile[s], err)
                                                : runner_profile(r, worker, 0, nblocks, &profile[s], err);
        stage[s] = (struct recut_stage){ profile[s], level, l->places.stage[s].count };
    }
    if (!status) status = recut_create(&r->recut, stage, n, l->slices->first, bytes, r->config->recut_s, err);
    for (int s = 0; s < n; s++) profile_destroy(&profile[s]);
    free(level);
    free(bytes);
    return status;
}

void runner_recut_report(struct runner *r, const struct frame *f, const struct wire_frame *result) {
    for (int s = 0; s < result->nstages && r->recut; s++) {
        int before = s ? result->choice[s - 1].level : 0, link = result->choice[s].link;
        recut_report(r->recut, s, result->choice[s].level, before > link ? before : link,
                     result->time[s].compute_us / 1e3);
        recut_link(r->recut, s, r->peers[f->peer[s]].load.bytes_per_s);
    }
}

void runner_recut(struct runner *r, double now_s) {
    const struct slices *s = r->layout->slices;
    const struct block *block = r->model->blocks->block;
    int first[WIRE_MAX_STAGES + 1];
    double gain;
    if (!r->recut || r->old || r->next || r->cutting || !recut_decide(r->recut, now_s, first, &gain)) return;
    char before[512];
    size_t used = 0;
    slices_text(s, before, sizeof before);
    for (int i = 1; i < s->count && used < sizeof r->cuts; i++)
        used += (size_t)snprintf(r->cuts + used, sizeof r->cuts - used, "%s%d", i > 1 ? "," : "",
                                 block[first[i] - 1].last);
    log_info("conditions have changed for good: cut behind %s, not %s: the longest stage takes %.0f%% less", r->cuts,
             before, 100 * (1 - 1 / gain));
}
