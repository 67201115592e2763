#include "deploy/contention.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

/* 0: the thread is gone, or the kernel does not tell. */
static uint64_t delay_of(const char *thread) {
    char path[320];
    uint64_t ran_ns, waited_ns;
    snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", thread);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    bool told = fscanf(file, "%" SCNu64 " %" SCNu64, &ran_ns, &waited_ns) == 2;
    fclose(file);
    return told ? waited_ns : 0;
}

uint64_t contention_us(void) {
    uint64_t sum_ns = 0;
    DIR *threads = opendir("/proc/self/task");
    if (!threads) return 0;
    for (struct dirent *entry; (entry = readdir(threads));)
        if (entry->d_name[0] != '.') sum_ns += delay_of(entry->d_name);
    closedir(threads);
    return sum_ns / 1000;
}
