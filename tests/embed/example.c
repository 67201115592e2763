/* A program that embeds Espalier: what is on an image, at every level.
 *   cc example.c $(pkg-config --cflags --libs espalier) && ./a.out MODEL IMAGE */
#include <espalier.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    struct espalier *net;
    struct espalier_error error;
    static char image[16 << 20];
    FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (!file) return 2;
    const size_t length = fread(image, 1, sizeof image, file);
    fclose(file);
    if (espalier_load(&net, argv[1], NULL, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    float *probs = malloc(sizeof *probs * (size_t)espalier_classes(net));
    for (int level = 0; probs && level < espalier_levels(net); level++) {
        if (espalier_set_level(net, level, &error) || espalier_run_image(net, image, length, probs, &error)) break;
        int best = 0;
        for (int i = 1; i < espalier_classes(net); i++) best = probs[i] > probs[best] ? i : best;
        printf("%d %s %.6f\n", level, espalier_label(net, best), (double)probs[best]);
    }
    free(probs);
    espalier_free(&net);
    return 0;
}
