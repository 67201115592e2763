/* The precision that the command line asks for. */
#ifndef ESPALIER_PRECISION_H
#define ESPALIER_PRECISION_H

#include "common/err.h"
#include "train/ops.h"

const char *precision_name(enum ops_precision precision);
/* "f32"; "bf16", an error where the processor has none; "auto": bf16 where it has. */
enum status precision_parse(const char *text, enum ops_precision *precision, struct err *err) MUST_CHECK;

#endif
