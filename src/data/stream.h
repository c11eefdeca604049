/* The stream of tokens that shards define, and the samples cut from it.
 *
 * Stream: the documents of the shards in order, each ended by its end-of-text
 * token (which the shards hold). Sample i is tokens i*T .. i*T + T of it, T + 1
 * of them; the last is shared with sample i + 1. N tokens hold
 * floor((N - 1) / T) samples, and the tail that fills none is not used.
 *
 * ids[t] is token t of the sample and labels[t] token t + 1. A sample that
 * holds pieces of several documents has one segment per piece; a piece ends
 * with, and includes, its document's end-of-text token, or ends with the
 * sample. Attention stays inside a segment and positions count from 0 in it.
 * The label at an end-of-text token would belong to another document and is
 * HB_LABEL_IGNORED; that of a piece cut by the end of the sample is the next
 * token of the same document and is kept. With `cross_documents` a sample is
 * one segment and keeps all labels.
 *
 * Nothing here has state: a sample is a function of its number. */
#ifndef HB_DATA_STREAM_H
#define HB_DATA_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define HB_LABEL_IGNORED (-100)

struct hb_stream_options {
    const char *const *prefixes; /* shards, "PREFIX" of PREFIX.bin; used only while opening */
    size_t prefix_count;
    int32_t vocabulary;  /* every id must be below */
    int32_t end_of_text; /* every document must end with it */
    int64_t tokens;      /* T, at least 1 */
    bool cross_documents;
    bool shuffle; /* a new order of all samples in every epoch; else file order */
    uint64_t seed;
};

struct hb_stream;

/* HB_EARGUMENT: too few tokens for one sample. HB_EFORMAT: a damaged shard, or
 * a document that does not end with `end_of_text`. */
HB_MUST_USE hb_status hb_stream_create(const struct hb_stream_options *options, struct hb_stream **out);
/* NULL is allowed. */
void hb_stream_destroy(struct hb_stream *stream);

int64_t hb_stream_tokens(const struct hb_stream *stream); /* N */
int64_t hb_stream_documents(const struct hb_stream *stream);
int64_t hb_stream_samples(const struct hb_stream *stream); /* in one epoch */

/* Which sample is the n-th (from 0) of an endless run through the epochs.
 * Epoch e holds n = e * samples .. (e + 1) * samples - 1. */
int64_t hb_stream_order(const struct hb_stream *stream, uint64_t n);

struct hb_sample {
    int32_t *ids;      /* [T], the caller's */
    int32_t *labels;   /* [T], the caller's */
    int32_t *segments; /* [T + 1], the caller's: segment s is tokens segments[s] .. segments[s + 1] - 1 */
    int32_t segment_count;
    int32_t label_count; /* labels that are not ignored */
};

/* Fills in sample i. HB_EFORMAT: a token id outside the vocabulary. Any number
 * of threads may read one stream. */
HB_MUST_USE hb_status hb_stream_sample(const struct hb_stream *stream, int64_t i, struct hb_sample *sample);

#endif
