/* Allocation: how many channels of each prune group a level keeps.
 *
 * Uniform, a level keeps the same share of every group. By sensitivity, its
 * counts are chosen by measured loss at the multiply-adds of the uniform level:
 * from full width on, the group is narrowed whose next channels cost the least
 * loss per multiply-add saved, until each level's share is reached. Counts thus
 * fall from level to level. The loss is that on held-out images, with the batch
 * norm of the images themselves, so that no row has to be estimated for a trial.
 *
 * Source: Yang et al., NetAdapt, ECCV 2018: narrowing by measured loss; here
 * per multiply-add, and with lazy re-evaluation (Minoux, 1978): only the best
 * candidate is measured anew, until it stays the best. */
#ifndef ESPALIER_ALLOCATE_H
#define ESPALIER_ALLOCATE_H

#include "common/err.h"
#include "common/model.h"
#include "train/loader.h"
#include "train/network.h"

/* Fills rows 1 and up of the model's level table. `images`: an evaluating
 * loader, of which about 1,000 images are used. */
enum status allocate_by_sensitivity(struct network *network, struct model *model, struct loader *images,
                                    struct err *err) MUST_CHECK;

#endif
