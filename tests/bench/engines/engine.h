/* One of several libraries that compute the same convolutions, timed by the
 * same program. An engine's file defines `engine`; engine.c has main(). */
#ifndef ENGINE_H
#define ENGINE_H

/* A convolution, or (connected) a fully connected layer of c inputs: then h,
 * w, size, stride, groups are 1 and pad 0. */
struct layer {
    int connected, c, h, w, filters, size, stride, pad, groups;
    int out_h, out_w;
};

struct engine {
    void (*open)(int threads);
    /* input: [c, h, w]; weights: [filters, c / groups, size, size]; no bias. The engine's own layouts, packed
     * weights and choice of algorithm are made here, outside what is timed. Exits if it cannot. */
    void *(*create)(const struct layer *layer, const float *input, const float *weights);
    /* With a ReLU where that costs nothing. */
    void (*run)(void *state);
    float (*output)(void *state, int filter, int y, int x); /* after a run */
};
extern const struct engine engine;

/* Ends the program with the text and status 1 if `good` is 0. */
void engine_need(int good, const char *text);
float *engine_floats(size_t n); /* zeroed, 64-byte aligned, with room behind to read beyond the end */

#endif
