/* How long this process has been kept from computing by others. */
#ifndef ESPALIER_CONTENTION_H
#define ESPALIER_CONTENTION_H

#include <stdint.h>

/* Microseconds since the start, over all threads that are alive, for which one
 * was ready to run and had to wait for a core: Linux's run queue delay
 * (/proc/self/task/N/schedstat, second number, nanoseconds). What a control group's quota
 * takes away counts, too. 0: the kernel does not tell. */
uint64_t contention_us(void);

#endif
