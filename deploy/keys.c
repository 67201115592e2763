#include "deploy/keys.h"

#include "common/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILE = 4096, MAX_PEERS = 4096 };

void keys_to_hex(const uint8_t key[KEYS_BYTES], char hex[KEYS_HEX]) {
    sodium_bin2hex(hex, KEYS_HEX, key, KEYS_BYTES);
}

enum status keys_from_hex(uint8_t key[KEYS_BYTES], const char *hex, struct err *err) {
    if (strlen(hex) != KEYS_HEX - 1 || strspn(hex, "0123456789abcdef") != KEYS_HEX - 1)
        return err_set(err, STATUS_FORMAT, "a key has 64 digits 0-9a-f");
    uint8_t bytes[KEYS_BYTES];
    size_t length;
    if (sodium_hex2bin(bytes, sizeof bytes, hex, KEYS_HEX - 1, NULL, &length, NULL) != 0)
        return err_set(err, STATUS_FORMAT, "a key has 64 digits 0-9a-f");
    memcpy(key, bytes, KEYS_BYTES);
    sodium_memzero(bytes, sizeof bytes);
    return STATUS_OK;
}

static enum status path_of(char path[640], const char *folder, const char *name, const char *ending, struct err *err) {
    bool good = isalnum((unsigned char)name[0]) && strlen(name) < KEYS_NAME;
    for (const char *p = name; *p; p++) good &= isalnum((unsigned char)*p) || strchr(".-_", *p);
    if (!good)
        return err_set(err, STATUS_USAGE, "'%.80s' is no name for a key: letters, digits, dots and dashes, at most %d",
                       name, KEYS_NAME - 1);
    if (snprintf(path, 640, "%s/%s%s", folder, name, ending) >= 640)
        return err_set(err, STATUS_LIMIT, "%.80s...: path too long", folder);
    return STATUS_OK;
}

/* ---- writing ---- */

static enum status write_key(const char *path, int mode, const char *comment, const char *name, const uint8_t *key,
                             struct err *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST) {
        err_set(err, STATUS_IO, "%s exists already", path);
        err_hint(err, "remove it first if its key is no longer wanted anywhere");
        return STATUS_IO;
    }
    if (fd < 0) return err_errno(err, "%s", path);
    char hex[KEYS_HEX], text[512];
    keys_to_hex(key, hex);
    int length = snprintf(text, sizeof text, "# %s %s\n%s\n", comment, name, hex);
    bool good = write(fd, text, (size_t)length) == length && fsync(fd) == 0;
    enum status status = good ? STATUS_OK : err_errno(err, "%s", path);
    close(fd);
    sodium_memzero(hex, sizeof hex);
    sodium_memzero(text, sizeof text);
    if (status) unlink(path);
    return status;
}

enum status keys_generate(const char *folder, const char *name, char public_hex[KEYS_HEX], struct err *err) {
    char secret_path[640], public_path[640];
    uint8_t public[KEYS_BYTES], secret[KEYS_BYTES];
    enum status status = path_of(secret_path, folder, name, ".key", err);
    if (!status) status = path_of(public_path, folder, name, ".pub", err);
    if (!status) status = file_make_folder(folder, err);
    if (status) return status;
    if (sodium_init() < 0) return err_set(err, STATUS_IO, "libsodium cannot be initialised");
    crypto_box_keypair(public, secret);
    status = write_key(secret_path, 0600, "Espalier secret key: stays on", name, secret, err);
    sodium_memzero(secret, sizeof secret);
    if (status) return status;
    status = write_key(public_path, 0644, "Espalier public key of", name, public, err);
    if (status) unlink(secret_path);
    else keys_to_hex(public, public_hex);
    return status;
}

/* ---- reading ---- */

static enum status read_key(const char *path, bool secret, uint8_t key[KEYS_BYTES], struct err *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return err_errno(err, "%s", path);
    enum status status = STATUS_OK;
    char text[MAX_FILE + 1];
    ssize_t length = 0;
    if (fstat(fd, &st) != 0) {
        status = err_errno(err, "%s", path);
    } else if (!S_ISREG(st.st_mode)) {
        status = err_set(err, STATUS_FORMAT, "%s: not a regular file", path);
    } else if (secret && st.st_mode & 077) {
        status = err_set(err, STATUS_IO, "%s: a secret key that others can read (mode %03o)", path,
                         (unsigned)st.st_mode & 0777);
        err_hint(err, "chmod 600 %.180s", path);
    } else if (secret && st.st_uid != geteuid() && st.st_uid != 0) {
        status = err_set(err, STATUS_IO, "%s: a secret key that belongs to another user", path);
    } else if ((length = read(fd, text, MAX_FILE)) < 0) {
        status = err_errno(err, "%s", path);
    }
    close(fd);
    if (status) return status;
    text[length] = '\0';
    char *state = NULL, *line = strtok_r(text, "\r\n", &state);
    while (line && line[0] == '#') line = strtok_r(NULL, "\r\n", &state);
    status = keys_from_hex(key, line ? line : "", err);
    if (status) err_prefix(err, "%s", path);
    sodium_memzero(text, sizeof text);
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct keys_peer *)a)->name, ((const struct keys_peer *)b)->name);
}

static bool cut_ending(const char *file, const char *ending, char name[KEYS_NAME]) {
    size_t length = strlen(file), tail = strlen(ending);
    if (file[0] == '.' || length <= tail || length - tail >= KEYS_NAME || strcmp(file + length - tail, ending) != 0)
        return false;
    memcpy(name, file, length - tail);
    name[length - tail] = '\0';
    return true;
}

static enum status add_peer(struct keys *keys, const char *name, struct err *err) {
    if (keys->npeers == MAX_PEERS)
        return err_set(err, STATUS_LIMIT, "%s: more than %d .pub files", keys->folder, MAX_PEERS);
    struct keys_peer *larger = realloc(keys->peers, (size_t)(keys->npeers + 1) * sizeof *larger);
    if (!larger) return err_memory(err, "keys");
    keys->peers = larger;
    struct keys_peer *peer = &larger[keys->npeers];
    char path[640];
    strcpy(peer->name, name);
    enum status status = path_of(path, keys->folder, name, ".pub", err);
    if (!status) status = read_key(path, false, peer->public, err);
    if (!status) keys->npeers++;
    return status;
}

/* Reads all .pub files, and finds the only .key file if none is named. */
static enum status read_folder(struct keys *keys, struct err *err) {
    DIR *dir = opendir(keys->folder);
    if (!dir) return err_errno(err, "%s", keys->folder);
    enum status status = STATUS_OK;
    bool named = keys->name[0] != '\0';
    for (struct dirent *entry; !status && (entry = readdir(dir));) {
        char name[KEYS_NAME];
        if (cut_ending(entry->d_name, ".pub", name)) {
            status = add_peer(keys, name, err);
        } else if (!named && cut_ending(entry->d_name, ".key", name)) {
            if (keys->name[0]) {
                status = err_set(err, STATUS_USAGE, "%s: more than one .key file (%s, %s)", keys->folder, keys->name,
                                 name);
                err_hint(err, "say with --name whose to use; a device should hold its own alone");
            }
            strcpy(keys->name, name);
        }
    }
    closedir(dir);
    if (!status && !keys->name[0]) {
        status = err_set(err, STATUS_IO, "%s: no .key file", keys->folder);
        err_hint(err, "make keys with 'espalier-deploy keygen'");
    }
    return status;
}

enum status keys_load(struct keys **out, const char *folder, const char *name, struct err *err) {
    struct keys *keys = calloc(1, sizeof *keys);
    if (!keys) return err_memory(err, "keys");
    enum status status = STATUS_OK;
    char path[640];
    if (sodium_init() < 0) status = err_set(err, STATUS_IO, "libsodium cannot be initialised");
    if (!status && snprintf(keys->folder, sizeof keys->folder, "%s", folder) >= (int)sizeof keys->folder)
        status = err_set(err, STATUS_LIMIT, "%.80s...: path too long", folder);
    if (!status && name) status = path_of(path, folder, name, "", err);
    if (!status && name) strcpy(keys->name, name);
    if (!status) status = read_folder(keys, err);
    if (!status) status = path_of(path, folder, keys->name, ".key", err);
    if (!status) status = read_key(path, true, keys->secret, err);
    if (!status) {
        crypto_scalarmult_base(keys->public, keys->secret);
        if (keys->npeers) qsort(keys->peers, (size_t)keys->npeers, sizeof *keys->peers, by_name);
        *out = keys;
    } else {
        keys_destroy(&keys);
    }
    return status;
}

void keys_destroy(struct keys **pointer) {
    struct keys *keys = *pointer;
    if (!keys) return;
    free(keys->peers);
    sodium_memzero(keys, sizeof *keys);
    free(keys);
    *pointer = NULL;
}

const struct keys_peer *keys_find(const struct keys *keys, const uint8_t public[KEYS_BYTES]) {
    for (int i = 0; i < keys->npeers; i++)
        if (memcmp(keys->peers[i].public, public, KEYS_BYTES) == 0) return &keys->peers[i];
    return NULL;
}

const struct keys_peer *keys_named(const struct keys *keys, const char *name) {
    for (int i = 0; i < keys->npeers; i++)
        if (strcmp(keys->peers[i].name, name) == 0) return &keys->peers[i];
    return NULL;
}
