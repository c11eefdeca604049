/* Byte-level BPE tokenizers in the `tokenizer.json` form of Hugging Face.
 *
 * What is read (anything else is refused by name; docs/formats.md):
 *   normalizer     none, or NFC
 *   pre_tokenizer  Sequence[Split(Regex, Isolated), ByteLevel(no prefix space, no regex)],
 *                  or ByteLevel(no prefix space) with GPT-2's pattern
 *   model          BPE over bytes; merges as "a b" or ["a", "b"]; ignore_merges
 *   added_tokens   exact, special or not, normalized or not
 *   post_processor none, ByteLevel, or a template that adds no token
 *   decoder        ByteLevel
 *
 * Encoding, in this order: added tokens that are not `normalized` are cut out of
 * the raw text; each stretch between them is normalised; `normalized` added
 * tokens are cut out; the pattern cuts the rest into pieces; each piece is
 * encoded by BPE. Decoding what was encoded gives the text's NFC form (the text
 * itself without a normalizer).
 *
 * A tokenizer is constant once open: any number of threads may use it. */
#ifndef HB_DATA_TOKENIZER_H
#define HB_DATA_TOKENIZER_H

#include <stdbool.h>

#include "data/buffer.h"

#define HB_END_OF_TEXT "<|endoftext|>"

struct hb_tokenizer;

/* Opens a tokenizer.json, or the one in a folder. HB_EIO, HB_EFORMAT,
 * HB_EUNSUPPORTED, HB_EMEMORY; messages name the file and the key. */
HB_MUST_USE hb_status hb_tokenizer_open(const char *path, struct hb_tokenizer **out);
/* NULL is allowed. */
void hb_tokenizer_destroy(struct hb_tokenizer *t);

/* Appends the ids of `text`. `special`: special tokens in the text become their
 * ids; otherwise they are text like any other (what untrusted text needs).
 * HB_EFORMAT names the byte where the text is not valid UTF-8. On failure `ids`
 * is as it was. NUL bytes are characters like others. */
HB_MUST_USE hb_status hb_tokenizer_encode(const struct hb_tokenizer *t, const void *text, size_t n,
                                          bool special, struct hb_ids *ids);

/* Appends the bytes of the ids. They are those of a text only if the ids are;
 * any ids give bytes. HB_EARGUMENT names an id that is no token, nothing is appended. */
HB_MUST_USE hb_status hb_tokenizer_decode(const struct hb_tokenizer *t, const int32_t *ids, size_t n,
                                          struct hb_bytes *out);

/* Tokens, and the smallest number above every id (equal unless ids were left out). */
int32_t hb_tokenizer_token_count(const struct hb_tokenizer *t);
int32_t hb_tokenizer_vocabulary(const struct hb_tokenizer *t);

/* Id of the token with exactly these bytes, -1 when there is none. */
int32_t hb_tokenizer_find(const struct hb_tokenizer *t, const void *token, size_t n);

/* Bytes of a token, owned by the tokenizer and not ended by NUL; NULL when `id` is no token. */
const unsigned char *hb_tokenizer_token(const struct hb_tokenizer *t, int32_t id, size_t *n);

/* Is the id that of a special token? */
bool hb_tokenizer_is_special(const struct hb_tokenizer *t, int32_t id);

/* Id of <|endoftext|>, -1 when there is none. */
int32_t hb_tokenizer_end_of_text(const struct hb_tokenizer *t);

/* XXH3-128 of the file in 32 hexadecimal digits (what `xxhsum -H2` prints), and its path. */
const char *hb_tokenizer_hash(const struct hb_tokenizer *t);
const char *hb_tokenizer_path(const struct hb_tokenizer *t);

/* Decoding id by id, for generation: text comes out in whole characters. */
struct hb_decode_stream {
    const struct hb_tokenizer *tokenizer; /* set this, zero the rest */
    unsigned char pending[4];             /* the beginning of a character */
    size_t pending_count;
};

/* Appends what `id` completes: valid UTF-8 whatever the ids are. Bytes that
 * cannot belong to a character give U+FFFD, one for each longest well-formed
 * beginning of a character. HB_EARGUMENT when `id` is no token. */
HB_MUST_USE hb_status hb_tokenizer_decode_stream(struct hb_decode_stream *stream, int32_t id,
                                                 struct hb_bytes *out);
/* The end: a character that was begun gives U+FFFD. The stream may be used anew. */
HB_MUST_USE hb_status hb_tokenizer_decode_stream_end(struct hb_decode_stream *stream, struct hb_bytes *out);

#endif
