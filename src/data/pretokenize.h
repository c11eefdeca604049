/* Cuts text into the pieces ("pre-tokens") that byte-pair encoding treats one by one.
 *
 * The patterns come from `tokenizer.json` files, written for Oniguruma, and
 * run under PCRE2 (JIT where it has one). The translation keeps the meaning or
 * refuses: \s and \S become the explicit White_Space set (PCRE2 alone would
 * add U+180E), and what the two engines read differently (\w, \b, \h, '.', '^',
 * '$', nested classes, ...) is an error that names it. */
#ifndef HB_DATA_PRETOKENIZE_H
#define HB_DATA_PRETOKENIZE_H

#include <stddef.h>

#include "core/status.h"

/* Qwen2 and Qwen3: words with one leading other character, single digits,
 * punctuation with trailing newlines, white space. */
extern const char hb_pattern_qwen[];
/* GPT-2, which the ByteLevel pre-tokenizer applies when `use_regex` is true. */
extern const char hb_pattern_gpt2[];

struct hb_pretokenizer;

/* Compiles `pattern`. HB_EFORMAT: not a pattern, or one that matches nothing
 * ("" is then a piece). HB_EUNSUPPORTED: a construct named above. */
HB_MUST_USE hb_status hb_pretokenizer_create(const char *pattern, struct hb_pretokenizer **out);
void hb_pretokenizer_destroy(struct hb_pretokenizer *p);

/* The piece that starts at `begin` < `n` ends at `*end` > `begin`: a match, or
 * the stretch up to the next match. `text` is valid UTF-8 (the caller's
 * promise), `begin` 0 or the end of another piece. Not for two threads at a
 * time. HB_EUNSUPPORTED when the engine gives up on the pattern. */
HB_MUST_USE hb_status hb_pretokenizer_next(struct hb_pretokenizer *p, const unsigned char *text, size_t n,
                                           size_t begin, size_t *end);

#endif
