/* Eight lanes of xor, rotation and multiplication by an odd number, each of
 * which can be undone: so a lane that has met another word never comes back to
 * the same state by itself. Blocks of 1 MiB, whose sums are summed again, let
 * threads share the work. */
#include "deploy/checksum.h"

#include <string.h>
#include <sys/mman.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are taken as they lie in memory");

enum { LANES = 8, STEP = LANES * 8, BLOCK = 1 << 20 };

static uint64_t mix(uint64_t state, uint64_t word) {
    state ^= word;
    return (state << 29 | state >> 35) * 0x9e3779b97f4a7c15u;
}

static void absorb(uint64_t lane[LANES], const uint8_t *p) {
    uint64_t word[LANES];
    memcpy(word, p, sizeof word);
#pragma GCC unroll 8 /* lanes in registers: three times as fast */
    for (int i = 0; i < LANES; i++) lane[i] = mix(lane[i], word[i]);
}

static uint64_t sum_block(const uint8_t *p, size_t n) {
    uint64_t lane[LANES], sum = n;
    for (int i = 0; i < LANES; i++) lane[i] = (uint64_t)i + 1;
    size_t left = n;
    for (; left >= STEP; left -= STEP, p += STEP) absorb(lane, p);
    if (left) {
        uint8_t last[STEP] = {0};
        memcpy(last, p, left);
        absorb(lane, last);
    }
    for (int i = 0; i < LANES; i++) sum = mix(sum, lane[i]);
    return sum ^ sum >> 32;
}

struct job {
    const uint8_t *bytes;
    size_t length;
    bool release;
    uint64_t first; /* the block that `sums` begins with */
    uint64_t sums[64];
};

static void run(void *context, int task, int thread) {
    (void)thread;
    struct job *job = context;
    const size_t at = (size_t)(job->first + (uint64_t)task) * BLOCK;
    const size_t n = job->length - at < BLOCK ? job->length - at : BLOCK;
    job->sums[task] = sum_block(job->bytes + at, n);
    /* Only whole blocks: their pages are nobody else's, if the mapping is aligned. */
    if (job->release && n == BLOCK && (uintptr_t)(job->bytes + at) % 4096 == 0)
        madvise((void *)(uintptr_t)(job->bytes + at), n, MADV_DONTNEED);
}

uint64_t checksum_of(const void *bytes, size_t length, struct pool *pool, bool release) {
    struct job job = {.bytes = bytes, .length = length, .release = release};
    const int most = sizeof job.sums / sizeof *job.sums;
    const uint64_t blocks = (length + BLOCK - 1) / BLOCK;
    uint64_t sum = length;
    for (; job.first < blocks; job.first += (uint64_t)most) {
        const int n = blocks - job.first < (uint64_t)most ? (int)(blocks - job.first) : most;
        if (pool) pool_run(pool, n, run, &job);
        else
            for (int i = 0; i < n; i++) run(&job, i, 0);
        for (int i = 0; i < n; i++) sum = mix(sum, job.sums[i]);
    }
    return sum;
}
