/* For tests, by LD_PRELOAD: what a machine does to a program that writes.
 *
 *   FAULTS_DIE_AT=N     the process is killed (SIGKILL) in place of its Nth write or sync
 *   FAULTS_FULL=PATH    while PATH exists, files cannot grow: the disk is full
 *   FAULTS_CLOCK=SEED   the wall clock jumps by up to a day, back and forth, ten times a second */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long writes; /* a few too many or too few, where threads meet, are all the same */

static void maybe_die(void) {
    const char *at = getenv("FAULTS_DIE_AT");
    if (at && __atomic_add_fetch(&writes, 1, __ATOMIC_RELAXED) == atol(at)) kill(getpid(), SIGKILL);
}

static int is_full(int fd, off_t end) {
    const char *path = getenv("FAULTS_FULL");
    struct stat st;
    return path && access(path, F_OK) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && end > st.st_size;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at);
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pwrite64");
    maybe_die();
    if (is_full(fd, at + (off_t)length)) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, bytes, length, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return pwrite64(fd, bytes, length, at);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    maybe_die();
    return real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    maybe_die();
    return real(fd);
}

int clock_gettime(clockid_t clock, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(clock, ts);
    const char *seed = getenv("FAULTS_CLOCK");
    if (rc || clock != CLOCK_REALTIME || !seed) return rc;
    struct timespec now;
    real(CLOCK_MONOTONIC, &now);
    uint64_t x = ((uint64_t)now.tv_sec * 10 + (uint64_t)now.tv_nsec / 100000000 + (uint64_t)atol(seed)) * 0x9E3779B97F4A7C15u;
    ts->tv_sec += (time_t)((x >> 40) % 172800) - 86400;
    return 0;
}
