/* Frames that are owed a result, and the measured way out of a stage. */
#include "deploy/flight.h"

#include "common/log.h"
#include "deploy/outlet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct frame *frame(int64_t seq) {
    struct frame *f = calloc(1, sizeof *f);
    f->seq = seq;
    return f;
}

static void pop(struct frame_queue *q, int64_t seq) {
    assert_int_equal(frame_queue_head(q)->seq, seq);
    struct frame *f = frame_queue_pop(q);
    assert_int_equal(f->seq, seq);
    frame_free(&f);
}

static void queues_keep_the_order(void **unused) {
    struct frame_queue q = { 0 };
    assert_null(frame_queue_pop(&q));
    assert_null(frame_queue_head(&q));
    for (int64_t i = 0; i < 100; i++) assert_int_equal(frame_queue_push(&q, frame(i), NULL), STATUS_OK);
    for (int64_t i = 0; i < 50; i++) pop(&q, i);
    for (int64_t i = 49; i >= 40; i--) assert_int_equal(frame_queue_push_front(&q, frame(i), NULL), STATUS_OK);
    for (int64_t i = 100; i < 200; i++) assert_int_equal(frame_queue_push(&q, frame(i), NULL), STATUS_OK);
    assert_null(frame_queue_take(&q, 60, 10)); /* too deep */
    struct frame *f = frame_queue_take(&q, 45, 10);
    assert_int_equal(f->seq, 45);
    frame_free(&f);
    for (int64_t i = 40; i < 199; i++)
        if (i != 45) pop(&q, i);
    frame_queue_free(&q); /* with one in it */
    assert_int_equal(q.count, 0);
}

static void sets_find_by_number(void **unused) {
    struct frame_set s = { 0 };
    for (int64_t i = 0; i < 40; i++) assert_int_equal(frame_set_add(&s, frame(i), NULL), STATUS_OK);
    struct frame *f = frame_set_find(&s, 17);
    assert_int_equal(f->seq, 17);
    frame_set_remove(&s, f);
    frame_set_remove(&s, f); /* not in there any more */
    assert_null(frame_set_find(&s, 17));
    assert_int_equal(s.count, 39);
    frame_free(&f);
    frame_set_free(&s);
}

/* ---- outlet ---- */

static void put(struct outlet *o, uint64_t seq) {
    struct wire_message m = { .kind = WIRE_ACK, .ack = { .seq = seq } };
    struct packet packet = { 0 };
    assert_int_equal(packet_make(&packet, &m, NULL), STATUS_OK);
    outlet_put(o, seq, 1, &packet);
}

static void acknowledgements_measure_the_link(void **unused) {
    struct outlet o;
    outlet_init(&o);
    double now = log_now_s();
    for (int i = 0; i < 3; i++) o.sent[i] = (struct outlet_sent){ (uint64_t)i, 1, 1000, now + i };
    o.nsent = 3;
    assert_true(outlet_age(&o, now + 5) == 5);
    struct outlet_sample sample = { 0 };
    assert_false(outlet_acknowledge(&o, 0, 2, now + 2, &sample)); /* another attempt */
    assert_true(outlet_acknowledge(&o, 0, 1, now + 2, &sample));
    assert_true(sample.bytes == 1000 && sample.seconds > 1.99 && sample.seconds < 2.01);
    /* Sent while the one before was under way: busy only from its end on. */
    assert_true(outlet_acknowledge(&o, 1, 1, now + 2.5, &sample));
    assert_true(sample.seconds > .49 && sample.seconds < .51);
    assert_false(outlet_acknowledge(&o, 1, 1, now + 3, &sample));
    assert_true(outlet_acknowledge(&o, 2, 1, now + 4, &sample));
    assert_true(sample.seconds > 1.49 && sample.seconds < 1.51);
    assert_true(outlet_age(&o, now + 9) == 0);
}

static void what_waits_is_bounded(void **unused) {
    struct outlet o;
    outlet_init(&o);
    for (uint64_t i = 0; i < OUTLET_ROOM + 10; i++) put(&o, i);
    assert_int_equal(o.nwaiting, OUTLET_ROOM);
    assert_true(o.waiting[o.first].seq == 10); /* the oldest went */
    outlet_clear(&o);
    assert_int_equal(o.nwaiting, 0);
}

static bool acknowledge(struct outlet *o, uint64_t seq) {
    struct outlet_sample sample;
    return outlet_acknowledge(o, seq, 1, log_now_s(), &sample);
}

/* Large frames wait where they can still be changed, but not for what was lost. */
static void little_is_out_at_a_time(void **unused) {
    struct outlet o;
    double now = log_now_s();
    for (uint32_t bytes = 100; bytes <= 100000; bytes *= 1000) {
        outlet_init(&o);
        assert_false(outlet_pressing(&o, now));
        put(&o, 9);
        put(&o, 10);
        for (int i = 0; i < OUTLET_AHEAD; i++) {
            assert_true(outlet_pressing(&o, now));
            o.sent[o.nsent++] = (struct outlet_sent){ (uint64_t)i, 1, bytes, now };
        }
        assert_int_equal(outlet_pressing(&o, now), bytes == 100);
        assert_true(outlet_pressing(&o, now + 2 * OUTLET_LOST_S));
        assert_true(acknowledge(&o, 0));
        assert_true(outlet_pressing(&o, now));
        assert_int_equal(outlet_waiting(&o, 1)->seq, 10);
        assert_null(outlet_waiting(&o, 2));
        outlet_clear(&o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queues_keep_the_order),
        cmocka_unit_test(sets_find_by_number),
        cmocka_unit_test(acknowledgements_measure_the_link),
        cmocka_unit_test(what_waits_is_bounded),
        cmocka_unit_test(little_is_out_at_a_time),
    };
    return cmocka_run_group_tests_name("flight", tests, NULL, NULL);
}
