/* The commands of espalier-train. */
#ifndef ESPALIER_TRAIN_COMMANDS_H
#define ESPALIER_TRAIN_COMMANDS_H

#include "common/program.h"

command_fn cmd_synth;
command_fn cmd_train, cmd_eval, cmd_classifier;
command_fn cmd_pai, cmd_shift;
command_fn cmd_convert, cmd_bench, cmd_plot;

#endif
