#include "deploy/stage.h"

#include "common/log.h"
#include "deploy/codec.h"
#include "deploy/engine.h"
#include "deploy/profile_measure.h"
#include "deploy/variants.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct stage {
    int index, count;
    struct variants *variants; /* of a portfolio, else NULL */
    struct model *model;       /* of the variant at work; of `variants`, or owned */
    struct engine *engine;
    struct plan *plan; /* of the slice: one level for all blocks */
    struct codec_state *codec;
    float *arrived; /* [channels of the input at full width, h, w], as it came */
    float *input, *output;
    struct wire_message next; /* here because it is large */
};

static enum status check_model(const struct stage *s, const char *path, struct err *err) {
    bool first = s->index == 0, last = s->index == s->count - 1;
    int inputs, outputs;
    groups_segments(s->model->groups, -1, &inputs);
    groups_segments(s->model->groups, s->model->net->nlayers - 1, &outputs);
    if ((s->model->ends.nincoming == 0) != first || s->model->ends.outgoing == last)
        return err_set(err, STATUS_FORMAT, "%s: cannot be stage %d of %d", path, s->index + 1, s->count);
    if (inputs > WIRE_MAX_SEGMENTS || outputs > WIRE_MAX_SEGMENTS)
        return err_set(err, STATUS_LIMIT, "%s: more than %d concatenated maps cross the cut", path, WIRE_MAX_SEGMENTS);
    if (engine_output_max(s->engine) > WIRE_MAX_PAYLOAD / 4 || engine_input_max(s->engine) > WIRE_MAX_PAYLOAD / 4)
        return err_set(err, STATUS_LIMIT, "%s: its maps are larger than a message may be (%d bytes)", path,
                       WIRE_MAX_PAYLOAD);
    return STATUS_OK;
}

/* Floats that maps take, of the largest variant. */
struct room {
    size_t arrived, input, output;
};

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static enum status take_in(struct stage *s, const char *path, struct room *room, struct err *err) {
    enum status status = check_model(s, path, err);
    if (status) return status;
    room->arrived = larger(room->arrived, net_shape_size(s->model->net->input));
    room->input = larger(room->input, engine_input_max(s->engine));
    room->output = larger(room->output, engine_output_max(s->engine));
    return STATUS_OK;
}

static enum status open_model(struct stage *s, const char *path, struct pool *pool, const char *cache, struct room *room,
                              struct err *err) {
    struct engine_config config = engine_defaults();
    config.pool = pool;
    config.cache = cache;
    config.cache_later = true;
    enum status status = model_load_how(&s->model, path, cache ? MODEL_UNVERIFIED : 0, err);
    if (!status) status = engine_create(&s->engine, s->model, &config, err);
    return status ? status : take_in(s, path, room, err);
}

static void use_variant(struct stage *s, int variant) {
    variants_use(s->variants, variant);
    s->model = s->variants->models[variant];
    s->engine = variants_engine(s->variants);
}

static enum status open_variants(struct stage *s, const char *path, struct pool *pool, const char *cache,
                                 struct room *room, struct err *err) {
    const struct variants_config config = { .path = path, .cache = cache, .pool = pool };
    enum status status = variants_open(&s->variants, &config, err);
    for (int i = 0; !status && i < s->variants->portfolio.nvariants; i++) {
        use_variant(s, i);
        status = take_in(s, path, room, err);
        if (!status && s->model->blocks->nblocks != s->variants->models[0]->blocks->nblocks)
            status = err_set(err, STATUS_FORMAT, "%s: its variants are not cut alike", path);
    }
    if (status) return status;
    use_variant(s, 0);
    variants_settle(s->variants);
    return STATUS_OK;
}

enum status stage_create(struct stage **out, const char *path, int index, int count, struct pool *pool,
                         const char *cache, struct err *err) {
    struct stage *s = calloc(1, sizeof *s);
    if (!s) return err_memory(err, "stage");
    s->index = index;
    s->count = count;
    struct room room = { 0 };
    enum status status = portfolio_is(path) ? open_variants(s, path, pool, cache, &room, err)
                                            : open_model(s, path, pool, cache, &room, err);
    if (!status) status = plan_create(&s->plan, s->model->blocks->nblocks, 0, err);
    if (!status) status = codec_create(&s->codec, err);
    if (!status) {
        s->arrived = malloc(room.arrived * sizeof(float));
        s->input = malloc(room.input * sizeof(float));
        s->output = malloc(room.output * sizeof(float));
        if (!s->arrived || !s->input || !s->output) status = err_memory(err, "feature maps");
    }
    if (status) stage_destroy(&s);
    else *out = s;
    return status;
}

/* Variants have kept theirs when they were opened. */
void stage_keep(struct stage *s) {
    if (!s->variants) engine_keep(s->engine);
}

void stage_destroy(struct stage **pointer) {
    struct stage *s = *pointer;
    if (!s) return;
    free(s->arrived);
    free(s->input);
    free(s->output);
    codec_destroy(&s->codec);
    plan_destroy(&s->plan);
    if (s->variants) {
        variants_close(&s->variants);
    } else {
        engine_destroy(&s->engine);
        model_destroy(&s->model);
    }
    free(s);
    *pointer = NULL;
}

const struct model *stage_model(const struct stage *s) {
    return s->model;
}

int stage_levels(const struct stage *s) {
    return s->variants ? s->variants->portfolio.nvariants : s->model->levels->nlevels;
}

bool stage_has_variants(const struct stage *s) { return s->variants != NULL; }

/* ---- latencies ---- */

/* Each variant throughout; what arrives is of the same. */
static enum status measure_variants(const struct stage *s, struct pool *pool, int repeats, struct profile **out,
                                    struct err *err) {
    const int n = s->variants->portfolio.nvariants;
    struct profile *profile = NULL;
    enum status status = profile_create(&profile, s->plan->nblocks, n, err);
    for (int v = 0; !status && v < n; v++) {
        struct profile *own = NULL;
        status = profile_measure(&own, s->variants->models[v], pool, repeats, err);
        if (status) break;
        if (v == 0) {
            memcpy(profile->device, own->device, sizeof profile->device);
            memcpy(profile->encode_ns, own->encode_ns, sizeof profile->encode_ns);
            memcpy(profile->decode_ns, own->decode_ns, sizeof profile->decode_ns);
            profile->threads = own->threads;
        }
        for (int b = 0; b < profile->nblocks; b++)
            for (int incoming = 0; incoming < n; incoming++)
                profile->ms[((size_t)b * (size_t)n + (size_t)v) * (size_t)n + (size_t)incoming] = profile_ms(own, b, 0, 0);
        profile_destroy(&own);
    }
    if (status) profile_destroy(&profile);
    else *out = profile;
    return status;
}

enum status stage_measure(const struct stage *s, struct pool *pool, int repeats, struct profile **profile,
                          struct err *err) {
    return s->variants ? measure_variants(s, pool, repeats, profile, err)
                       : profile_measure(profile, s->model, pool, repeats, err);
}

/* ---- the plan ---- */

/* The variant of the frame's level, which is one at all stages. */
static enum status set_variant(struct stage *s, const struct wire_frame *f, struct err *err) {
    int variant = f->choice[s->index].level;
    if (variant >= stage_levels(s))
        return err_set(err, STATUS_FORMAT, "variant %d of %d", variant, stage_levels(s));
    for (int i = 0; i < f->nstages; i++)
        if (f->choice[i].level != variant || f->choice[i].link)
            return err_set(err, STATUS_FORMAT, "a frame through variants %d and %d, or a link with a level", variant,
                           f->choice[i].level);
    if (f->incoming != (s->index ? variant : 0))
        return err_set(err, STATUS_FORMAT, "what arrives is of variant %d, not %d", f->incoming, variant);
    use_variant(s, variant);
    return STATUS_OK;
}

static bool same_before(const struct plan_before *a, const struct plan_before *b) {
    return a->n == b->n && a->nchain == b->nchain && memcmp(a->share, b->share, (size_t)a->n * sizeof *a->share) == 0;
}

static enum status set_plan(struct stage *s, const struct wire_frame *f, struct err *err) {
    int nlevels = stage_levels(s), level = f->choice[s->index].level;
    if (s->variants) return set_variant(s, f, err);
    for (int i = 0; i < f->nstages; i++)
        if (f->choice[i].level >= nlevels || f->choice[i].link >= nlevels)
            return err_set(err, STATUS_FORMAT, "level %d or link level %d: the model has %d", f->choice[i].level,
                           f->choice[i].link, nlevels);
    if (f->incoming >= nlevels) return err_set(err, STATUS_FORMAT, "incoming level %d of %d", f->incoming, nlevels);
    for (int i = 0; i < f->before.n; i++)
        if (f->before.share[i].level >= nlevels || f->before.share[i].arriving >= nlevels)
            return err_set(err, STATUS_FORMAT, "level %d or %d before the slice: the model has %d", f->before.share[i].level,
                           f->before.share[i].arriving, nlevels);
    if (s->plan->level[0] == level && s->plan->link[0] == f->incoming && same_before(&s->plan->before, &f->before))
        return STATUS_OK;
    for (int b = 0; b < s->plan->nblocks; b++) s->plan->level[b] = level;
    s->plan->link[0] = f->incoming;
    s->plan->before = f->before;
    engine_set_plan(s->engine, s->plan);
    return STATUS_OK;
}

/* ---- what arrives ---- */

/* Brings the arrived channels into the counts that the engine expects: surplus
 * ones are left out, missing ones are zero. */
static void fit(const float *from, const uint32_t *from_counts, float *to, struct engine_tensor t) {
    size_t area = (size_t)t.h * (size_t)t.w;
    for (int i = 0; i < t.nsegments; i++) {
        size_t have = from_counts[i], want = (size_t)t.counts[i], both = have < want ? have : want;
        memcpy(to, from, both * area * sizeof *to);
        memset(to + both * area, 0, (want - both) * area * sizeof *to);
        from += have * area;
        to += want * area;
    }
}

static enum status decode_map(struct stage *s, const struct wire_message *m, struct err *err) {
    const struct wire_frame *f = &m->frame;
    struct engine_tensor t = engine_input(s->engine);
    int nsegments;
    const struct segment *segments = groups_segments(s->model->groups, -1, &nsegments);
    bool fits = f->nsegments == nsegments && f->h == (uint32_t)t.h && f->w == (uint32_t)t.w;
    for (int i = 0; fits && i < nsegments; i++) fits = f->counts[i] <= (uint32_t)segments[i].channels;
    if (!fits) return err_set(err, STATUS_FORMAT, "a map of %u x %u x %u does not fit this slice", f->c, f->h, f->w);
    bool same = true;
    for (int i = 0; i < nsegments; i++) same &= f->counts[i] == (uint32_t)t.counts[i];
    enum status status = codec_decode(s->codec, (enum codec)f->choice[s->index].codec, m->payload, m->payload_length,
                                      (int)f->c, t.h * t.w, same ? s->input : s->arrived, err);
    if (!status && !same) fit(s->arrived, f->counts, s->input, t);
    return status;
}

static enum status decode(struct stage *s, const struct wire_message *m, struct err *err) {
    if (m->frame.format == WIRE_MAP) {
        if (s->index == 0) return err_set(err, STATUS_FORMAT, "a feature map for the first stage");
        return decode_map(s, m, err);
    }
    if (s->index != 0) return err_set(err, STATUS_FORMAT, "an image for stage %d", s->index + 1);
    return image_preprocess(&s->model->preproc, "image", m->payload, m->payload_length, s->input, err);
}

/* ---- what goes on ---- */

/* Leaves in s->output the channels that the next stage will read. */
static void narrow(struct stage *s, const struct wire_frame *in, struct wire_frame *out, struct engine_tensor t) {
    const struct model *m = s->model;
    bool last = s->index == s->count - 1;
    int nsegments, level = 0;
    const struct segment *segments = groups_segments(m->groups, m->net->nlayers - 1, &nsegments);
    assert(nsegments == t.nsegments);
    if (!last && !s->variants) {
        const struct wire_choice *next = &in->choice[s->index + 1];
        level = next->level > next->link ? next->level : next->link;
    }
    size_t area = (size_t)t.h * (size_t)t.w;
    const float *from = s->output;
    float *to = s->output;
    out->c = 0;
    for (int i = 0; i < nsegments; i++) {
        int keep = t.counts[i];
        int cap = last ? keep : levels_keep(m->levels, level, segments[i].group) * segments[i].unit;
        if (cap < keep) keep = cap;
        if (to != from) memmove(to, from, (size_t)keep * area * sizeof *to);
        from += (size_t)t.counts[i] * area;
        to += (size_t)keep * area;
        out->counts[i] = (uint32_t)keep;
        out->c += (uint32_t)keep;
    }
    out->nsegments = (uint16_t)nsegments;
    out->h = (uint32_t)t.h;
    out->w = (uint32_t)t.w;
    out->format = WIRE_MAP;
    out->stage = (uint16_t)(s->index + 1);
    int own = in->choice[s->index].level, link = last ? 0 : in->choice[s->index + 1].link;
    out->incoming = (uint8_t)(own > link ? own : link);
    plan_before(s->plan, m->blocks, m->blocks->nblocks, &out->before);
    plan_before_cut(&out->before, link);
}

static uint32_t microseconds(double seconds) {
    double us = seconds * 1e6;
    return us <= 0 ? 0 : us >= UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

enum status stage_run(struct stage *s, const struct wire_message *message, uint32_t queue_us, uint32_t link_bytes,
                      uint32_t link_us, struct packet *packet, struct err *err) {
    const struct wire_frame *in = &message->frame;
    if (in->stage != s->index || in->nstages != s->count)
        return err_set(err, STATUS_FORMAT, "a frame for stage %d of %d came to stage %d of %d", in->stage + 1,
                       in->nstages, s->index + 1, s->count);
    double started = log_now_s();
    enum status status = set_plan(s, in, err);
    if (!status) status = decode(s, message, err);
    if (status) return status;
    double decoded = log_now_s();
    engine_run(s->engine, s->input, s->output);
    double computed = log_now_s();

    s->next = *message;
    struct wire_frame *out = &s->next.frame;
    narrow(s, in, out, engine_output(s->engine));
    enum codec codec = out->stage < out->nstages ? (enum codec)out->choice[out->stage].codec : CODEC_F32;
    int c = (int)out->c, area = (int)(out->h * out->w);
    uint8_t *payload, *buffer = packet_buffer(&s->next, codec_raw_size(codec, c, area), &payload, err);
    if (!buffer) return STATUS_MEMORY;
    status = codec_encode(s->codec, codec, s->output, c, area, payload, &s->next.payload_length, err);
    if (status) {
        free(buffer);
        return status;
    }
    out->time[s->index] = (struct wire_time){
        .queue_us = queue_us, .decode_us = microseconds(decoded - started),
        .compute_us = microseconds(computed - decoded), .encode_us = microseconds(log_now_s() - computed),
        .bytes = (uint32_t)message->payload_length, .link_bytes = link_bytes, .link_us = link_us,
    };
    if (s->variants) variants_settle(s->variants);
    return packet_seal(packet, &s->next, buffer, err);
}
