/* Work is handed out in tickets of a few samples, in the order in which the
 * batches will be asked for, so that the first batch is ready first whatever
 * the number of threads. Batches live in a ring of slots; whoever waits for
 * one works on it too.
 *
 * What a sample becomes depends on (seed, epoch, place in the epoch) only. A
 * damaged image's place is taken by the next sample of the epoch's order, so
 * that which images are damaged is all that matters, not who found out first. */
#include "train/loader.h"

#include "common/random.h"
#include "train/fetch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 4, ALIGNMENT = 64, MAX_THREADS = 256 };

struct slot {
    int n, done;           /* samples in all, finished */
    float *input;          /* [batch, C, H, W] */
    int *labels, *samples; /* samples: -1 where an image was left out */
};

struct order {
    int64_t epoch; /* -1: none */
    int *samples;
};

struct worker {
    struct loader *loader;
    pthread_t thread;
    struct fetch_scratch scratch;
};

struct loader {
    struct loader_config config;
    struct augment augment;
    bool training;
    int batches; /* per epoch */
    int ticket;  /* samples handed out at once */
    size_t input_size;
    struct fetch *fetch;
    int nworkers;
    struct worker *workers;
    struct fetch_scratch own_scratch; /* of whoever calls loader_next */

    pthread_mutex_t lock; /* guards all that follows */
    pthread_cond_t room;  /* there may be a ticket, or it is time to stop */
    pthread_cond_t done;  /* a batch is complete, a ticket was finished while paused, or something failed */
    bool stop, paused;
    int working;                /* tickets being worked on */
    int64_t next;               /* batch that loader_next gives next, counted over all epochs */
    int64_t released;           /* slots of batches before this one are free */
    int64_t handing;            /* batch that the next ticket belongs to */
    int handed;                 /* its samples that have been handed out */
    struct slot slots[SLOTS];   /* of batch b: b % SLOTS */
    struct order orders[SLOTS]; /* of epoch e: e % SLOTS; no more can be in flight */
    enum status failure;
    struct err failure_err;
};

struct ticket {
    struct slot *slot;
    int first, n; /* samples of the slot */
    int place;    /* of the first in its epoch */
    int64_t epoch;
    const int *order;
};

/* ---- tickets -------------------------------------------------------------------- */

static const int *epoch_order(struct loader *l, int64_t epoch) {
    struct order *order = &l->orders[epoch % SLOTS];
    int n = l->config.dataset->n;
    if (order->epoch == epoch) return order->samples;
    for (int i = 0; i < n; i++) order->samples[i] = i;
    struct random random = random_stream(l->config.seed, (uint64_t)epoch, UINT64_MAX);
    for (int i = n - 1; l->training && i > 0; i--) {
        int k = random_below(&random, i + 1), held = order->samples[i];
        order->samples[i] = order->samples[k];
        order->samples[k] = held;
    }
    order->epoch = epoch;
    return order->samples;
}

static int batch_size(const struct loader *l, int64_t batch) {
    int64_t left = l->config.dataset->n - batch % l->batches * l->config.batch;
    return left < l->config.batch ? (int)left : l->config.batch;
}

/* Under the lock. False if there is nothing to do now. */
static bool take_ticket(struct loader *l, struct ticket *ticket) {
    bool ended = !l->training && l->handing >= l->batches;
    if (l->stop || l->paused || l->failure || ended || l->handing >= l->released + SLOTS) return false;
    struct slot *slot = &l->slots[l->handing % SLOTS];
    if (l->handed == 0) {
        slot->n = batch_size(l, l->handing);
        slot->done = 0;
    }
    int64_t epoch = l->training ? l->handing / l->batches : 0;
    int left = slot->n - l->handed;
    *ticket = (struct ticket){.slot = slot,
                              .first = l->handed,
                              .n = left < l->ticket ? left : l->ticket,
                              .place = (int)(l->handing % l->batches) * l->config.batch + l->handed,
                              .epoch = epoch,
                              .order = epoch_order(l, epoch)};
    l->handed += ticket->n;
    if (l->handed == slot->n) {
        l->handing++;
        l->handed = 0;
    }
    l->working++;
    return true;
}

/* One sample of a ticket into its place in the slot. */
static enum status make_sample(struct loader *l, const struct ticket *t, int i, struct fetch_scratch *scratch,
                               struct err *err) {
    int n = l->config.dataset->n, place = t->place + i, at = t->first + i, tries = l->training ? n : 1;
    float *input = t->slot->input + (size_t)at * l->input_size;
    t->slot->samples[at] = -1;
    for (int k = 0; k < tries; k++) {
        int sample = t->order[(place + k) % n];
        const struct image_u8 *image;
        enum status status = fetch_image(l->fetch, sample, scratch, &image, err);
        if (status != STATUS_OK) return status;
        if (!image) continue;
        t->slot->samples[at] = sample;
        t->slot->labels[at] = l->config.dataset->samples[sample].label;
        if (!l->training) return image_fit(&l->config.preproc, image, input, err);
        uint64_t seed = random_stream(l->config.seed, (uint64_t)t->epoch, (uint64_t)place).state;
        return augment_apply(&l->augment, &l->config.preproc, image, seed, &scratch->augment, input, err);
    }
    if (!l->training) return STATUS_OK;
    return err_set(err, STATUS_FORMAT, "%s: all %d images are damaged", l->config.dataset->name, n);
}

/* Called and returns under the lock, which it leaves meanwhile. */
static void work_off(struct loader *l, const struct ticket *ticket, struct fetch_scratch *scratch) {
    struct err err = {0};
    enum status status = STATUS_OK;
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < ticket->n && status == STATUS_OK; i++) status = make_sample(l, ticket, i, scratch, &err);
    pthread_mutex_lock(&l->lock);
    l->working--;
    ticket->slot->done += ticket->n;
    if (status != STATUS_OK && !l->failure) {
        l->failure = status;
        l->failure_err = err;
    }
    if (l->failure || l->paused || ticket->slot->done == ticket->slot->n) pthread_cond_broadcast(&l->done);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct loader *l = worker->loader;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        struct ticket ticket;
        if (take_ticket(l, &ticket)) work_off(l, &ticket, &worker->scratch);
        else pthread_cond_wait(&l->room, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- batches -------------------------------------------------------------------- */

/* Closes up what is left where images were left out; how many remain. */
static int close_gaps(struct loader *l, struct slot *slot) {
    int kept = 0;
    for (int i = 0; i < slot->n; i++) {
        if (slot->samples[i] < 0) continue;
        if (kept != i) {
            memcpy(slot->input + (size_t)kept * l->input_size, slot->input + (size_t)i * l->input_size,
                   l->input_size * sizeof(float));
            slot->labels[kept] = slot->labels[i];
            slot->samples[kept] = slot->samples[i];
        }
        kept++;
    }
    return kept;
}

/* Under the lock: waits for batch l->next, helping with it, and moves on. */
static enum status finish_batch(struct loader *l, struct slot **out, struct err *err) {
    struct slot *slot = &l->slots[l->next % SLOTS];
    l->released = l->next;
    pthread_cond_broadcast(&l->room);
    for (;;) {
        struct ticket ticket;
        if (l->failure) {
            if (err) *err = l->failure_err;
            return l->failure;
        }
        bool handed_out = l->handing > l->next;
        if (handed_out && slot->done == slot->n) break;
        if (!handed_out && take_ticket(l, &ticket)) work_off(l, &ticket, &l->own_scratch);
        else pthread_cond_wait(&l->done, &l->lock);
    }
    l->next++;
    *out = slot;
    return STATUS_OK;
}

enum status loader_next(struct loader *l, struct loader_batch *batch, struct err *err) {
    enum status status = STATUS_OK;
    struct slot *slot = NULL;
    int n = 0;
    pthread_mutex_lock(&l->lock);
    while (status == STATUS_OK && n == 0 && (l->training || l->next < l->batches)) {
        status = finish_batch(l, &slot, err);
        if (status == STATUS_OK) n = close_gaps(l, slot);
    }
    pthread_mutex_unlock(&l->lock);
    if (status != STATUS_OK) return status;
    if (n == 0 && fetch_damaged(l->fetch) == l->config.dataset->n)
        return err_set(err, STATUS_FORMAT, "%s: all %d images are damaged", l->config.dataset->name,
                       l->config.dataset->n);
    *batch = n == 0 ? (struct loader_batch){0}
                    : (struct loader_batch){
                          .n = n, .input = slot->input, .labels = slot->labels, .samples = slot->samples};
    return STATUS_OK;
}

enum status loader_seek(struct loader *l, int epoch, int batch, struct err *err) {
    if (epoch < 0 || batch < 0 || batch > l->batches)
        return err_set(err, STATUS_USAGE, "there is no batch %d in epoch %d; an epoch has %d", batch, epoch,
                       l->batches);
    pthread_mutex_lock(&l->lock);
    l->paused = true;
    while (l->working > 0) pthread_cond_wait(&l->done, &l->lock);
    l->paused = false;
    l->next = l->released = l->handing = (l->training ? (int64_t)epoch * l->batches : 0) + batch;
    l->handed = 0;
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->lock);
    return STATUS_OK;
}

int loader_batches(const struct loader *l) {
    return l->batches;
}

int loader_skipped(const struct loader *l) {
    return fetch_damaged(l->fetch);
}

/* ---- life ----------------------------------------------------------------------- */

void loader_destroy(struct loader **pointer) {
    struct loader *l = *pointer;
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->nworkers; i++) {
        pthread_join(l->workers[i].thread, NULL);
        fetch_scratch_free(&l->workers[i].scratch);
    }
    fetch_scratch_free(&l->own_scratch);
    for (int i = 0; i < SLOTS; i++) {
        free(l->slots[i].input);
        free(l->slots[i].labels);
        free(l->slots[i].samples);
        free(l->orders[i].samples);
    }
    fetch_destroy(&l->fetch);
    pthread_cond_destroy(&l->room);
    pthread_cond_destroy(&l->done);
    pthread_mutex_destroy(&l->lock);
    free(l->workers);
    free(l);
    *pointer = NULL;
}

static enum status check(const struct loader_config *config, struct err *err) {
    const struct dataset *d = config->dataset;
    if (config->batch < 1 || config->threads < 0 || config->threads > MAX_THREADS)
        return err_set(err, STATUS_USAGE, "batches of %d images by %d threads cannot be loaded", config->batch,
                       config->threads);
    if (d->n < 1) return err_set(err, STATUS_FORMAT, "%s holds no images", d->name);
    if (config->augment && d->n < config->batch) {
        enum status status = err_set(err, STATUS_USAGE, "%s has %d images, fewer than a batch of %d", d->name, d->n,
                                     config->batch);
        err_hint(err, "use a smaller batch");
        return status;
    }
    return image_preproc_check(&config->preproc, err);
}

static enum status make_slots(struct loader *l, struct err *err) {
    size_t batch = (size_t)l->config.batch, n = (size_t)l->config.dataset->n;
    if (l->input_size > SIZE_MAX / sizeof(float) / 2 / batch)
        return err_set(err, STATUS_LIMIT, "a batch of %d images of %zu values is too large", l->config.batch,
                       l->input_size);
    size_t bytes = (batch * l->input_size * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &l->slots[i];
        slot->input = aligned_alloc(ALIGNMENT, bytes);
        slot->labels = calloc(batch, sizeof *slot->labels);
        slot->samples = calloc(batch, sizeof *slot->samples);
        l->orders[i] = (struct order){.epoch = -1, .samples = calloc(n, sizeof *l->orders[i].samples)};
        if (!slot->input || !slot->labels || !slot->samples || !l->orders[i].samples) return err_memory(err, "loader");
    }
    return STATUS_OK;
}

enum status loader_create(struct loader **out, const struct loader_config *config, struct err *err) {
    enum status status = check(config, err);
    if (status != STATUS_OK) return status;
    struct loader *l = calloc(1, sizeof *l);
    if (!l) return err_memory(err, "loader");
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->room, NULL);
    pthread_cond_init(&l->done, NULL);
    const struct image_preproc *p = &config->preproc;
    int n = config->dataset->n;
    l->config = *config;
    l->config.augment = NULL;
    l->training = config->augment != NULL;
    if (l->training) l->augment = *config->augment;
    l->batches = l->training ? n / config->batch : n / config->batch + (n % config->batch != 0);
    l->input_size = (size_t)p->c * (size_t)p->h * (size_t)p->w;
    l->ticket = p->h * p->w > 64 * 64 ? 1 : 8;
    status = make_slots(l, err);
    if (status == STATUS_OK) {
        int side = l->training ? augment_want_side(&l->augment, p) : image_want_side(p);
        status = fetch_create(&l->fetch, config->dataset, p->c, p->decode, side, config->cache_bytes, err);
    }
    l->workers = calloc((size_t)config->threads + 1, sizeof *l->workers);
    if (status == STATUS_OK && !l->workers) status = err_memory(err, "loader");
    for (int i = 0; status == STATUS_OK && i < config->threads; i++) {
        l->workers[i].loader = l;
        if (pthread_create(&l->workers[i].thread, NULL, work, &l->workers[i]) == 0) l->nworkers++;
        else status = err_set(err, STATUS_MEMORY, "cannot start %d loader threads", config->threads);
    }
    if (status != STATUS_OK) {
        loader_destroy(&l);
        return status;
    }
    *out = l;
    return STATUS_OK;
}
