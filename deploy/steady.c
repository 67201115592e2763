#include "deploy/steady.h"

#include "common/accuracy.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static const double NEAR = .01;   /* of the target: near enough to go by accuracy */
static const double MOVED = .01;  /* of the clock: worth another look */
/* Weight of the latest frame in how slow frames are, which is their mean at first; while firmware holds the clock. */
static const double FOLLOW = .05, FOLLOW_HELD = .3;
/* Times too slow, or too fast, that one frame may count as. */
static const double MOST = 1.2, MOST_HELD = 2;

/* Blocks before `cut` at level `front`, the others at `back`. */
struct rung {
    int front, back, cut;
    double accuracy; /* expected; without an accuracy model, less for every channel that is left out */
    double ms[PROFILE_MAX_CLOCKS];
};

struct steady {
    int nclocks, nrungs, chosen;
    double mhz[PROFILE_MAX_CLOCKS], target_ms;
    struct rung *rungs;
    struct plan *plan;
    double clock;   /* that the present rung was chosen for; 0: none yet */
    double told;    /* the clock by cpufreq */
    /* Frames take that many times what they should by the clock that is told: at each clock, and because firmware
     * holds it. */
    double slow[PROFILE_MAX_CLOCKS], held_slow;
    double frames[PROFILE_MAX_CLOCKS]; /* that have said so */
    bool held;
    double observed; /* of the last frame, what it took over what it should; 0: nothing */
};

/* ---- the ladder ------------------------------------------------------------ */

static void set_plan(struct plan *plan, const struct rung *r) {
    for (int b = 0; b < plan->nblocks; b++) plan->level[b] = b < r->cut ? r->front : r->back;
}

/* Sum of the blocks' times. */
static double blocks_ms(const struct profile *p, const struct plan *plan) {
    double ms = 0;
    for (int b = 0; b < p->nblocks; b++) ms += profile_ms(p, b, plan->level[b], b ? plan->level[b - 1] : 0);
    return ms;
}

static double level_ms(const struct profile *p, struct plan *plan, int level) {
    set_plan(plan, &(struct rung){ level, level, 0, 0, { 0 } });
    return blocks_ms(p, plan);
}

static void add_rung(struct steady *s, const struct steady_config *config, int front, int back, int cut) {
    const struct profile *p = config->profile;
    struct rung *r = &s->rungs[s->nrungs++];
    *r = (struct rung){ .front = front, .back = back, .cut = cut };
    const int wide = front < back ? front : back, narrow = front < back ? back : front;
    double most = level_ms(p, s->plan, wide), least = level_ms(p, s->plan, narrow);
    set_plan(s->plan, r);
    /* How far from the narrow level to the wide one; noise may have them the wrong way round. */
    double way = wide == narrow || !(most > least) ? 1 : (blocks_ms(p, s->plan) - least) / (most - least);
    way = way < 0 ? 0 : way > 1 ? 1 : way;
    for (int i = 0; i < p->nclocks; i++)
        r->ms[i] = p->clocks[i].frame_ms[narrow] * (1 - way) + p->clocks[i].frame_ms[wide] * way;
    r->accuracy = config->model->accuracy ? accuracy_predict(config->model->accuracy, s->plan) : 0;
    for (int b = 0; !config->model->accuracy && b < s->plan->nblocks; b++)
        r->accuracy += (double)config->model->levels->ratio[s->plan->level[b]];
}

/* Whether a plan may change its level in front of that block. */
static bool may_cut(const struct steady_config *config, int block) {
    if (config->nslices == 0) return block > 0;
    for (int s = 1; s < config->nslices; s++)
        if (config->slice_first[s] == block) return true;
    return false;
}

static void build(struct steady *s, const struct steady_config *config) {
    const int nlevels = config->profile->nlevels, nblocks = config->profile->nblocks;
    for (int l = 0; l < nlevels; l++) add_rung(s, config, l, l, 0);
    for (int l = 0; l + 1 < nlevels; l++)
        for (int b = 1; b < nblocks; b++) {
            if (!may_cut(config, b)) continue;
            add_rung(s, config, l, l + 1, b);
            add_rung(s, config, l + 1, l, b);
        }
}

static double find_target(const struct profile *p) {
    double target = p->clocks[p->nclocks - 1].frame_ms[0];
    for (int i = 0; i < p->nclocks; i++) target = fmax(target, p->clocks[i].frame_ms[p->nlevels - 1]);
    return target;
}

static enum status check(const struct steady_config *config, struct err *err) {
    const struct profile *p = config->profile;
    const struct model *m = config->model;
    if (p->nclocks == 0) {
        err_set(err, STATUS_USAGE, "the profile was not measured at several clocks");
        err_hint(err, "make it with: espalier-deploy profile MODEL --frequencies 600,900,1200,1500,1800 -o FILE");
        return STATUS_USAGE;
    }
    if (p->nblocks != m->blocks->nblocks || p->nlevels != m->levels->nlevels)
        return err_set(err, STATUS_USAGE, "the profile is of another model: %d blocks and %d levels, not %d and %d",
                       p->nblocks, p->nlevels, m->blocks->nblocks, m->levels->nlevels);
    return STATUS_OK;
}

enum status steady_create(struct steady **out, const struct steady_config *config, struct err *err) {
    const struct profile *p = config->profile;
    enum status status = check(config, err);
    if (status) return status;
    struct steady *s = calloc(1, sizeof *s);
    if (!s) return err_memory(err, "ladder");
    s->rungs = malloc(((size_t)p->nlevels + 2 * (size_t)p->nlevels * (size_t)p->nblocks) * sizeof *s->rungs);
    status = s->rungs ? plan_create(&s->plan, p->nblocks, 0, err) : err_memory(err, "ladder");
    if (status) {
        steady_destroy(&s);
        return status;
    }
    s->nclocks = p->nclocks;
    for (int i = 0; i < p->nclocks; i++) s->mhz[i] = p->clocks[i].mhz;
    s->target_ms = config->target_ms > 0 ? config->target_ms : find_target(p);
    for (int i = 0; i < p->nclocks; i++) s->slow[i] = 1;
    s->held_slow = 1;
    build(s, config);
    *out = s;
    return STATUS_OK;
}

void steady_destroy(struct steady **steady) {
    if (!*steady) return;
    free((*steady)->rungs);
    plan_destroy(&(*steady)->plan);
    free(*steady);
    *steady = NULL;
}

double steady_target_ms(const struct steady *s) { return s->target_ms; }
int steady_rungs(const struct steady *s) { return s->nrungs; }

/* ---- the choice ------------------------------------------------------------ */

/* A clock lies between clocks i and i + 1 of the profile, that far; beyond them `way` is 0. */
static int between(const struct steady *s, double mhz, double *way) {
    const int last = s->nclocks - 1;
    int i = 0;
    *way = 0;
    if (mhz <= s->mhz[0]) return 0;
    if (mhz >= s->mhz[last]) return last;
    while (mhz > s->mhz[i + 1]) i++;
    *way = (1 / s->mhz[i] - 1 / mhz) / (1 / s->mhz[i] - 1 / s->mhz[i + 1]);
    return i;
}

static double rung_ms(const struct steady *s, const struct rung *r, double mhz) {
    double way;
    const int i = between(s, mhz, &way);
    if (way == 0) return r->ms[i] * s->mhz[i] / mhz;
    return r->ms[i] * (1 - way) + r->ms[i + 1] * way;
}

static double slow_at(const struct steady *s, double mhz) {
    double way;
    const int i = between(s, mhz, &way);
    return s->held_slow * (way == 0 ? s->slow[i] : s->slow[i] * (1 - way) + s->slow[i + 1] * way);
}

static void follow(double *slow, double observed, double weight, double most) {
    *slow *= 1 + weight * (fmin(fmax(observed, 1 / most), most) - 1);
}

static void learn(struct steady *s) {
    double way;
    const int i = between(s, s->told, &way);
    if (s->held) follow(&s->held_slow, s->observed, FOLLOW_HELD, MOST_HELD);
    else
        for (int k = 0; k <= (way > 0); k++) {
            const double share = k ? way : 1 - way;
            follow(&s->slow[i + k], s->observed, share * fmax(FOLLOW, 1 / (s->frames[i + k] + 2)), MOST);
            s->frames[i + k] += share;
        }
}

const struct plan *steady_choose(struct steady *s, const struct cpufreq_state *state) {
    const bool held = state->held & CPUFREQ_HELD;
    /* A frame during which the clock moved tells of neither. */
    if (s->observed > 0 && state->mhz == s->told && held == s->held) learn(s);
    s->observed = 0;
    if (!held) s->held_slow = 1;
    s->held = held;
    s->told = state->mhz;
    const double mhz = s->told > 0 ? s->told / slow_at(s, s->told) : 0; /* as which frames run */
    if (!(mhz > 0) || (s->clock > 0 && fabs(mhz - s->clock) <= MOVED * s->clock)) return s->plan;
    double nearest = INFINITY;
    for (int i = 0; i < s->nrungs; i++) {
        double off = fmax(fabs(rung_ms(s, &s->rungs[i], mhz) / s->target_ms - 1), NEAR);
        if (off > nearest || (off == nearest && s->rungs[i].accuracy <= s->rungs[s->chosen].accuracy)) continue;
        nearest = off;
        s->chosen = i;
    }
    s->clock = mhz;
    set_plan(s->plan, &s->rungs[s->chosen]);
    return s->plan;
}

double steady_expected_ms(const struct steady *s) {
    return s->clock > 0 ? rung_ms(s, &s->rungs[s->chosen], s->clock) : s->target_ms;
}

void steady_observe(struct steady *s, double ms) {
    if (ms > 0 && s->clock > 0) s->observed = ms / steady_expected_ms(s);
}
