#include "train/precision.h"

#include <stdbool.h>
#include <string.h>

const char *precision_name(enum ops_precision precision) { return precision == OPS_BF16 ? "bf16" : "f32"; }

enum status precision_parse(const char *text, enum ops_precision *precision, struct err *err) {
    bool bf16 = strcmp(text, "bf16") == 0, f32 = strcmp(text, "f32") == 0;
    if (!bf16 && !f32 && strcmp(text, "auto") != 0)
        return err_set(err, STATUS_USAGE, "--precision is auto, f32 or bf16, not '%s'", text);
    if (bf16 && !ops_has_bf16()) {
        err_set(err, STATUS_USAGE, "this processor has no bfloat16 arithmetic");
        err_hint(err, "--precision auto trains in f32 then");
        return STATUS_USAGE;
    }
    *precision = !f32 && ops_has_bf16() ? OPS_BF16 : OPS_F32;
    return STATUS_OK;
}
