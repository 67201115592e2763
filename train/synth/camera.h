/* What a trap camera makes of a scene: infrared, falling-off light, noise,
 * unsharpness, and a caption bar. */
#ifndef ESPALIER_SYNTH_CAMERA_H
#define ESPALIER_SYNTH_CAMERA_H

#include "common/random.h"
#include "train/synth/canvas.h"
#include "train/synth/scene.h"

/* Rows that the caption bar takes of a picture `w` pixels wide. */
int camera_caption_height(int w);
/* Exposes the picture and prints date, time and temperature under it. */
void camera_expose(struct canvas *picture, struct canvas *scratch, const struct scene *scene, struct random *random);

#endif
