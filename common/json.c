#include "common/json.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static const int64_t EXACT = (int64_t)1 << 53; /* cJSON keeps numbers as doubles */

enum status json_parse(cJSON **root, const char *name, const char *text, struct err *err) {
    const char *end = NULL;
    cJSON *value = cJSON_ParseWithOpts(text, &end, 1);
    if (!value) {
        int at = end ? (int)(end - text) : 0;
        return err_set(err, STATUS_FORMAT, "%s is not valid JSON at byte %d", name, at);
    }
    *root = value;
    return STATUS_OK;
}

bool json_integer(const cJSON *item, int64_t min, int64_t max, int64_t *value) {
    double d;
    if (!json_double(item, (double)-EXACT, (double)EXACT, &d)) return false;
    int64_t i = (int64_t)d;
    if ((double)i != d || i < min || i > max) return false;
    *value = i;
    return true;
}

bool json_int(const cJSON *item, int min, int max, int *value) {
    int64_t i;
    if (!json_integer(item, min, max, &i)) return false;
    *value = (int)i;
    return true;
}

bool json_double(const cJSON *item, double min, double max, double *value) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= min && item->valuedouble <= max)) return false;
    *value = item->valuedouble;
    return true;
}

bool json_doubles(const cJSON *item, int count, double min, double max, double *values) {
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != count) return false;
    const cJSON *element;
    cJSON_ArrayForEach(element, item) {
        if (!json_double(element, min, max, values++)) return false;
    }
    return true;
}

bool json_ints(const cJSON *item, int count, int min, int max, int *values) {
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != count) return false;
    const cJSON *element;
    cJSON_ArrayForEach(element, item) {
        if (!json_int(element, min, max, values++)) return false;
    }
    return true;
}

bool json_add(cJSON *object, const char *key, cJSON *item) {
    if (item && cJSON_AddItemToObject(object, key, item)) return true;
    cJSON_Delete(item);
    return false;
}

bool json_append(cJSON *array, cJSON *item) {
    if (item && cJSON_AddItemToArray(array, item)) return true;
    cJSON_Delete(item);
    return false;
}

cJSON *json_matrix(const double *values, int rows, int columns) {
    cJSON *matrix = cJSON_CreateArray();
    for (int r = 0; matrix && r < rows; r++)
        if (!json_append(matrix, cJSON_CreateDoubleArray(values + (ptrdiff_t)r * columns, columns))) {
            cJSON_Delete(matrix);
            matrix = NULL;
        }
    return matrix;
}

char *json_text(cJSON *root, bool good) {
    char *text = good ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return text;
}

enum status json_print(cJSON *root, bool good, struct err *err) {
    char *text = json_text(root, good);
    if (!text) return err_memory(err, "JSON");
    const bool written = puts(text) >= 0;
    free(text);
    return written ? STATUS_OK : err_errno(err, "standard output");
}
