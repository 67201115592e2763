/* Cuts a stream of concatenated JPEGs (MJPEG, as cameras pipe it) into frames.
 *
 * Follows the marker structure of each image (ITU T.81, annex B) rather than
 * looking for the next end marker: thumbnails inside of segments do not end a
 * frame, restart markers and stuffed bytes neither. Bytes between frames are
 * skipped and counted; an image that breaks off, or is longer than the limit,
 * is dropped and counted, and the search goes on where it stopped making sense. */
#ifndef ESPALIER_JPEG_STREAM_H
#define ESPALIER_JPEG_STREAM_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jpeg_stream {
    size_t limit; /* largest frame, bytes */
    uint8_t *buffer;
    size_t length, capacity;
    size_t position; /* the buffer is understood up to here */
    bool in_frame, in_scan;
    uint64_t skipped; /* bytes between frames */
    uint64_t damaged; /* frames dropped */
};

void jpeg_stream_init(struct jpeg_stream *stream, size_t limit);
void jpeg_stream_fini(struct jpeg_stream *stream);
/* Adds bytes as they come in; all complete frames should have been taken, so
 * that no more than one frame and these are held. */
enum status jpeg_stream_append(struct jpeg_stream *stream, const uint8_t *bytes, size_t length,
                               struct err *err) MUST_CHECK;
/* The next whole frame as a malloc'ed buffer, or NULL: more bytes are needed
 * (or memory is; then `err` is set). */
uint8_t *jpeg_stream_take(struct jpeg_stream *stream, size_t *length, struct err *err);
/* No more bytes will come: what is left over is counted. */
void jpeg_stream_end(struct jpeg_stream *stream);

#endif
