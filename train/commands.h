/* The commands of espalier-train: each parses its own options and works on
 * values; main() prints what went wrong and exits. */
#ifndef ESPALIER_TRAIN_COMMANDS_H
#define ESPALIER_TRAIN_COMMANDS_H

#include "common/err.h"

typedef enum status command_fn(int argc, char **argv, struct err *err);

command_fn cmd_synth;
command_fn cmd_train, cmd_eval, cmd_classifier;
command_fn cmd_convert;

#endif
