/* Slices as stages, message by message, against the whole model in one engine. */
#include "deploy/stage.h"

#include "deploy/engine.h"
#include "deploy/slices.h"
#include "tests/nets.h"
#include "tests/reference.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char folder[64];

static int group_setup(void **unused) {
    strcpy(folder, "/tmp/espalier-stage-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}
static int group_teardown(void **unused) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

#define MUST(call) \
    do { \
        struct err err = { 0 }; \
        if (call) fail_msg("%s: %s", #call, err.text); \
    } while (0)

/* A PPM image of the net's size. */
static size_t random_image(const struct model *m, struct random *random, uint8_t *out) {
    int w = m->net->input.w, h = m->net->input.h;
    int head = sprintf((char *)out, "P6\n%d %d\n255\n", w, h);
    for (int i = 0; i < w * h * 3; i++) out[head + i] = (uint8_t)random_below(random, 256);
    return (size_t)(head + w * h * 3);
}

struct pipeline {
    struct model *model;
    struct slices *slices;
    struct stage *stages[8];
};

static void open_pipeline(struct pipeline *p, const char *cfg, int count) {
    MUST(reference_model(&p->model, cfg, 7, &err));
    if (count > p->model->blocks->nblocks) count = p->model->blocks->nblocks;
    MUST(slices_create(&p->slices, p->model, count, NULL, &err));
    for (int i = 0; i < count; i++) {
        char path[128];
        const uint8_t *bytes;
        MUST(slices_bytes(p->slices, i, &bytes, &err));
        snprintf(path, sizeof path, "%s/%d.safetensors", folder, i);
        FILE *f = fopen(path, "wb");
        assert_int_equal(fwrite(bytes, 1, p->slices->size[i], f), p->slices->size[i]);
        fclose(f);
        MUST(stage_create(&p->stages[i], path, i, count, NULL, folder, &err));
    }
}

static int packed_files(void) {
    int n = 0;
    DIR *dir = opendir(folder);
    for (const struct dirent *entry; (entry = readdir(dir));) n += strstr(entry->d_name, ".packed") != NULL;
    closedir(dir);
    return n;
}

/* As a worker does that is started again: its packed weights are on disk. */
static void restart_pipeline(struct pipeline *p) {
    for (int i = 0; i < p->slices->count; i++) {
        char path[128];
        const int before = packed_files();
        stage_keep(p->stages[i]);
        stage_destroy(&p->stages[i]);
        assert_int_equal(packed_files(), before + 1);
        snprintf(path, sizeof path, "%s/%d.safetensors", folder, i);
        MUST(stage_create(&p->stages[i], path, i, p->slices->count, NULL, folder, &err));
    }
}

static void close_pipeline(struct pipeline *p) {
    char command[128];
    snprintf(command, sizeof command, "rm -f %s/*.packed", folder); /* the next one may have the same slices */
    assert_int_equal(system(command), 0);
    for (int i = 0; i < p->slices->count; i++) stage_destroy(&p->stages[i]);
    slices_destroy(&p->slices);
    model_destroy(&p->model);
}

static struct wire_message first_message(const struct pipeline *p, const struct plan *plan, const uint8_t *image,
                                         size_t length) {
    struct wire_message m = { .kind = WIRE_FRAME, .session = 1, .payload = image, .payload_length = length };
    m.frame.seq = 5;
    m.frame.attempt = 1;
    m.frame.nstages = (uint16_t)p->slices->count;
    for (int i = 0; i < p->slices->count; i++) {
        int b = p->slices->first[i];
        m.frame.choice[i] = (struct wire_choice){ (uint8_t)plan->level[b], i ? (uint8_t)plan->link[b] : 0,
                                                  (uint8_t)plan->codec[b], 0 };
    }
    return m;
}

/* Runs a message through all stages; what comes out is in `packet`. */
static void run_through(const struct pipeline *p, struct wire_message m, struct packet *packet, size_t *crossed) {
    struct packet in = { 0 };
    *crossed = 0;
    for (int i = 0; i < p->slices->count; i++) {
        MUST(stage_run(p->stages[i], &m, 10, 0, 0, packet, &err));
        packet_free(&in);
        packet_move(&in, packet);
        size_t length;
        const uint8_t *bytes = packet_bytes(&in, &length);
        MUST(wire_read(&m, bytes, length, &err));
        assert_int_equal(m.frame.stage, i + 1);
        if (i + 1 < p->slices->count) *crossed += m.payload_length;
    }
    packet_move(packet, &in);
}

/* A random plan with one level per slice. */
static void plan_slices(struct plan *plan, const struct pipeline *p, struct random *random) {
    int nlevels = p->model->levels->nlevels;
    for (int i = 0; i < p->slices->count; i++) {
        int level = random_below(random, nlevels), link = random_below(random, 2) ? 0 : random_below(random, nlevels);
        for (int b = p->slices->first[i]; b < p->slices->first[i + 1]; b++) plan->level[b] = level;
        plan->link[p->slices->first[i]] = i ? link : 0;
    }
}

static void compare(const char *name, const char *cfg, int count) {
    struct pipeline p = { 0 };
    open_pipeline(&p, cfg, count);
    struct engine *engine = NULL;
    struct engine_config config = engine_defaults();
    struct plan *plan = NULL;
    MUST(engine_create(&engine, p.model, &config, &err));
    MUST(plan_create(&plan, p.model->blocks->nblocks, 0, &err));
    struct random random = random_stream(3, (uint64_t)count, 0);
    size_t classes = (size_t)p.model->net->classes;
    float *input = malloc(engine_input_max(engine) * sizeof *input);
    float *expected = malloc(engine_output_max(engine) * sizeof *expected), *got = malloc(classes * sizeof *got);
    uint8_t image[4096];
    for (int round = 0; round < 12; round++) {
        size_t length = random_image(p.model, &random, image), crossed;
        if (round) plan_slices(plan, &p, &random);
        if (round == 6) restart_pipeline(&p);
        MUST(image_preprocess(&p.model->preproc, "image", image, length, input, &err));
        engine_set_plan(engine, plan);
        engine_run(engine, input, expected);
        struct packet packet = { 0 };
        struct wire_message m;
        run_through(&p, first_message(&p, plan, image, length), &packet, &crossed);
        const uint8_t *bytes = packet_bytes(&packet, &length);
        MUST(wire_read(&m, bytes, length, &err));
        assert_int_equal(m.payload_length, classes * sizeof *got);
        memcpy(got, m.payload, m.payload_length);
        double worst;
        if (!reference_agrees(got, expected, classes, &worst))
            fail_msg("%s, %d slices, round %d: off by %g", name, p.slices->count, round, worst);
        assert_int_equal(m.frame.time[0].queue_us, 10);
        packet_free(&packet);
    }
    free(input), free(expected), free(got);
    plan_destroy(&plan);
    engine_destroy(&engine);
    close_pipeline(&p);
}

static void stages_compute_what_the_model_computes(void **unused) {
    for (int i = 0; i < NNETS; i++)
        for (int count = 1; count <= 4; count++) compare(nets[i].name, nets[i].cfg, count);
}

static void codecs_cross_within_their_error(void **unused) {
    struct pipeline p = { 0 };
    open_pipeline(&p, nets[0].cfg, 3);
    struct plan *plan = NULL;
    MUST(plan_create(&plan, p.model->blocks->nblocks, 0, &err));
    struct random random = random_stream(1, 2, 3);
    uint8_t image[4096];
    size_t length = random_image(p.model, &random, image), crossed, least = SIZE_MAX, most = 0;
    float first[10], got[10];
    for (enum codec codec = 0; codec < CODEC_COUNT; codec++) {
        for (int i = 1; i < p.slices->count; i++) plan->codec[p.slices->first[i]] = codec;
        struct packet packet = { 0 };
        struct wire_message m;
        run_through(&p, first_message(&p, plan, image, length), &packet, &crossed);
        size_t size;
        const uint8_t *bytes = packet_bytes(&packet, &size);
        MUST(wire_read(&m, bytes, size, &err));
        memcpy(got, m.payload, sizeof got);
        if (codec == CODEC_F32) memcpy(first, got, sizeof got);
        float bound = codec <= CODEC_F32Z ? 0 : codec <= CODEC_F16Z ? .01f : codec <= CODEC_Q8Z ? .1f : .6f;
        for (int i = 0; i < 10; i++) assert_true(got[i] - first[i] <= bound && first[i] - got[i] <= bound);
        if (crossed < least) least = crossed;
        if (crossed > most) most = crossed;
        packet_free(&packet);
    }
    assert_true(least * 6 < most);
    plan_destroy(&plan);
    close_pipeline(&p);
}

static void refuse(const struct pipeline *p, int stage, struct wire_message m, const char *says) {
    struct packet packet = { 0 };
    struct err err = { 0 };
    assert_int_not_equal(stage_run(p->stages[stage], &m, 0, 0, 0, &packet, &err), STATUS_OK);
    if (!strstr(err.text, says)) fail_msg("expected '%s' in '%s'", says, err.text);
    assert_false(packet.held);
}

static void what_does_not_fit_is_refused(void **unused) {
    struct pipeline p = { 0 };
    open_pipeline(&p, nets[0].cfg, 2);
    struct plan *plan = NULL;
    MUST(plan_create(&plan, p.model->blocks->nblocks, 0, &err));
    struct random random = random_stream(1, 2, 3);
    uint8_t image[4096];
    size_t length = random_image(p.model, &random, image);
    struct wire_message good = first_message(&p, plan, image, length), m = good;
    m.payload = (const uint8_t *)"this is text, whatever its name", m.payload_length = 31;
    refuse(&p, 0, m, "image");
    m = good, m.frame.choice[1].level = 9;
    refuse(&p, 0, m, "level 9");
    m = good, m.frame.nstages = 3;
    refuse(&p, 0, m, "of 3 came to stage 1 of 2");
    refuse(&p, 1, good, "a frame for stage 1");
    m = good, m.frame.stage = 1;
    refuse(&p, 1, m, "an image for stage 2");
    struct packet packet = { 0 };
    MUST(stage_run(p.stages[0], &good, 0, 0, 0, &packet, &err));
    const uint8_t *bytes = packet_bytes(&packet, &length);
    MUST(wire_read(&good, bytes, length, &err));
    m = good, m.frame.h++;
    refuse(&p, 1, m, "does not fit");
    m = good, m.frame.counts[0] = 17, m.frame.c = 17;
    refuse(&p, 1, m, "does not fit");
    m = good, m.payload_length--;
    refuse(&p, 1, m, "feature map");
    m = good, m.frame.nsegments = 2, m.frame.counts[1] = 0;
    refuse(&p, 1, m, "does not fit");
    packet_free(&packet);
    struct stage *wrong = NULL; /* a slice in the wrong place */
    char path[128];
    struct err err;
    snprintf(path, sizeof path, "%s/0.safetensors", folder);
    assert_int_equal(stage_create(&wrong, path, 1, 2, NULL, NULL, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "cannot be stage 2 of 2"));
    plan_destroy(&plan);
    close_pipeline(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_compute_what_the_model_computes),
        cmocka_unit_test(codecs_cross_within_their_error),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests_name("stage", tests, group_setup, group_teardown);
}
