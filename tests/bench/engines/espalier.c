/* Our side: a whole network of a cfg with random weights.
 *
 *   espalier CFG THREADS
 *
 * "ready"; then each line on standard input, a number of passes, is answered by
 * two numbers: milliseconds of the network, and of its convolutional and
 * connected layers, with all that they do for the layers behind them. Medians of the passes. */
#include "common/log.h"
#include "common/median.h"
#include "common/options.h"
#include "common/random.h"
#include "deploy/device.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_PASSES = 1000 };

static double layers_ms(const struct engine *engine, const struct net *net) {
    double sum = 0;
    for (int i = 0; i < net->nlayers; i++)
        if (net_weight_count(&net->layers[i]) > 0) sum += engine_layer_seconds(engine)[i] * 1e3;
    return sum;
}

static enum status measure(const char *cfg, int threads, struct err *err) {
    struct device_options options = device_defaults();
    struct device device;
    struct engine *engine = NULL;
    options.model = cfg;
    options.cfg = true;
    options.threads = threads;
    enum status status = device_open(&device, &options, err);
    if (status) return status;
    struct engine_config config = device_engine(&device);
    config.time_layers = true;
    if ((status = engine_create(&engine, device.model, &config, err))) return status;
    float *input = malloc(engine_input_max(engine) * sizeof *input);
    float *output = malloc(engine_output_max(engine) * sizeof *output);
    if (!input || !output) return err_memory(err, "benchmark");
    struct random random = random_stream(1, 0, 0);
    for (size_t i = 0; i < engine_input_max(engine); i++) input[i] = (float)random_uniform(&random);
    engine_run(engine, input, output);
    puts("ready");
    fflush(stdout);
    static double whole[MAX_PASSES], layers[MAX_PASSES];
    for (int passes; scanf("%d", &passes) == 1 && passes > 0 && passes <= MAX_PASSES;) {
        for (int p = 0; p < passes; p++) {
            const double start = log_now_s();
            engine_run(engine, input, output);
            whole[p] = (log_now_s() - start) * 1e3;
            layers[p] = layers_ms(engine, device.model->net);
        }
        printf("%.6f %.6f\n", median(whole, passes), median(layers, passes));
        fflush(stdout);
    }
    free(input);
    free(output);
    engine_destroy(&engine);
    device_close(&device);
    return STATUS_OK;
}

int main(int argc, char **argv) {
    struct err err = {0};
    log_init("espalier", LOG_QUIET);
    if (argc != 3) return 2;
    if (!measure(argv[1], atoi(argv[2]), &err)) return 0;
    err_print("espalier", &err);
    return 1;
}
