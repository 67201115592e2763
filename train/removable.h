/* Which channels a trained network can do without, shown on images.
 *
 * Exactly: what common/constants.h finds. Beyond that, units are ranked by how
 * much of what is read behind them is theirs: the sum over the layers that read a unit,
 * and over their outputs, of the share that the unit's channels have in the
 * output's variance (channels taken as independent). As many of the weakest as
 * the images show to be removable are replaced by their means: those without
 * which the accuracy on the images is lower by no more than a tolerance. */
#ifndef ESPALIER_REMOVABLE_H
#define ESPALIER_REMOVABLE_H

#include "common/err.h"
#include "common/model.h"
#include "train/loader.h"

struct removable_config {
    double tolerance; /* share of the images; < 0: only what is exact */
    int threads;
};

/* `images`: an evaluating loader; all of them are looked at. One level. */
enum status removable_cut(const struct model *model, struct loader *images, const struct removable_config *config,
                          struct model **small, struct err *err) MUST_CHECK;

#endif
