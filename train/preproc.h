/* How [net] says that an image becomes the input: fit, resize, mean, std. */
#ifndef ESPALIER_PREPROC_H
#define ESPALIER_PREPROC_H

#include "common/cfg.h"
#include "common/err.h"
#include "common/image.h"

/* Changes what [net] states; *preproc holds the network's size and the defaults. */
enum status preproc_read(struct image_preproc *preproc, const struct cfg *cfg, struct err *err) MUST_CHECK;

#endif
