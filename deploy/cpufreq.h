/* The clock of the cores: what it is, what holds it down, and setting it.
 *
 * A folder like Linux's /sys/devices/system/cpu, in which each core that has a
 * clock of its own to tell has cpuN/cpufreq/: scaling_cur_freq is read (kHz); to set the clock,
 * scaling_min_freq and scaling_max_freq are written, and what then happens to
 * scaling_cur_freq is waited for. Another folder that behaves so does as well. The
 * Raspberry Pi's firmware tells in one file, as a hexadecimal number, what holds the clock
 * down without cpufreq knowing. */
#ifndef ESPALIER_CPUFREQ_H
#define ESPALIER_CPUFREQ_H

#include "common/err.h"

#define CPUFREQ_FOLDER "/sys/devices/system/cpu"
#define CPUFREQ_THROTTLED "/sys/devices/platform/soc/soc:firmware/get_throttled"

/* Of the firmware's number, what holds now. */
enum {
    CPUFREQ_UNDER_VOLTAGE = 1,
    CPUFREQ_CAPPED = 2,
    CPUFREQ_THROTTLED_NOW = 4,
    CPUFREQ_WARM = 8, /* the soft temperature limit */
    CPUFREQ_HELD = CPUFREQ_CAPPED | CPUFREQ_THROTTLED_NOW | CPUFREQ_WARM, /* the clock may be lower than it says */
};

struct cpufreq;

/* `folder` NULL: CPUFREQ_FOLDER; `throttled` NULL: CPUFREQ_THROTTLED, which need not exist. STATUS_IO if no core's
 * clock can be read there. */
enum status cpufreq_open(struct cpufreq **cpufreq, const char *folder, const char *throttled,
                         struct err *err) MUST_CHECK;
/* Gives the limits back that cpufreq_pin found. */
void cpufreq_close(struct cpufreq **cpufreq);

struct cpufreq_state {
    double mhz;    /* of the slowest core */
    unsigned held; /* bits of the firmware */
};
/* Takes some microseconds for each core. */
enum status cpufreq_read(const struct cpufreq *cpufreq, struct cpufreq_state *state, struct err *err) MUST_CHECK;

/* Has all cores at that clock, within 3%, and waits until they are, at most
 * `wait_s`. Nothing is written if they are already. STATUS_IO if it may not be set, or is not reached. */
enum status cpufreq_pin(struct cpufreq *cpufreq, double mhz, double wait_s, struct err *err) MUST_CHECK;

#endif
