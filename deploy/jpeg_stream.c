#include "deploy/jpeg_stream.h"

#include <stdlib.h>
#include <string.h>

enum { SOI = 0xd8, EOI = 0xd9, SOS = 0xda, RST0 = 0xd0, RST7 = 0xd7, TEM = 0x01 };
enum { APP0 = 0xe0, APP15 = 0xef, COM = 0xfe };
enum { MAX_TABLE = 4096 }; /* more than any segment of tables or parameters needs */

void jpeg_stream_init(struct jpeg_stream *s, size_t limit) {
    *s = (struct jpeg_stream){ .limit = limit };
}

void jpeg_stream_fini(struct jpeg_stream *s) {
    free(s->buffer);
    *s = (struct jpeg_stream){ 0 };
}

enum status jpeg_stream_append(struct jpeg_stream *s, const uint8_t *bytes, size_t length, struct err *err) {
    if (s->capacity - s->length < length) {
        size_t capacity = s->capacity ? s->capacity : 1 << 16;
        while (capacity - s->length < length) capacity *= 2;
        uint8_t *buffer = realloc(s->buffer, capacity);
        if (!buffer) return err_memory(err, "frame");
        s->buffer = buffer;
        s->capacity = capacity;
    }
    memcpy(s->buffer + s->length, bytes, length);
    s->length += length;
    return STATUS_OK;
}

static void drop(struct jpeg_stream *s, size_t count) {
    memmove(s->buffer, s->buffer + count, s->length - count);
    s->length -= count;
    s->position = 0;
}

/* Gives up the frame that began at the buffer's start, as far as it was followed. */
static void give_up(struct jpeg_stream *s) {
    s->damaged++;
    s->in_frame = s->in_scan = false;
    drop(s, s->position);
}

/* A frame that breaks off within a segment's head takes the next one's first
 * bytes for a length: believe long ones only where they are allowed. */
static bool plausible(int marker, size_t length) {
    if (marker == SOS) return length >= 8 && length <= 14;
    if ((marker >= APP0 && marker <= APP15) || marker == COM) return length >= 2;
    return length >= 2 && length <= MAX_TABLE;
}

/* Moves the next start of an image (SOI and the 0xff of its first segment) to
 * the buffer's start. */
static bool find_start(struct jpeg_stream *s) {
    size_t at = s->position;
    while (at + 3 <= s->length && !(s->buffer[at] == 0xff && s->buffer[at + 1] == SOI && s->buffer[at + 2] == 0xff))
        at++;
    bool found = at + 3 <= s->length;
    s->skipped += at;
    if (at) drop(s, at);
    if (!found) return false;
    s->in_frame = true;
    s->position = 2;
    return true;
}

/* Moves over entropy-coded data up to the next true marker. */
static bool skip_scan(struct jpeg_stream *s) {
    while (s->position + 2 <= s->length) {
        const uint8_t *p = memchr(s->buffer + s->position, 0xff, s->length - s->position - 1);
        if (!p) {
            s->position = s->length - 1;
            return false;
        }
        s->position = (size_t)(p - s->buffer);
        if (p[1] == 0 || (p[1] >= RST0 && p[1] <= RST7)) {
            s->position += 2;
        } else if (p[1] == 0xff) {
            s->position += 1;
        } else {
            s->in_scan = false;
            return true;
        }
    }
    return false;
}

/* One step from marker to marker. Returns the frame's length at its end, 0 for
 * more to do, and sets *starved if bytes are missing. */
static size_t step(struct jpeg_stream *s, bool *starved) {
    if (s->in_scan && !skip_scan(s)) {
        *starved = true;
        return 0;
    }
    const uint8_t *p = s->buffer + s->position;
    size_t left = s->length - s->position;
    if (left < 2) {
        *starved = true;
        return 0;
    }
    int marker = p[1];
    if (p[0] == 0xff && marker == 0xff) {
        s->position++;
    } else if (p[0] == 0xff && marker == EOI) {
        return s->position + 2;
    } else if (p[0] != 0xff || marker == 0 || marker == SOI) {
        give_up(s);
    } else if (marker == TEM || (marker >= RST0 && marker <= RST7)) {
        s->position += 2;
    } else if (left < 4) {
        *starved = true;
    } else {
        size_t length = (size_t)p[2] << 8 | p[3];
        if (!plausible(marker, length)) {
            give_up(s);
        } else if (left < 2 + length) {
            *starved = true;
        } else {
            s->position += 2 + length;
            s->in_scan = marker == SOS;
        }
    }
    return 0;
}

uint8_t *jpeg_stream_take(struct jpeg_stream *s, size_t *length, struct err *err) {
    bool starved = false;
    while (!starved) {
        if (!s->in_frame && !find_start(s)) return NULL;
        size_t end = step(s, &starved);
        if (s->in_frame && (end > s->limit || (end == 0 && s->position > s->limit))) {
            give_up(s);
            continue;
        }
        if (end == 0) continue;
        uint8_t *frame = malloc(end);
        if (!frame) {
            err_memory(err, "frame");
            return NULL;
        }
        memcpy(frame, s->buffer, end);
        *length = end;
        s->in_frame = s->in_scan = false;
        drop(s, end);
        return frame;
    }
    return NULL;
}

void jpeg_stream_end(struct jpeg_stream *s) {
    if (s->in_frame) s->damaged++;
    else s->skipped += s->length;
    s->in_frame = s->in_scan = false;
    s->length = s->position = 0;
}
