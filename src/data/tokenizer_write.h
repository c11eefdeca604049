/* Writes a learned vocabulary in the form of Hugging Face. */
#ifndef HB_DATA_TOKENIZER_WRITE_H
#define HB_DATA_TOKENIZER_WRITE_H

#include "data/bpe_learn.h"

/* Writes FOLDER/tokenizer.json and FOLDER/tokenizer_config.json (the folder is
 * made if need be): NFC, Qwen's pattern, byte-level BPE, and `specials` as special
 * added tokens with the ids behind the vocabulary. The first special ends texts
 * and pads. Special tokens are valid UTF-8 (the caller's promise). HB_EIO. */
HB_MUST_USE hb_status hb_tokenizer_write(const struct hb_bpe_vocabulary *v, const char *const *specials,
                                         size_t special_count, const char *folder);

#endif
