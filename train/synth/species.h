/* The animals: proportions, coats and habits. Lengths are in units of the
 * distance from shoulder to hip, angles in degrees. */
#ifndef ESPALIER_SYNTH_SPECIES_H
#define ESPALIER_SYNTH_SPECIES_H

#include "train/synth/canvas.h"

#include <stdbool.h>

enum body { BODY_QUADRUPED, BODY_HARE, BODY_BIRD };
enum { SPECIES_MARKS_STRIPED_HEAD = 1, SPECIES_MARKS_TAIL_TIP = 2, SPECIES_MARKS_RUMP = 4, SPECIES_MARKS_SOCKS = 8,
       SPECIES_MARKS_ANTLERS = 16, SPECIES_MARKS_MANE = 32, SPECIES_SITS = 64, SPECIES_GRAZES = 128 };

struct species {
    const char *name; /* of the class */
    enum body body;
    float shoulder_height, hip_height;
    float chest, waist, rump; /* radii */
    float leg_top, leg_foot;  /* radii */
    float neck_length, neck_radius, neck_low, neck_high; /* the neck's angle above the back, from and to */
    float head, muzzle_length, muzzle_base, muzzle_tip;
    float ear_length, ear_radius, ear_tip, ear_spread; /* spread: degrees sideways */
    float tail_length, tail_radius, tail_low, tail_high;
    struct colour coat[2]; /* between these */
    float under;           /* brightness of the belly, relative to the back */
    float grain;
    int traits;            /* SPECIES_... */
};

extern const struct species species_table[];
extern const int species_count;

#endif
