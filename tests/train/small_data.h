/* Data small enough for a test. */
#ifndef HB_TESTS_TRAIN_SMALL_DATA_H
#define HB_TESTS_TRAIN_SMALL_DATA_H

#include <stdint.h>

enum { SMALL_VOCABULARY = 257 };

/* A tokenizer of 256 bytes and one special token. */
void small_tokenizer(const char *path, const char *end_of_text);
/* Documents of 5 to 38 ids between 32 and 95. */
void small_shard(const char *path, uint32_t seed, int documents);

#endif
