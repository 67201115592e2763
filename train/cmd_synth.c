#include "common/log.h"
#include "common/options.h"
#include "train/commands.h"
#include "train/synth.h"

#include <stdio.h>

enum status cmd_synth(int argc, char **argv, struct err *err) {
    struct synth_config config = synth_defaults();
    int seed = (int)config.seed, npositional, help;
    const struct option options[] = {
        {"--images", 'n', OPTION_INT, &config.images, "N", "pictures in all: 80% train, 10% valid, 10% test"},
        {"--size", 0, OPTION_INT, &config.size, "PIXELS", "width; the height is three quarters of it"},
        {"--seed", 0, OPTION_INT, &seed, "N", "the same seed draws the same files"},
        {"--classes", 0, OPTION_STRING, &config.classes, "A,B,...", "some of the classes instead of all"},
        {"--threads", 't', OPTION_INT, &config.threads, "N", "threads to draw with"},
        {NULL, 0, OPTION_FLAG, NULL, NULL, NULL},
    };
    char summary[320];
    snprintf(summary, sizeof summary,
             "Draws a labelled camera-trap dataset of JPEGs in class folders, and OUT_DIR/synth.data.\nClasses: %s.",
             synth_class_names());
    const struct options_command command = {"synth OUT_DIR", summary, options, 1, 1};
    enum status status = options_parse(&command, argc, argv, &npositional, &help, err);
    if (status != STATUS_OK || help) return status;
    config.seed = (uint64_t)seed;
    status = synth_write(argv[0], &config, err);
    if (status == STATUS_OK) printf("%s/synth.data: %d images, seed %d\n", argv[0], config.images, seed);
    return status;
}
