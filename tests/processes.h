/* For tests: programs started, watched line by line, and stopped, with
 * deadlines instead of sleeps. What is still running when the test program
 * ends is killed. */
#ifndef ESPALIER_TESTS_PROCESSES_H
#define ESPALIER_TESTS_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct process {
    pid_t pid; /* 0: not running */
    int out_fd, in_fd;
    char buffer[1 << 20]; /* of standard output, not yet read */
    size_t used;
};

/* A program of the build that this test belongs to ("espalier-deploy"). */
const char *process_program(const char *name);
/* argv ends with NULL; standard error goes to the file, which is truncated. */
void process_start(struct process *process, const char *const argv[], const char *stderr_path);
/* The next line of standard output, without its end; false at the end of it or
 * when the time is over. */
bool process_line(struct process *process, char *line, size_t size, double timeout_s);
void process_signal(struct process *process, int signal_number);
/* Reads what it has written so far, up to the buffer's size, for process_line. */
void process_keep_reading(struct process *process, double timeout_s);
/* Whether it has ended; process_wait() says how. */
bool process_ended(const struct process *process);
/* Closes its standard input. */
void process_close_input(struct process *process);
/* Reads standard output to its end, and returns the exit status; -1: killed by
 * a signal; -2: not within the time (it is killed then). */
int process_wait(struct process *process, double timeout_s);
/* The whole file as text (static buffer). */
const char *process_file(const char *path);
/* Whether the file comes to hold the text within the time. */
bool process_said(const char *path, const char *text, double timeout_s);

#endif
