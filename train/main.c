#include "train/commands.h"

#include <stddef.h>

static const struct program_command commands[] = {
    {"synth", cmd_synth, "draw a small labelled dataset of camera-trap pictures"},
    {"train", cmd_train, "train a network that survives pruning"},
    {"eval", cmd_eval, "accuracy of a model under any plan"},
    {"classifier", cmd_classifier, "train, valid, predict: Darknet's habit"},
    {"pai", cmd_pai, "prune a network before it is trained"},
    {"shift", cmd_shift, "train sparse networks; a portfolio of small ones"},
    {"convert", cmd_convert, "a model from Darknet's cfg and weights, or back"},
    {"plot", cmd_plot, "curves of training logs, accuracy of models: pictures by gnuplot"},
    {"bench", cmd_bench, "how fast a network trains here, layer by layer"},
    {NULL, NULL, NULL},
};

int main(int argc, char **argv) { return program_run("espalier-train", commands, argc, argv); }
