/* Runs Debian's darknet library and writes what its layers put out.
 *   darknet_outputs CFG WEIGHTS INPUT OUTPUT [last|logits]
 * INPUT and OUTPUT: raw little-endian f32; OUTPUT holds all layers one behind
 * the other, or the last one before [cost] only, or what enters the softmax.
 * Used by make_darknet and make_darknet_family. */
#include <darknet.h>

#include <string.h>

static int fail(const char *what) {
    fprintf(stderr, "darknet_outputs: %s\n", what);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 5) return fail("CFG WEIGHTS INPUT OUTPUT [last|logits]");
    network *net = load_network(argv[1], argv[2], 0);
    set_batch_network(net, 1);
    float *input = calloc((size_t)net->inputs, sizeof *input);
    FILE *in = fopen(argv[3], "rb"), *out = fopen(argv[4], "wb");
    if (!in || !out) return fail("cannot open the input or the output");
    if (fread(input, sizeof *input, (size_t)net->inputs, in) != (size_t)net->inputs) return fail("the input is too short");
    network_predict(net, input);
    int last = net->n - 1;
    while (net->layers[last].type == COST) last--; /* computes nothing without a truth */
    if (argc > 5 && strcmp(argv[5], "logits") == 0)
        while (last > 0 && net->layers[last--].type != SOFTMAX) {}
    for (int i = argc > 5 ? last : 0; i <= last; i++)
        fwrite(net->layers[i].output, sizeof(float), (size_t)net->layers[i].outputs, out);
    fclose(in);
    return fclose(out) ? fail("cannot write") : 0;
}
