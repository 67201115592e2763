/* For tests: a link that can be cut. A process that passes on what comes to its
 * port to another port of this machine, both ways. Killed (relay_cut), the link
 * is cut: connections break and new ones are refused. Stopped (SIGSTOP), nothing
 * gets through and nobody is told. */
#ifndef ESPALIER_TESTS_RELAY_H
#define ESPALIER_TESTS_RELAY_H

#include <sys/types.h>

struct relay {
    pid_t pid; /* 0: cut */
    int port, target;
};

/* Chooses a free port. */
void relay_start(struct relay *relay, int target);
void relay_cut(struct relay *relay);
/* On the same port again. */
void relay_restore(struct relay *relay);

#endif
