/* Documents in, shards out: PREFIX-train.bin/.idx, PREFIX-heldout.bin/.idx and
 * the manifest PREFIX.json (docs/formats.md).
 *
 * The inputs are read twice: once to check all of them and to decide the
 * split, and once to encode. Every document is encoded by itself and ended by
 * end-of-text; text that looks like a special token stays text. The result is
 * a function of the inputs' names and contents, the encoder and the options:
 * neither threads nor time enter it. */
#ifndef HB_DATA_BUILD_H
#define HB_DATA_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/buffer.h"
#include "data/shard.h"
#include "data/source.h"
#include "data/split.h"

/* How text becomes tokens. `encode` appends to `ids`; several threads call it
 * at once. */
struct hb_encoder {
    const void *context;
    hb_status (*encode)(const void *context, const unsigned char *text, size_t size, struct hb_ids *ids);
    int32_t vocabulary;
    int32_t end_of_text;
    const char *path; /* of the tokenizer, and */
    const char *hash; /* of its file: XXH3-128 in 32 hexadecimal digits; both go into the manifest */
};

struct hb_build_options {
    struct hb_source_options source;
    const char *prefix;
    double held_out; /* fraction, data/split.h */
    /* May be NULL. `done` of `total` bytes of text are encoded. */
    void (*progress)(void *context, int64_t done, int64_t total);
    void *progress_context;
};

enum hb_side { HB_SIDE_TRAIN, HB_SIDE_HELD_OUT, HB_SIDE_COUNT };

struct hb_build_counts {
    int64_t documents;
    int64_t bytes;  /* of text */
    int64_t tokens; /* end-of-text included */
};

struct hb_build_report {
    enum hb_split_method method;
    struct hb_source_counts source;
    struct hb_build_counts total[HB_SIDE_COUNT];
    struct hb_build_counts (*inputs)[HB_SIDE_COUNT]; /* [input_count] */
    struct hb_shard_summary shards[HB_SIDE_COUNT];   /* held-out: all zero where nothing is */
};

/* On failure nothing new stands under the final names (what an earlier build
 * left there stays as it was, unless the failure came while the new files were
 * being renamed: then none of the files is left), and there is no report to release. */
HB_MUST_USE hb_status hb_build(const struct hb_build_options *options, const struct hb_encoder *encoder,
                               struct hb_build_report *report);
void hb_build_report_release(struct hb_build_report *report);

#endif
