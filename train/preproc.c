#include "train/preproc.h"

#include <stdlib.h>
#include <string.h>

/* `key`: one number for all channels, or one each. */
static enum status read_channels(const struct cfg *cfg, const char *key, int channels, float *values,
                                 struct err *err) {
    const struct cfg_section *net = cfg_find(cfg, "net");
    const struct cfg_option *option = cfg_option(net, key);
    float *list = NULL;
    int n = 0;
    enum status status = cfg_floats(cfg, net, key, &list, &n, err);
    if (!status && option && n != 1 && n != channels)
        status = cfg_error(cfg, option->line, err, "%s has %d values; there are %d channels", key, n, channels);
    for (int c = 0; !status && option && c < channels; c++) values[c] = list[n == 1 ? 0 : c];
    free(list);
    return status;
}

static enum status read_fit(const struct cfg *cfg, enum image_fit *fit, struct err *err) {
    static const char *const names[] = { "letterbox", "crop", "stretch" };
    const struct cfg_option *option = cfg_option(cfg_find(cfg, "net"), "fit");
    if (!option) return STATUS_OK;
    for (int i = 0; i < 3; i++)
        if (strcmp(option->value, names[i]) == 0) {
            *fit = (enum image_fit)i;
            return STATUS_OK;
        }
    enum status status = cfg_error(cfg, option->line, err, "unknown fit '%s'", option->value);
    err_hint(err, "one of letterbox, crop, stretch");
    return status;
}

enum status preproc_read(struct image_preproc *p, const struct cfg *cfg, struct err *err) {
    enum status status = read_fit(cfg, &p->fit, err);
    if (!status) status = cfg_int(cfg, cfg_find(cfg, "net"), "resize", 1, 1 << 14, &p->resize, err);
    if (!status) status = read_channels(cfg, "mean", p->c, p->mean, err);
    if (!status) status = read_channels(cfg, "std", p->c, p->std, err);
    if (!status && (status = image_preproc_check(p, err))) err_prefix(err, "%s", cfg->name);
    return status;
}
