/* What reads files that others wrote, each as a function of bytes: for the corpus
 * test of `make check`, and for libFuzzer (tools/fuzz). */
#ifndef HB_TESTS_FUZZ_TARGETS_H
#define HB_TESTS_FUZZ_TARGETS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct fuzz_target {
    const char *name; /* of its folder in tests/fuzz/corpus */
    /* Reads the bytes as a file in `folder`, uses all that they hold, and releases
     * it. What is accepted must survive being written and read again. */
    hb_status (*run)(const char *folder, const uint8_t *data, size_t size);
};

extern const struct fuzz_target fuzz_targets[];
extern const int fuzz_target_count;

/* libFuzzer's entry: the target that HB_FUZZ_TARGET names, in a folder of its own
 * in TMPDIR. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
