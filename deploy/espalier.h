/* Espalier's runtime for programs of your own: one header, one library.
 *
 *   struct espalier *net;
 *   struct espalier_error error;
 *   if (espalier_load(&net, "animals.safetensors", NULL, &error)) ...
 *   espalier_run_image(net, jpeg, jpeg_length, probabilities, &error);
 *   espalier_set_level(net, 2, NULL);   // microseconds: half the work, from the next run on
 *   espalier_free(&net);
 *
 *   cc program.c $(pkg-config --cflags --libs espalier)
 *
 * A `struct espalier` is used by one thread at a time; different ones are
 * independent of each other and may run at the same time. Nothing is printed,
 * no signal is touched, the program is never ended. Functions that can fail
 * return 0 if they did not; `error` may be NULL. On failure outputs are untouched. */
#ifndef ESPALIER_H
#define ESPALIER_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct espalier;

/* One line each: what is wrong and where; and what to do about it, or "". */
struct espalier_error {
    char text[480];
    char hint[240];
};

enum espalier_status {
    ESPALIER_OK = 0,
    ESPALIER_MEMORY, /* an allocation failed */
    ESPALIER_IO,     /* a file cannot be read */
    ESPALIER_FORMAT, /* a model or image is not what it should be */
    ESPALIER_LIMIT,  /* well-formed, but beyond a limit */
    ESPALIER_USAGE   /* a wrong argument: no such level, a slice instead of a model */
};

struct espalier_options {
    int threads;      /* to compute with, the caller's included; 0: one for each core */
    size_t max_bytes; /* refuse models that need more memory; 0: what the machine has */
};

/* Loads a model file that espalier-train wrote, at level 0: full size. `options`
 * may be NULL: {0}. */
enum espalier_status espalier_load(struct espalier **net, const char *path, const struct espalier_options *options,
                                   struct espalier_error *error);
/* Accepts NULL, and sets the pointer to NULL. */
void espalier_free(struct espalier **net);

/* What it takes and gives. */
void espalier_input(const struct espalier *net, int *channels, int *height, int *width);
int espalier_classes(const struct espalier *net);
/* The name of a class, or NULL if the model has none for it. */
const char *espalier_label(const struct espalier *net, int class_index);
/* Levels: 0 keeps every channel, espalier_levels() - 1 the fewest. */
int espalier_levels(const struct espalier *net);
/* The share of correct answers expected at a level, 0 to 1, as measured in
 * training; negative if the model does not say. */
double espalier_accuracy(const struct espalier *net, int level);
/* Bytes that it holds besides the model file: packed weights and buffers. */
size_t espalier_bytes(const struct espalier *net);

/* All slices at one level. Allocates nothing and takes microseconds. */
enum espalier_status espalier_set_level(struct espalier *net, int level, struct espalier_error *error);
/* As `--plan`: "2", or a level for each [slice] of the model: "0,2,4". */
enum espalier_status espalier_set_plan(struct espalier *net, const char *plan, struct espalier_error *error);

/* input: [channels][height][width], each value as the model's preprocessing
 * leaves it (espalier_run_image does that). output: a probability for each
 * class. Allocates nothing and cannot fail. */
void espalier_run(struct espalier *net, const float *input, float *output);
/* The same from an encoded image (JPEG, PNG, BMP, TGA, PNM) in memory. */
enum espalier_status espalier_run_image(struct espalier *net, const void *bytes, size_t length, float *output,
                                        struct espalier_error *error);

#ifdef __cplusplus
}
#endif

#endif
