/* PREFIX.json, what a build says about its shards (docs/formats.md). */
#ifndef HB_DATA_MANIFEST_H
#define HB_DATA_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/build.h"

/* Writes PREFIX.json. */
HB_MUST_USE hb_status hb_manifest_write(const struct hb_build_options *options,
                                        const struct hb_encoder *encoder,
                                        const struct hb_build_report *report);

/* What a reader of the shards must know. */
struct hb_manifest {
    int32_t vocabulary;
    int32_t end_of_text;
    char tokenizer_hash[33];
    bool held_out; /* there is a held-out shard */
    int64_t train_tokens, held_out_tokens;
};

/* Reads PREFIX.json. HB_EFORMAT names file and key. */
HB_MUST_USE hb_status hb_manifest_read(const char *prefix, struct hb_manifest *manifest);

#endif
