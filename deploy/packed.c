#include "deploy/packed.h"

#include "common/file.h"
#include "deploy/checksum.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGN = 64, MAX_BLOCKS = 1 << 16 };

/* In front of the file; then a table of the blocks, filled up with zeros, then
 * the blocks, each at the next multiple of ALIGN. */
struct entry {
    uint64_t size, sum; /* bytes, and their checksum */
};
struct header {
    char magic[8];
    uint64_t build;   /* of the code that packs: the Makefile's checksum of its sources */
    uint64_t model, length;
    char isa[16];
    int32_t first_block, last_block;
    uint64_t nblocks;
    uint64_t table; /* its checksum */
    uint64_t self;    /* and of the header up to here */
};
static const char magic[8] = "ESPpack";

struct packed {
    uint8_t *map;
    size_t length;
    const struct entry *table;
    uint64_t nblocks, next;
    size_t at; /* of the next block */
};

static size_t aligned(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }
static size_t table_end(uint64_t nblocks) { return aligned(sizeof(struct header) + nblocks * sizeof(struct entry)); }

static struct header header_of(const struct packed_key *key, uint64_t nblocks, uint64_t table) {
    struct header h = {.build = PACKED_BUILD,
                       .model = key->model,
                       .length = key->length,
                       .first_block = key->first_block,
                       .last_block = key->last_block,
                       .nblocks = nblocks,
                       .table = table};
    memcpy(h.magic, magic, sizeof magic);
    strncpy(h.isa, key->isa, sizeof h.isa - 1);
    h.self = checksum_of(&h, offsetof(struct header, self), NULL, false);
    return h;
}

static void path_of(const char *folder, const struct packed_key *key, char *path, size_t size) {
    snprintf(path, size, "%s/%016llx-%s-%d-%d.packed", folder, (unsigned long long)key->model, key->isa,
             key->first_block, key->last_block);
}

/* ---- reading ---- */

/* Whether header, table and length fit each other and the key, and every block its checksum. */
static bool sound(struct packed *p, const struct packed_key *key, struct pool *pool) {
    struct header h;
    memcpy(&h, p->map, sizeof h);
    if (h.nblocks > MAX_BLOCKS || p->length < table_end(h.nblocks)) return false;
    const struct header expected = header_of(key, h.nblocks, h.table);
    if (memcmp(&h, &expected, sizeof h) != 0) return false;
    p->table = (const struct entry *)(const void *)(p->map + sizeof h);
    p->nblocks = h.nblocks;
    p->at = table_end(h.nblocks);
    if (checksum_of(p->table, p->at - sizeof h, NULL, false) != h.table) return false;
    size_t end = p->at;
    for (uint64_t i = 0; i < h.nblocks; i++) {
        const struct entry *block = &p->table[i];
        if (block->size > p->length - end || checksum_of(p->map + end, block->size, pool, false) != block->sum)
            return false;
        end += aligned(block->size);
        if (end > p->length) return false;
    }
    return end == p->length;
}

/* A model that was written since may be another, or damaged: it is to be verified again. In doubt (a coarse
 * clock, one that was set back) so, too. */
static bool is_newer(struct timespec a, struct timespec b) {
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

struct packed *packed_open(const char *folder, const struct packed_key *key, struct pool *pool) {
    char path[4096];
    struct stat st;
    path_of(folder, key, path, sizeof path);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    struct packed *p = calloc(1, sizeof *p);
    if (p && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > (off_t)sizeof(struct header) &&
        is_newer(st.st_mtim, key->modified)) {
        p->length = (size_t)st.st_size;
        p->map = mmap(NULL, p->length, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        if (p->map == MAP_FAILED) p->map = NULL;
    }
    futimens(fd, (struct timespec[]){{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}}); /* used now */
    close(fd);
    if (p && (!p->map || !sound(p, key, pool))) packed_close(&p);
    return p;
}

void packed_release(struct packed *packed) {
    madvise(packed->map, packed->length, MADV_DONTNEED); /* only a wish */
}

void packed_close(struct packed **packed) {
    struct packed *p = *packed;
    if (!p) return;
    if (p->map) munmap(p->map, p->length);
    free(p);
    *packed = NULL;
}

void *packed_next(struct packed *p, size_t bytes) {
    if (p->next == p->nblocks || p->table[p->next].size != bytes) return NULL;
    void *block = p->map + p->at;
    p->at += aligned(bytes);
    p->next++;
    return block;
}

/* ---- writing ---- */

static void write_block(FILE *out, const void *data, size_t bytes) {
    static const uint8_t zeros[ALIGN];
    fwrite(data, 1, bytes, out); /* commit sees a failed write */
    fwrite(zeros, 1, aligned(bytes) - bytes, out);
}

enum status packed_save(const char *folder, const struct packed_key *key, const struct packed_block *blocks, int nblocks,
                        struct pool *pool, struct err *err) {
    char path[4096];
    struct file_replace file;
    if (nblocks > MAX_BLOCKS) return err_set(err, STATUS_LIMIT, "more than %d layers to keep in the cache", MAX_BLOCKS);
    path_of(folder, key, path, sizeof path);
    enum status status = file_make_folder(folder, err);
    if (status) return status;
    const size_t size = table_end((uint64_t)nblocks) - sizeof(struct header);
    struct entry *table = calloc(1, size);
    if (!table) return err_memory(err, path);
    for (int i = 0; i < nblocks; i++)
        table[i] = (struct entry){blocks[i].bytes, checksum_of(blocks[i].data, blocks[i].bytes, pool, false)};
    const struct header h = header_of(key, (uint64_t)nblocks, checksum_of(table, size, NULL, false));
    status = file_replace_open(&file, path, err);
    if (!status) {
        fwrite(&h, sizeof h, 1, file.stream);
        fwrite(table, size, 1, file.stream);
        for (int i = 0; i < nblocks; i++) write_block(file.stream, blocks[i].data, blocks[i].bytes);
        status = file_replace_commit(&file, err);
    }
    free(table);
    return status;
}
