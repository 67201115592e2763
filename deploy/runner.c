#include "deploy/runner_internal.h"

#include "deploy/signals.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { TICK_MS = 100 };
static const double MEASURE_S = 180, FINISH_S = 10, REPLICA_S = 2;

struct runner_config runner_defaults(void) {
    return (struct runner_config){ .results = "results.sqlite", .policy = CONTROLLER_POLICIES, .slo_ms = -1,
                                   .queue = 16, .steady = steady_options_defaults(), .connect_timeout_s = 30, .takeover_s = 5, .recut_s = 120 };
}

const char *runner_overload_name(enum runner_overload overload) {
    static const char *const names[RUNNER_OVERLOADS] = { "wait", "drop-oldest", "refuse" };
    return names[overload];
}

/* ---- setting up ---- */

/* This device's clock says nothing of others. */
static enum status check_steady(const struct runner *r, struct err *err) {
    const struct runner_config *c = r->config;
    if (!c->steady.profile) return STATUS_OK;
    if ((c->policy != CONTROLLER_POLICIES && c->policy != CONTROLLER_STATIC) || c->plan)
        return err_set(err, STATUS_USAGE, "--steady chooses the plan; leave out --policy and --plan");
    for (int i = 0; i < r->cluster->nall; i++) {
        const struct cluster_worker *w = &r->cluster->worker[i];
        if (transport_is_loopback(w->address)) continue;
        err_set(err, STATUS_USAGE, "--steady follows the clock of this device, and %s is at %s", w->name, w->address);
        err_hint(err, "with other devices --slo-ms holds a deadline");
        return STATUS_USAGE;
    }
    return STATUS_OK;
}

static enum status check_config(struct runner *r, struct err *err) {
    const struct runner_config *c = r->config;
    r->slo_ms = c->slo_ms >= 0 ? c->slo_ms : r->cluster->slo_ms;
    r->policy = c->policy;
    enum status status = check_steady(r, err);
    if (status) return status;
    if (r->policy == CONTROLLER_POLICIES)
        r->policy = r->slo_ms > 0 && !c->steady.profile ? CONTROLLER_EXACT : CONTROLLER_STATIC;
    if (r->policy != CONTROLLER_STATIC && r->slo_ms <= 0) {
        err_set(err, STATUS_USAGE, "--policy %s holds a deadline, and none is given",
                controller_policy_name(r->policy));
        err_hint(err, "give --slo-ms MS, or slo_ms in the [source] of %.150s", c->cluster);
        return STATUS_USAGE;
    }
    r->credits = c->credits ? c->credits : r->cluster->credits ? r->cluster->credits : r->cluster->nall + 2;
    return STATUS_OK;
}

static enum status open_model(struct runner *r, struct err *err) {
    const struct runner_config *c = r->config;
    if (!portfolio_is(c->model)) {
        if (!c->portfolio) return model_load(&r->model, c->model, err);
        enum status status = model_load(&r->model, c->model, err);
        return status ? status : err_set(err, STATUS_USAGE, "%s is one model, not a portfolio of variants", c->model);
    }
    if (c->steady.profile)
        return err_set(err, STATUS_USAGE, "--steady is for models that are pruned as they run, and %s is a portfolio", c->model);
    enum status status = portfolio_model_open(&r->portfolio, c->model, err);
    if (!status) r->model = r->portfolio->model;
    return status;
}

/* One variant for all stages, and all that crosses. */
static enum status check_start(const struct runner *r, struct err *err) {
    for (int b = 0; r->portfolio && b < r->start->nblocks; b++)
        if (r->start->level[b] != r->start->level[0] || r->start->link[b])
            return err_set(err, STATUS_USAGE, "a portfolio runs at one variant throughout: --plan takes its number alone, and links no level");
    return STATUS_OK;
}

/* As the cluster cfg has it. */
static enum status make_first_layout(struct runner *r, struct err *err) {
    struct layout_places places;
    for (int i = 0; i < r->cluster->nall; i++) r->there[i] = true;
    layout_choose(r->cluster, r->there, &places);
    snprintf(r->cuts, sizeof r->cuts, "%s", r->config->cuts ? r->config->cuts : "");
    enum status status = runner_layout_create(&r->layout, r, &places, r->config->cuts, err);
    if (!status) strcpy(r->layout->cuts, r->cuts);
    return status;
}

/* The plan of --plan and --link, or full size with the cfg's links. */
static enum status make_start_plan(struct runner *r, struct err *err) {
    const struct model *m = r->model;
    const struct slices *s = r->layout->slices;
    const struct runner_config *c = r->config;
    enum status status = plan_parse(&r->start, m->blocks, m->levels, s->count, s->first, c->plan ? c->plan : "0",
                                    c->links, err);
    for (int i = 0; i < s->count && !status && !c->links; i++) {
        const struct cluster_worker *w = &r->cluster->worker[i];
        if (w->link.level >= m->levels->nlevels)
            return err_set(err, STATUS_USAGE, "%s: level=%d of the link into %s: the model has levels 0 to %d",
                           c->cluster, w->link.level, w->name, m->levels->nlevels - 1);
        r->start->link[s->first[i]] = i ? w->link.level : 0;
        r->start->codec[s->first[i]] = w->link.codec;
    }
    return status ? status : check_start(r, err);
}

static enum status visit_accepted(void *context, const struct journal_frame *frame, bool has_result, struct err *err) {
    struct runner *r = context;
    enum status status = source_skip(r->source, frame->path, frame->size, frame->mtime_ns, err);
    return status || has_result ? status : runner_readmit(r, frame, err);
}

static enum status open_journal(struct runner *r, struct err *err) {
    char hash[65], cuts[512];
    if (r->portfolio) strcpy(hash, r->portfolio->hash);
    else model_hash(r->model->file->bytes, r->model->file->length, hash);
    slices_text(r->layout->slices, cuts, sizeof cuts);
    struct journal_config config = { .path = r->config->results, .model = hash,
                                     .source = source_identity(r->source),
                                     .policy = controller_policy_name(r->policy), .cuts = cuts,
                                     .slo_ms = r->slo_ms };
    enum status status = journal_open(&r->journal, &config, err);
    if (status || !journal_resumed(r->journal)) return status;
    r->next_seq = journal_next_seq(r->journal);
    status = journal_each(r->journal, visit_accepted, r, err);
    if (r->next_seq)
        log_info("going on with the run in %s: %lld frames accepted, %lld without a result", r->config->results,
             (long long)r->next_seq, (long long)runner_owed(r));
    return status;
}

/* A worker's public key: as the cfg says, or of the key folder. */
static enum status key_of(const struct runner *r, const struct cluster_worker *w, char key[KEYS_HEX], struct err *err) {
    key[0] = '\0';
    if (!r->keys) return STATUS_OK;
    if (w->key[0]) {
        strcpy(key, w->key);
        return STATUS_OK;
    }
    const struct keys_peer *peer = keys_named(r->keys, w->name);
    if (!peer) return err_set(err, STATUS_USAGE, "%s: neither a key in %s nor a file %s.pub in %s", w->name,
                              r->config->cluster, w->name, r->config->keys);
    keys_to_hex(peer->public, key);
    return STATUS_OK;
}

static enum status open_peers(struct runner *r, struct err *err) {
    char key[KEYS_HEX];
    if (getrandom(&r->session, sizeof r->session, 0) != sizeof r->session) return err_errno(err, "random numbers");
    enum status status = r->config->keys ? keys_load(&r->keys, r->config->keys, r->config->name, err) : STATUS_OK;
    if (!status) status = transport_create(&r->transport, r->keys, err);
    for (int i = 0; i < r->cluster->nall && !status; i++) {
        const struct cluster_worker *w = &r->cluster->worker[i];
        if (!r->keys && !transport_is_loopback(w->address)) {
            status = err_set(err, STATUS_USAGE, "%s at %s: frames leave this machine encrypted only", w->name,
                             w->address);
            err_hint(err, "make keys with 'espalier-deploy keygen' and give --keys DIR");
        }
        if (!status) status = key_of(r, w, key, err);
        if (!status) {
            r->npeers = i + 1;
            status = peer_open(&r->peers[i], w, key, r->transport, journal_token(r->journal), r->session, err);
        }
    }
    if (!status) runner_layout_assign(r, r->layout);
    return status;
}

static enum status open_metrics(struct runner *r, struct err *err) {
    if (!r->config->metrics) return STATUS_OK;
    enum status status = metrics_create(&r->metrics, r->config->metrics, err);
    if (!status) log_info("metrics on http://%s/metrics", metrics_address(r->metrics));
    return status;
}

/* ---- waiting for things to happen ---- */

/* Sleeps until something can be done, `ms` at most. */
static void pause_until(struct runner *r, double ms) {
    zmq_pollitem_t items[2 * CLUSTER_MAX_WORKERS + 4];
    int n = 0;
    items[n++] = (zmq_pollitem_t){ NULL, r->signal_fd, ZMQ_POLLIN, 0 };
    items[n++] = (zmq_pollitem_t){ NULL, journal_fd(r->journal), ZMQ_POLLIN, 0 };
    if (r->metrics) items[n++] = (zmq_pollitem_t){ NULL, metrics_fd(r->metrics), ZMQ_POLLIN, 0 };
    if (r->source_waits && source_fd(r->source) >= 0)
        items[n++] = (zmq_pollitem_t){ NULL, source_fd(r->source), ZMQ_POLLIN, 0 };
    for (int i = 0; i < r->npeers; i++) {
        items[n++] = (zmq_pollitem_t){ channel_socket(r->peers[i].channel), 0, ZMQ_POLLIN, 0 };
        items[n++] = (zmq_pollitem_t){ channel_monitor(r->peers[i].channel), 0, ZMQ_POLLIN, 0 };
    }
    for (int i = 0; i < r->npeers; i++)
        if (r->peers[i].up && outlet_pressing(&r->peers[i].outlet, log_now_s())) items[n - 2 * (r->npeers - i)].events |= ZMQ_POLLOUT;
    zmq_poll(items, n, ms <= 0 ? 0 : ms < TICK_MS ? (long)ceil(ms) : TICK_MS);
    if (r->metrics) metrics_serve(r->metrics, runner_write_metrics, r);
}

static enum status interrupted(const struct runner *r, struct err *err) {
    err_set(err, STATUS_CANCELLED, "stopped; %lld accepted frames have no result yet", (long long)runner_owed(r));
    err_hint(err, "the same command goes on from there");
    return STATUS_CANCELLED;
}

static enum status not_ready(const struct peer *p, enum status status, struct err *err) {
    err_set(err, status, "%s at %s: %s", p->worker->name, p->worker->address, p->trouble);
    if (!p->up && p->refusals)
        err_hint(err, "the cluster cfg or --keys must hold its present key, and its key folder ours");
    else if (!p->up) err_hint(err, "is 'espalier-deploy worker' running there?");
    return status;
}

/* The one to blame: a stage that waits for the next one is not at fault. */
static const struct peer *first_not_ready(const struct runner *r) {
    const struct peer *found = NULL;
    for (int i = 0; i < r->npeers; i++) {
        const struct peer *p = &r->peers[i];
        const struct peer_post *post = peer_post(p, r->layout->number);
        if (post && !post->ready && (!found || (found->up && !p->up))) found = p;
    }
    return found;
}

/* The present layout's first worker that is hopeless, or NULL. */
static const struct peer *first_hopeless(const struct runner *r) {
    for (int i = 0; i < r->npeers; i++)
        if (peer_post(&r->peers[i], r->layout->number) && peer_hopeless(&r->peers[i])) return &r->peers[i];
    return NULL;
}

/* At the start some workers do not come. Spares may take over from them, and a
 * run that goes on takes what there is; else the user should know first. */
static enum status start_without(struct runner *r, struct err *err) {
    struct layout_places places;
    const struct peer *hopeless = first_hopeless(r), *late = hopeless ? hopeless : first_not_ready(r);
    for (int i = 0; i < r->npeers; i++) r->there[i] = peer_alive(&r->peers[i]) && !peer_hopeless(&r->peers[i]);
    layout_choose(r->cluster, r->there, &places);
    bool may = r->config->takeover_s > 0 && r->layout->number == 1 &&
               (places.nstages == r->cluster->nworkers || (places.nstages && journal_next_seq(r->journal)));
    if (!may) return not_ready(late, hopeless ? STATUS_IO : STATUS_TIMEOUT, err);
    log_warn("going on without %s: %s", late->worker->name, late->trouble);
    const char *cuts = places.nstages == r->cluster->nworkers ? r->config->cuts : NULL;
    struct layout *layout = NULL;
    enum status status = runner_layout_create(&layout, r, &places, cuts, err);
    if (status) return status;
    snprintf(layout->cuts, sizeof layout->cuts, "%s", cuts ? cuts : "");
    runner_layout_assign(r, layout);
    for (int i = 0; i < r->npeers; i++) peer_release(&r->peers[i], layout->number);
    runner_layout_destroy(&r->layout);
    r->layout = layout;
    return STATUS_OK;
}

static enum status wait_ready(struct runner *r, struct err *err) {
    double end_s = log_now_s() + r->config->connect_timeout_s, ready_s = INFINITY;
    while (!runner_layout_whole(r, r->layout)) {
        pause_until(r, TICK_MS);
        if (signals_take(r->signal_fd)) return interrupted(r, err);
        enum status status = runner_serve(r, err);
        double now_s = log_now_s();
        bool ready = runner_layout_ready(r, r->layout);
        ready_s = ready ? fmin(ready_s, now_s) : INFINITY;
        if (now_s - ready_s > REPLICA_S) break; /* without a replica, for now */
        if (!status && !ready && (now_s > end_s || first_hopeless(r))) {
            status = start_without(r, err);
            end_s = now_s + r->config->connect_timeout_s;
        }
        if (status) return status;
    }
    for (int i = 0; i < r->npeers; i++) {
        r->there[i] = peer_alive(&r->peers[i]);
        r->changed_s[i] = log_now_s();
    }
    for (int s = 0; s < r->layout->slices->count; s++) slices_release(r->layout->slices, s);
    return STATUS_OK;
}

static bool same_host(const struct peer *a, const struct peer *b) {
    char x[CLUSTER_ADDRESS], y[CLUSTER_ADDRESS];
    cluster_host(a->worker->address, x);
    cluster_host(b->worker->address, y);
    return strcmp(x, y) == 0;
}

/* Every device's latencies; workers on one host take turns. */
static enum status measure(struct runner *r, struct err *err) {
    double end_s = log_now_s() + MEASURE_S;
    for (;;) {
        const struct peer *missing = NULL;
        for (int i = 0; i < r->npeers; i++) {
            struct peer *p = &r->peers[i];
            const struct peer_post *post = peer_post(p, r->layout->number);
            if (p->profile || !post || !post->ready) continue;
            missing = p;
            bool free_host = !peer_measuring(p);
            for (int k = 0; k < r->npeers && free_host; k++)
                free_host = !peer_measuring(&r->peers[k]) || !same_host(p, &r->peers[k]);
            if (!free_host) continue;
            r->measured_first[i] = post->slices->first[post->assign.stage];
            peer_measure(p, r->layout->number);
        }
        if (!missing && !runner_ready(r)) missing = first_not_ready(r);
        if (first_hopeless(r)) return not_ready(first_hopeless(r), STATUS_IO, err);
        if (!missing) return STATUS_OK;
        if (log_now_s() > end_s)
            return err_set(err, STATUS_TIMEOUT, "%s: its latencies were not measured within %.0f s",
                           missing->worker->name, MEASURE_S);
        pause_until(r, TICK_MS);
        if (signals_take(r->signal_fd)) return interrupted(r, err);
        enum status status = runner_serve(r, err);
        if (status) return status;
    }
}

/* ---- streaming ---- */

static void show_progress(struct runner *r) {
    if (!r->shows_progress) return;
    char detail[96] = "";
    int64_t stored = tally_results(&r->tally);
    if (r->slo_ms > 0 && stored)
        snprintf(detail, sizeof detail, "%.1f%% in time, %zu waiting",
                 100.0 * (double)r->tally.in_time / (double)stored, r->waiting.count);
    log_progress_update(&r->progress, (double)stored, detail);
}

static enum status check_progress(struct runner *r, struct err *err) {
    double limit = r->config->timeout_s, now_s = log_now_s();
    if (runner_owed(r) == 0) r->progress_s = now_s;
    if (limit <= 0 || now_s - r->progress_s <= limit) return STATUS_OK;
    const struct peer *missing = first_not_ready(r);
    if (missing) return not_ready(missing, STATUS_TIMEOUT, err);
    return err_set(err, STATUS_TIMEOUT, "no result for %.1f s", limit);
}

static enum status stream(struct runner *r, struct err *err) {
    double stop_s = INFINITY;
    source_start(r->source, journal_now_ms(r->journal));
    r->progress_s = log_now_s();
    for (;;) {
        enum status status = runner_serve(r, err);
        if (!status) status = runner_relayout(r, log_now_s(), err);
        if (!status) status = runner_repair(r, err);
        if (!status) status = runner_take(r, err);
        if (!status) status = runner_send(r, err);
        if (!status) status = runner_collect(r, err);
        if (!status) status = check_progress(r, err);
        if (status) return status;
        show_progress(r);
        if (r->source_ended && runner_owed(r) == 0) return STATUS_OK;
        bool landed = r->sent.count + r->storing.count == 0;
        if (r->stopping && (landed || log_now_s() > stop_s)) break;
        pause_until(r, r->source_next_ms - journal_now_ms(r->journal));
        if (signals_take(r->signal_fd)) {
            if (r->stopping) break;
            log_info("stopping: waiting for %d frames in flight", r->sent.count);
            r->stopping = true;
            r->source_waits = false;
            stop_s = log_now_s() + FINISH_S;
        }
    }
    /* A live source has no end of its own: stopping it is how it ends. */
    return source_live(r->source) && runner_owed(r) == 0 ? STATUS_OK : interrupted(r, err);
}

static enum status run(struct runner *r, struct err *err) {
    enum status status = wait_ready(r, err);
    if (!status && r->policy != CONTROLLER_STATIC) status = measure(r, err);
    if (!status) status = runner_start_governor(r, r->layout, err);
    if (!status) status = runner_recut_begin(r, r->layout, err);
    if (status) return status;
    int64_t left = source_left(r->source);
    r->shows_progress = left >= 0 && !source_live(r->source);
    if (r->shows_progress) log_progress_start(&r->progress, "frames", (double)(left + runner_owed(r)));
    status = stream(r, err);
    if (r->shows_progress && status) log_progress_abandon(&r->progress);
    else if (r->shows_progress) log_progress_end(&r->progress, NULL);
    return status;
}

static void close_all(struct runner *r) {
    for (int i = 0; i < r->npeers; i++) peer_close(&r->peers[i]);
    metrics_destroy(&r->metrics);
    transport_destroy(&r->transport);
    keys_destroy(&r->keys);
    journal_destroy(&r->journal);
    frame_queue_free(&r->waiting);
    frame_set_free(&r->sent);
    frame_set_free(&r->storing);
    for (struct frame *f; (f = reorder_drain(&r->results));) frame_free(&f);
    reorder_free(&r->results);
    source_destroy(&r->source);
    plan_destroy(&r->start);
    recut_destroy(&r->recut);
    runner_layout_close(r);
    if (r->portfolio) portfolio_model_close(&r->portfolio);
    else model_destroy(&r->model);
    cluster_destroy(&r->cluster);
    signals_close(&r->signal_fd);
}

enum status runner_run(const struct runner_config *config, struct err *err) {
    struct runner *r = calloc(1, sizeof *r);
    if (!r) return err_memory(err, "runner");
    r->config = config;
    r->signal_fd = -1;
    enum status status = cluster_load(&r->cluster, config->cluster, err);
    if (!status) status = check_config(r, err);
    if (!status) status = open_model(r, err);
    if (!status) status = make_first_layout(r, err);
    if (!status) status = make_start_plan(r, err);
    if (!status) status = source_create(&r->source, &config->source, err);
    if (!status) status = signals_open(&r->signal_fd, err);
    if (!status) status = open_metrics(r, err);
    if (!status) status = open_journal(r, err);
    if (!status) status = open_peers(r, err);
    if (!status) {
        status = run(r, err);
        struct err closing;
        enum status closed = journal_close_run(r->journal, !status && !source_live(r->source), &closing);
        if (closed && !status) {
            if (err) *err = closing;
            status = closed;
        }
    }
    if (!status || (status == STATUS_CANCELLED && tally_results(&r->tally))) {
        enum status summed = runner_summarise(r, status ? NULL : err);
        if (!status) status = summed;
    }
    close_all(r);
    free(r);
    return status;
}
