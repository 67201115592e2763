/* Runs a fuzz target without libFuzzer: every file of its corpus, then seeded
 * mutations of them.
 *   fuzz_NAME                 tests/fuzz/corpus/NAME and its mutations
 *   fuzz_NAME FILE...         these files only
 *   fuzz_NAME --mutations N   more of them, or fewer
 * An input that crashes the target is left in ./crash-NAME. */
#include "tests/fuzz/fuzz.h"

#include "common/file.h"
#include "common/log.h"
#include "common/random.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { MAX_INPUTS = 1024, MAX_BYTES = 1 << 16 };

struct input {
    uint8_t *bytes;
    size_t length;
};
static struct input corpus[MAX_INPUTS];
static int ninputs;
static const char *name;

/* ---- what was running when it crashed ---- */

static struct input running;

static void save_running(void) {
    char path[128];
    snprintf(path, sizeof path, "crash-%s", name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || write(fd, running.bytes, running.length) < 0 || close(fd) < 0) return;
    fprintf(stderr, "the input is in %s\n", path);
}

static void on_signal(int number) {
    save_running();
    signal(number, SIG_DFL);
    raise(number);
}

/* Sanitizers end the process without a signal, but tell this way. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void watch(void) {
    const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], on_signal);
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(save_running);
}

/* In a block of just its size, so that a sanitizer sees every step beyond. */
static void run(const uint8_t *bytes, size_t length) {
    uint8_t *copy = malloc(length ? length : 1);
    FUZZ_REQUIRE(copy);
    memcpy(copy, bytes, length);
    running = (struct input){copy, length};
    alarm(60); /* a hang is a crash, too */
    LLVMFuzzerTestOneInput(copy, length);
    alarm(0);
    free(copy);
}

/* ---- the corpus ---- */

static bool add(const char *path) {
    struct err err;
    struct input *input = &corpus[ninputs];
    if (ninputs == MAX_INPUTS) return false;
    if (file_read(path, MAX_BYTES, &input->bytes, &input->length, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return false;
    }
    ninputs++;
    return true;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static bool add_folder(const char *folder) {
    struct dirent **entries;
    const int n = scandir(folder, &entries, visible, by_name);
    bool good = n > 0;
    for (int i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        good = good && add(path);
        free(entries[i]);
    }
    if (n >= 0) free(entries);
    if (!good) fprintf(stderr, "%s: holds no corpus\n", folder);
    return good;
}

/* ---- mutations ---- */

/* Numbers at which lengths and indices go wrong, little- or big-endian. */
static void put_number(struct random *random, uint8_t *at, size_t room) {
    static const int64_t interesting[] = {0, 1, -1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, INT32_MAX, INT32_MIN,
                                          UINT32_MAX, INT64_MAX, INT64_MIN, 1 << 20, 1 << 24};
    const size_t widths[] = {1, 2, 4, 8}, width = widths[random_below(random, 4)];
    const uint64_t value = (uint64_t)interesting[random_below(random, sizeof interesting / sizeof *interesting)];
    const bool big = random_below(random, 2);
    for (size_t i = 0; i < width && i < room; i++) at[i] = (uint8_t)(value >> 8 * (big ? width - 1 - i : i));
}

/* A number written out, in place of the digits at `at`. */
static size_t put_digits(struct random *random, uint8_t *bytes, size_t length, size_t at) {
    static const char *const numbers[] = {"0", "1", "-1", "2", "16", "255", "65536", "99999999", "2147483647", "-2147483648",
                                          "4294967296", "1e9", "nan", ".5", "1,1,1", ""};
    const char *text = numbers[random_below(random, sizeof numbers / sizeof *numbers)];
    while (at < length && (bytes[at] < '0' || bytes[at] > '9')) at++;
    size_t end = at;
    while (end < length && bytes[end] >= '0' && bytes[end] <= '9') end++;
    const size_t size = strlen(text);
    if (at == length || length - (end - at) + size > MAX_BYTES) return length;
    memmove(bytes + at + size, bytes + end, length - end);
    memcpy(bytes + at, text, size);
    return length - (end - at) + size;
}

/* Copies a piece of any input over or into this one. */
static size_t copy_piece(struct random *random, uint8_t *bytes, size_t length, size_t at, bool insert) {
    const struct input *from = &corpus[random_below(random, ninputs)];
    if (from->length == 0) return length;
    const size_t begin = (size_t)random_below(random, (int)from->length);
    size_t n = 1 + (size_t)random_below(random, random_below(random, 2) ? 16 : 512);
    if (n > from->length - begin) n = from->length - begin;
    if (insert) {
        if (length + n > MAX_BYTES) return length;
        memmove(bytes + at + n, bytes + at, length - at);
        length += n;
    } else if (n > length - at) {
        n = length - at;
    }
    memcpy(bytes + at, from->bytes + begin, n);
    return length;
}

static size_t mutate(struct random *random, uint8_t *bytes, size_t length) {
    for (int steps = 1 + random_below(random, 4); steps > 0; steps--) {
        if (length == 0) return copy_piece(random, bytes, 0, 0, true);
        const size_t at = (size_t)random_below(random, (int)length);
        size_t n;
        switch (random_below(random, 7)) {
        case 0: bytes[at] ^= (uint8_t)(1 << random_below(random, 8)); break;
        case 1: bytes[at] = (uint8_t)random_below(random, 256); break;
        case 2: put_number(random, bytes + at, length - at); break;
        case 3: length = put_digits(random, bytes, length, at); break;
        case 4: length = copy_piece(random, bytes, length, at, false); break;
        case 5: length = copy_piece(random, bytes, length, at, true); break;
        default:
            n = 1 + (size_t)random_below(random, random_below(random, 4) ? 16 : (int)length);
            if (n > length - at) n = length - at;
            memmove(bytes + at, bytes + at + n, length - at - n);
            length -= n;
        }
    }
    return length;
}

int main(int argc, char **argv) {
    log_init("fuzz", LOG_QUIET);
    const char *slash = strrchr(argv[0], '/'), *program = slash ? slash + 1 : argv[0];
    name = strncmp(program, "fuzz_", 5) == 0 ? program + 5 : program;
    char folder[256];
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", name);
    int mutations = fuzz_mutations, i = 1;
    if (argc > 2 && strcmp(argv[1], "--mutations") == 0) {
        mutations = atoi(argv[2]);
        i = 3;
    }
    bool good = true;
    if (i < argc) mutations = 0;
    else good = add_folder(folder);
    for (; i < argc; i++) good = good && add(argv[i]);
    if (!good) return 2;
    watch();
    for (i = 0; i < ninputs; i++) run(corpus[i].bytes, corpus[i].length);
    uint8_t *bytes = malloc(MAX_BYTES);
    FUZZ_REQUIRE(bytes);
    for (i = 0; i < mutations; i++) {
        struct random random = random_stream(1, (uint64_t)i, 0);
        const struct input *input = &corpus[random_below(&random, ninputs)];
        memcpy(bytes, input->bytes, input->length);
        run(bytes, mutate(&random, bytes, input->length));
    }
    free(bytes);
    for (i = 0; i < ninputs; i++) free(corpus[i].bytes);
    printf("%d inputs, %d mutations\n[  PASSED  ] %d test(s).\n", ninputs, mutations, ninputs);
    return 0;
}
