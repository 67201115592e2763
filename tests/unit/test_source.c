#include "deploy/source.h"

#include "common/log.h"
#include "deploy/jpeg_stream.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

static int setup(void **unused) {
    strcpy(folder, "/tmp/espalier-source-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}
static int teardown(void **unused) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *in_folder(const char *name) {
    static char path[4][256];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static void put(const char *name, const char *text) {
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void age(const char *name) {
    struct timespec old[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };
    assert_int_equal(utimensat(AT_FDCWD, in_folder(name), old, 0), 0);
}

static struct source *open_source(struct source_config config) {
    struct source *s = NULL;
    struct err err;
    if (source_create(&s, &config, &err)) fail_msg("%s", err.text);
    return s;
}

/* The next answer at a time; a frame's file name ends up in `name`. */
static enum source_answer next_at(struct source *s, double now_ms, char name[64], double *ms) {
    struct source_frame frame;
    enum source_answer answer;
    struct err err;
    if (source_next(s, now_ms, &frame, &answer, ms, &err)) fail_msg("%s", err.text);
    if (answer != SOURCE_FRAME) return answer;
    const char *slash = strrchr(frame.path, '/');
    snprintf(name, 64, "%s", slash ? slash + 1 : frame.path);
    *ms = frame.due_ms;
    free(frame.path);
    free(frame.bytes);
    return answer;
}

static void expect_frame(struct source *s, double now_ms, const char *name, double due_ms) {
    char found[64] = "";
    double ms;
    assert_int_equal(next_at(s, now_ms, found, &ms), SOURCE_FRAME);
    assert_string_equal(found, name);
    assert_true(fabs(ms - due_ms) < 1e-6);
}
static void expect_wait(struct source *s, double now_ms, double until_ms) {
    char found[64];
    double ms;
    assert_int_equal(next_at(s, now_ms, found, &ms), SOURCE_WAIT);
    assert_true(ms == until_ms);
}
static void expect_end(struct source *s) {
    char found[64];
    double ms;
    assert_int_equal(next_at(s, 1e9, found, &ms), SOURCE_END);
}

static void folders_are_read_in_order(void **unused) {
    mkdir(in_folder("fox"), 0755);
    mkdir(in_folder("ant"), 0755);
    put("fox/1.jpg", "x"), put("fox/2.JPEG", "x"), put("ant/9.png", "x"), put("b.bmp", "x");
    put("notes.txt", "x"), put(".hidden.jpg", "x");
    struct source *s = open_source((struct source_config){ .spec = folder });
    assert_false(source_paced(s) || source_live(s));
    assert_non_null(strstr(source_identity(s), "folder /tmp/espalier-source-"));
    source_start(s, 100);
    expect_frame(s, 105, "9.png", 105), expect_frame(s, 106, "b.bmp", 106);
    expect_frame(s, 107, "1.jpg", 107), expect_frame(s, 108, "2.JPEG", 108);
    expect_end(s);
    source_destroy(&s);

    s = open_source((struct source_config){ .spec = folder, .frames = 6 }); /* goes round */
    source_start(s, 0);
    expect_frame(s, 0, "9.png", 0), expect_frame(s, 0, "b.bmp", 0), expect_frame(s, 0, "1.jpg", 0);
    expect_frame(s, 0, "2.JPEG", 0), expect_frame(s, 0, "9.png", 0), expect_frame(s, 0, "b.bmp", 0);
    expect_end(s);
    source_destroy(&s);

    s = open_source((struct source_config){ .spec = folder, .fps = 10 }); /* resumed and paced */
    assert_true(source_paced(s));
    assert_int_equal(source_skip(s, in_folder("ant/9.png"), 1, 1, NULL), STATUS_OK);
    assert_int_equal(source_skip(s, in_folder("fox/1.jpg"), 1, 1, NULL), STATUS_OK);
    source_start(s, 1000);
    expect_frame(s, 1000, "b.bmp", 1000);
    expect_wait(s, 1050, 1100);
    expect_frame(s, 1130, "2.JPEG", 1100);
    expect_end(s);
    source_destroy(&s);

    struct source *a = open_source((struct source_config){ .spec = folder, .shuffle = 7 });
    struct source *b = open_source((struct source_config){ .spec = folder, .shuffle = 7 });
    for (int i = 0; i < 4; i++) {
        char x[64], y[64];
        double ms;
        assert_int_equal(next_at(a, 0, x, &ms), SOURCE_FRAME);
        assert_int_equal(next_at(b, 0, y, &ms), SOURCE_FRAME);
        assert_string_equal(x, y);
    }
    expect_end(a);
    source_destroy(&a);
    source_destroy(&b);
}

static void traces_set_the_time(void **unused) {
    put("1.jpg", "x"), put("2.jpg", "x");
    put("trace", "# seconds\n0\n0.5\r\n\n 0.25 \n2\n");
    struct source *s = open_source((struct source_config){ .spec = folder, .trace = in_folder("trace") });
    source_start(s, 100);
    expect_frame(s, 100, "1.jpg", 100);
    expect_wait(s, 349, 350);
    expect_frame(s, 700, "2.jpg", 350), expect_frame(s, 700, "1.jpg", 600);
    expect_wait(s, 700, 2100);
    expect_frame(s, 2100, "2.jpg", 2100);
    expect_end(s);
    source_destroy(&s);

    put("trace", "0\nx\n");
    struct source_config config = { .spec = folder, .trace = in_folder("trace") };
    struct err err;
    assert_int_equal(source_create(&s, &config, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "trace:2: a time in seconds"));
}

static void lists_and_bad_sources(void **unused) {
    struct err err;
    struct source *s = NULL;
    put("1.jpg", "x");
    put("list.txt", "1.jpg\n\n/abs/2.jpg\r\n");
    s = open_source((struct source_config){ .spec = in_folder("list.txt") });
    expect_frame(s, 0, "1.jpg", 0), expect_frame(s, 0, "2.jpg", 0);
    expect_end(s);
    source_destroy(&s);
    s = open_source((struct source_config){ .spec = in_folder("1.jpg") });
    expect_frame(s, 0, "1.jpg", 0);
    expect_end(s);
    source_destroy(&s);
    struct source_config config = { .spec = in_folder("missing") };
    assert_int_equal(source_create(&s, &config, &err), STATUS_IO);
    mkdir(in_folder("empty"), 0755);
    config = (struct source_config){ .spec = in_folder("empty") };
    assert_int_equal(source_create(&s, &config, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.text, "no images in it"));
    config = (struct source_config){ .spec = "-", .fps = 3 };
    assert_int_equal(source_create(&s, &config, &err), STATUS_USAGE);
    assert_null(s);
}

static void watched_folders_report_closed_files(void **unused) {
    put("old.jpg", "x"), age("old.jpg");
    put("had.jpg", "xy"), age("had.jpg");
    put("young.jpg", "x");
    struct source *s = open_source((struct source_config){ .spec = folder, .watch = true });
    assert_true(source_live(s));
    assert_int_equal(source_skip(s, in_folder("had.jpg"), 2, 1000000 * 1000000000LL, NULL), STATUS_OK);
    source_start(s, 0);
    expect_frame(s, 0, "old.jpg", 0);
    char name[64];
    double ms = 0;
    assert_int_equal(next_at(s, 0, name, &ms), SOURCE_WAIT); /* young.jpg may still be written to */
    assert_true(ms > 0 && ms < 1000);
    age("young.jpg");
    expect_frame(s, ms, "young.jpg", ms);
    expect_wait(s, ms, HUGE_VAL);

    struct pollfd p = { .fd = source_fd(s), .events = POLLIN };
    FILE *f = fopen(in_folder("new.jpg"), "w");
    expect_wait(s, 1000, HUGE_VAL); /* created, not closed */
    fclose(f);
    assert_int_equal(poll(&p, 1, 5000), 1);
    expect_frame(s, 1001, "new.jpg", 1001);
    put("half.tmp", "x");
    rename(in_folder("half.tmp"), in_folder("moved.jpg"));
    expect_frame(s, 1002, "moved.jpg", 1002);
    put("note.txt", "x");
    expect_wait(s, 1003, HUGE_VAL);
    put("new.jpg", "longer"); /* written again: another frame */
    expect_frame(s, 1004, "new.jpg", 1004);
    mkdir(in_folder("sub"), 0755);
    expect_wait(s, 1005, HUGE_VAL); /* from here on it is watched */
    put("sub/deep.jpg", "x");
    expect_frame(s, 1006, "deep.jpg", 1006);
    expect_wait(s, 1007, HUGE_VAL);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
    struct source_frame frame;
    enum source_answer answer;
    struct err err;
    assert_int_equal(source_next(s, 1008, &frame, &answer, &ms, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "has gone"));
    source_destroy(&s);
}

/* ---- JPEG streams ---- */

/* A small image: a thumbnail in its APP1, stuffed bytes and a restart marker
 * in the scan, a second scan; `fill` tells images apart. */
static size_t small_jpeg(uint8_t *out, uint8_t fill) {
    const uint8_t bytes[] = { 0xff, 0xd8, 0xff, 0xe1, 0, 10, 0xff, 0xd8, 0xff, 0xdb, 1, 2, 0xff, 0xd9,
                              0xff, 0xff, 0xdb, 0, 4, fill, 0, 0xff, 0xda, 0, 8, 1, 2, 3, 4, 5, 6,
                              5, 0xff, 0, fill, 0xff, 0xd3, 7, 0xff, 0xff, 0xda, 0, 8, 1, 2, 3, 4, 5, 6,
                              9, 0xff, 0xd9 };
    memcpy(out, bytes, sizeof bytes);
    return sizeof bytes;
}

static void streams_are_cut_into_frames(void **unused) {
    uint8_t text[400], one[64];
    size_t n = 0, length = small_jpeg(one, 1), got;
    const char *garbage = "--boundary\xff\xd8 not one\r\n";
    n += small_jpeg(text + n, 1);
    memcpy(text + n, garbage, strlen(garbage)), n += strlen(garbage);
    n += small_jpeg(text + n, 2);
    n += small_jpeg(text + n, 3) - 11; /* breaks off in a segment's head */
    n += small_jpeg(text + n, 4);
    const uint8_t torn[] = { 0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 'x' }; /* no marker where one must be */
    memcpy(text + n, torn, sizeof torn), n += sizeof torn;
    n += small_jpeg(text + n, 5);
    n += small_jpeg(text + n, 6) - 20; /* in its scan */
    n += small_jpeg(text + n, 7) - 8;
    for (size_t piece = 1; piece < 60; piece++) {
        struct jpeg_stream stream;
        struct err err = { 0 };
        jpeg_stream_init(&stream, 1000);
        int fills[8], count = 0;
        for (size_t at = 0; at < n; at += piece) {
            size_t size = n - at < piece ? n - at : piece;
            assert_int_equal(jpeg_stream_append(&stream, text + at, size, &err), STATUS_OK);
            for (uint8_t *f; (f = jpeg_stream_take(&stream, &got, &err)); free(f)) {
                assert_int_equal(got, length);
                fills[count++] = f[19];
                small_jpeg(one, f[19]);
                assert_memory_equal(f, one, length);
            }
        }
        jpeg_stream_end(&stream);
        assert_int_equal(count, 4);
        assert_true(fills[0] == 1 && fills[1] == 2 && fills[2] == 4 && fills[3] == 5);
        assert_true(stream.damaged == 4);
        assert_true(stream.skipped >= strlen(garbage));
        jpeg_stream_fini(&stream);
    }
}

static void endless_frames_are_bounded(void **unused) {
    struct jpeg_stream stream;
    jpeg_stream_init(&stream, 10000);
    const uint8_t start[] = { 0xff, 0xd8, 0xff, 0xda, 0, 8, 1, 2, 3, 4, 5, 6 };
    uint8_t zeros[1000] = { 0 };
    size_t got;
    assert_int_equal(jpeg_stream_append(&stream, start, sizeof start, NULL), STATUS_OK);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(jpeg_stream_append(&stream, zeros, sizeof zeros, NULL), STATUS_OK);
        assert_null(jpeg_stream_take(&stream, &got, NULL));
    }
    assert_true(stream.damaged == 1 && stream.capacity <= 1 << 16);
    uint8_t one[64];
    size_t length = small_jpeg(one, 9);
    assert_int_equal(jpeg_stream_append(&stream, one, length, NULL), STATUS_OK);
    uint8_t *frame = jpeg_stream_take(&stream, &got, NULL);
    assert_true(frame && got == length);
    free(frame);
    jpeg_stream_fini(&stream);
}

static void random_bytes_do_no_harm(void **unused) {
    uint32_t random = 1;
    for (int round = 0; round < 200; round++) {
        struct jpeg_stream stream;
        jpeg_stream_init(&stream, 3000);
        for (int i = 0; i < 40; i++) {
            uint8_t bytes[200];
            for (size_t k = 0; k < sizeof bytes; k++) {
                static const uint8_t likely[] = { 0xff, 0xd8, 0xff, 0xda, 0xd9, 0xff, 0, 0xe1 };
                random = random * 1664525u + 1013904223u;
                bytes[k] = random >> 30 ? likely[random >> 24 & 7] : (uint8_t)(random >> 16);
            }
            assert_int_equal(jpeg_stream_append(&stream, bytes, sizeof bytes, NULL), STATUS_OK);
            size_t length;
            for (uint8_t *f; (f = jpeg_stream_take(&stream, &length, NULL)); free(f)) {
                assert_true(length >= 4 && length <= 3000);
                assert_true(f[0] == 0xff && f[1] == 0xd8 && f[length - 2] == 0xff && f[length - 1] == 0xd9);
            }
        }
        jpeg_stream_end(&stream);
        jpeg_stream_fini(&stream);
    }
}

static void standard_input_is_a_source(void **unused) {
    int pipe_fd[2], old = dup(STDIN_FILENO);
    assert_int_equal(pipe(pipe_fd), 0);
    assert_int_equal(dup2(pipe_fd[0], STDIN_FILENO), STDIN_FILENO);
    struct source *s = open_source((struct source_config){ .spec = "-" });
    source_start(s, 0);
    expect_wait(s, 0, HUGE_VAL);
    uint8_t one[64];
    size_t length = small_jpeg(one, 1);
    assert_int_equal(write(pipe_fd[1], one, length - 1), length - 1);
    expect_wait(s, 5, HUGE_VAL);
    assert_int_equal(write(pipe_fd[1], one + length - 1, 1), 1);
    expect_frame(s, 7, "stdin:0", 7);
    assert_int_equal(write(pipe_fd[1], one, length - 1), length - 1);
    close(pipe_fd[1]);
    expect_end(s);
    char text[200];
    source_remarks(s, text, sizeof text);
    assert_string_equal(text, "standard input: 1 images, 1 broken ones dropped, 0 bytes between images skipped");
    source_destroy(&s);
    dup2(old, STDIN_FILENO);
    close(old);
    close(pipe_fd[0]);
}

int main(void) {
    log_init("test", LOG_WARN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(folders_are_read_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(traces_set_the_time, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_and_bad_sources, setup, teardown),
        cmocka_unit_test_setup_teardown(watched_folders_report_closed_files, setup, teardown),
        cmocka_unit_test(streams_are_cut_into_frames),
        cmocka_unit_test(endless_frames_are_bounded),
        cmocka_unit_test(random_bytes_do_no_harm),
        cmocka_unit_test(standard_input_is_a_source),
    };
    return cmocka_run_group_tests_name("source", tests, NULL, NULL);
}
