/* Checkpoints: what a training run needs to go on as if it had not stopped.
 *
 * A safetensors file, replaced atomically: every parameter under its name, the
 * optimizer's velocity under "velocity.<name>", and as metadata the steps done,
 * how far that is, the preprocessing, the level table, what else is learnt
 * ("extra.<name>"), and the settings of the run (JSON), which must be the same
 * when it is resumed. Random numbers need no state: every draw follows from
 * seed and step (random.h). */
#ifndef ESPALIER_CHECKPOINT_H
#define ESPALIER_CHECKPOINT_H

#include "common/err.h"
#include "common/image.h"
#include "train/network.h"
#include "train/sgd.h"

/* For the reports alone: nothing that is trained depends on it. */
struct checkpoint_progress {
    double seconds; /* spent on training, all runs together */
    double epoch_seconds, epoch_loss; /* of the epoch that is under way; the sum over its steps */
    int epoch_correct, epoch_images, epoch_steps;
};

enum { CHECKPOINT_EXTRAS = 2 };

struct checkpoint {
    int step; /* steps done */
    struct checkpoint_extra {
        const char *name; /* "extra.importance"; NULL: none */
        float *values;    /* [n], borrowed; read, or filled */
        size_t n;
    } extras[CHECKPOINT_EXTRAS];
    struct checkpoint_progress progress;
    struct image_preproc preproc;
    struct levels *levels; /* borrowed; its counts are saved and read */
    const char *settings; /* JSON object; borrowed */
};

enum status checkpoint_save(const char *path, const struct network_view *view, const struct sgd *sgd,
                            const struct checkpoint *checkpoint, struct err *err) MUST_CHECK;
/* Fills the values of `view`, the velocity, the extras, the counts of levels,
 * step and preproc. Settings that
 * differ from checkpoint->settings are STATUS_USAGE, naming the first. */
enum status checkpoint_load(const char *path, const struct network_view *view, struct sgd *sgd,
                            struct checkpoint *checkpoint, struct err *err) MUST_CHECK;

#endif
