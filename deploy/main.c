#include "deploy/commands.h"

#include <stddef.h>

static const struct program_command commands[] = {
    {"predict", cmd_predict, "what is on images"},
    {"info", cmd_info, "layers, cut points, prune groups and levels of a model"},
    {"bench", cmd_bench, "latency of every level on this device"},
    {"profile", cmd_profile, "each block's latency, as the controller needs it"},
    {"selftest", cmd_selftest, "check kernels and results on this device"},
#ifndef LOCAL_ONLY /* make deploy-static */
    {"slice", cmd_slice, "each slice as a model file of its own"},
    {"prune", cmd_prune, "a dense, smaller model of one plan"},
    {"worker", cmd_worker, "serve one slice of a pipeline"},
    {"run", cmd_run, "stream frames through the workers and hold the deadline"},
    {"top", cmd_top, "watch a run: stages, levels, queues, attainment"},
    {"plan", cmd_plan, "where to cut a model for a cluster"},
    {"simulate", cmd_simulate, "play a scenario through the controller, without devices"},
    {"keygen", cmd_keygen, "make the keys that devices know each other by"},
#endif
    {NULL, NULL, NULL},
};

int main(int argc, char **argv) { return program_run("espalier-deploy", commands, argc, argv); }
