/* JPEGs: a walk over the markers (is the file whole, which way is up),
 * libjpeg-turbo's decoder, which can skip most of the work of a picture that
 * is much larger than what is needed, and its encoder.
 *
 * Sources: ITU-T T.81 annex B (markers); EXIF 2.3 section 4 (orientation). */
#include "common/image_codec.h"

#include <limits.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
/* behind jpeglib.h, which it needs */
#include <jerror.h>

enum { MAX_SCANS = 200, TAG_ORIENTATION = 0x0112 };

/* ---- markers ---------------------------------------------------------------- */

struct tiff {
    const uint8_t *bytes;
    size_t length;
    bool big_endian;
};

static unsigned tiff_u16(const struct tiff *tiff, size_t at) {
    const uint8_t *p = tiff->bytes + at;
    return tiff->big_endian ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
}

static uint32_t tiff_u32(const struct tiff *tiff, size_t at) {
    uint32_t a = tiff_u16(tiff, at), b = tiff_u16(tiff, at + 2);
    return tiff->big_endian ? a << 16 | b : b << 16 | a;
}

/* Orientation from the payload of an APP1 segment; 0 if it says nothing. */
static int exif_orientation(const uint8_t *bytes, size_t length) {
    static const uint8_t magic[6] = "Exif\0";
    if (length < sizeof magic + 8 || memcmp(bytes, magic, sizeof magic) != 0) return 0;
    struct tiff tiff = {.bytes = bytes + sizeof magic, .length = length - sizeof magic};
    if (memcmp(tiff.bytes, "MM\0*", 4) == 0) tiff.big_endian = true;
    else if (memcmp(tiff.bytes, "II*\0", 4) != 0) return 0;
    size_t at = tiff_u32(&tiff, 4);
    if (at > tiff.length - 2) return 0;
    size_t entries = tiff_u16(&tiff, at);
    at += 2;
    if (entries > (tiff.length - at) / 12) return 0;
    for (size_t i = 0; i < entries; i++, at += 12) {
        if (tiff_u16(&tiff, at) != TAG_ORIENTATION) continue;
        unsigned type = tiff_u16(&tiff, at + 2), value = tiff_u16(&tiff, at + 8);
        return type == 3 && tiff_u32(&tiff, at + 4) == 1 && value >= 1 && value <= 8 ? (int)value : 0;
    }
    return 0;
}

bool image_is_jpeg(const uint8_t *bytes, size_t length) {
    return length >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

/* Whether the tables of a DHT segment's payload are whole and have at most 256
 * codes each: stb_image 2.27 relies on it without looking. */
static bool huffman_tables_sound(const uint8_t *bytes, size_t length) {
    while (length > 0) {
        size_t codes = 0;
        if (length < 17) return false;
        for (int i = 1; i <= 16; i++) codes += bytes[i];
        if (codes > 256 || codes > length - 17) return false;
        bytes += 17 + codes;
        length -= 17 + codes;
    }
    return true;
}

static bool is_frame_header(unsigned marker) {
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

struct jpeg_markers image_jpeg_markers(const uint8_t *bytes, size_t length) {
    struct jpeg_markers markers = {.orientation = 1, .damage = "the end is missing"};
    size_t at = 2;
    bool oriented = false;
    while (at < length) {
        /* Entropy-coded data and padding end at the next 0xff that begins a marker. */
        const uint8_t *ff = memchr(bytes + at, 0xff, length - at);
        if (!ff) break;
        at = (size_t)(ff - bytes) + 1;
        if (at >= length) break;
        unsigned marker = bytes[at];
        if (marker == 0xff) continue;
        at++;
        if (marker == 0xd9) {
            markers.damage = markers.w == 0 ? "it has no frame" : NULL;
            break;
        }
        if (marker == 0 || marker == 1 || (marker >= 0xd0 && marker <= 0xd8)) continue;
        if (length - at < 2) break;
        size_t segment = (size_t)bytes[at] << 8 | bytes[at + 1];
        if (segment < 2 || segment > length - at) break;
        const uint8_t *payload = bytes + at + 2;
        if (marker == 0xe1 && !oriented) {
            int orientation = exif_orientation(payload, segment - 2);
            oriented = orientation != 0;
            if (oriented) markers.orientation = orientation;
        } else if (marker == 0xc4 && !huffman_tables_sound(payload, segment - 2)) {
            markers.damage = "bad Huffman table";
            break;
        } else if (is_frame_header(marker) && markers.w == 0 && segment >= 7) {
            markers.h = payload[1] << 8 | payload[2];
            markers.w = payload[3] << 8 | payload[4];
        }
        at += segment;
    }
    return markers;
}

/* ---- decoder ---------------------------------------------------------------- */

struct handler {
    struct jpeg_error_mgr base;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    char text[JMSG_LENGTH_MAX];
};

static void escape(j_common_ptr cinfo) {
    struct handler *handler = (struct handler *)(void *)cinfo->err;
    cinfo->err->format_message(cinfo, handler->text);
    longjmp(handler->escape, 1);
}

/* libjpeg goes on after damage and paints the rest grey. We want to know. */
static void on_message(j_common_ptr cinfo, int level) {
    int code = cinfo->err->msg_code;
    bool harmless = code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM;
    if (level < 0 && !harmless) escape(cinfo);
}

/* A progressive file can hold any number of scans, each as costly as a whole picture. */
static void on_progress(j_common_ptr cinfo) {
    struct handler *handler = (struct handler *)(void *)cinfo->err;
    if (((j_decompress_ptr)cinfo)->input_scan_number <= MAX_SCANS) return;
    snprintf(handler->text, sizeof handler->text, "more than %d scans", MAX_SCANS);
    longjmp(handler->escape, 1);
}

static uint64_t reduced(unsigned side, unsigned eighths) { return ((uint64_t)side * eighths + 7) / 8; }

/* The largest reduction (in eighths; those that are fast) that leaves MARGIN
 * times the shorter side that is wanted: reducing is averaging, and what is
 * averaged to twice the size of a network's input has lost detail that shows in its
 * answers (tests/bench/decode.py). Large pictures are reduced further, to
 * MANY_PIXELS, as long as the side remains. */
static unsigned reduced_eighths(unsigned w, unsigned h, int want_side) {
    enum { MARGIN = 4, MANY_PIXELS = 1000 * 1000 };
    const unsigned side = w < h ? w : h, want = (unsigned)want_side;
    unsigned eighths = 8;
    if (want_side <= 0) return eighths;
    while (eighths > 1 && reduced(side, eighths / 2) >= want &&
           (reduced(side, eighths / 2) >= (uint64_t)MARGIN * want || reduced(w, eighths) * reduced(h, eighths) > MANY_PIXELS))
        eighths /= 2;
    return eighths;
}

enum status image_jpeg_decode(struct image_u8 *image, const char *name, const uint8_t *bytes, size_t length,
                              int channels, int want_side, bool *unsupported, struct err *err) {
    struct jpeg_decompress_struct cinfo;
    struct handler handler;
    uint8_t *volatile pixels = NULL;
    *unsupported = false;
    if (length > ULONG_MAX) return err_set(err, STATUS_LIMIT, "%s: too large for a JPEG", name);
    memset(&cinfo, 0, sizeof cinfo);
    cinfo.err = jpeg_std_error(&handler.base);
    handler.base.error_exit = escape;
    handler.base.emit_message = on_message;
    handler.progress.progress_monitor = on_progress;
    if (setjmp(handler.escape)) {
        jpeg_destroy_decompress(&cinfo);
        free(pixels);
        return err_set(err, STATUS_FORMAT, "%s: damaged JPEG (%s)", name, handler.text);
    }
    jpeg_create_decompress(&cinfo);
    cinfo.progress = &handler.progress;
    jpeg_mem_src(&cinfo, bytes, (unsigned long)length);
    jpeg_read_header(&cinfo, TRUE);
    enum status status = image_check_size(name, cinfo.image_width, cinfo.image_height, err);
    if (status != STATUS_OK) goto done;
    if (cinfo.jpeg_color_space != JCS_GRAYSCALE && cinfo.jpeg_color_space != JCS_YCbCr &&
        !(cinfo.jpeg_color_space == JCS_RGB && channels == 3)) {
        *unsupported = true;
        status = err_set(err, STATUS_FORMAT, "%s: a JPEG colour space that libjpeg does not convert", name);
        goto done;
    }
    cinfo.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    cinfo.scale_denom = 8;
    cinfo.scale_num = reduced_eighths(cinfo.image_width, cinfo.image_height, want_side);
    jpeg_start_decompress(&cinfo);
    size_t stride = (size_t)cinfo.output_width * (size_t)channels;
    pixels = malloc(stride * cinfo.output_height);
    if (!pixels) {
        status = err_memory(err, name);
        goto done;
    }
    while (cinfo.output_scanline < cinfo.output_height) {
        JSAMPROW row = pixels + stride * cinfo.output_scanline;
        jpeg_read_scanlines(&cinfo, &row, 1);
    }
    *image = (struct image_u8){.c = channels, .h = (int)cinfo.output_height, .w = (int)cinfo.output_width,
                               .data = pixels};
    pixels = NULL;
done:
    jpeg_destroy_decompress(&cinfo);
    free(pixels);
    return status;
}

/* ---- encoder ---------------------------------------------------------------- */

enum status image_encode_jpeg(const struct image_u8 *image, int quality, uint8_t **bytes, size_t *length,
                              struct err *err) {
    struct jpeg_compress_struct cinfo;
    struct handler handler;
    unsigned char *out = NULL;
    unsigned long size = 0;
    if (image->c != 1 && image->c != 3)
        return err_set(err, STATUS_USAGE, "a JPEG has 1 or 3 channels, not %d", image->c);
    if (image->w < 1 || image->h < 1 || image->w > JPEG_MAX_DIMENSION || image->h > JPEG_MAX_DIMENSION)
        return err_set(err, STATUS_LIMIT, "%d x %d pixels do not fit a JPEG", image->w, image->h);
    memset(&cinfo, 0, sizeof cinfo);
    cinfo.err = jpeg_std_error(&handler.base);
    handler.base.error_exit = escape;
    if (setjmp(handler.escape)) {
        jpeg_destroy_compress(&cinfo); /* the buffer is lost: which one it is by now, libjpeg does not say */
        return err_set(err, STATUS_MEMORY, "cannot encode a JPEG (%s)", handler.text);
    }
    jpeg_create_compress(&cinfo);
    jpeg_mem_dest(&cinfo, &out, &size);
    cinfo.image_width = (JDIMENSION)image->w;
    cinfo.image_height = (JDIMENSION)image->h;
    cinfo.input_components = image->c;
    cinfo.in_color_space = image->c == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&cinfo);
    jpeg_set_quality(&cinfo, quality, TRUE);
    jpeg_start_compress(&cinfo, TRUE);
    while (cinfo.next_scanline < cinfo.image_height) {
        JSAMPROW row = image->data + (size_t)cinfo.next_scanline * (size_t)image->w * (size_t)image->c;
        jpeg_write_scanlines(&cinfo, &row, 1);
    }
    jpeg_finish_compress(&cinfo);
    jpeg_destroy_compress(&cinfo);
    *bytes = out;
    *length = size;
    return STATUS_OK;
}
