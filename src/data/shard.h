/* Shards of tokens: Megatron's indexed dataset, PREFIX.bin and PREFIX.idx
 * (megatron/core/datasets/indexed_dataset.py), little-endian:
 *
 *   .bin  the tokens of all sequences, one after the other
 *   .idx  "MMIDIDX\0\0"; u64 version 1; u8 dtype (4: int32, 8: uint16);
 *         u64 sequences S; u64 entries E of the last table (documents + 1);
 *         i32 lengths[S]; i64 byte pointers[S] into .bin; i64 documents[E],
 *         the first sequence of each document, and S at the end
 *
 * Token ids are uint16 where the vocabulary is smaller than 65500, else int32.
 * We write one sequence per document; we read any number. */
#ifndef HB_DATA_SHARD_H
#define HB_DATA_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/file.h"
#include "core/file_receipt.h"
#include "core/status.h"

struct hb_shard {
    char *prefix;
    struct hb_file_map bin, idx;
    bool wide; /* int32, else uint16 */
    int64_t tokens;
    int64_t documents;
    /* inside idx, whose header of 34 bytes leaves them unaligned */
    const unsigned char *pointers;
    const unsigned char *firsts; /* documents + 1 entries */
    int64_t sequences;
};

/* Maps both files and checks all of the index: HB_EFORMAT names the file and
 * what is wrong in it. Token ids are not looked at. On failure there is
 * nothing to release. */
HB_MUST_USE hb_status hb_shard_init(const char *prefix, struct hb_shard *shard);
void hb_shard_release(struct hb_shard *shard);

/* The first token of document d; d == documents gives `tokens`. */
int64_t hb_shard_begin(const struct hb_shard *shard, int64_t d);

/* Copies `count` tokens from token `begin` on. The range is the caller's promise. */
void hb_shard_read(const struct hb_shard *shard, int64_t begin, int64_t count, int32_t *tokens);

/* --- writing --- */

struct hb_shard_writer;

/* Opens temporary files beside PREFIX.bin and PREFIX.idx; nothing appears
 * under those names before the commit. */
HB_MUST_USE hb_status hb_shard_writer_create(const char *prefix, int32_t vocabulary,
                                             struct hb_shard_writer **out);

/* Appends one document. HB_EARGUMENT: an id outside the vocabulary, no token
 * at all, or more than 2^31 - 1. Memory: 4 bytes a document are kept. */
HB_MUST_USE hb_status hb_shard_writer_add(struct hb_shard_writer *writer, const int32_t *tokens,
                                          int64_t count);

/* Writes what is left and the index, still under temporary names: from here on
 * only a commit remains, so that several shards can appear together. */
HB_MUST_USE hb_status hb_shard_writer_finish(struct hb_shard_writer *writer);

/* After finish: makes both files durable and gives them their names, .bin first. */
HB_MUST_USE hb_status hb_shard_writer_commit(struct hb_shard_writer *writer);

/* After finish. */
struct hb_shard_summary {
    const char *dtype; /* "uint16" or "int32" */
    int64_t documents, tokens;
    struct hb_file_receipt bin, idx;
};
void hb_shard_writer_summary(const struct hb_shard_writer *writer, struct hb_shard_summary *summary);

/* Without commit nothing is left behind. NULL is allowed. */
void hb_shard_writer_destroy(struct hb_shard_writer *writer);

#endif
