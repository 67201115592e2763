/* Key files: who may talk to whom.
 *
 * A device has a key pair of CURVE (Curve25519): NAME.key, its secret, kept on
 * that device alone and readable by its owner alone; NAME.pub, the public
 * half, given to every other device. A folder of keys holds one .key file and
 * the .pub files of all peers: these are the allow-list. Each file holds 64
 * hex digits; lines that begin with '#' are comments. */
#ifndef ESPALIER_KEYS_H
#define ESPALIER_KEYS_H

#include "common/err.h"

#include <stdint.h>

enum { KEYS_BYTES = 32, KEYS_HEX = 65, KEYS_NAME = 64 };

struct keys_peer {
    char name[KEYS_NAME];
    uint8_t public[KEYS_BYTES];
};

struct keys {
    char folder[512];
    char name[KEYS_NAME];
    uint8_t public[KEYS_BYTES], secret[KEYS_BYTES];
    int npeers;
    struct keys_peer *peers; /* by name */
};

/* Writes NAME.key (mode 0600) and NAME.pub into the folder, which is made if
 * need be. Nothing is overwritten. */
enum status keys_generate(const char *folder, const char *name, char public_hex[KEYS_HEX], struct err *err) MUST_CHECK;
/* `name`: whose secret; NULL: of the only .key file there. A .key file that
 * others can read is refused. */
enum status keys_load(struct keys **keys, const char *folder, const char *name, struct err *err) MUST_CHECK;
/* Wipes the secret. */
void keys_destroy(struct keys **keys);
/* Peer of that public key, or of that name; or NULL. */
const struct keys_peer *keys_find(const struct keys *keys, const uint8_t public[KEYS_BYTES]);
const struct keys_peer *keys_named(const struct keys *keys, const char *name);

void keys_to_hex(const uint8_t key[KEYS_BYTES], char hex[KEYS_HEX]);
/* STATUS_FORMAT unless it is 64 lower-case hex digits. */
enum status keys_from_hex(uint8_t key[KEYS_BYTES], const char *hex, struct err *err) MUST_CHECK;

#endif
