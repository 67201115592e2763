/* Reader and writer walk the same list of fields: `fields()` visits the fields
 * of a kind in order, and a cursor either measures, writes or reads them. So
 * the two cannot drift apart. */
#include "deploy/wire.h"

#include "deploy/codec.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

enum { HEAD = 24 };
static const uint8_t magic[4] = { 'E', 'S', 'P', 'w' };

enum { MAX_JSON = 8 << 20 };

const char *wire_kind_name(enum wire_kind kind) {
    static const char *const names[WIRE_KINDS] = { "?",       "HELLO",    "STATUS", "ASSIGN", "WANT",   "CHUNK",
                                                   "MEASURE", "MEASURED", "FRAME",  "ACK",    "FAILED", "BYE",
                                                   "RELIEVE" };
    return (unsigned)kind < WIRE_KINDS ? names[kind] : names[0];
}

/* ---- the cursor ---- */

struct cursor {
    enum { MEASURE, WRITE, READ } mode;
    uint8_t *out;
    const uint8_t *in, *end; /* of reading */
    size_t done;
    const char *wrong; /* the first field that is not right; reading then goes on with zeros */
};

static void raw(struct cursor *k, void *field, size_t size, const char *name) {
    if (k->mode == WRITE) memcpy(k->out + k->done, field, size);
    if (k->mode == READ) {
        if (k->wrong || (size_t)(k->end - k->in) < size) {
            if (!k->wrong) k->wrong = name;
            memset(field, 0, size);
            return;
        }
        memcpy(field, k->in, size);
        k->in += size;
    }
    k->done += size;
}

static void wrong(struct cursor *k, const char *name) {
    if (k->mode == READ && !k->wrong) k->wrong = name;
}

static uint64_t integer(struct cursor *k, uint64_t value, int bytes, uint64_t max, const char *name) {
    uint8_t le[8];
    for (int i = 0; i < bytes; i++) le[i] = (uint8_t)(value >> 8 * i);
    raw(k, le, (size_t)bytes, name);
    value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)le[i] << 8 * i;
    if (value <= max) return value;
    assert(k->mode == READ);
    wrong(k, name);
    return 0;
}

#define U8(field, max) field = (uint8_t)integer(k, (uint64_t)(field), 1, max, #field)
#define ENUM(field, count) field = integer(k, (uint64_t)(field), 1, (count)-1, #field)
#define U16(field, max) field = (uint16_t)integer(k, field, 2, max, #field)
#define U32(field, max) field = (uint32_t)integer(k, field, 4, max, #field)
#define U64(field) field = integer(k, field, 8, UINT64_MAX, #field)
#define STRING(field) string(k, field, sizeof field, #field)
#define HASH(field) hash(k, field, #field)

/* Text for logs and errors: what does not print becomes '?'. */
static void string(struct cursor *k, char *field, size_t size, const char *name) {
    size_t length = integer(k, k->mode == READ ? 0 : strlen(field), 2, size - 1, name);
    raw(k, field, length, name);
    if (k->mode != READ) return;
    field[k->wrong ? 0 : length] = '\0';
    for (char *p = field; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f) *p = '?';
    if (!k->wrong && strlen(field) != length) wrong(k, name);
}

/* 64 hex digits or nothing. */
static void hash(struct cursor *k, char field[WIRE_HASH], const char *name) {
    string(k, field, WIRE_HASH, name);
    if (field[0] && strspn(field, "0123456789abcdef") != WIRE_HASH - 1) wrong(k, name);
}

/* ---- the fields of each kind ---- */

static void post_fields(struct cursor *k, struct wire_post *m) {
    U32(m->layout, UINT32_MAX);
    ENUM(m->state, WIRE_STATES);
    U16(m->stage, WIRE_MAX_STAGES - 1);
    U8(m->links, UINT8_MAX);
    HASH(m->hash);
    STRING(m->text);
    U32(m->link_bytes, UINT32_MAX);
    U32(m->link_us, UINT32_MAX);
}

static void status_fields(struct cursor *k, struct wire_status *m) {
    U64(m->incarnation);
    U64(m->token);
    U8(m->busy, 1);
    U8(m->nposts, WIRE_POSTS);
    for (int i = 0; i < m->nposts; i++) post_fields(k, &m->post[i]);
    STRING(m->device);
    U16(m->threads, UINT16_MAX);
    U32(m->queued, UINT32_MAX);
    U64(m->frames);
    U64(m->dropped);
    U32(m->breaks, UINT32_MAX);
    U32(m->unacked_us, UINT32_MAX);
    U64(m->contention_us);
    STRING(m->text);
}

static void assign_fields(struct cursor *k, struct wire_assign *m) {
    U32(m->layout, UINT32_MAX);
    U16(m->nstages, WIRE_MAX_STAGES);
    U16(m->stage, WIRE_MAX_STAGES - 1);
    U16(m->window, 4096);
    U64(m->size);
    HASH(m->hash);
    U8(m->nnext, WIRE_MAX_REPLICAS);
    for (int i = 0; i < m->nnext; i++) {
        STRING(m->next[i].address);
        HASH(m->next[i].key);
        if (m->next[i].address[0] == '\0') wrong(k, "next");
    }
    if (m->nstages == 0) wrong(k, "nstages");
    if (m->stage >= m->nstages) wrong(k, "stage");
    if (m->window == 0) wrong(k, "window");
    if (m->hash[0] == '\0') wrong(k, "hash");
    if ((m->stage + 1 == m->nstages) != (m->nnext == 0)) wrong(k, "nnext");
}

static void want_fields(struct cursor *k, struct wire_want *m) {
    HASH(m->hash);
    U64(m->offset);
    U32(m->length, WIRE_MAX_CHUNK);
    if (m->length == 0) wrong(k, "length");
}

static void time_fields(struct cursor *k, struct wire_time *m) {
    U32(m->queue_us, UINT32_MAX);
    U32(m->decode_us, UINT32_MAX);
    U32(m->compute_us, UINT32_MAX);
    U32(m->encode_us, UINT32_MAX);
    U32(m->bytes, UINT32_MAX);
    U32(m->link_bytes, UINT32_MAX);
    U32(m->link_us, UINT32_MAX);
}

static void before_fields(struct cursor *k, struct plan_before *m) {
    U8(m->n, PLAN_MAX_BEFORE);
    U8(m->nchain, PLAN_MAX_BEFORE);
    if (m->nchain > m->n) wrong(k, "nchain");
    for (int i = 0; i < m->n && i < PLAN_MAX_BEFORE; i++) {
        U8(m->share[i].level, PLAN_MAX_LEVELS - 1);
        U8(m->share[i].arriving, PLAN_MAX_LEVELS - 1);
    }
}

static void frame_fields(struct cursor *k, struct wire_frame *m) {
    U64(m->seq);
    U32(m->attempt, UINT32_MAX);
    U32(m->layout, UINT32_MAX);
    U16(m->nstages, WIRE_MAX_STAGES);
    U16(m->stage, WIRE_MAX_STAGES);
    ENUM(m->format, WIRE_MAP + 1);
    U8(m->incoming, PLAN_MAX_LEVELS - 1);
    before_fields(k, &m->before);
    U32(m->c, WIRE_MAX_PAYLOAD);
    U32(m->h, WIRE_MAX_PAYLOAD);
    U32(m->w, WIRE_MAX_PAYLOAD);
    U16(m->nsegments, WIRE_MAX_SEGMENTS);
    for (int i = 0; i < m->nsegments; i++) U32(m->counts[i], WIRE_MAX_PAYLOAD);
    if (m->nstages == 0) wrong(k, "nstages");
    if (m->stage > m->nstages) wrong(k, "stage");
    for (int i = 0; i < m->nstages; i++) {
        U8(m->choice[i].level, PLAN_MAX_LEVELS - 1);
        U8(m->choice[i].link, PLAN_MAX_LEVELS - 1);
        U8(m->choice[i].codec, CODEC_COUNT - 1);
        U8(m->choice[i].worker, WIRE_MAX_REPLICAS - 1);
    }
    for (int i = 0; i < m->stage && i < WIRE_MAX_STAGES; i++) time_fields(k, &m->time[i]);
}

static void fields(struct cursor *k, struct wire_message *m) {
    switch (m->kind) {
    case WIRE_HELLO:
        U64(m->hello.run);
        U64(m->hello.token);
        U32(m->hello.oldest, UINT32_MAX);
        STRING(m->hello.name);
        break;
    case WIRE_STATUS: status_fields(k, &m->status); break;
    case WIRE_ASSIGN: assign_fields(k, &m->assign); break;
    case WIRE_WANT: want_fields(k, &m->want); break;
    case WIRE_CHUNK:
        HASH(m->chunk.hash);
        U64(m->chunk.offset);
        break;
    case WIRE_FRAME: frame_fields(k, &m->frame); break;
    case WIRE_ACK:
        U64(m->ack.seq);
        U32(m->ack.attempt, UINT32_MAX);
        break;
    case WIRE_FAILED:
        U64(m->failed.seq);
        U32(m->failed.attempt, UINT32_MAX);
        U16(m->failed.stage, WIRE_MAX_STAGES - 1);
        STRING(m->failed.text);
        break;
    case WIRE_RELIEVE:
        U32(m->relieve.layout, UINT32_MAX);
        U64(m->relieve.before);
        U8(m->relieve.level, PLAN_MAX_LEVELS - 1);
        U8(m->relieve.codec, CODEC_COUNT - 1);
        break;
    case WIRE_MEASURE:
    case WIRE_MEASURED: U32(m->measure.layout, UINT32_MAX); break;
    case WIRE_BYE:
    case WIRE_KINDS: break;
    }
}

/* ---- payloads against fields ---- */

static const char *check_map(const struct wire_frame *m, size_t length) {
    uint64_t sum = 0;
    for (int i = 0; i < m->nsegments; i++) sum += m->counts[i];
    if (m->c == 0 || sum != m->c) return "counts";
    if (m->h == 0 || m->w == 0) return "shape";
    uint64_t area = (uint64_t)m->h * m->w; /* each fits 27 bits */
    if (area > WIRE_MAX_PAYLOAD / 4 || area * m->c > WIRE_MAX_PAYLOAD / 4) return "shape";
    enum codec codec = m->stage < m->nstages ? (enum codec)m->choice[m->stage].codec : CODEC_F32;
    if (length > codec_raw_size(codec, (int)m->c, (int)area)) return "payload";
    return NULL;
}

static const char *check_payload(const struct wire_message *m) {
    size_t length = m->payload_length;
    if (m->kind == WIRE_CHUNK) return length == 0 || length > WIRE_MAX_CHUNK ? "payload" : NULL;
    if (m->kind == WIRE_MEASURED) return length == 0 || length > MAX_JSON ? "payload" : NULL;
    if (m->kind != WIRE_FRAME) return length ? "length" : NULL;
    if (length == 0 || length > WIRE_MAX_PAYLOAD) return "payload";
    if (m->frame.format == WIRE_MAP) return check_map(&m->frame, length);
    if (m->frame.stage != 0) return "format";
    return m->frame.c || m->frame.h || m->frame.w || m->frame.nsegments ? "shape" : NULL;
}

/* ---- messages ---- */

size_t wire_head_size(struct wire_message *message) {
    struct cursor k = { .mode = MEASURE };
    fields(&k, message);
    return HEAD + k.done;
}

void wire_write_head(struct wire_message *message, uint8_t *out) {
    struct cursor k = { .mode = WRITE, .out = out };
    uint8_t start[4];
    memcpy(start, magic, sizeof start);
    uint64_t total = wire_head_size(message) + message->payload_length;
    assert(total <= WIRE_MAX_MESSAGE);
    raw(&k, start, 4, "magic");
    integer(&k, WIRE_VERSION, 1, UINT64_MAX, "version");
    integer(&k, message->kind, 1, UINT64_MAX, "kind");
    integer(&k, 0, 2, UINT64_MAX, "reserved");
    integer(&k, total, 8, UINT64_MAX, "length");
    integer(&k, message->session, 8, UINT64_MAX, "session");
    fields(&k, message);
}

enum status wire_read(struct wire_message *m, const uint8_t *bytes, size_t length, struct err *err) {
    struct cursor k = { .mode = READ, .in = bytes, .end = bytes + length };
    uint8_t found[4];
    raw(&k, found, 4, "magic");
    if (k.wrong || memcmp(found, magic, 4) != 0)
        return err_set(err, STATUS_FORMAT, "a message of %zu bytes is not one of Espalier's", length);
    uint64_t version = integer(&k, 0, 1, 255, "version");
    if (!k.wrong && version != WIRE_VERSION) {
        err_set(err, STATUS_FORMAT, "a message of protocol version %d, this program speaks %d", (int)version,
                WIRE_VERSION);
        err_hint(err, "install the same release of Espalier on all devices");
        return STATUS_FORMAT;
    }
    m->kind = (enum wire_kind)integer(&k, 0, 1, WIRE_KINDS - 1, "kind");
    if (m->kind == 0) wrong(&k, "kind");
    integer(&k, 0, 2, 0, "reserved");
    uint64_t total = integer(&k, 0, 8, WIRE_MAX_MESSAGE, "length");
    if (total != length) wrong(&k, "length");
    m->session = integer(&k, 0, 8, UINT64_MAX, "session");
    if (!k.wrong) fields(&k, m);
    m->payload = k.in;
    m->payload_length = (size_t)(k.end - k.in);
    const char *field = k.wrong ? k.wrong : check_payload(m);
    if (!field) return STATUS_OK;
    const char *arrow = strstr(field, "->");
    return err_set(err, STATUS_FORMAT, "a %s message of %zu bytes: bad %s", wire_kind_name(m->kind), length,
                   arrow ? arrow + 2 : field);
}
