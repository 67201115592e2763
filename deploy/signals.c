#include "deploy/signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void wanted(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

enum status signals_open(int *fd, struct err *err) {
    sigset_t set;
    wanted(&set);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return err_errno(err, "signals");
    int opened = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (opened < 0) return err_errno(err, "signals");
    *fd = opened;
    return STATUS_OK;
}

int signals_take(int fd) {
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}

void signals_close(int *fd) {
    if (*fd < 0) return;
    close(*fd);
    *fd = -1;
    sigset_t set;
    wanted(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}
