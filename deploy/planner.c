/* Dynamic programming over the links, with Pareto states.
 *
 * A state at a node (deploy/planner_bounds.h) is a way to get there: sum and
 * bottleneck of all that is closed so far, and cost. Of two states at a node
 * one can be dropped if the other is no worse in cost, in sum and in sum +
 * queued * bottleneck: those bound the latency of every common completion.
 *
 * That alone keeps many thousand states. Most of them are dropped before they
 * are made, by bounds that are computed backwards: least time, cost and
 * bottleneck from a node to the end, and least cost + lambda * time, with
 * lambda from the Lagrangian dual of the deadline. Where frames are queued the
 * bottleneck weighs in the deadline; it is at least any weighted mean of the
 * stages' and links' times, which is a sum again, so the dual is taken over
 * those weights too. Plans met on the way to the dual's optimum are the first
 * incumbents. No bound cuts off a plan that is better: the result is exact. */
#include "deploy/planner_bounds.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    STATES_MAX = 1 << 15, /* in a pass */
    BUDGET = 1 << 16,     /* in a solve, over all passes */
    EFFORT = 1000, /* states in a range of bottlenecks before it is halved */
    RANGES_MAX = 64,
    LAMBDAS = 3,
    HULL_STEPS = 12,
    WEIGHT_STEPS = 6,
    GUESS_STEPS = 128,
    QUEUED_MAX = 100000,
};

struct state {
    int64_t sum, bottleneck, cost;
    double weighted; /* sum by the weights of the dual */
    int parent, next; /* next: in the list of its node */
    struct planner_choice choice; /* of the node's slice */
};

enum objective { LEAST_COST, LEAST_LATENCY };

struct planner {
    struct planner_problem problem;
    int64_t *numbers; /* storage of the problem's arrays */
    double *servers;
    unsigned *masks;
    struct planner_bound *bounds; /* storage: time, cost, trial, lambda[] */
    struct planner_bound *time, *cost, *trial, *lambda;
    struct planner_minimax minimax;
    double *node_values; /* storage of the bounds */
    int *heads;          /* [2][nodes] lists of states */
    struct state *states; /* [STATES_MAX] */

    /* of the present search */
    struct planner_limits limits;
    enum objective objective;
    int64_t bottleneck_min, bottleneck_max; /* of the range that is searched */
    struct planner_weights plain, weights; /* all 1; of the dual */
    double constant; /* what the weights leave out of the latency: at least this */
    int nlambdas;
    int64_t guess; /* limit on the objective */
    int nstates, effort, visited, states_seen;
    bool overflow, exact, found;
    struct planner_choice best[PLANNER_MAX_SLICES];
    struct planner_value best_value;
};

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* ---- the problem ------------------------------------------------------------ */

struct planner_value planner_evaluate(const struct planner_problem *p, const struct planner_choice *choice,
                                      int queued) {
    int64_t stage[PLANNER_MAX_SLICES + 1], link[PLANNER_MAX_SLICES];
    planner_loads(p, choice, stage, link);
    struct planner_value v = {.sum = stage[0], .bottleneck = stage[0]};
    int before = 0;
    for (int s = 0; s < p->nslices; s++) {
        const struct planner_choice *c = &choice[s];
        int arriving = c->link > before ? c->link : before;
        before = c->level;
        v.sum += link[s] + p->latency[s] + stage[s + 1];
        v.bottleneck = max64(v.bottleneck, planner_busy(p, s, max64(link[s], stage[s + 1])));
        v.cost += planner_slice_cost(p, s, c->level, s ? arriving : 0) + p->codec_cost[s * CODEC_COUNT + c->codec];
    }
    v.latency = v.sum + queued * v.bottleneck;
    return v;
}

enum status planner_create(struct planner **out, int nslices, int nlevels, struct err *err) {
    if (nslices < 1 || nslices > PLANNER_MAX_SLICES || nlevels < 1 || nlevels > PLAN_MAX_LEVELS)
        return err_set(err, STATUS_USAGE, "planner: %d slices of %d levels (at most %d of %d)", nslices, nlevels,
                       PLANNER_MAX_SLICES, PLAN_MAX_LEVELS);
    struct planner *planner = calloc(1, sizeof *planner);
    if (!planner) return err_memory(err, "planner");
    size_t n = nslices, l = nlevels, compute = n * l * l, nodes = n * l * CODEC_COUNT;
    planner->numbers = calloc(2 * compute + 3 * nodes + n + n * CODEC_COUNT, sizeof *planner->numbers);
    planner->servers = calloc(n, sizeof *planner->servers);
    planner->masks = calloc(3 * n, sizeof *planner->masks);
    planner->bounds = malloc((3 + LAMBDAS) * sizeof *planner->bounds);
    size_t per_slice = l * l * CODEC_COUNT;
    planner->node_values = malloc((3 + LAMBDAS) * n * per_slice * sizeof *planner->node_values);
    planner->minimax.from_node = malloc(n * per_slice * sizeof *planner->minimax.from_node);
    planner->heads = malloc(2 * per_slice * sizeof *planner->heads);
    planner->states = malloc(STATES_MAX * sizeof *planner->states);
    if (!planner->numbers || !planner->servers || !planner->masks || !planner->bounds || !planner->node_values ||
        !planner->minimax.from_node || !planner->heads || !planner->states) {
        planner_destroy(&planner);
        return err_memory(err, "planner");
    }
    for (size_t i = 0; i < 3 + LAMBDAS; i++) planner->bounds[i].from_node = planner->node_values + i * n * per_slice;
    planner->time = planner->bounds;
    planner->cost = planner->bounds + 1;
    planner->trial = planner->bounds + 2;
    planner->lambda = planner->bounds + 3;
    struct planner_problem *p = &planner->problem;
    p->nslices = nslices;
    p->nlevels = nlevels;
    p->compute = planner->numbers;
    p->encode = p->compute + compute;
    p->wire = p->encode + nodes;
    p->decode = p->wire + nodes;
    p->latency = p->decode + nodes;
    p->slice_cost = p->latency + n;
    p->codec_cost = p->slice_cost + compute;
    p->servers = planner->servers;
    p->levels = planner->masks;
    p->links = p->levels + n;
    p->codecs = p->links + n;
    for (int s = 0; s <= nslices; s++) planner->plain.stage[s] = 1;
    for (int s = 0; s < nslices; s++) {
        planner->plain.link[s] = 1;
        p->servers[s] = 1;
        p->levels[s] = (1u << nlevels) - 1;
        p->codecs[s] = 1u << CODEC_F32;
    }
    *out = planner;
    return STATUS_OK;
}

void planner_destroy(struct planner **planner) {
    struct planner *p = *planner;
    if (!p) return;
    free(p->numbers);
    free(p->servers);
    free(p->masks);
    free(p->bounds);
    free(p->node_values);
    free(p->minimax.from_node);
    free(p->heads);
    free(p->states);
    free(p);
    *planner = NULL;
}

struct planner_problem *planner_problem(struct planner *planner) {
    return &planner->problem;
}

static enum status check_range(const char *what, const int64_t *values, size_t n, int64_t max, struct err *err) {
    for (size_t i = 0; i < n; i++)
        if (values[i] < 0 || values[i] > max)
            return err_set(err, STATUS_USAGE, "planner: %s[%zu] = %lld is not in 0..%lld", what, i,
                           (long long)values[i], (long long)max);
    return STATUS_OK;
}

static enum status check(const struct planner_problem *p, const struct planner_limits *limits, struct err *err) {
    size_t n = p->nslices, l = p->nlevels;
    const struct {
        const char *name;
        const int64_t *values;
        size_t count;
        int64_t max;
    } tables[] = {
        {"compute", p->compute, n * l * l, PLANNER_TIME_MAX},
        {"encode", p->encode, n * l * CODEC_COUNT, PLANNER_TIME_MAX},
        {"wire", p->wire, n * l * CODEC_COUNT, PLANNER_TIME_MAX},
        {"decode", p->decode, n * l * CODEC_COUNT, PLANNER_TIME_MAX},
        {"latency", p->latency, n, PLANNER_TIME_MAX},
        {"slice_cost", p->slice_cost, n * l * l, PLANNER_COST_ONE},
        {"codec_cost", p->codec_cost, n * CODEC_COUNT, PLANNER_COST_ONE},
        {"limits.latency", &limits->latency, 1, INT64_MAX},
        {"limits.bottleneck", &limits->bottleneck, 1, INT64_MAX},
        {"limits.cost", &limits->cost, 1, INT64_MAX},
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        enum status status = check_range(tables[i].name, tables[i].values, tables[i].count, tables[i].max, err);
        if (status) return status;
    }
    for (int s = 0; s < p->nslices; s++)
        if (!(p->servers[s] >= 1 && p->servers[s] <= PLANNER_MAX_SERVERS))
            return err_set(err, STATUS_USAGE, "planner: servers[%d] = %g is not in 1..%d", s, p->servers[s],
                           PLANNER_MAX_SERVERS);
    for (int s = 0; s < p->nslices; s++)
        if (!(p->levels[s] & ((1u << p->nlevels) - 1)) || !(p->codecs[s] & ((1u << CODEC_COUNT) - 1)))
            return err_set(err, STATUS_USAGE, "planner: slice %d may run at no level or its link with no codec", s);
    if (limits->queued < 0 || limits->queued > QUEUED_MAX)
        return err_set(err, STATUS_USAGE, "planner: %d frames queued is not in 0..%d", limits->queued, QUEUED_MAX);
    return STATUS_OK;
}

/* ---- search -------------------------------------------------------------------- */

/* Lexicographic, by the objective. */
static bool better(enum objective objective, const struct planner_value *a, const struct planner_value *b) {
    int64_t a1 = a->cost, a2 = a->latency, b1 = b->cost, b2 = b->latency;
    if (objective == LEAST_LATENCY) a1 = a->latency, a2 = a->cost, b1 = b->latency, b2 = b->cost;
    return a1 != b1 ? a1 < b1 : a2 < b2;
}

/* Keeps a plan if it holds the limits and beats the best so far. */
static void offer(struct planner *p, const struct planner_choice *choice) {
    struct planner_value v = planner_evaluate(&p->problem, choice, p->limits.queued);
    if (v.latency > p->limits.latency || v.bottleneck > p->limits.bottleneck || v.cost > p->limits.cost) return;
    if (p->found && !better(p->objective, &v, &p->best_value)) return;
    p->found = true;
    p->best_value = v;
    memcpy(p->best, choice, p->problem.nslices * sizeof *choice);
}

/* Whether no completion can both hold the limits and beat the best so far.
 * `time`, `cost`: least to go; `lambda`: least weighted sums to go. */
static bool hopeless(const struct planner *p, int64_t sum, int64_t bottleneck, int64_t cost, double weighted,
                     double time_to_go,
                     double cost_to_go, const double *lambda_to_go) {
    if (time_to_go == DBL_MAX || bottleneck > p->bottleneck_max) return true;
    int64_t waiting = p->limits.queued * bottleneck;
    struct planner_value least = {.latency = sum + (int64_t)time_to_go + waiting, .cost = cost + (int64_t)cost_to_go};
    if (p->found && !better(p->objective, &least, &p->best_value)) return true;
    int64_t latency_max = p->limits.latency, cost_max = p->limits.cost;
    if (p->objective == LEAST_COST)
        cost_max = p->guess;
    else
        latency_max = p->guess;
    if (least.latency > latency_max || least.cost > cost_max) return true;
    for (int k = 0; k < p->nlambdas; k++) {
        double spent = p->lambda[k].weight_time * ((double)latency_max - p->constant - weighted);
        double floor = (double)cost + lambda_to_go[k] - spent;
        double slack = 2 + 1e-12 * ((double)cost + lambda_to_go[k] + fabs(spent)); /* rounding of the sums */
        if (floor > (double)cost_max + slack) return true;
    }
    return false;
}

static bool hopeless_at_node(const struct planner *p, const struct state *state, int s, int node) {
    double lambda[LAMBDAS];
    size_t i = (size_t)s * planner_nodes(&p->problem) + node;
    for (int k = 0; k < p->nlambdas; k++) lambda[k] = p->lambda[k].from_node[i];
    return hopeless(p, state->sum, state->bottleneck, state->cost, state->weighted, p->time->from_node[i],
                    p->cost->from_node[i], lambda);
}

/* For a state whose slice s is done, but for coding. */
static bool hopeless_behind(const struct planner *p, const struct state *state, int s) {
    double lambda[LAMBDAS];
    int level = state->choice.level;
    for (int k = 0; k < p->nlambdas; k++) lambda[k] = p->lambda[k].behind[s][level];
    return hopeless(p, state->sum, state->bottleneck, state->cost, state->weighted, p->time->behind[s][level],
                    p->cost->behind[s][level], lambda);
}

/* ---- the dual of the deadline ------------------------------------------------- */

/* Shares of the bottleneck's weight, over all stages and links, and a share
 * that stands for the least bottleneck of the range. */
struct shares {
    double stage[PLANNER_MAX_SLICES + 1], link[PLANNER_MAX_SLICES], low;
};

static void set_weights(struct planner *p, const struct shares *shares) {
    int n = p->problem.nslices, queued = p->limits.queued;
    p->weights.stage[0] = 1 + queued * shares->stage[0];
    for (int s = 0; s < n; s++) {
        p->weights.stage[s + 1] = 1 + queued * shares->stage[s + 1] / p->problem.servers[s];
        p->weights.link[s] = 1 + queued * shares->link[s] / p->problem.servers[s];
    }
    p->constant = queued * shares->low * (double)p->bottleneck_min;
}

/* Moves the shares towards the largest of a plan's stages and links. */
static void move_shares(const struct planner *p, struct shares *shares, const struct planner_choice *choice,
                        double rate) {
    int64_t stage[PLANNER_MAX_SLICES + 1], link[PLANNER_MAX_SLICES];
    int n = p->problem.nslices;
    planner_loads(&p->problem, choice, stage, link);
    for (int s = 0; s < n; s++) {
        stage[s + 1] = planner_busy(&p->problem, s, stage[s + 1]);
        link[s] = planner_busy(&p->problem, s, link[s]);
    }
    double most = (double)p->bottleneck_min, sum = 0;
    for (int s = 0; s <= n; s++) most = fmax(most, (double)stage[s]);
    for (int s = 0; s < n; s++) most = fmax(most, (double)link[s]);
    if (most <= 0) return;
    for (int s = 0; s <= n; s++) sum += shares->stage[s] *= exp(rate * ((double)stage[s] / most - 1));
    for (int s = 0; s < n; s++) sum += shares->link[s] *= exp(rate * ((double)link[s] / most - 1));
    sum += shares->low *= exp(rate * ((double)p->bottleneck_min / most - 1));
    for (int s = 0; s <= n; s++) shares->stage[s] /= sum;
    for (int s = 0; s < n; s++) shares->link[s] /= sum;
    shares->low /= sum;
}

static double weighted_time(const struct planner *p, const struct planner_choice *choice) {
    int64_t stage[PLANNER_MAX_SLICES + 1], link[PLANNER_MAX_SLICES];
    planner_loads(&p->problem, choice, stage, link);
    double time = 0;
    for (int s = 0; s <= p->problem.nslices; s++) time += p->weights.stage[s] * (double)stage[s];
    for (int s = 0; s < p->problem.nslices; s++)
        time += p->weights.link[s] * (double)link[s] + (double)p->problem.latency[s];
    return time;
}

/* The lower bound of the objective that a filled bound gives. */
static double dual_value(const struct planner *p, const struct planner_bound *b) {
    if (p->objective == LEAST_COST) return b->total - b->weight_time * ((double)p->limits.latency - p->constant);
    return (b->total - (double)p->limits.cost) / b->weight_time + p->constant;
}

/* Finds the best lambda for the present weights by walking the convex hull of
 * (weighted time, cost), offering every plan met. 0: there is nothing to trade.
 * The bound at that lambda is left in `trial`. */
static double best_lambda(struct planner *p) {
    double time_max = (double)p->limits.latency - p->constant;
    /* two ends of the hull: cheap and slow, fast and dear */
    double t0 = weighted_time(p, p->cost->choice), c0 = p->cost->cost;
    double t1 = weighted_time(p, p->time->choice), c1 = p->time->cost, lambda = 0;
    for (int step = 0; step < HULL_STEPS && t0 > t1 && c1 > c0; step++) {
        lambda = (c1 - c0) / (t0 - t1);
        planner_bound_fill(p->trial, &p->problem, p->bottleneck_max, 1, lambda, &p->weights);
        offer(p, p->trial->choice);
        double t = p->trial->time, c = p->trial->cost;
        if (c + lambda * t >= (c0 + lambda * t0) * (1 - 1e-9)) break;
        if (p->objective == LEAST_COST ? t > time_max : c <= (double)p->limits.cost)
            t0 = t, c0 = c;
        else
            t1 = t, c1 = c;
    }
    return lambda;
}

/* Fills the bounds around the best lambda and weights found. */
static void fill_lambdas(struct planner *p) {
    int n = p->problem.nslices, steps = p->limits.queued > 0 ? WEIGHT_STEPS : 1;
    struct shares shares = {.low = 1}, best_shares = shares;
    double best = 0, best_value = -DBL_MAX;
    p->nlambdas = 0;
    for (int step = 0; step < steps; step++) {
        set_weights(p, &shares);
        double lambda = best_lambda(p);
        if (lambda <= 0) break;
        double value = dual_value(p, p->trial);
        if (value > best_value) {
            best_value = value;
            best = lambda;
            best_shares = shares;
        }
        if (step == 0) {
            for (int s = 0; s <= n; s++) shares.stage[s] = 1;
            for (int s = 0; s < n; s++) shares.link[s] = 1;
        }
        move_shares(p, &shares, p->trial->choice, step == 0 ? 8 : 6.0 / step);
    }
    set_weights(p, &best_shares);
    if (best <= 0) return;
    static const double around[LAMBDAS] = {1, 0.4, 2.5};
    for (int k = 0; k < LAMBDAS; k++)
        planner_bound_fill(&p->lambda[p->nlambdas++], &p->problem, p->bottleneck_max, 1, best * around[k], &p->weights);
}

/* ---- passes over the links ------------------------------------------------------ */

/* Adds a state to the list of its node unless one there is as good. */
static void keep(struct planner *p, int *head, const struct state *state) {
    int64_t key = state->sum + p->limits.queued * state->bottleneck;
    for (int *link = head; *link >= 0;) {
        const struct state *o = &p->states[*link];
        int64_t okey = o->sum + p->limits.queued * o->bottleneck;
        if (o->sum <= state->sum && okey <= key && o->cost <= state->cost) return;
        if (o->sum >= state->sum && okey >= key && o->cost >= state->cost)
            *link = o->next;
        else
            link = &p->states[*link].next;
    }
    if (p->nstates == p->effort) {
        p->overflow = true;
        return;
    }
    p->states[p->nstates] = *state;
    p->states[p->nstates].next = *head;
    *head = p->nstates++;
}

static void offer_path(struct planner *p, int state) {
    struct planner_choice choice[PLANNER_MAX_SLICES];
    for (int s = p->problem.nslices - 1; s >= 0; s--) {
        choice[s] = p->states[state].choice;
        state = p->states[state].parent;
    }
    offer(p, choice);
}

/* Moves across the link into slice s. `at`: in front of slice s-1, but with
 * its cost; `stage`: its time, to which coding adds. */
static void cross(struct planner *p, int s, int parent, const struct state *at, int64_t stage, int *heads) {
    const struct planner_problem *pr = &p->problem;
    for (struct planner_step step = planner_first_step(); planner_next_step(pr, s, at->choice.level, &step);) {
        int node = planner_node(pr, step.level, step.arriving, step.codec);
        int64_t closed = stage + planner_row(pr, pr->encode, s, step.crossing)[step.codec];
        int64_t load = planner_row(pr, pr->wire, s, step.crossing)[step.codec];
        int64_t ahead = p->minimax.from_node[(size_t)s * planner_nodes(pr) + node];
        struct state next = {
            .sum = at->sum + closed + load + pr->latency[s],
            .bottleneck = max64(max64(at->bottleneck, ahead),
                                max64(planner_busy(pr, s - 1, closed), planner_busy(pr, s, load))),
            .cost = at->cost + pr->codec_cost[s * CODEC_COUNT + step.codec],
            .weighted = at->weighted + p->weights.stage[s] * (double)closed + p->weights.link[s] * (double)load +
                        (double)pr->latency[s],
            .parent = parent,
            .choice = {step.level, step.link, (enum codec)step.codec},
        };
        if (!hopeless_at_node(p, &next, s, node)) keep(p, &heads[node], &next);
    }
}

/* Runs slice s in all states of a node, and moves on. */
static void run_node(struct planner *p, int s, int node, int head, int *heads) {
    const struct planner_problem *pr = &p->problem;
    int arriving = node / CODEC_COUNT % pr->nlevels, level = node / CODEC_COUNT / pr->nlevels;
    int64_t stage = planner_run(pr, s, level, arriving, node % CODEC_COUNT);
    for (int i = head; i >= 0; i = p->states[i].next) {
        struct state at = p->states[i];
        if (hopeless_at_node(p, &at, s, node)) continue; /* the best may have improved */
        at.cost += planner_slice_cost(pr, s, level, arriving);
        struct state done = at;
        done.sum += stage;
        done.bottleneck = max64(max64(at.bottleneck, planner_busy(pr, s, stage)), p->minimax.behind[s][level]);
        done.weighted += p->weights.stage[s + 1] * (double)stage;
        if (hopeless_behind(p, &done, s)) continue;
        if (s + 1 == pr->nslices)
            offer_path(p, i);
        else
            cross(p, s + 1, i, &at, stage, heads);
    }
}

/* One pass over the links: finds the best plan of objective at most `guess`
 * and bottleneck in range, if it beats the best so far. False: given up at
 * `effort` states. */
static bool pass(struct planner *p, int64_t guess, int effort) {
    int nodes = planner_nodes(&p->problem);
    int *here = p->heads, *there = p->heads + nodes;
    p->guess = guess;
    p->effort = effort;
    p->nstates = 0;
    p->overflow = false;
    for (int i = 0; i < nodes; i++) here[i] = -1;
    const struct state start = {.bottleneck = p->bottleneck_min};
    cross(p, 0, -1, &start, 0, here);
    for (int s = 0; s < p->problem.nslices && !p->overflow; s++) {
        for (int i = 0; i < nodes; i++) there[i] = -1;
        for (int node = 0; node < nodes; node++) run_node(p, s, node, here[node], there);
        int *swap = here;
        here = there;
        there = swap;
    }
    p->visited += p->nstates;
    return !p->overflow;
}

/* A lower bound of the objective in the present range, from the dual. */
static int64_t objective_floor(const struct planner *p) {
    double floor = p->objective == LEAST_COST
                       ? p->cost->total
                       : p->time->total + (double)p->limits.queued * (double)p->bottleneck_min;
    for (int k = 0; k < p->nlambdas; k++) floor = fmax(floor, dual_value(p, &p->lambda[k]));
    return (int64_t)(floor * (1 - 1e-12));
}

/* Searches the plans whose bottleneck is in [low, high]. Effort grows with the
 * distance between the bounds and the limit on the objective, so the limit
 * starts near the lower bound and moves away in growing steps until a plan is
 * within it: the best one, then. False: given up at `effort` states. */
static bool search_range(struct planner *p, int64_t low, int64_t high, int effort) {
    p->bottleneck_min = low;
    p->bottleneck_max = high;
    planner_bound_fill(p->time, &p->problem, high, 0, 1, &p->plain);
    planner_bound_fill(p->cost, &p->problem, high, 1, 0, &p->plain);
    if (p->time->total == DBL_MAX) return true;
    offer(p, p->time->choice);
    offer(p, p->cost->choice);
    fill_lambdas(p);
    int64_t guess = objective_floor(p), step = 0;
    for (;;) {
        int64_t limit = p->objective == LEAST_COST ? p->limits.cost : p->limits.latency;
        if (p->found) limit = p->objective == LEAST_COST ? p->best_value.cost : p->best_value.latency;
        if (guess >= limit) return guess > limit || step > 0 || pass(p, limit, effort);
        step = step ? 2 * step : (limit - guess) / GUESS_STEPS + 1;
        guess = step < limit - guess ? guess + step : limit;
        if (!pass(p, guess, effort)) return false;
    }
}

/* With frames queued, the bottleneck weighs in the latency, and bounds that
 * know little of it are weak. So a range of bottlenecks that takes effort is
 * halved: its parts have tight bounds, and most fall at once. */
static void search(struct planner *p, enum objective objective, const struct planner_limits *limits) {
    struct {
        int64_t low, high;
    } ranges[RANGES_MAX];
    p->limits = *limits;
    p->objective = objective;
    p->found = false;
    planner_minimax_fill(&p->minimax, &p->problem);
    planner_bound_fill(p->time, &p->problem, limits->bottleneck, 0, 1, &p->plain);
    if (p->time->total == DBL_MAX) return;
    int64_t least_time = (int64_t)p->time->total, low = p->minimax.total, high = limits->bottleneck;
    int n = 0;
    p->visited = 0;
    ranges[n].low = low;
    ranges[n++].high = high;
    while (n > 0 && p->visited <= BUDGET) {
        low = ranges[--n].low;
        high = ranges[n].high;
        if (limits->queued > 0) { /* what the fastest plan leaves for the queue */
            int64_t latency = p->found && objective == LEAST_LATENCY ? p->best_value.latency : limits->latency;
            if ((latency - least_time) / limits->queued < high) high = (latency - least_time) / limits->queued;
        }
        if (low > high) continue;
        bool split = limits->queued > 0 && high > low && n + 2 <= RANGES_MAX;
        if (search_range(p, low, high, split ? EFFORT : STATES_MAX)) continue;
        if (!split || p->visited > BUDGET) {
            p->exact = false;
            continue;
        }
        int64_t middle = (int64_t)sqrt((double)max64(low, high / 1024) * (double)high);
        if (middle >= high) middle = high - 1;
        ranges[n].low = low;
        ranges[n++].high = middle;
        ranges[n].low = middle + 1;
        ranges[n++].high = high;
    }
    if (n > 0) p->exact = false;
    p->states_seen += p->visited;
}

/* Looks for the best plan within the limits; solution->exact and ->states are added to. */
static bool search_more(struct planner *p, enum objective objective, const struct planner_limits *limits,
                        enum planner_outcome outcome, struct planner_solution *solution) {
    p->exact = solution->exact;
    p->states_seen = solution->states;
    search(p, objective, limits);
    solution->outcome = outcome;
    solution->exact = p->exact;
    solution->states = p->states_seen;
    solution->value = p->best_value;
    memcpy(solution->choice, p->best, p->problem.nslices * sizeof *solution->choice);
    return p->found;
}

bool planner_find(struct planner *planner, const struct planner_limits *limits, struct planner_solution *solution) {
    *solution = (struct planner_solution){.exact = true};
    return !check(&planner->problem, limits, NULL) &&
           search_more(planner, LEAST_COST, limits, PLANNER_FEASIBLE, solution);
}

enum status planner_solve(struct planner *planner, const struct planner_limits *limits,
                          struct planner_solution *solution, struct err *err) {
    enum status status = check(&planner->problem, limits, err);
    if (status || planner_find(planner, limits, solution)) return status;
    struct planner_limits relaxed = {PLANNER_UNLIMITED, PLANNER_UNLIMITED, limits->cost, limits->queued};
    planner_bound_fill(planner->cost, &planner->problem, PLANNER_UNLIMITED, 1, 0, &planner->plain);
    int64_t least = (int64_t)planner->cost->cost;
    bool costly = least > limits->cost;
    if (costly) relaxed.cost = least;
    search_more(planner, LEAST_LATENCY, &relaxed, costly ? PLANNER_TOO_COSTLY : PLANNER_TOO_SLOW, solution);
    return STATUS_OK;
}
