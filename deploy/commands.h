/* The commands of espalier-deploy. */
#ifndef ESPALIER_DEPLOY_COMMANDS_H
#define ESPALIER_DEPLOY_COMMANDS_H

#include "common/program.h"

command_fn cmd_info, cmd_slice, cmd_prune;
command_fn cmd_predict, cmd_bench, cmd_profile, cmd_selftest;
command_fn cmd_keygen;
command_fn cmd_worker;
command_fn cmd_run;
command_fn cmd_top;
command_fn cmd_plan, cmd_simulate;

#endif
