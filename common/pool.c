/* Each thread has its share of a loop's tasks, neighbours that are likely to be neighbours
 * of what it did in the loop before and has in its cache, and helps the others when it
 * is done. Workers spin briefly between loops, because
 * the engine runs many short ones back to back, and then sleep on a condition
 * variable. A loop ends when its tasks are done, and waits only for workers that have
 * joined it: one whose core is taken by something else and that comes late finds the
 * loop closed. Who spins joins by the gate alone; the lock is for who sleeps. */
#include "common/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

enum { SPINS = 4000, MAX_THREADS = 256 };
static const unsigned JOINED = 0xffff, OPEN = 0x10000, LOOP = 0x20000; /* parts of the gate: a count, a bit, the rest */

struct worker {
    struct pool *pool;
    pthread_t thread;
    int index;
};

/* Tasks [next, end), a cache line for each. */
struct share {
    _Alignas(64) atomic_int next;
    int end;
};

struct pool {
    int threads;
    struct share *shares;   /* [threads] */
    struct worker *workers; /* [threads - 1] */
    atomic_uint gate; /* which loop it is, whether workers may join it, and how many are in it */
    atomic_int sleepers;
    atomic_flag taken; /* by a caller of pool_run */
    pthread_mutex_t lock;
    pthread_cond_t start;
    bool stop; /* under the lock */
    pool_task *task;
    void *context;
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void run_tasks(struct pool *pool, int thread) {
    for (int k = 0; k < pool->threads; k++) {
        struct share *share = &pool->shares[(thread + k) % pool->threads];
        int i;
        while ((i = atomic_fetch_add_explicit(&share->next, 1, memory_order_relaxed)) < share->end)
            pool->task(pool->context, i, thread);
    }
}

static bool may_join(unsigned gate, unsigned seen) { return gate & OPEN && gate / LOOP != seen; }

/* `seen`: the last loop joined. */
static bool join(struct pool *pool, unsigned *seen) {
    unsigned gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
    while (may_join(gate, *seen))
        if (atomic_compare_exchange_weak_explicit(&pool->gate, &gate, gate + 1, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            *seen = gate / LOOP;
            return true;
        }
    return false;
}

/* Until there is a loop to join; false: the pool ends. */
static bool sleep_until(struct pool *pool, unsigned seen) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1); /* before the look at the gate: pool_run looks the other way round */
    while (!pool->stop && !may_join(atomic_load(&pool->gate), seen)) pthread_cond_wait(&pool->start, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    const bool stop = pool->stop;
    pthread_mutex_unlock(&pool->lock);
    return !stop;
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    unsigned seen = 0;
    for (int spin = 0;; spin++) {
        if (join(pool, &seen)) {
            run_tasks(pool, worker->index);
            atomic_fetch_sub_explicit(&pool->gate, 1, memory_order_release);
            spin = 0;
        } else if (spin < SPINS) {
            relax();
        } else {
            if (!sleep_until(pool, seen)) return NULL;
            spin = 0;
        }
    }
}

void pool_destroy(struct pool **pool_pointer) {
    struct pool *pool = *pool_pointer;
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->threads - 1; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->start);
    pthread_mutex_destroy(&pool->lock);
    free(pool->shares);
    free(pool->workers);
    free(pool);
    *pool_pointer = NULL;
}

enum status pool_create(struct pool **out, int threads, struct err *err) {
    if (threads < 1 || threads > MAX_THREADS)
        return err_set(err, STATUS_USAGE, "%d threads asked for; between 1 and %d are possible", threads, MAX_THREADS);
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return err_memory(err, "thread pool");
    pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    pool->shares = aligned_alloc(_Alignof(struct share), (size_t)threads * sizeof *pool->shares);
    if (!pool->workers || !pool->shares) {
        free(pool->shares);
        free(pool->workers);
        free(pool);
        return err_memory(err, "thread pool");
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->start, NULL);
    atomic_flag_clear(&pool->taken);
    pool->threads = 1;
    for (int i = 0; i < threads - 1; i++) {
        pool->workers[i] = (struct worker){.pool = pool, .index = i + 1};
        if (pthread_create(&pool->workers[i].thread, NULL, work, &pool->workers[i]) != 0) {
            pool_destroy(&pool);
            return err_set(err, STATUS_IO, "cannot start thread %d of %d", i + 2, threads);
        }
        pool->threads++;
    }
    *out = pool;
    return STATUS_OK;
}

int pool_threads(const struct pool *pool) { return pool->threads; }

void pool_run(struct pool *pool, int tasks, pool_task *task, void *context) {
    if (pool->threads == 1 || tasks <= 1 || atomic_flag_test_and_set_explicit(&pool->taken, memory_order_acquire)) {
        for (int i = 0; i < tasks; i++) task(context, i, 0);
        return;
    }
    pool->task = task;
    pool->context = context;
    for (int i = 0; i < pool->threads; i++) {
        atomic_store_explicit(&pool->shares[i].next, (int)((long)tasks * i / pool->threads), memory_order_relaxed);
        pool->shares[i].end = (int)((long)tasks * (i + 1) / pool->threads);
    }
    const unsigned loop = atomic_load_explicit(&pool->gate, memory_order_relaxed) / LOOP;
    atomic_store(&pool->gate, (loop + 1) * LOOP + OPEN);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->start);
        pthread_mutex_unlock(&pool->lock);
    }
    run_tasks(pool, 0);
    atomic_fetch_and(&pool->gate, ~OPEN);
    for (int spin = 0; atomic_load_explicit(&pool->gate, memory_order_acquire) & JOINED; spin++) {
        if (spin < SPINS) relax();
        else sched_yield();
    }
    atomic_flag_clear_explicit(&pool->taken, memory_order_release);
}

int pool_default_threads(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}
