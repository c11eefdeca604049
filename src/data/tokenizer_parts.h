/* What a tokenizer consists of; for the files tokenizer*.c only. */
#ifndef HB_DATA_TOKENIZER_PARTS_H
#define HB_DATA_TOKENIZER_PARTS_H

#include <pthread.h>

#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/byte_map.h"
#include "data/pretokenize.h"
#include "data/tokenizer.h"
#include "data/word_cache.h"

/* What one thread needs to encode. */
struct hb_tokenizer_worker {
    struct hb_tokenizer_worker *next;
    struct hb_pretokenizer *pretokenizer;
    struct hb_word_cache cache;
    struct hb_bytes normal; /* the stretch being encoded, normalised */
};

/* Workers that nobody uses now. Behind a pointer, since lending one changes the
 * pool but not the tokenizer. */
struct hb_tokenizer_pool {
    pthread_mutex_t lock;
    struct hb_tokenizer_worker *idle;
};

struct hb_tokenizer {
    char *path;
    char hash[33];
    bool nfc;
    bool ignore_merges; /* a piece that is a token is that token, whatever the merges say */
    char *pattern;
    struct hb_byte_map model;               /* tokens of the BPE model, bytes -> id */
    struct hb_added_tokens contents;        /* all added tokens as they are written */
    struct hb_added_tokens raw, normalized; /* the same by where they are looked for */
    struct hb_bpe bpe;
    int32_t *token_of_id; /* [vocabulary]: entry in `model`, or -2 - entry in `contents`; -1 = no token */
    int32_t vocabulary, token_count, end_of_text;
    struct hb_tokenizer_pool *pool;
};

/* Reads the file at t->path into the parts of a zeroed tokenizer. On failure
 * what was read so far is the caller's to release. */
HB_MUST_USE hb_status hb_tokenizer_read(struct hb_tokenizer *t);

#endif
