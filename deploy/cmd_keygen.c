#include "deploy/commands.h"

#include "common/options.h"
#include "deploy/keys.h"

#include <stddef.h>
#include <stdio.h>

enum status cmd_keygen(int argc, char **argv, struct err *err) {
    const char *folder = "keys";
    const struct option options[] = {
        { "--output", 'o', OPTION_STRING, &folder, "DIR", "folder to write them to" },
        { 0 },
    };
    const struct options_command spec = {
        .usage = "keygen NAME... [-o DIR]",
        .summary = "Makes a key pair for each name: NAME.key, the secret, goes to that device alone;\n"
                   "NAME.pub goes to all. With 'worker --keys DIR' and 'run --keys DIR' all links are\n"
                   "encrypted, and only holders of listed keys are let in.",
        .options = options,
        .min_positional = 1,
        .max_positional = -1,
    };
    int positional, help;
    enum status status = options_parse(&spec, argc, argv, &positional, &help, err);
    if (status || help) return status;
    for (int i = 0; i < positional; i++) {
        char public_hex[KEYS_HEX];
        status = keys_generate(folder, argv[i], public_hex, err);
        if (status) return status;
        printf("%s %s\n", argv[i], public_hex);
    }
    return STATUS_OK;
}
