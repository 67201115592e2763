/* What JSON from files and messages needs on top of cJSON: checked numbers,
 * and building that survives a failed allocation.
 *
 * cJSON bounds its nesting (CJSON_NESTING_LIMIT). */
#ifndef ESPALIER_JSON_H
#define ESPALIER_JSON_H

#include "common/err.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

/* The whole text must be one JSON value; `name` says in errors what it is.
 * Free with cJSON_Delete. */
enum status json_parse(cJSON **root, const char *name, const char *text, struct err *err) MUST_CHECK;

/* A whole number in [min, max], both within +-2^53. `item` may be NULL. */
bool json_integer(const cJSON *item, int64_t min, int64_t max, int64_t *value);
bool json_int(const cJSON *item, int min, int max, int *value);
/* A finite number in [min, max]. */
bool json_double(const cJSON *item, double min, double max, double *value);
/* An array of exactly `count` numbers in [min, max]. */
bool json_doubles(const cJSON *item, int count, double min, double max, double *values);
bool json_ints(const cJSON *item, int count, int min, int max, int *values);

/* Puts `item` (NULL: an allocation failed) into an object or array; frees it
 * if that fails. */
bool json_add(cJSON *object, const char *key, cJSON *item);
bool json_append(cJSON *array, cJSON *item);
/* [rows][columns] numbers as a list of lists, or NULL. */
cJSON *json_matrix(const double *values, int rows, int columns);

/* Both free `root`; `good`: it was built whole. The first: as text without blanks,
 * malloc'ed, NULL if not good or without memory. */
char *json_text(cJSON *root, bool good);
/* The second: as a line on standard output. */
enum status json_print(cJSON *root, bool good, struct err *err) MUST_CHECK;

#endif
