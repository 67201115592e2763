/* Smooth random textures: value noise on a lattice of hashed numbers. */
#ifndef ESPALIER_SYNTH_NOISE_H
#define ESPALIER_SYNTH_NOISE_H

#include <stdint.h>

/* In [0, 1], one lattice cell per unit; other seeds, other textures. */
float noise_at(uint32_t seed, float x, float y);
/* `octaves` of them, each twice as fine and half as strong; in [0, 1]. */
float noise_sum(uint32_t seed, float x, float y, int octaves);

#endif
