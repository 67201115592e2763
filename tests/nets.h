/* For tests: small networks in which pruning is hard: sums of differing counts,
 * grouped and depthwise convolutions, concatenations, maps into connected layers. */
#ifndef ESPALIER_TESTS_NETS_H
#define ESPALIER_TESTS_NETS_H

#define NET(side) "[net]\nwidth=" #side "\nheight=" #side "\nchannels=3\n[prune]\nlevels=1,.75,.5,.25\nalign=2\n"
#define CONV(filters, size, stride, act) \
    "[convolutional]\nbatch_normalize=1\nfilters=" #filters "\nsize=" #size "\nstride=" #stride "\npad=1\nactivation=" #act "\n"
#define GROUPED(filters, size, stride, groups, act) CONV(filters, size, stride, act) "groups=" #groups "\n"
#define SUM(from, act) "[shortcut]\nfrom=" #from "\nactivation=" #act "\n"
#define HEAD "[avgpool]\n[connected]\noutput=10\nactivation=linear\n[softmax]\n[cost]\n"

static const struct net_text {
    const char *name, *cfg;
} nets[] = {
    {"residual stages of differing counts and sizes",
     NET(16) CONV(16, 3, 1, relu) CONV(16, 3, 1, relu) CONV(16, 3, 1, linear) SUM(-3, relu) CONV(16, 3, 1, relu)
         CONV(16, 3, 1, linear) SUM(-3, relu) CONV(32, 3, 2, relu) CONV(32, 3, 1, linear) SUM(-3, relu)
             CONV(32, 3, 1, relu) CONV(32, 3, 1, linear) SUM(-3, relu) HEAD},
    {"projections", NET(12) CONV(8, 3, 1, relu) CONV(24, 3, 2, relu) CONV(24, 3, 1, linear) "[route]\nlayers=-3\n"
                        CONV(24, 1, 2, linear) SUM(-3, relu) CONV(24, 3, 1, relu) CONV(24, 1, 1, linear) SUM(-3, leaky) HEAD},
    {"grouped convolutions (ResNeXt)",
     NET(12) CONV(32, 3, 1, relu) CONV(16, 1, 1, relu) GROUPED(16, 3, 1, 8, relu) CONV(32, 1, 1, linear) SUM(-4, relu)
         CONV(32, 1, 1, relu) GROUPED(64, 3, 2, 16, relu) CONV(64, 1, 1, linear) SUM(-4, relu) HEAD},
    {"depthwise and inverted residuals (MobileNet)",
     NET(14) CONV(8, 3, 2, relu) GROUPED(8, 3, 1, 8, relu) CONV(16, 1, 1, relu) CONV(48, 1, 1, relu)
         GROUPED(48, 3, 1, 48, logistic) CONV(16, 1, 1, linear) SUM(-4, linear) GROUPED(16, 3, 2, 16, relu)
             CONV(24, 1, 1, relu) GROUPED(48, 3, 1, 24, relu) CONV(40, 1, 1, relu) HEAD},
    {"concatenations (DenseNet)",
     NET(10) CONV(8, 3, 1, relu) CONV(12, 3, 1, relu) "[route]\nlayers=-1,-2\n[batchnorm]\n" CONV(12, 3, 1, relu)
         "[route]\nlayers=-1,-3\n" CONV(16, 1, 1, relu) "[maxpool]\nsize=2\nstride=2\n" CONV(12, 3, 1, relu)
             "[route]\nlayers=-1,-2\n[maxpool]\nsize=3\nstride=1\n" HEAD},
    {"a map into connected layers (VGG)",
     NET(8) CONV(12, 3, 1, relu) "[maxpool]\nsize=2\nstride=2\n" CONV(16, 3, 1, relu) "[maxpool]\nsize=2\nstride=2\n[dropout]\n"
         "[connected]\noutput=24\nbatch_normalize=1\nactivation=relu\n[dropout]\n[connected]\noutput=20\nactivation=relu\n"
         "[connected]\noutput=10\nactivation=linear\n[softmax]\n"},
    {"a sum of weighted maps over a pooled one, no softmax",
     NET(12) CONV(16, 3, 1, relu) "[maxpool]\nsize=2\nstride=2\n" CONV(24, 3, 1, relu)
         "[shortcut]\nfrom=-2\nactivation=linear\nbeta=2\n" CONV(12, 3, 1, elu) "[avgpool]\n"},
};
enum { NNETS = sizeof nets / sizeof *nets };

#endif
